"""HAProxy as a peer: one thread, re-used upstream connections, each host its own backend, log through its ring.

HAProxy writes no files. Its cheapest way out is a ring buffer that it drains over a TCP connection to a reader,
which writes the file; the reader runs on the CPU of the load and its time is shown apart, not charged to HAProxy.
"""

import subprocess
import sys
from pathlib import Path

from bench.load.peers.base import Running, Settings, own_directory
from bench.load.procs import BenchError, Fleet, wait_for_port

LOG_FORMAT = (
    '%[capture.req.hdr(0)] - [%t] "%HM %HU %HV" %ST %U %B "%[capture.req.hdr(1)]" "%[capture.req.hdr(2)]" "%ci:%cp" '
    '"%si:%sp" x_forwarded_for:"%[capture.req.hdr(3)]" x_forwarded_proto:"%[capture.req.hdr(4)]" vcap_request_id:"%ID" '
    'response_time:%Ta gorouter_time:%Tw app_id:"-" app_index:"-" instance_id:"%s" x_cf_routererror:"%tsc"'
)

HEAD = """\
global
    nbthread 1
    no strict-limits
    maxconn 15000
    log {log} len 2048 format raw local0
defaults
    mode http
    log global
    {log_format}
    timeout connect 5s
    timeout client 900s
    timeout server 900s
    timeout tunnel 1h
    option http-keep-alive
    http-reuse always
    balance roundrobin
    retries 2
    option redispatch 1
    {retry}
    # the instance a session belongs to; the cookie itself is set below, only beside the app's own
    cookie __VCAP_ID__ rewrite
{ring}
frontend front
    bind 127.0.0.1:{port} backlog 4096
    unique-id-format %[uuid()]
    http-request capture req.hdr(Host) len 128
    http-request capture req.hdr(Referer) len 128
    http-request capture req.hdr(User-Agent) len 128
    option forwardfor
    http-request set-header X-Forwarded-Proto http unless {{ req.hdr(X-Forwarded-Proto) -m found }}
    http-request set-header X-Request-Start %[date(0,ms)] unless {{ req.hdr(X-Request-Start) -m found }}
    http-request set-header X-Vcap-Request-Id %[unique-id]
    http-request capture req.hdr(X-Forwarded-For) len 128
    http-request capture req.hdr(X-Forwarded-Proto) len 16
    http-response add-header Set-Cookie "__VCAP_ID__=%s; Path=/; HttpOnly" if {{ res.cook(JSESSIONID) -m found }}
    {disable_retry}
    use_backend %[req.hdr(host),host_only,lower,map({map})]
"""

RING = """\
ring accesslog
    format raw
    maxlen 2048
    size 4194304
    timeout connect 5s
    timeout server 10s
    server reader 127.0.0.1:{port} log-proto legacy
"""


class HAProxy:
    """Debian's package, foreground, one process."""

    name = "haproxy"

    def version(self) -> str:
        try:
            done = subprocess.run(["haproxy", "-v"], capture_output=True, text=True)
        except FileNotFoundError as error:
            raise BenchError("haproxy is not installed") from error
        return done.stdout.splitlines()[0]

    def describe(self) -> str:
        return "nbthread 1, http-reuse always, log ring@ read over TCP on the load CPU (not charged), retries 2"

    def start(self, fleet: Fleet, settings: Settings) -> Running:
        directory = own_directory(fleet, self.name)
        port, reader_port = fleet.ports(2)
        helpers = []
        if settings.access_log:
            argv = [sys.executable, "-m", "bench.load.log_reader", str(reader_port), str(settings.access_log)]
            helpers.append(fleet.start("log-reader", argv, settings.load_cpu))
            wait_for_port(reader_port, helpers[0])
        config = directory / "haproxy.cfg"
        config.write_text(self._config(settings, directory, port, reader_port))
        process = fleet.start(self.name, ["haproxy", "-db", "-f", config], settings.cpu)
        wait_for_port(port, process)
        return Running(self.name, port, settings, [process], helpers)

    def _config(self, settings: Settings, directory: Path, port: int, reader_port: int) -> str:
        routes = directory / "routes.map"
        routes.write_text("".join(f"{host} b_{host}\n" for host in settings.table))
        lines = [
            HEAD.format(
                log="ring@accesslog" if settings.access_log else "127.0.0.1:9",
                log_format=f"log-format '{LOG_FORMAT}'" if settings.access_log else "no log",
                ring=RING.format(port=reader_port) if settings.access_log else "",
                retry="retry-on conn-failure empty-response" if settings.retry_idempotent else "retry-on conn-failure",
                disable_retry="http-request disable-l7-retry unless METH_GET" if settings.retry_idempotent else "",
                port=port,
                map=routes,
            )
        ]
        for host, instances in settings.table.items():
            lines.append(f"backend b_{host}\n")
            lines.extend(f"    server {i.id} {i.ip}:{i.port} cookie {i.id}\n" for i in instances)
        return "".join(lines)

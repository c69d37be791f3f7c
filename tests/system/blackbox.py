"""What gorouter's own black-box suite plays against an executable: its configuration files, its apps.

Nothing of this repository is used but the installed `gorouter` command. A file has every key that Go writes for the
suite's configuration: defaults, zero values, names derived from struct fields, durations as Go prints them.

Left out, since they need what is not served yet: TLS at the front with client authorities and versions, HTTP/2 on and
off, TLS to apps and the pruning of such, route services with their headers, X-Forwarded-Client-Cert. What a spec plays
over TLS for no reason of its own is played here over plain connections.
"""

import contextlib
import copy
import fcntl
import json
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.origins import OK, Handler, Origin
from tests.support.wire import Message, Wire
from tests.system.harness import NatsServer, Router, fetch, free_ports, until

DOMAIN = "localhost.routing.cf-app.com"  # the suite has it resolved to 127.0.0.1; here only the Host field has it

_CERTIFICATE = {
    "certificate": [], "privatekey": None, "supportedsignaturealgorithms": [], "ocspstaple": [],
    "signedcertificatetimestamps": [], "leaf": None,
}  # fmt: skip


def spec(nats_ports: list[int], ports: list[int] | None = None) -> dict[str, Any]:
    """The configuration the suite begins with; main, status and routes port are free ones."""
    port, status, routes, route_services, tls_status = ports or free_ports(5)
    return {
        "status": {
            "host": "0.0.0.0", "port": status, "enable_nontls_health_checks": True,
            "enable_deprecated_varz_healthz_endpoints": False,
            "tls": {"port": tls_status, "certificate": "", "key": ""}, "user": "user", "pass": "pass",
            "routes": {"port": routes},
        },
        "nats": {
            "hosts": [{"hostname": "localhost", "port": each} for each in nats_ports], "user": "nats", "pass": "nats",
            "tls_enabled": False, "ca_certs": "", "cert_chain": "", "private_key": "",
        },
        "logging": {
            "syslog": "", "syslog_addr": "", "syslog_network": "", "syslogaddr": "", "syslognetwork": "",
            "level": "debug", "loggregator_enabled": False, "metron_address": "localhost:3457",
            "disable_log_forwarded_for": False, "disable_log_source_ip": False, "redact_query_params": "none",
            "enable_attempts_details": False, "format": {"timestamp": "unix-epoch"}, "extra_access_log_fields": [],
        },
        "port": port,
        "prometheus": {"port": 0, "cert_path": "", "key_path": "", "ca_path": ""},
        "index": 2,
        "zone": "z1",
        "go_max_procs": -1,
        "tracing": {"enable_zipkin": True, "enable_w3c": False, "w3c_tenant_id": ""},
        "trace_key": "my_trace_key",
        "access_log": {"file": "", "enable_streaming": False},
        "ssl_port": 443,
        "enable_http2": True,
        "enable_http1_concurrent_read_write": False,
        "forwarded_client_cert": "always_forward",
        "hop_by_hop_headers_to_filter": [],
        "routing_table_sharding_mode": "all",
        "only_trust_client_ca_certs": False,
        "tls_handshake_timeout": "10s",
        "publish_start_message_interval": "10s",
        "prune_stale_droplets_interval": "50ms",
        "droplet_stale_threshold": "100ms",
        "start_response_delay_interval": "1s",
        "endpoint_timeout": "5s",
        "endpoint_dial_timeout": "10ms",
        "websocket_dial_timeout": "5s",
        "endpoint_keep_alive_probe_interval": "1s",
        "route_services_timeout": "1m0s",
        "frontend_idle_timeout": "15m0s",
        "route_latency_metric_muzzle_duration": "20s",
        "drain_timeout": "200ms",
        "sticky_session_cookie_names": ["JSESSIONID"],
        "healthcheck_user_agent": "HTTP-Monitor/1.1",
        "oauth": {
            "token_endpoint": "127.0.0.1", "port": 8443, "skip_ssl_validation": False, "client_name": "client-id",
            "client_secret": "client-secret", "ca_certs": "/not/read/while/the/routing/api/is/off.pem",
        },
        "routing_api": {
            "uri": "", "port": 0, "auth_disabled": False, "ca_certs": "", "clientauthcertificate": _CERTIFICATE,
            "cert_chain": "", "private_key": "",
        },
        "route_services_secret": "kCvXxNMB0JO2vinxoru9Hg==",
        "route_services_hairpinning": False,
        "route_services_internal_server_port": route_services,
        "nats_client_ping_interval": "20s",
        "backends": {
            "clientauthcertificate": _CERTIFICATE, "max_attempts": 3, "max_conns": 0, "cert_chain": "",
            "private_key": "",
        },
        "route_services": {
            "clientauthcertificate": _CERTIFICATE, "max_attempts": 3, "strict_signature_validation": False,
            "cert_chain": "", "private_key": "",
        },
        "token_fetcher_max_retries": 3,
        "token_fetcher_retry_interval": "5s",
        "token_fetcher_expiration_buffer_time": 30,
        "balancing_algorithm": "round-robin",
        "balancing_algorithm_az_preference": "none",
        "disable_keep_alives": False,
        "max_idle_conns": 100,
        "max_idle_conns_per_host": 100,
        "max_header_bytes": 0,
        "keep_alive_100_continue_requests": False,
        "http_rewrite": {"responses": {}},
        "per_request_metrics_reporting": True,
        "send_http_start_stop_server_event": True,
        "send_http_start_stop_client_event": True,
        "healthcheck_poll_interval": "10s",
        "healthcheck_timeout": "5s",
    }  # fmt: skip


def with_test_state(config: dict[str, Any]) -> dict[str, Any]:
    """What the suite's later specs change: longer lives, a small limit of heads, bounded connections."""
    config = copy.deepcopy(config)
    config |= {
        "prune_stale_droplets_interval": "2s", "droplet_stale_threshold": "10s", "endpoint_timeout": "15s",
        "endpoint_dial_timeout": "500ms", "drain_wait": "1s", "max_header_bytes": 1024,
        "suspend_pruning_if_nats_unavailable": True,
    }  # fmt: skip
    config["backends"]["max_conns"] = 10
    return config


class Gorouter(Router):
    """`gorouter -c FILE` as it is installed. wait_for None: started is enough."""

    def __init__(self, config: dict[str, Any], folder: Path, wait_for: str | None = "gorouter.started") -> None:
        self.config = config
        status = config["status"]
        ports = [config["port"], status["port"], status.get("routes", {}).get("port", 0)]
        super().__init__(ports=ports, wait_for=wait_for)
        path = folder / "config.yml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        program = shutil.which("gorouter", path=str(Path(sys.executable).parent))
        assert program is not None, "the package is not installed beside this Python"
        self._command = [program, "-c", str(path)]

    def start(self) -> None:
        super().start()
        if self._wait_for == "gorouter.started":
            text = "\n".join(self.raw)
            assert "starting" in text
            assert re.search(r"Successfully-connected-to-nats.*localhost:\d+", text)

    def says(self, text: str) -> None:
        """Waits until stdout, all of it, matches."""
        try:
            until(lambda: re.search(text, "\n".join(self.raw)))
        except TimeoutError:
            raise AssertionError(f"stdout never had {text!r}:\n{self.tail()}") from None

    def ends(self) -> int:
        """Its exit code. The suite waits five seconds for it; here only a hang fails."""
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end:\n{self.tail()}") from None

    def terminates(self) -> None:
        """SIGTERM, and its end as the suite wants it."""
        self.signal(signal.SIGTERM)
        assert self.ends() == 0

    def has_route(self, uri: str) -> bool:
        """Whether /routes lists it, asked with the configured credentials."""
        return bool(self.routes_of(uri))

    def routes_of(self, uri: str) -> list[dict[str, Any]]:
        """Its rows there."""
        headers = {"Authorization": "Basic dXNlcjpwYXNz"}
        status, _, body = fetch(self.admin_port, "/routes", headers)
        assert status == 200
        rows: list[dict[str, Any]] = json.loads(body).get(uri.lower(), [])
        return rows

    def ask(self, host: str, path: str = "/", lines: str = "", method: str = "GET", body: bytes = b"") -> Message:
        """A whole answer; the Host field has the port, as that of a client that resolved the name."""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        with Wire.connect(self.port) as client:
            head = f"{method} {path} HTTP/1.1\r\nHost: {host}:{self.port}\r\n{length}{lines}\r\n"
            client.send(head.encode() + body)
            return client.answer(method)

    def status_of(self, host: str) -> int:
        return self.ask(host).status


class App(Origin):
    """An app as the suite's: registers itself with a host, one uri, and a life of a second."""

    def __init__(self, bus: NatsServer, name: str, handler: Handler | bytes = OK, host: str = "127.0.0.1") -> None:
        super().__init__(handler, host=host)
        self.uri = f"{name}.{DOMAIN}" if "." not in name else name
        self.host = host
        self.bus = bus
        self.guid = "11111111-2222-4333-4444-555555555555"
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None

    def message(self, **fields: Any) -> dict[str, Any]:
        return {
            "host": self.host, "port": self.port, "tls_port": 0, "uris": [self.uri], "tags": None, "dea": "dea",
            "app": self.guid, "stale_threshold_in_seconds": 1, "route_service_url": "", "server_cert_domain_san": "",
            "private_instance_id": "1b0b4d4c-6a3c-4a0e-5d5f-0a2b3c4d5e6f", "private_instance_index": "0", **fields,
        }  # fmt: skip

    def register(self, **fields: Any) -> None:
        self.bus.publish("router.register", self.message(**fields))

    def unregister(self) -> None:
        self.bus.publish("router.unregister", self.message())

    def keep_registering(self, every_s: float = 0.2) -> None:
        """Registers again and again until the app ends; a bus that is away is waited for."""

        def go() -> None:
            while not self._stop.wait(every_s):
                with contextlib.suppress(Exception):
                    self.register()

        self._ticker = threading.Thread(target=go)
        self._ticker.start()

    def stop_registering(self) -> None:
        self._stop.set()
        if self._ticker is not None:
            self._ticker.join(60)

    def finish(self) -> None:
        self.stop_registering()
        super().finish()


class Apps:
    """Makes apps that end with the test."""

    def __init__(self, bus: NatsServer) -> None:
        self.bus = bus
        self.stack = contextlib.ExitStack()

    def __call__(self, name: str, handler: Handler | bytes = OK, host: str = "127.0.0.1") -> App:
        app = App(self.bus, name, handler, host)
        self.stack.callback(app.finish)
        return app

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()


def own_address() -> str:
    """An address of this machine that is not a loopback one, with or without a default route; else loopback."""
    for _, name in socket.if_nameindex():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            request = struct.pack("256s", name.encode()[:15])
            address = socket.inet_ntoa(fcntl.ioctl(probe.fileno(), 0x8915, request)[20:24])  # SIOCGIFADDR
            if not address.startswith("127."):
                return address
    return "127.0.0.1"


@contextlib.contextmanager
def everything(
    folder: Path, change: Callable[[dict[str, Any]], object] | None = None
) -> Iterator[tuple[Gorouter, Apps]]:
    """A bus, a running gorouter with the later specs' configuration, and apps."""
    with NatsServer() as bus, Apps(bus) as apps:
        config = with_test_state(spec([bus.port]))
        if change is not None:
            change(config)
        with Gorouter(config, folder) as router:
            yield router, apps
            if router.process is not None and router.process.poll() is None:
                router.terminates()


__all__ = ["DOMAIN", "App", "Apps", "Gorouter", "everything", "own_address", "spec"]

"""nginx as a peer: one worker, upstream keep-alive, each host its own server block and upstream, buffered access log.

The free nginx has no sticky cookie; maps and a second location do the same here: a request with JSESSIONID and
__VCAP_ID__ goes to that instance, an answer that sets JSESSIONID gets __VCAP_ID__ beside it.
"""

import resource
import subprocess
from pathlib import Path

from bench.load.peers.base import Running, Settings, own_directory
from bench.load.procs import BenchError, Fleet, wait_for_port
from bench.load.table import Instance

LOG_FORMAT = (
    '$http_host - [$time_iso8601] "$request" $status $content_length $body_bytes_sent "$http_referer" '
    '"$http_user_agent" "$remote_addr:$remote_port" "$upstream_addr" x_forwarded_for:"$proxy_add_x_forwarded_for" '
    'x_forwarded_proto:"$forwarded_proto" vcap_request_id:"$request_id" response_time:$request_time '
    'gorouter_time:$upstream_header_time app_id:"-" app_index:"-" instance_id:"$instance" x_cf_routererror:"-"'
)

HEAD = """\
daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile {files};
error_log {directory}/error.log;
pid {directory}/nginx.pid;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    log_format gorouter '{log_format}';
    {log}
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 900s;
    server_names_hash_max_size 65536;
    server_names_hash_bucket_size 128;
    map_hash_max_size 65536;
    map_hash_bucket_size 128;
    proxy_http_version 1.1;
    proxy_buffers 8 16k;
    client_body_buffer_size 64k;
    map $http_x_forwarded_proto $forwarded_proto {{ "" $scheme; default $http_x_forwarded_proto; }}
    map $http_x_request_start $request_start {{ "" "$msec"; default $http_x_request_start; }}
    map $upstream_cookie_jsessionid $sticky_cookie {{ "" ""; default "__VCAP_ID__=$instance; Path=/; HttpOnly"; }}
    map $cookie_jsessionid $pin {{ "" ""; default $pinned_instance; }}
    map $upstream_addr $instance {{ default "-"; {instance_of} }}
    map $cookie___vcap_id__ $pinned_instance {{ default ""; {address_of} }}
    proxy_set_header Host $http_host;
    proxy_set_header Connection "";
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $forwarded_proto;
    proxy_set_header X-Request-Start $request_start;
    proxy_set_header X-Vcap-Request-Id $request_id;
    add_header Set-Cookie $sticky_cookie;
    error_page 418 = @pinned;
    server {{ listen 127.0.0.1:{port} default_server backlog=4096; return 404; }}
"""

SERVER = """\
    upstream u_{host} {{ {servers} keepalive 128; keepalive_requests 1000000000; keepalive_timeout 900s; }}
    server {{
        listen 127.0.0.1:{port};
        server_name {host};
        location / {{ if ($pin) {{ return 418; }} proxy_pass http://u_{host}; }}
        location @pinned {{ proxy_pass http://$pin; }}
    }}
"""


class Nginx:
    """Debian's package, foreground, one process."""

    name = "nginx"

    def version(self) -> str:
        try:
            done = subprocess.run(["/usr/sbin/nginx", "-v"], capture_output=True, text=True)
        except FileNotFoundError as error:
            raise BenchError("nginx is not installed") from error
        return done.stderr.strip()

    def describe(self) -> str:
        return "worker_processes 1, upstream keepalive 128, access_log buffer=64k flush=1s, sticky sessions by maps"

    def start(self, fleet: Fleet, settings: Settings) -> Running:
        directory = own_directory(fleet, self.name)
        (port,) = fleet.ports(1)
        config = directory / "nginx.conf"
        config.write_text(self._config(settings, directory, port))
        process = fleet.start(self.name, ["/usr/sbin/nginx", "-p", directory, "-c", config], settings.cpu)
        wait_for_port(port, process)
        return Running(self.name, port, settings, [process])

    def _config(self, settings: Settings, directory: Path, port: int) -> str:
        known: dict[str, Instance] = {f"{i.ip}:{i.port}": i for row in settings.table.values() for i in row}
        log = f"access_log {settings.access_log} gorouter buffer=64k flush=1s;" if settings.access_log else ""
        lines = [
            HEAD.format(
                directory=directory,
                port=port,
                files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
                connections=min(100000, resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
                log_format=LOG_FORMAT,
                log=log,
                instance_of=" ".join(f'"{address}" {i.id};' for address, i in known.items()),
                address_of=" ".join(f"{i.id} {address};" for address, i in known.items()),
            ).replace("    access_log off;\n" if log else "\0", "")
        ]
        for host, instances in settings.table.items():
            servers = " ".join(f"server {i.ip}:{i.port} fail_timeout=1s;" for i in instances)
            lines.append(SERVER.format(host=host, servers=servers, port=port))
        return "".join(lines) + "}\n"

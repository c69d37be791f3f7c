"""A whole router against a routing API and a UAA of the test's own, over TLS with client certificates."""

import http.server
import json
import queue
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.system.harness import Backend, NatsServer, Router, free_ports, until


@pytest.fixture(scope="module")
def nats_server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend(b"hello") as running:
        yield running


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    new, sign = "req -newkey rsa:2048 -nodes -subj", "x509 -req -days 2 -CA ca.pem -CAkey ca.key -CAcreateserial"
    for command in (
        f"{new} /CN=ca -x509 -keyout ca.key -out ca.pem -days 2",
        f"{new} /CN=api -keyout server.key -out server.csr -addext subjectAltName=IP:127.0.0.1",
        f"{sign} -in server.csr -out server.pem -copy_extensions copy",
        f"{new} /CN=router -keyout client.key -out client.csr",
        f"{sign} -in client.csr -out client.pem",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return folder


class Api(http.server.ThreadingHTTPServer):
    """Token endpoint and routing API in one. `routes` is the list, `events` what subscribers get next."""

    daemon_threads = True

    def __init__(self, certificates: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        context.load_verify_locations(certificates / "ca.pem")
        context.verify_mode = ssl.CERT_OPTIONAL
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.certificates = certificates
        self.routes: list[dict[str, Any]] = []
        self.events: queue.Queue[bytes | None] = queue.Queue()
        self.token = "token-1"
        self.token_status = 200
        self.open = False  # no token is asked for
        self.tokens_given = 0
        self.subscribed = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.events.put(None)
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A router that ends cuts its connections."""

    def config(self, **api: Any) -> dict[str, Any]:
        def text(name: str) -> str:
            return (self.certificates / name).read_text()

        return {
            "routing_api": {
                "uri": "https://127.0.0.1",
                "port": self.server_port,
                "ca_certs": text("ca.pem"),
                "cert_chain": text("client.pem"),
                "private_key": text("client.key"),
                **api,
            },
            "oauth": {
                "token_endpoint": "127.0.0.1",
                "port": self.server_port,
                "client_name": "gorouter",
                "client_secret": "secret",
                "ca_certs": str(self.certificates / "ca.pem"),
            },
            "token_fetcher_retry_interval": "10ms",
            "prune_stale_droplets_interval": "100ms",
            "droplet_stale_threshold": "60s",
        }


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Api
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["Content-Length"]))
        known = self.headers["Authorization"] == "Basic Z29yb3V0ZXI6c2VjcmV0"
        fits = known and form == b"grant_type=client_credentials"
        self.server.tokens_given += 1
        status = self.server.token_status if fits else 401
        self.answer(status, {"access_token": self.server.token, "expires_in": 3600} if status == 200 else {})

    def do_GET(self) -> None:
        certificate = self.connection.getpeercert()  # type: ignore[attr-defined]
        if not certificate:
            self.answer(403, "no client certificate")
        elif not self.server.open and self.headers["Authorization"] != f"bearer {self.server.token}":
            self.answer(401, {"name": "UnauthorizedError"})
        elif self.path == "/routing/v1/routes":
            self.answer(200, self.server.routes)
        else:
            self.stream()

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.server.subscribed.set()
        while (event := self.server.events.get()) is not None:
            self.wfile.write(event)
        self.close_connection = True


def row(route: str, port: int, **more: Any) -> dict[str, Any]:
    tag = {"guid": "g", "index": 1}
    whole = {"route": route, "port": port, "ip": "127.0.0.1", "ttl": 60, "log_guid": "app", "modification_tag": tag}
    return {**whole, **more}


def event(action: str, route: dict[str, Any]) -> bytes:
    return f"id: 0\nevent: {action}\ndata: {json.dumps(route)}\n\n".encode()


def drop_in(server: NatsServer, folder: Path, wait_for: str | None = "gorouter.started", **config: Any) -> Router:
    nats = {"nats": {"hosts": [{"hostname": "127.0.0.1", "port": server.port}]}}
    return Router(config={**nats, **config}, folder=folder, wait_for=wait_for)


def test_routes_come_by_list_and_by_event(
    nats_server: NatsServer, backend: Backend, certificates: Path, tmp_path: Path
) -> None:
    with Api(certificates) as api:
        api.routes = [row("listed.test", backend.port)]
        with drop_in(nats_server, tmp_path, **api.config()) as router:
            order = [line["message"] for line in router.lines]
            assert order.index("Successfully-connected-to-nats") < order.index("setting-up-routing-api")
            assert order.index("setting-up-routing-api") < order.index("started-fetching-token")
            until(lambda: router.serves("listed.test", b"hello"))
            api.subscribed.wait(60)
            api.events.put(event("Upsert", row("pushed.test", backend.port)))
            until(lambda: router.serves("pushed.test", b"hello"))
            api.events.put(event("Delete", row("pushed.test", backend.port)))
            until(lambda: router.get("pushed.test")[0] == 404)
            api.routes = [row("next.test", backend.port)]
            until(lambda: router.get("listed.test")[0] == 404)
            until(lambda: router.serves("next.test", b"hello"))
            line = router.said("endpoint-registered")[0]
            assert line["data"]["modification_tag"] == {"guid": "g", "index": 1}
            # A new token is fetched when the old one is refused.
            api.token, given = "token-2", api.tokens_given
            api.routes = [row("later.test", backend.port)]
            until(lambda: router.serves("later.test", b"hello"))
            assert api.tokens_given > given
            assert router.stop() == 0


def test_without_a_token_the_router_does_not_start(nats_server: NatsServer, certificates: Path, tmp_path: Path) -> None:
    with Api(certificates) as api:
        api.token_status = 500
        with drop_in(nats_server, tmp_path, None, **api.config(), token_fetcher_max_retries=2) as router:
            assert router.wait() == 1
        assert api.tokens_given == 3
        (line,) = router.said("routing-api-connection-failed")
        assert line["log_level"] == 3
        assert line["data"]["error"].startswith("unable-to-fetch-token: ")
        assert len(router.said("started-fetching-token")) == 1


def test_without_the_routing_api_the_router_does_not_start(
    nats_server: NatsServer, certificates: Path, tmp_path: Path
) -> None:
    with Api(certificates) as api:
        config = api.config(port=free_ports(1)[0], auth_disabled=True)
        with drop_in(nats_server, tmp_path, None, **config) as router:
            assert router.wait() == 1
        assert router.said("using-noop-token-fetcher")
        assert not router.said("started-fetching-token")
        assert router.said("routing-api-connection-failed")


def test_a_routing_api_of_unknown_origin_is_refused(
    nats_server: NatsServer, certificates: Path, tmp_path: Path
) -> None:
    with Api(certificates) as api, drop_in(nats_server, tmp_path, None, **api.config(ca_certs="")) as router:
        assert router.wait() == 1
        assert "ertificate" in router.said("routing-api-connection-failed")[0]["data"]["error"]


def test_tokens_are_asked_for_over_tls_alone(nats_server: NatsServer, tmp_path: Path) -> None:
    config = {"routing_api": {"uri": "https://127.0.0.1", "port": 1}, "oauth": {"token_endpoint": "127.0.0.1"}}
    with drop_in(nats_server, tmp_path, None, **config) as router:
        assert router.wait() == 1
    (line,) = router.said("initialize-uaa-client")
    assert line["data"]["error"] == "tls-not-enabled: UAA client requires TLS enabled"


def test_unconfigured_it_is_not_spoken_of(nats_server: NatsServer, tmp_path: Path) -> None:
    with drop_in(nats_server, tmp_path, routing_api={"uri": "https://127.0.0.1"}) as router:
        assert not router.said("setting-up-routing-api")

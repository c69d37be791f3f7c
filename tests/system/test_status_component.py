"""The deprecated component on status.port (/varz, /healthz, /health, /routes), on the bus, and the debug server."""

import asyncio
import base64
import http.client
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from tests.system.harness import Backend, NatsServer, Router, fetch, free_ports, until

AUTH = {"Authorization": "Basic " + base64.b64encode(b"admin:s3cret").decode()}


class Running:
    def __init__(self, router: Router, server: NatsServer, backend: Backend, debug_port: int) -> None:
        self.router, self.server, self.backend, self.debug_port = router, server, backend, debug_port
        self.port = router.status_port


def config(server: NatsServer, **more: Any) -> dict[str, Any]:
    return {
        "nats": {"hosts": [{"hostname": "127.0.0.1", "port": server.port}]},
        "status": {
            "host": "127.0.0.1", "user": "admin", "pass": "s3cret", "enable_deprecated_varz_healthz_endpoints": True,
        },
        "index": 4,
        "enable_envelope_v1_metrics": False,
        **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    (debug_port,) = free_ports(1)
    with NatsServer() as server, Backend(b"hello") as backend:
        folder = tmp_path_factory.mktemp("component")
        with Router(config=config(server, debug_addr=f"127.0.0.1:{debug_port}"), folder=folder) as router:
            yield Running(router, server, backend, debug_port)


def varz(it: Running) -> dict[str, Any]:
    status, headers, body = fetch(it.port, "/varz", AUTH)
    assert status == 200 and body.endswith(b"}\n")
    assert headers["content-type"] == "application/json" and headers["connection"] == "close"
    found: dict[str, Any] = json.loads(body)
    return found


def test_varz_counts_what_happened(running: Running) -> None:
    router, server, backend = running.router, running.server, running.backend
    assert varz(running)["ms_since_last_registry_update"] == 9223372036854
    server.register("a.test", backend.port, app="guid-1", tags={"component": "api"})
    server.register("b.test", backend.port, app="guid-2")
    until(lambda: router.serves("a.test", b"hello") and router.serves("b.test", b"hello"))
    for _ in range(3):
        router.get("a.test")
    assert router.get("unknown.test")[0] == 404
    until(lambda: varz(running)["responses_2xx"] >= 5)
    found = varz(running)
    assert found["type"] == "Router" and found["index"] == 4
    assert found["host"] == f"127.0.0.1:{running.port}" and found["credentials"] == ["admin", "s3cret"]
    assert found["uuid"].startswith("4-")
    assert found["requests"] == found["responses_2xx"] >= 5
    assert found["bad_requests"] >= 1 and found["bad_gateways"] == 0
    assert (found["urls"], found["droplets"]) == (2, 1)  # two routes, one address
    assert 0 <= found["ms_since_last_registry_update"] < 9223372036854
    assert found["tags"]["component"]["api"]["requests"] >= 4
    assert {"guid-1", "guid-2"} == {each["application_id"] for each in found["top10_app_requests"]}
    until(lambda: varz(running)["latency"]["99"] > 0 and varz(running)["rate"][0] > 0)  # after the next tick


def test_health(running: Running) -> None:
    for headers in ({}, AUTH):
        status, answer, body = fetch(running.port, "/health", headers)
        assert (status, body) == (200, b"ok\n")
        assert answer["cache-control"] == "private, max-age=0" and answer["expires"] == "0"
        status, answer, body = fetch(running.port, "/healthz", headers)
        assert (status, body, answer["content-type"]) == (200, b"ok", "text/plain")


@pytest.mark.parametrize("path", ["/varz", "/routes", "/", "/varz/", "/healthz/", "/is-process-alive-do-not-use"])
def test_the_rest_wants_credentials_first(running: Running, path: str) -> None:
    for text in ("", "admin:wrong", "admin:s3cret:more", "admin"):
        headers = {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()} if text else {}
        status, answer, body = fetch(running.port, path, headers)
        assert (status, body, answer["www-authenticate"]) == (401, b"401 Unauthorized\n", "Basic")
    status, _, body = fetch(running.port, path, AUTH)
    if path in ("/varz", "/routes"):
        assert status == 200
    else:
        assert (status, body) == (404, b"404 page not found\n")


def test_routes_are_there_too(running: Running) -> None:
    running.server.register("c.test", 9)
    until(lambda: "c.test" in json.loads(fetch(running.port, "/routes", AUTH)[2]))
    assert fetch(running.port, "/routes", AUTH)[1]["connection"] == "close"


def test_the_component_answers_on_the_bus(running: Running) -> None:
    running.router.saw("Component Router registered successfully")

    async def discover(client: Client) -> Any:
        return json.loads((await client.request("vcap.component.discover", b"", timeout=60)).data)

    found = running.server.run(discover)
    assert found["type"] == "Router" and found["uuid"] == varz(running)["uuid"]


def test_the_component_announces_itself(tmp_path: Path) -> None:
    with NatsServer() as server:
        heard: list[dict[str, Any]] = []

        async def listen(client: Client) -> Router:
            got = asyncio.Event()

            async def take(message: Any) -> None:
                heard.append(json.loads(message.data))
                got.set()

            await client.subscribe("vcap.component.announce", cb=take)
            await client.flush()
            router = Router(config=config(server), folder=tmp_path, wait_for=None)
            router.start()
            try:
                await asyncio.wait_for(got.wait(), 60)
            finally:
                await asyncio.to_thread(router.kill)
            return router

        server.run(listen)
    assert heard[0]["type"] == "Router" and heard[0]["urls"] == 0


def test_health_is_bad_while_draining(tmp_path: Path) -> None:
    with NatsServer() as server:
        with Router(config=config(server, drain_wait="300s"), folder=tmp_path) as router:
            assert fetch(router.status_port, "/health")[0] == 200
            router.signal(signal.SIGUSR1)
            router.saw("gorouter-draining")
            status, _, body = fetch(router.status_port, "/health")
            assert (status, body) == (503, b"")


# -- debug server ----------------------------------------------------------------------------------------------


def put(port: int, level: str, method: str = "PUT") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, "/log-level", level)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_the_level_of_the_log_changes_while_running(running: Running) -> None:
    router, port = running.router, running.debug_port
    assert fetch(port, "/log-level")[2] == b"debug\n"
    assert put(port, "error") == (200, b"/log-level was invoked with Level: error\n")
    assert fetch(port, "/log-level")[2] == b"error\n"
    running.server.register("quiet.test", 10)
    until(lambda: b"quiet.test" in fetch(running.port, "/routes", AUTH)[2])
    assert put(port, "info", "POST")[0] == 200
    running.server.register("loud.test", 10)
    until(lambda: any(line["data"]["uri"] == "loud.test" for line in router.said("route-registered")))
    assert not any(line["data"]["uri"] == "quiet.test" for line in router.said("route-registered"))
    assert not any(line["data"]["uri"] == "loud.test" for line in router.said("uri-added"))  # that is debug
    status, body = put(port, "loud")
    assert status == 400 and b"Invalid log level" in body
    assert put(port, "debug")[0] == 200


def test_what_belongs_to_go_is_not_there(running: Running) -> None:
    for path in ("/debug/pprof/", "/debug/pprof/heap", "/block-profile-rate", "/mutex-profile-fraction"):
        status, _, body = fetch(running.debug_port, path)
        assert status == 404 and path.encode() in body and b"Go" in body
    assert fetch(running.debug_port, "/other")[2] == b"404 page not found\n"


def test_a_debug_address_that_is_taken_does_not_end_the_start(running: Running, tmp_path: Path) -> None:
    with Router(config=config(running.server, debug_addr=f"127.0.0.1:{running.debug_port}"), folder=tmp_path) as router:
        (line,) = router.said("failed-to-start-debug-server")
        assert "address already in use" in line["data"]["error"]
        messages = [each["message"] for each in router.lines]
        assert messages.index("failed-to-start-debug-server") < messages.index("setting-up-nats-connection")

"""/routes, /metrics and /health of a running router."""

import base64
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.system.harness import Backend, NatsServer, Router, fetch, free_ports, until


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend(b"hello") as running:
        yield running


@pytest.fixture(scope="module")
def guarded(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Router, NatsServer]]:
    """The drop-in form with credentials, and metrics on a port of their own."""
    (metrics_port,) = free_ports(1)
    with NatsServer() as server:
        config = {
            "nats": {"hosts": [{"hostname": "127.0.0.1", "port": server.port}]},
            "status": {"user": "admin", "pass": "s3cret"},
            "prometheus": {"enabled": True, "port": metrics_port},
        }
        with Router(config=config, folder=tmp_path_factory.mktemp("guarded")) as router:
            router.metrics_port = metrics_port  # type: ignore[attr-defined]
            yield router, server


def test_health(guarded: tuple[Router, NatsServer]) -> None:
    router, _ = guarded
    status, headers, body = fetch(router.status_port, "/health")
    assert (status, body) == (200, b"ok\n")
    assert headers["cache-control"] == "private, max-age=0"
    assert headers["expires"] == "0"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("admin:wrong"),
        basic("other:s3cret"),
        basic("admin:s3cret:more"),
        basic("admin"),
        {"Authorization": "Bearer abc"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic"},
    ],
)
def test_routes_want_credentials(guarded: tuple[Router, NatsServer], headers: dict[str, str]) -> None:
    router, _ = guarded
    for path in ("/routes", "/anything"):  # gorouter: the credentials come before the path
        status, answer, body = fetch(router.admin_port, path, headers)
        assert (status, body) == (401, b"401 Unauthorized\n")
        assert answer["www-authenticate"] == "Basic"


def test_routes_are_those_of_gorouter(guarded: tuple[Router, NatsServer]) -> None:
    router, server = guarded
    server.register("B.test/Ctx", 8001, tags={"component": "x"}, availability_zone="z1", app="guid")
    server.register("a.test", 8002, stale_threshold_in_seconds=20, private_instance_id="i-1", isolation_segment="s")
    until(lambda: b"a.test" in fetch(router.admin_port, "/routes", basic("admin:s3cret"))[2])
    for method in ("GET", "POST"):  # gorouter: methods are not checked
        status, headers, body = fetch(router.admin_port, "/routes", basic("admin:s3cret"), method)
        assert status == 200
        assert headers["connection"] == "close"
        assert body.endswith(b"}\n")
        assert list(json.loads(body)) == ["a.test", "b.test/ctx"]
        assert json.loads(body) == {
            "a.test": [
                {
                    "address": "127.0.0.1:8002", "availability_zone": "", "protocol": "http1", "tls": False, "ttl": 20,
                    "tags": None, "isolation_segment": "s", "private_instance_id": "i-1",
                }
            ],
            "b.test/ctx": [
                {
                    "address": "127.0.0.1:8001", "availability_zone": "z1", "protocol": "http1", "tls": False,
                    "ttl": 120, "tags": {"component": "x"},
                }
            ],
        }  # fmt: skip


def test_other_paths(guarded: tuple[Router, NatsServer]) -> None:
    router, _ = guarded
    status, _, body = fetch(router.admin_port, "/varz", basic("admin:s3cret"))
    assert (status, body) == (404, b"404 page not found\n")
    assert fetch(router.admin_port, "/metrics", basic("admin:s3cret"))[0] == 404  # they have their own port
    assert fetch(router.metrics_port, "/metrics")[0] == 200  # type: ignore[attr-defined]
    assert fetch(router.metrics_port, "/routes")[0] == 404  # type: ignore[attr-defined]


def test_without_configured_credentials_the_drop_in_form_wants_empty_ones(tmp_path: Path) -> None:
    with NatsServer() as server:
        config = {"nats": {"hosts": [{"hostname": "127.0.0.1", "port": server.port}]}}
        with Router(config=config, folder=tmp_path) as router:
            assert fetch(router.admin_port, "/routes")[0] == 401
            status, _, body = fetch(router.admin_port, "/routes", basic(":"))
            assert (status, body) == (200, b"{}\n")


def test_metrics_count_what_happened(backend: Backend) -> None:
    with Router("--route", f"a.test=127.0.0.1:{backend.port}") as router:
        for _ in range(7):
            assert router.get("a.test")[0] == 200
        assert router.get("unknown.test")[0] == 404

        def samples() -> dict[tuple[str, ...], float]:
            text = fetch(router.admin_port, "/metrics")[2].decode()
            return {
                (sample.name, *sorted(f"{name}={value}" for name, value in sample.labels.items())): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }

        until(lambda: ("gorouter_requests_total", "code_class=2xx", "route=a.test") in samples())
        found = samples()
        assert found["gorouter_requests_total", "code_class=2xx", "route=a.test"] == 7
        assert found["gorouter_request_duration_seconds_count", "route=a.test"] == 7
        assert found["gorouter_request_duration_seconds_bucket", "le=+Inf", "route=a.test"] == 7
        assert found["gorouter_request_duration_seconds_sum", "route=a.test"] > 0
        assert found["gorouter_rejected_requests_total",] == 1
        assert found["gorouter_routes",] == 1
        assert found["gorouter_log_lines_dropped_total",] == 0


def test_help_and_type_come_with_every_metric(backend: Backend) -> None:
    with Router("--route", f"a.test=127.0.0.1:{backend.port}") as router:
        router.get("a.test")
        _, headers, body = fetch(router.admin_port, "/metrics")
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
        text = body.decode()
        described = set(re.findall(r"^# TYPE (\S+) ", text, re.M))
        assert described == set(re.findall(r"^# HELP (\S+) \S", text, re.M))
        names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"^([a-z]\w*)[{ ]", text, re.M)}
        assert names == described


def test_clients_that_do_not_read_disturb_nobody(backend: Backend, tmp_path: Path) -> None:
    """Half-sent requests, and answers too large for any socket buffer that nobody takes."""
    with NatsServer() as server:
        with Router("--nats", f"nats://127.0.0.1:{server.port}", "--log-level", "warn", wait_for=None) as router:
            until(lambda: router.metric("gorouter_nats_connected") == 1)
            tags = {f"tag-{number}": "x" * 100 for number in range(20)}
            messages = [
                {"host": "10.0.0.1", "port": 80, "uris": [f"r{number}.test"], "tags": tags} for number in range(5000)
            ]
            server.publish("router.register", *messages)
            until(lambda: router.metric("gorouter_routes") == 5000)
            idle = []
            try:
                for request in (b"GET /rou", b"GET /routes HTTP/1.1\r\nHost: x\r\n\r\n") * 3:
                    idle.append(socket.create_connection(("127.0.0.1", router.admin_port)))
                    idle[-1].sendall(request)
                server.register("late.test", backend.port)
                until(lambda: router.serves("late.test", b"hello"))
                assert len(router.routes()) == 5001
                assert router.health() == 200
            finally:
                for each in idle:
                    each.close()
            assert router.stop() == 0


def test_many_scrapes_at_once(backend: Backend) -> None:
    with Router("--route", f"a.test=127.0.0.1:{backend.port}") as router:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: fetch(router.admin_port, ("/metrics", "/routes")[n % 2])[0], range(64)))
        assert set(answers) == {200}

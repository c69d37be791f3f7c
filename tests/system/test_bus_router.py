"""Routes that come and go over NATS, seen through a whole router: the drop-in form and `serve`."""

import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gorouter_py.control import snapshot
from tests.system.harness import Backend, NatsServer, Router, free_ports, until


@pytest.fixture(scope="module")
def nats_server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend(b"hello") as running:
        yield running


def nats_url(server: NatsServer) -> str:
    return f"nats://127.0.0.1:{server.port}"


def drop_in(server: NatsServer, folder: Path, wait_for: str | None = "gorouter.started", **config: Any) -> Router:
    nats = {"nats": {"hosts": [{"hostname": "127.0.0.1", "port": server.port}]}}
    return Router(config={**nats, **config}, folder=folder, wait_for=wait_for)


def test_a_route_lives_from_register_to_unregister(nats_server: NatsServer, backend: Backend) -> None:
    with Router("--nats", nats_url(nats_server)) as router:
        router.saw("subscriber-started")
        assert router.get("a.test")[0] == 404
        nats_server.register("a.test", backend.port, app="guid", private_instance_id="i-1")
        until(lambda: router.serves("a.test", b"hello"))
        nats_server.register("other.test", backend.port)
        until(lambda: router.serves("other.test", b"hello"))
        nats_server.unregister("a.test", backend.port)
        until(lambda: router.get("a.test")[0] == 404)
        assert router.serves("other.test", b"hello")
        assert router.stop() == 0
        (line,) = router.said("endpoint-unregistered")
        assert line["data"]["application_id"] == "guid"
        assert line["source"] == "gorouter.stdout.registry"


def test_bad_messages_do_no_harm(nats_server: NatsServer, backend: Backend) -> None:
    with Router("--nats", nats_url(nats_server)) as router:
        router.saw("subscriber-started")
        nats_server.publish("router.register", b"garbage", {"host": "127.0.0.1", "port": "80", "uris": ["x.test"]})
        nats_server.publish("router.active_apps", b"\x78\x9c\x00")
        nats_server.register("a.test", backend.port)
        until(lambda: router.serves("a.test", b"hello"))
        lines = router.said("validation-error")
        subjects = [line["data"]["subject"] for line in lines]
        assert subjects == ["router.register", "router.register", "router.active_apps"]
        assert lines[0]["data"]["payload"] == "garbage"
        assert router.metric("gorouter_registry_messages_invalid_total") == 3


def test_the_drop_in_form_greets_as_gorouter_does(nats_server: NatsServer, tmp_path: Path) -> None:
    with drop_in(nats_server, tmp_path, index=3, droplet_stale_threshold="90s") as router:
        order = [line["message"] for line in router.lines]
        wanted = [
            "starting", "setting-up-nats-connection", "Successfully-connected-to-nats", "subscriber-starting",
            "subscriber-started", "tcp-listener-started", "gorouter.started",
        ]  # fmt: skip
        assert [message for message in order if message in wanted] == wanted
        host = router.said("Successfully-connected-to-nats")[0]
        assert host["data"]["host"] == f"127.0.0.1:{nats_server.port}"
        assert host["source"] == "gorouter.stdout.nats"

        async def greet(client: Any) -> bytes:
            answer: bytes = (await client.request("router.greet", b"", timeout=30)).data
            return answer

        answer = json.loads(nats_server.run(greet))
        assert answer["id"].startswith("3-")
        assert len(answer["hosts"]) == 1
        assert answer["minimumRegisterIntervalInSeconds"] == 0
        assert answer["pruneThresholdInSeconds"] == 90


def test_applications_with_requests_are_named(nats_server: NatsServer, backend: Backend, tmp_path: Path) -> None:
    with drop_in(nats_server, tmp_path, publish_active_apps_interval="50ms") as router:
        for app in ("busy", "idle"):
            nats_server.register(f"{app}.test", backend.port, app=app)
        until(lambda: router.serves("busy.test", b"hello"))

        async def listen(client: Any) -> list[list[str]]:
            subscription = await client.subscribe("router.active_apps")
            assert router.serves("busy.test", b"hello")
            heard: list[list[str]] = []
            while not heard or heard[-1] or not any(heard):  # named once, and not again
                heard.append(json.loads(zlib.decompress((await subscription.next_msg(timeout=60)).data)))
            return heard

        assert {app for apps in nats_server.run(listen) for app in apps} == {"busy"}


def test_the_drop_in_form_ends_without_nats(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with NatsServer(port) as server:
        router = drop_in(server, tmp_path, wait_for=None)
    with router:
        assert router.wait() == 1
        line = router.said("nats-connection-error")[0]
        assert line["log_level"] == 3
        assert "no servers available for connection" in line["data"]["error"]


def test_serve_starts_without_nats_and_finds_it_later(backend: Backend) -> None:
    (port,) = free_ports(1)
    with Router("--nats", f"nats://127.0.0.1:{port}", "--route", f"static.test=127.0.0.1:{backend.port}") as router:
        assert router.serves("static.test", b"hello")
        assert router.metric("gorouter_nats_connected") == 0
        with NatsServer(port) as server:
            router.saw("subscriber-started")
            server.register("a.test", backend.port)
            until(lambda: router.serves("a.test", b"hello"))
            assert router.metric("gorouter_nats_connected") == 1
        router.saw("nats-connection-disconnected")
        assert router.serves("a.test", b"hello")
        with NatsServer(port) as server:
            router.saw("nats-connection-reconnected")
            server.register("b.test", backend.port)
            until(lambda: router.serves("b.test", b"hello"))


def test_credentials_come_from_the_configuration(backend: Backend, tmp_path: Path) -> None:
    with NatsServer(arguments=("--user", "u", "--pass", "p")) as server:
        nats = {"hosts": [{"hostname": "127.0.0.1", "port": server.port}], "user": "u", "pass": "p"}
        with drop_in(server, tmp_path, nats=nats) as router:
            server.publish(
                "router.register",
                {"host": "127.0.0.1", "port": backend.port, "uris": ["a.test"]},
                user="u",
                password="p",
            )
            until(lambda: router.serves("a.test", b"hello"))


def test_stale_routes_go(nats_server: NatsServer, backend: Backend, tmp_path: Path) -> None:
    config = {"prune_stale_droplets_interval": "100ms", "droplet_stale_threshold": "60s"}
    with drop_in(nats_server, tmp_path, **config) as router:
        nats_server.register("kept.test", backend.port)
        nats_server.register("short.test", backend.port, stale_threshold_in_seconds=1)
        until(lambda: router.serves("kept.test", b"hello"))
        until(lambda: router.get("short.test")[0] == 404)
        line = router.saw("pruned-route")
        assert line["data"]["uri"] == "short.test"
        assert line["data"]["endpoints"] == [f"127.0.0.1:{backend.port}"]
        assert router.serves("kept.test", b"hello")


def test_pruning_waits_while_nats_is_away_if_so_configured(backend: Backend, tmp_path: Path) -> None:
    with NatsServer() as server:
        config = {
            "prune_stale_droplets_interval": "100ms",
            "droplet_stale_threshold": "1s",
            "suspend_pruning_if_nats_unavailable": True,
            "gorouter_py": {"nats_optional": True},
        }
        with drop_in(server, tmp_path, **config) as router:
            router.saw("subscriber-started")
            server.register("a.test", backend.port)
            until(lambda: router.serves("a.test", b"hello"))
            server.stop()
            router.saw("prune-suspended", count=15)  # longer than it would have lived
            assert router.serves("a.test", b"hello")
            server.start()
            router.saw("nats-connection-reconnected")
            until(lambda: router.get("a.test")[0] == 404)  # nobody refreshed it


def test_an_empty_pool_answers_503_for_a_while(nats_server: NatsServer, backend: Backend, tmp_path: Path) -> None:
    config = {"empty_pool_response_code_503": True, "empty_pool_timeout": "2s"}
    with drop_in(nats_server, tmp_path, **config) as router:
        nats_server.register("a.test", backend.port)
        until(lambda: router.serves("a.test", b"hello"))
        nats_server.unregister("a.test", backend.port)
        until(lambda: router.get("a.test")[0] == 503)
        until(lambda: router.get("a.test")[0] == 404)


def test_a_tls_endpoint_is_never_spoken_to_in_plain_text(nats_server: NatsServer, backend: Backend) -> None:
    with Router("--nats", nats_url(nats_server)) as router:
        router.saw("subscriber-started")
        nats_server.register("a.test", backend.port, tls_port=backend.port)
        line = router.saw("endpoint-not-routable")
        assert line["data"]["isTLS"] is True
        assert router.get("a.test")[0] == 404
        assert router.routes()["a.test"][0]["tls"] is True
        assert router.metric("gorouter_tls_endpoints_unsupported_total") == 1


def test_names_are_resolved(nats_server: NatsServer, backend: Backend) -> None:
    with Router("--nats", nats_url(nats_server)) as router:
        router.saw("subscriber-started")
        nats_server.publish("router.register", {"host": "localhost", "port": backend.port, "uris": ["a.test"]})
        until(lambda: router.serves("a.test", b"hello"))


def test_a_cold_start_serves_the_snapshot_while_nats_is_away(backend: Backend, tmp_path: Path) -> None:
    file = tmp_path / "routes"
    with NatsServer() as server:
        flags = ("--nats", nats_url(server), "--snapshot", str(file))
        with Router(*flags) as router:
            router.saw("subscriber-started")
            server.register("A.test/Ctx", backend.port, private_instance_id="i-1")
            server.register("short.test", backend.port, stale_threshold_in_seconds=1)
            until(lambda: len(router.routes()) == 2)
            assert router.stop() == 0
        (until_wall,) = [entry.until for entry in entries_of(file) if entry.uri == "short.test"]
    until(lambda: time.time() > until_wall)
    with Router(*flags) as router:
        assert router.get("a.test", "/ctx/x") == (200, b"hello")
        assert list(router.routes()) == ["a.test/ctx"]
        assert router.saw("snapshot-loaded")["data"]["stale"] == 1
        assert router.stop() == 0
    assert [entry.uri for entry in entries_of(file)] == ["A.test/Ctx"]


def entries_of(file: Path) -> list[snapshot.Entry]:
    return snapshot.unpack(file.read_bytes())[1]


def test_the_snapshot_is_written_while_running(nats_server: NatsServer, backend: Backend, tmp_path: Path) -> None:
    file = tmp_path / "routes"
    config = {"gorouter_py": {"snapshot_file": str(file), "snapshot_interval": "100ms"}}
    with drop_in(nats_server, tmp_path, **config) as router:
        nats_server.register("a.test", backend.port)
        until(lambda: file.exists() and [entry.uri for entry in entries_of(file)] == ["a.test"])
        router.kill()  # no farewell: what is on disk counts
    with drop_in(nats_server, tmp_path, **config) as router:
        assert router.serves("a.test", b"hello")


def test_a_corrupt_snapshot_is_put_aside(backend: Backend, tmp_path: Path) -> None:
    file = tmp_path / "routes"
    file.write_bytes(b"not a snapshot")
    with Router("--route", f"a.test=127.0.0.1:{backend.port}", "--snapshot", str(file)) as router:
        assert router.serves("a.test", b"hello")
        assert router.saw("snapshot-corrupt")["data"]["kept_as"] == f"{file}.corrupt"
    assert Path(f"{file}.corrupt").read_bytes() == b"not a snapshot"


def test_a_burst_of_registrations_arrives_whole(nats_server: NatsServer, backend: Backend) -> None:
    count = 20_000
    with Router("--nats", nats_url(nats_server), "--log-level", "warn", wait_for=None) as router:
        until(lambda: router.metric("gorouter_nats_connected") == 1)
        first = [message(f"r{number}.test", backend.port) for number in range(count)]
        nats_server.publish("router.register", *first)
        until(lambda: router.metric("gorouter_routes") == count)
        assert router.serves("r0.test", b"hello") and router.serves(f"r{count - 1}.test", b"hello")
        nats_server.publish("router.register", *first)
        until(lambda: router.metric("gorouter_nats_messages_total") >= 2 * count)
        nats_server.publish("router.unregister", *first)
        until(lambda: router.metric("gorouter_routes") == 0)
        assert router.metric("gorouter_nats_dropped_messages_total") == 0
        assert router.metric("gorouter_unregistry_messages_total") == count
        assert router.stop() == 0


def message(uri: str, port: int) -> bytes:
    return json.dumps({"host": "127.0.0.1", "port": port, "uris": [uri], "app": "a"}).encode()

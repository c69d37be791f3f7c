"""Which routes a whole router takes, and which requests must not reach another route's instances."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.harness import Backend, NatsServer, Router, until


@pytest.fixture(scope="module")
def nats_server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend(b"hello") as running:
        yield running


def drop_in(server: NatsServer, folder: Path, **config: Any) -> Router:
    return Router(config={"nats": {"hosts": [{"hostname": "127.0.0.1", "port": server.port}]}, **config}, folder=folder)


@pytest.mark.parametrize(
    ("mode", "taken"),
    [
        ("all", {"shared.test", "is1.test", "is2.test", "is3.test"}),
        ("segments", {"is1.test", "is2.test"}),
        ("shared-and-segments", {"shared.test", "is1.test", "is2.test"}),
    ],
)
def test_routes_of_other_segments_are_as_good_as_unknown(
    nats_server: NatsServer, backend: Backend, tmp_path: Path, mode: str, taken: set[str]
) -> None:
    with drop_in(
        nats_server, tmp_path, isolation_segments=["is1", "is2"], routing_table_sharding_mode=mode
    ) as router:
        assert any('"isolation_segments":["is1","is2"]' in line for line in router.raw)
        assert any(f'"routing_table_sharding_mode":"{mode}"' in line for line in router.raw)
        for segment in ("", "is1", "is3", "is2"):  # the last one is taken in every mode
            nats_server.register(f"{segment or 'shared'}.test", backend.port, isolation_segment=segment)
        until(lambda: router.serves("is2.test", b"hello"))
        router.saw("endpoint-registered", len(taken))  # a line may be on its way
        assert {line["data"]["uri"] for line in router.said("endpoint-registered")} == taken
        assert router.get("is3.test")[0] == (200 if mode == "all" else 404)
        nats_server.unregister("is1.test", backend.port, isolation_segment="is3")  # not ours to withdraw
        nats_server.unregister("is2.test", backend.port, isolation_segment="is2")
        until(lambda: router.get("is2.test")[0] == 404)
        assert router.serves("is1.test", b"hello") is (mode != "all")


def test_a_route_that_cannot_be_routed_does_not_fall_to_a_wildcard(
    nats_server: NatsServer, backend: Backend, tmp_path: Path
) -> None:
    with drop_in(nats_server, tmp_path) as router:
        nats_server.register("*.w.test", backend.port)
        until(lambda: router.serves("any.w.test", b"hello"))
        nats_server.register("tls.w.test", 1, tls_port=1)
        nats_server.register("service.w.test", backend.port, route_service_url="https://rs.test")
        until(lambda: router.get("service.w.test")[0] == 404)
        assert router.get("tls.w.test")[0] == 404
        assert router.serves("any.w.test", b"hello")
        nats_server.unregister("tls.w.test", 1, tls_port=1)
        until(lambda: router.serves("tls.w.test", b"hello"))


def test_an_emptied_route_answers_503_for_its_time_and_then_is_gone(
    nats_server: NatsServer, backend: Backend, tmp_path: Path
) -> None:
    with drop_in(
        nats_server, tmp_path, empty_pool_response_code_503=True, empty_pool_timeout="1500ms",
        prune_stale_droplets_interval="50ms", droplet_stale_threshold="60s", max_request_header_bytes=(1 << 20) + 1,
    ) as router:  # fmt: skip
        assert router.saw("innefectual-max-header-bytes-value")
        nats_server.register("empty.test", backend.port)
        until(lambda: router.serves("empty.test", b"hello"))
        nats_server.unregister("empty.test", backend.port)
        seen = [200]
        until(lambda: seen.append(router.get("empty.test")[0]) or seen[-1] == 404)
        assert sorted(set(seen)) == [200, 404, 503]
        assert not router.said("route-unregistered")

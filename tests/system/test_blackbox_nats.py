"""gorouter's own suite, played in Python: a bus that goes and comes back, two of them, and routes that grow stale."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.blackbox import Apps, Gorouter, spec
from tests.system.harness import NatsServer, free_ports, until


@pytest.fixture
def bus() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture
def apps(bus: NatsServer) -> Iterator[Apps]:
    with Apps(bus) as made:
        yield made


def test_stale_routes_go_while_the_bus_is_away_and_live_ones_come_back(
    bus: NatsServer, apps: Apps, tmp_path: Path
) -> None:
    """Lives of 100 ms, looked at every 50 ms, and messages every 200 ms: a route is there for half of the time."""
    zombie, running = apps("zombie"), apps("innocent.bystander")
    with Gorouter(spec([bus.port]), tmp_path) as router:
        for app in (zombie, running):
            app.register()
            until(lambda app=app: router.has_route(app.uri) or app.register())
            app.keep_registering(0.2)
        until(lambda: router.status_of(zombie.uri) == 200)
        until(lambda: router.status_of(running.uri) == 200)
        zombie.stop_registering()
        bus.stop()
        until(lambda: router.status_of(zombie.uri) == 404)
        until(lambda: router.status_of(running.uri) == 404)
        assert router.status_of(running.uri) == 404, "nobody can have refreshed it"
        bus.start()
        until(lambda: router.status_of(running.uri) == 200)
        assert router.status_of(zombie.uri) == 404
        assert running.last().get("X-B3-TraceId")
        assert running.last().get("X-B3-SpanId")
        router.terminates()


def test_a_bus_that_goes_and_comes_back_is_spoken_of(bus: NatsServer, tmp_path: Path) -> None:
    with Gorouter({**spec([bus.port]), "nats_client_ping_interval": "100ms"}, tmp_path) as router:
        bus.stop()
        router.saw("nats-connection-disconnected")
        router.saw("nats-connection-still-disconnected")
        bus.start()
        router.saw("nats-connection-reconnected")
        count = len(router.said("nats-connection-still-disconnected"))
        bus.publish("router.register", b"garbage")  # heard, so it is over with being away
        router.saw("validation-error")
        assert len(router.said("nats-connection-still-disconnected")) == count
        assert router.process is not None and router.process.poll() is None
        router.terminates()


@pytest.mark.parametrize("suspend", [False, True])
def test_the_second_server_takes_over_before_routes_grow_stale(tmp_path: Path, suspend: bool) -> None:
    """The second one comes up only when the first has gone; without any, a suspended pruning keeps all."""
    with NatsServer() as first, NatsServer(free_ports(1)[0]) as second, Apps(second) as apps:
        second.stop()
        config = spec([first.port, second.port])
        config |= {"prune_stale_droplets_interval": "2s", "droplet_stale_threshold": "10s"}
        if suspend:
            config |= {
                "prune_stale_droplets_interval": "50ms", "droplet_stale_threshold": "300ms",
                "suspend_pruning_if_nats_unavailable": True, "nats_client_ping_interval": "200ms",
            }  # fmt: skip
        with Gorouter(config, tmp_path) as router:
            app = apps("demo")
            until(lambda: first.publish("router.register", app.message()) or router.status_of(app.uri) == 200)
            first.stop()
            if suspend:
                router.saw("prune-suspended", 20)  # a second of looking, three lives
                assert router.status_of(app.uri) == 200
                second.start()
                router.saw("nats-connection-reconnected")
            else:
                second.start()
                router.saw("nats-connection-reconnected")
                assert router.status_of(app.uri) == 200
            app.keep_registering(0.05)
            until(lambda: router.status_of(app.uri) == 200)
            router.terminates()

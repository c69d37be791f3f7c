"""Signals, exits and what a second router on the same ports gets: of the drop-in form and of `serve`."""

import http.client
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.harness import Backend, NatsServer, Router, Waiting, until


@pytest.fixture(scope="module")
def nats_server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend(b"hello") as running:
        yield running


def drop_in(server: NatsServer, folder: Path, wait_for: str | None = "gorouter.started", **config: Any) -> Router:
    nats = {"nats": {"hosts": [{"hostname": "127.0.0.1", "port": server.port}]}}
    return Router(config={**nats, **config}, folder=folder, wait_for=wait_for)


def with_route(router: Router, server: NatsServer, backend: Backend) -> None:
    server.register("a.test", backend.port)
    until(lambda: router.serves("a.test", b"hello"))


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


# -- drop-in form ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_gorouter_stops_at_once(
    nats_server: NatsServer, backend: Backend, tmp_path: Path, number: signal.Signals
) -> None:
    with drop_in(nats_server, tmp_path) as router:
        with_route(router, nats_server, backend)
        waiting = Waiting(router, backend, "a.test")
        router.signal(number)
        assert router.wait() == 0
        assert isinstance(waiting.join(), (http.client.HTTPException, OSError))  # cut, not answered
        for message in ("gorouter.stopping", "gorouter.stopped", "gorouter.exited"):
            assert len(router.said(message)) == 1
        assert router.said("gorouter.stopped")[0]["data"]["took"] > 0


def test_usr1_drains(nats_server: NatsServer, backend: Backend, tmp_path: Path) -> None:
    with drop_in(nats_server, tmp_path, drain_wait="3s", drain_timeout="60s") as router:
        with_route(router, nats_server, backend)
        waiting = Waiting(router, backend, "a.test")
        router.signal(signal.SIGUSR1)
        line = router.saw("gorouter-draining")
        assert line["data"] == {"wait_seconds": 3.0, "timeout_seconds": 60.0}
        until(lambda: router.health() == 503)
        assert router.serves("a.test", b"hello")  # still everything is served
        router.signal(signal.SIGTERM)
        router.signal(signal.SIGUSR1)
        router.saw("Draining with 1 outstanding active connections")
        until(lambda: refuses(router.port))
        assert router.process is not None and router.process.poll() is None  # it waits for the request
        backend.release.set()
        assert router.wait() == 0
        assert waiting.join() == (200, b"hello")
        ignored = {line["data"]["signal"] for line in router.said("gorouter.signal.ignored")}
        assert ignored == {"terminated", "user defined signal 1"}


def test_a_drain_ends_at_its_time_limit(nats_server: NatsServer, backend: Backend, tmp_path: Path) -> None:
    with drop_in(nats_server, tmp_path, drain_wait="10ms", drain_timeout="200ms") as router:
        with_route(router, nats_server, backend)
        waiting = Waiting(router, backend, "a.test")
        router.signal(signal.SIGUSR1)
        assert router.wait() == 0
        assert router.said("router.drain.timed-out")
        assert router.said("gorouter-draining-error")[0]["data"]["error"] == "router: Drain timeout"
        assert isinstance(waiting.join(), (http.client.HTTPException, OSError))


def test_during_the_start_delay_the_door_is_closed(nats_server: NatsServer, backend: Backend, tmp_path: Path) -> None:
    message = "Sleeping before returning success on /health endpoint to preload routing table"
    with drop_in(nats_server, tmp_path, message, start_response_delay_interval="2s") as router:
        assert refuses(router.port)
        nats_server.register("a.test", backend.port)
        router.saw("gorouter.started")
        assert router.serves("a.test", b"hello")
        assert router.health() == 200


def test_a_stop_during_the_start_delay(nats_server: NatsServer, tmp_path: Path) -> None:
    message = "Sleeping before returning success on /health endpoint to preload routing table"
    with drop_in(nats_server, tmp_path, message, start_response_delay_interval="300s") as router:
        assert router.stop() == 0
        assert not router.said("gorouter.started")


def test_a_stop_while_nats_does_not_answer(tmp_path: Path) -> None:
    with socket.socket() as silent:  # accepts and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        config = {"nats": {"hosts": [{"hostname": "127.0.0.1", "port": silent.getsockname()[1]}]}}
        with Router(config=config, folder=tmp_path, wait_for="setting-up-nats-connection") as router:
            assert router.stop() == 0


# -- serve ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_lets_requests_end(backend: Backend, number: signal.Signals) -> None:
    with Router("--route", f"a.test=127.0.0.1:{backend.port}") as router:
        waiting = Waiting(router, backend, "a.test")
        router.signal(number)
        until(lambda: refuses(router.port))
        backend.release.set()
        assert router.wait() == 0
        assert waiting.join() == (200, b"hello")


def test_serve_stops_at_the_second_signal(backend: Backend) -> None:
    with Router("--route", f"a.test=127.0.0.1:{backend.port}") as router:
        waiting = Waiting(router, backend, "a.test")
        router.signal(signal.SIGTERM)
        router.saw("gorouter-draining")
        router.signal(signal.SIGINT)
        assert router.wait() == 0
        assert isinstance(waiting.join(), (http.client.HTTPException, OSError))


def test_hup_reopens_the_access_log(backend: Backend, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with Router("--route", f"a.test=127.0.0.1:{backend.port}", "--access-log", str(log)) as router:
        assert router.serves("a.test", b"hello")
        until(lambda: log.read_text().count("\n") == 1)
        log.rename(tmp_path / "old.log")
        router.signal(signal.SIGHUP)
        until(log.exists)
        assert router.serves("a.test", b"hello")
        until(lambda: log.read_text().count("\n") == 1)


# -- exits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("taken", "message"), [(0, "gorouter.exited-with-failure"), (2, "initialize-router-error")])
def test_a_second_router_on_the_same_port_is_refused(backend: Backend, taken: int, message: str) -> None:
    route = ("--route", f"a.test=127.0.0.1:{backend.port}")
    with Router(*route) as first:
        ports = [first.port, first.status_port, first.admin_port]
        other = Router(*route, wait_for=None)
        mixed = [other.port, other.status_port, other.admin_port]
        mixed[taken] = ports[taken]
        with Router(*route, ports=mixed, wait_for=None) as second:
            assert second.wait() == 1
            (line,) = second.said(message)
            assert f"127.0.0.1:{ports[taken]}: bind: address already in use" in line["data"]["error"]
        assert first.serves("a.test", b"hello")


def test_an_access_log_that_cannot_be_opened_ends_the_start(backend: Backend, tmp_path: Path) -> None:
    flags = ("--route", f"a.test=127.0.0.1:{backend.port}", "--access-log", str(tmp_path / "none" / "access.log"))
    with Router(*flags, wait_for=None) as router:
        assert router.wait() == 1
        assert router.said("error-creating-access-logger")[0]["log_level"] == 3


def test_an_idle_router_is_not_taken_for_a_stuck_one(backend: Backend) -> None:
    with Router("--route", f"a.test=127.0.0.1:{backend.port}") as router:
        before = router.metric("gorouter_uptime_seconds")
        until(lambda: router.metric("gorouter_uptime_seconds") - before > 7)
        assert router.serves("a.test", b"hello")
        assert router.stop() == 0


def test_a_stopped_and_continued_router_goes_on(backend: Backend) -> None:
    """SIGSTOP stops control and workers alike: the gap must not be taken for a stuck worker."""
    with Router("--route", f"a.test=127.0.0.1:{backend.port}") as router:
        assert router.process is not None
        os.kill(router.process.pid, signal.SIGSTOP)
        time.sleep(6)
        os.kill(router.process.pid, signal.SIGCONT)
        assert router.serves("a.test", b"hello")
        assert router.stop() == 0


def test_many_starts_and_stops(backend: Backend) -> None:
    for number in range(8):
        with Router("--route", f"a.test=127.0.0.1:{backend.port}", wait_for=None) as router:
            if number % 2:
                router.saw("gorouter.started")
                assert router.serves("a.test", b"hello")
            else:
                router.saw("retrieved-isolation-segments")  # the earliest line after the handlers are there
            assert router.stop() == 0

"""A DataPlane in this process with real sockets, and the fixtures `router` and `origin` that clean up after it.

Fixtures: import them in a conftest. Every Router ends with the same checks: no request, tunnel, client or upstream
connection is left, and no programmer error was counted.
"""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gorouter_py import _fastpath
from tests.support.origins import OK, Handler, Origin
from tests.support.wire import Message, Wire

HOST = "app.test"


def until(condition: Callable[[], Any], what: str = "") -> Any:
    """The first true value of condition(); only a hang reaches the deadline."""
    end = time.monotonic() + 20
    while not (value := condition()):
        assert time.monotonic() < end, what or "the condition did not come true"
        time.sleep(0.002)
    return value


class TooLate(Exception):
    """A time-out that a test sets small was over before the test had done what must come before it."""


def unhurried(attempt: Callable[[int], None], ms: int) -> None:
    """Runs attempt(ms); where it raises TooLate, the machine is busy: again with more time, up to 125 times as much."""
    for factor in (1, 5, 25):
        try:
            return attempt(factor * ms)
        except TooLate:
            continue
    attempt(125 * ms)  # if it is too late here as well, then for another reason


def listener(port: int = 0) -> socket.socket:
    """A socket as control gives it to the data plane."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(1024)
    sock.setblocking(False)
    return sock


class Router:
    """A running data plane with one port for requests and one for status."""

    def __init__(
        self, log: Path | None = None, outlets: Callable[[_fastpath.DataPlane], None] | None = None, **settings: Any
    ) -> None:
        self.log_path = log
        if log is not None:
            settings["access_log"] = str(log)
        self.plane = _fastpath.DataPlane(settings)
        if outlets is not None:
            outlets(self.plane)
        self._clients: list[Wire] = []
        self.handles: list[int] = []
        first, health = listener(), listener()
        self.port = int(first.getsockname()[1])
        self.health_port = int(health.getsockname()[1])
        first_fds = [first.detach()]
        for _ in range(settings.get("workers", 1) - 1):
            first_fds.append(listener(self.port).detach())
        self.plane.start([("http", first_fds), ("health", [health.detach()])])

    def add(self, origin: Origin | int, host: str = HOST, **identity: Any) -> int:
        """Registers an instance; returns its handle."""
        port = origin if isinstance(origin, int) else origin.port
        handle = self.plane.add(host, "127.0.0.1", port, **identity)
        self.handles.append(handle)
        return handle

    def map_port(self, host: str = HOST, *cookies: str) -> tuple[int, int]:
        """A listener by which clients reach one app; returns its port and the mapping's handle."""
        mapped = listener()
        port = int(mapped.getsockname()[1])
        return port, self.plane.map_port([mapped.detach()], host, port, cookies)

    def remove(self, handle: int) -> None:
        """Unregisters it."""
        self.handles.remove(handle)
        self.plane.remove(handle)

    def client(self, **options: Any) -> Wire:
        """A new connection to the router; closed with it at the latest."""
        wire = Wire.connect(self.port, **options)
        self._clients.append(wire)
        return wire

    def ask(self, request: bytes, method: str = "GET") -> Message:
        """The answer to one request on a connection of its own."""
        with self.client() as client:
            client.send(request)
            return client.answer(method)

    def get(self, target: str = "/", host: str = HOST, lines: str = "") -> Message:
        """The answer to a simple GET on a connection of its own."""
        return self.ask(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode())

    def counter(self, name: str) -> int:
        """One counter."""
        return self.plane.counters()[name]

    def log_lines(self, count: int) -> list[str]:
        """The first so many lines of the access log, once they are there."""
        path = self.log_path
        assert path is not None
        until(lambda: path.read_bytes().count(b"\n") >= count, f"fewer than {count} lines in the access log")
        return path.read_text("utf-8", "surrogateescape").splitlines()

    def finish(self) -> None:
        """Closes clients and stops; then nothing may be left."""
        for client in self._clients:
            client.close()
        quiet = ("requests_active", "tunnels_open", "connections_open")
        left: dict[str, int] = {}
        end = time.monotonic() + 5
        while time.monotonic() < end:
            left = {name: n for name, n in self.plane.counters().items() if name in quiet and n}
            if not left:
                break
            time.sleep(0.002)
        stopped = self.plane.stop()
        counters = self.plane.counters()
        for handle in self.handles:
            self.plane.remove(handle)
        del self.plane  # its objects are counted when the test is over, while others may still hold the Router
        assert not left, f"not over after all clients have closed: {left}"
        assert stopped, "a thread of the data plane does not end"
        after = {name: counters[name] for name in (*quiet, "upstream_open", "upstream_idle") if counters[name]}
        assert not after, f"open after the stop: {after}"
        assert _fastpath.bugs() == 0


@pytest.fixture
def origin() -> Iterator[Callable[..., Origin]]:
    """Call it with a handler (or the bytes of an answer) for a listening instance."""
    made: list[Origin] = []

    def make(handler: Handler | bytes = OK, **options: Any) -> Origin:
        made.append(Origin(handler, **options))
        return made[-1]

    yield make
    with contextlib.ExitStack() as stack:
        for one in made:
            stack.callback(one.finish)


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Callable[..., Router]]:
    """Call it with settings for a running router; log=True gives it an access log."""
    made: list[Router] = []

    def make(*, log: bool = False, **settings: Any) -> Router:
        made.append(Router(tmp_path / f"access-{len(made)}.log" if log else None, **settings))
        return made[-1]

    yield make
    with contextlib.ExitStack() as stack:
        for one in made:
            stack.callback(one.finish)


MakeOrigin = Callable[..., Origin]
MakeRouter = Callable[..., Router]

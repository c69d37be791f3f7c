"""Twenty thousand people in front of a real router: instances that answer quickly, and clients that ask in bulk.

An Instance is a process of its own (`python -m tests.system.crowd NAME`), so that it can be killed and costs the
client's Python nothing. People keep what cookie they get; `visit` lets each of them make one request.
"""

import asyncio
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
CONNECTIONS = 8
BATCH = 32  # requests sent before the first answer is read
_VERSION = re.compile(rb"\r\nX-Version: (\S+)")
_COOKIE = re.compile(rb"\r\nSet-Cookie: gr_c=([^;\r]+)")
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)", re.I)


@dataclass
class Person:
    """Somebody with a cookie jar. versions: which answered each request, "" for the router itself."""

    number: int
    cookie: str = ""
    versions: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    headers: str = ""  # further header lines, each with its CRLF
    agent: str = "person"

    def request(self, host: str, path: str) -> bytes:
        cookie = f"Cookie: gr_c={self.cookie}\r\n" if self.cookie else ""
        agent = f"User-Agent: {self.agent} {self.number}\r\n"
        return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{agent}{cookie}{self.headers}\r\n".encode()

    def answered(self, head: bytes) -> None:
        version = _VERSION.search(head)
        self.versions.append(version[1].decode() if version else "")
        self.statuses.append(int(head[9:12]))
        if cookie := _COOKIE.search(head):
            self.cookie = cookie[1].decode()


def people(count: int, first: int = 0) -> list[Person]:
    return [Person(first + number) for number in range(count)]


def visit(port: int, host: str, crowd: Sequence[Person], path: str = "/", connections: int = CONNECTIONS) -> None:
    """Each makes one request over one of a few keep-alive connections. AssertionError if an answer is missing."""
    faults: list[BaseException] = []

    def send(mine: Sequence[Person]) -> None:
        try:
            _visit(port, host, mine, path)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=send, args=(crowd[n::connections],)) for n in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise AssertionError(f"a client failed: {faults[0]!r}") from faults[0]


def _visit(port: int, host: str, mine: Sequence[Person], path: str) -> None:
    if not mine:
        return
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        rest = b""
        for start in range(0, len(mine), BATCH):
            batch = mine[start : start + BATCH]
            connection.sendall(b"".join(person.request(host, path) for person in batch))
            for person in batch:
                while (end := rest.find(b"\r\n\r\n")) < 0:
                    rest += _more(connection)
                head, rest = rest[: end + 2], rest[end + 4 :]
                length = _LENGTH.search(head)
                assert length is not None, head
                while len(rest) < int(length[1]):
                    rest += _more(connection)
                rest = rest[int(length[1]) :]
                person.answered(head)


class Lines:
    """Keep-alive connections, each with its own cookie from its first answer on."""

    def __init__(self, port: int, count: int) -> None:
        self._people = people(count)
        self._connections = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(count)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.close()

    def ask(self, host: str = "shop.test") -> Counter[str]:
        """One request on each, all sent before the first answer is read: how many each version answered."""
        for connection, person in zip(self._connections, self._people, strict=True):
            connection.sendall(person.request(host, "/"))
        for connection, person in zip(self._connections, self._people, strict=True):
            rest = b""
            while not rest.endswith(b"\r\n\r\n"):  # the instances' answers have no body
                rest += _more(connection)
            person.answered(rest[:-2])
        return Counter(person.versions[-1] for person in self._people)


def _more(connection: socket.socket) -> bytes:
    more = connection.recv(65536)
    assert more, "the router closed the connection"
    return more


class Instance:
    """An app instance of a version. broken: percent of its requests that end in 500, by chance of a fixed seed."""

    def __init__(self, version: str, broken: float = 0.0, seed: int = 1) -> None:
        self.version = version
        arguments = [sys.executable, "-m", "tests.system.crowd", version, str(broken), str(seed)]
        self.process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """At once: connections are reset, and further ones refused."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


class _Serving(asyncio.Protocol):
    def __init__(self, version: str, chances: Iterable[bool]) -> None:
        self.rest = b""
        self.chances = chances
        said = f"Content-Length: 0\r\nX-Version: {version}\r\n\r\n"
        self.good, self.bad = f"HTTP/1.1 200 OK\r\n{said}".encode(), f"HTTP/1.1 500 Broken\r\n{said}".encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport  # uvloop's is no asyncio.Transport

    def data_received(self, data: bytes) -> None:
        *requests, self.rest = (self.rest + data).split(b"\r\n\r\n")
        answers = [self.bad if broken else self.good for _, broken in zip(requests, self.chances, strict=False)]
        self.transport.write(b"".join(answers))


async def _serve(version: str, broken: float, seed: int) -> None:
    draw = random.Random(seed)
    chances = iter(lambda: draw.random() * 100 < broken, None)
    server = await asyncio.get_running_loop().create_server(lambda: _Serving(version, chances), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    uvloop.run(_serve(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))

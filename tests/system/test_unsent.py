"""An instance that is gone before it got a byte: the request is still unused, and goes on to
another one whatever its method.

The moment is made, not waited for: a full queue holds the router's connect back, and the router is stopped while the
instance takes the connection and closes it.
"""

import os
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.wire import Wire
from tests.system.harness import Router, until

SYN_SENT = "02"


def connecting(port: int) -> bool:
    """Whether somebody of this machine waits for an answer of that port."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[3] == SYN_SENT and int(row[2].rpartition(":")[2], 16) == port for row in rows)


@pytest.fixture
def full() -> Iterator[tuple[socket.socket, ExitStack]]:
    """A listening socket whose queue is full, and the connections that fill it, not all of which may be established."""
    with socket.socket() as listening, ExitStack() as waiting:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        listening.settimeout(60)
        one = waiting.enter_context(socket.socket())
        one.connect(listening.getsockname())
        yield listening, waiting


@pytest.mark.parametrize("hard", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_closed_before_anything_was_sent(full: tuple[socket.socket, ExitStack], method: str, hard: bool) -> None:
    listening, waiting = full
    port = listening.getsockname()[1]
    text = f"{method} / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc".encode()
    with socket.create_server(("127.0.0.1", 0)) as other, ExitStack() as open_:
        other.settimeout(60)
        routes = [f"a.test=127.0.0.1:{port}", f"a.test=127.0.0.1:{other.getsockname()[1]}"]
        router = open_.enter_context(Router("--route", routes[0], "--route", routes[1]))
        client = open_.enter_context(Wire.connect(router.port))
        client.send(text)
        if until(lambda: connecting(port) or arrived(other)) == "arrived":  # the other one was first in turn
            answer(other, method, b"Connection: close\r\n")
            assert client.answer().body == b"ok"
            client.send(text)
            until(lambda: connecting(port))
        assert router.process is not None
        os.kill(router.process.pid, signal.SIGSTOP)
        try:
            with listening.accept()[0]:
                waiting.close()
            taken = Wire(listening.accept()[0])  # the router's, once its kernel asks again
            if hard:
                taken.reset()
            else:
                taken.close()
        finally:
            os.kill(router.process.pid, signal.SIGCONT)
        answer(other, method)
        assert client.answer().body == b"ok"


def arrived(listening: socket.socket) -> str:
    """Says so if a connection waits to be accepted."""
    return "arrived" if select.select([listening], [], [], 0)[0] else ""


def answer(listening: socket.socket, method: str, fields: bytes = b"") -> None:
    """Takes the next connection and answers its request."""
    with Wire(listening.accept()[0]) as taken:
        request = taken.request()
        assert request is not None
        assert (request.method, request.body) == (method, b"abc")
        taken.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + fields + b"\r\nok")

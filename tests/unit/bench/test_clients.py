"""The compiled origin and the strict client of the bench, against each other and against servers that misbehave."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from bench.load import features, steady
from bench.load.procs import Fleet, compile_native, cpus, wait_for_port

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello world\n"


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with Fleet() as started:
        yield started


class Server:
    """Answers each request of each connection with what `answer` returns, and closes when that is None."""

    def __init__(self, answer: Callable[[int], bytes | None]) -> None:
        self.answer = answer
        self.count = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with connection:
            data = b""
            while chunk := connection.recv(4096):
                data += chunk
                while b"\r\n\r\n" in data:
                    data = data.partition(b"\r\n\r\n")[2]
                    with self.lock:
                        self.count += 1
                        answer = self.answer(self.count)
                    if answer is None:
                        return
                    connection.sendall(answer)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.threads[0].join(5)


def ask(fleet: Fleet, port: int, count: int, **options: object) -> steady.Seen:
    """`count` requests in a quarter of a second over four connections."""
    options = {"connections": 4, "body": "hello world", **options}
    return steady.finish(fleet, steady.start(fleet, port, cpus()[1], count * 4, 0.25, **options), 60)


def test_every_answer_of_a_good_origin_counts(fleet: Fleet) -> None:
    (port,) = fleet.ports(1)
    origin = fleet.start("origin", [compile_native("origin"), "-p", str(port)], cpus()[1])
    wait_for_port(port, origin)
    seen = ask(fleet, port, 100)
    assert (seen.scheduled, seen.good, seen.failed, seen.statuses) == (100, 100, 0, {"200": 100})
    assert 0 < seen.p50_us <= seen.p99_us <= seen.max_us


def test_origin_names_itself_logs_in_and_serves_64_kib(fleet: Fleet) -> None:
    (port,) = fleet.ports(1)
    origin = fleet.start(
        "origin", [compile_native("origin"), "-p", str(port), "-n", "instance 7", "-d", "1"], cpus()[1]
    )
    wait_for_port(port, origin)
    assert features.ask(port).seen == "instance 7\n"
    assert features.ask(port, "/login").field("set-cookie").startswith("JSESSIONID=")
    assert len(features.ask(port, "/64k").seen) == 65536


def test_origin_answers_pipelined_requests_and_swallows_bodies(fleet: Fleet) -> None:
    (port,) = fleet.ports(1)
    wait_for_port(port, fleet.start("origin", [compile_native("origin"), "-p", str(port)], cpus()[1]))
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"GET /64k HTTP/1.1\r\n\r\n".ljust(
        100000, b"x"
    )
    last = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(post + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + last)
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
    assert data.count(b"HTTP/1.1 200 OK\r\n") == 3 and data.count(b"hello world\n") == 3


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno", "status"),
        (GOOD.replace(b"hello", b"hallo"), "body"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello world\n", "framing"),
        (None, "closed"),
    ],
)
def test_each_misbehaviour_is_counted_by_its_kind(fleet: Fleet, bad: bytes | None, kind: str) -> None:
    server = Server(lambda number: bad if number % 10 == 0 else GOOD)
    seen = ask(fleet, server.port, 100)
    server.close()
    assert server.count == 100  # it repeats nothing
    assert (seen.good, seen.failed) == (90, 10)
    assert {name for name, count in seen.failures.items() if count} == {kind}


def test_half_an_answer_and_silence_are_failures(fleet: Fleet) -> None:
    server = Server(lambda number: GOOD[:-4] if number == 7 else GOOD)
    seen = ask(fleet, server.port, 100, timeout_ms=500)
    server.close()
    assert (seen.good, seen.failed, seen.failures["timeout"]) == (99, 1, 1)


def test_nobody_there(fleet: Fleet) -> None:
    seen = ask(fleet, fleet.ports(1)[0], 20)
    assert (seen.good, seen.failures["connect"]) == (0, 20)

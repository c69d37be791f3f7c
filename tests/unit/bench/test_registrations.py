"""The registration publisher of the bench: what it writes, and how it paces."""

import json
import socket
import threading

import pytest

from bench.load import registrations
from bench.load.procs import BenchError
from bench.load.table import Instance


class Bus:
    """The server side of a NATS connection that takes everything and answers PING."""

    def __init__(self, greeting: bytes = b'INFO {"server_id":"x"}\r\n') -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.taken = b""
        self.greeting = greeting
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            connection.sendall(self.greeting)
            while data := connection.recv(65536):
                self.taken += data
                if self.taken.endswith(b"PING\r\n"):
                    connection.sendall(b"PING\r\nPONG\r\n")

    def close(self) -> None:
        self.listener.close()
        self.thread.join(5)
        assert not self.thread.is_alive()


def test_a_table_arrives_message_by_message() -> None:
    bus = Bus()
    registrations.register(
        bus.port, {"a.test": [Instance(81, "i0"), Instance(82, "i1")], "b.test": [Instance(81, "i0")]}
    )
    bus.close()
    blocks = bus.taken.split(b"PUB router.register ")[1:]
    found = []
    for block in blocks:
        size, _, rest = block.partition(b"\r\n")
        found.append(json.loads(rest[: int(size)]))
        assert rest[int(size) : int(size) + 2] == b"\r\n"
    assert [(m["uris"], m["port"], m["private_instance_id"]) for m in found] == [
        (["a.test"], 81, "i0"),
        (["a.test"], 82, "i1"),
        (["b.test"], 81, "i0"),
    ]


def test_pacing_sends_exactly_rate_times_seconds() -> None:
    bus = Bus()
    rows = registrations.storm_rows("new", [Instance(81, "i0")], 5)
    with registrations.Publisher(bus.port) as publisher:
        sent, _ = registrations.pace(publisher, rows, 5000, 0.1)
        publisher.flush()
    bus.close()
    assert sent == 500
    assert bus.taken.count(b"PUB router.register ") == 500
    assert b'"s5.storm.bench"' in bus.taken and b'"s504.storm.bench"' in bus.taken and b'"s505.storm' not in bus.taken


def test_refresh_repeats_and_elsewhere_has_its_own_subject() -> None:
    rows = registrations.storm_rows("refresh", [Instance(81, "i0")], registrations.REFRESHED_HOSTS)
    assert b'"s0.storm.bench"' in next(rows)
    assert next(registrations.storm_rows("elsewhere", [Instance(81, "i0")], 0)).startswith(b"PUB bench.elsewhere ")


def test_what_is_no_nats_server_is_refused() -> None:
    bus = Bus(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(BenchError, match="no NATS server"):
        registrations.Publisher(bus.port)
    bus.listener.close()

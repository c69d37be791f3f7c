"""Registers routes over NATS as platform components do, as fast as asked and without a client library in the way.

As a module: Publisher, used by the harness for whole tables. As a program, a paced storm for storm.py:
python -m bench.load.registrations --nats PORT --mode new|refresh|elsewhere --rate N --seconds S --origins PORT,PORT
publishes N messages a second in ticks of 10 ms and prints how many went out and how late the latest tick was. `new`
registers a host that was never seen with each message, `refresh` repeats those of a table of 10,000, `elsewhere` sends
the same bytes to a subject that nobody has subscribed to (what the bus and the publisher cost by themselves).
"""

import argparse
import json
import socket
import time
from collections.abc import Iterable, Iterator
from types import TracebackType

from bench.load.procs import BenchError
from bench.load.table import Instance, Table

SUBJECT = "router.register"
TICK_S = 0.01
TTL_S = 3600
REFRESHED_HOSTS = 10_000


def message(host: str, instance: Instance, app: str) -> bytes:
    """One registration with the fields a platform sends."""
    return json.dumps(
        {
            "host": instance.ip,
            "port": instance.port,
            "uris": [host],
            "app": app,
            "private_instance_id": instance.id,
            "private_instance_index": "0",
            "stale_threshold_in_seconds": TTL_S,
            "tags": {"component": "bench"},
        },
        separators=(",", ":"),
    ).encode()


def publication(subject: str, payload: bytes) -> bytes:
    """The NATS protocol line and the payload."""
    return b"PUB %b %d\r\n%b\r\n" % (subject.encode(), len(payload), payload)


class Publisher:
    """A blocking connection to a NATS server of the loopback, for publishing only."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._line().startswith(b"INFO "):
            raise BenchError(f"no NATS server on port {port}")
        self.socket.sendall(b'CONNECT {"verbose":false,"pedantic":false,"name":"bench"}\r\n')
        self.flush()

    def _line(self) -> bytes:
        data = b""
        while not data.endswith(b"\r\n"):
            byte = self.socket.recv(1)
            if not byte:
                raise BenchError("the NATS server closed the connection")
            data += byte
        return data

    def send(self, publications: Iterable[bytes]) -> None:
        """Sends ready-made publications in one write."""
        self.socket.sendall(b"".join(publications))

    def flush(self) -> None:
        """Returns when the server has taken everything that was sent (PING, PONG)."""
        self.socket.sendall(b"PING\r\n")
        while (line := self._line()) != b"PONG\r\n":
            if line == b"PING\r\n":
                self.socket.sendall(b"PONG\r\n")
            elif line.startswith(b"-ERR"):
                raise BenchError(f"NATS: {line.decode().strip()}")

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.socket.close()


def register(port: int, table: Table, rate: int = 20_000) -> None:
    """Publishes a whole table, at most `rate` messages a second, and waits until the server has it."""
    rows = (publication(SUBJECT, message(host, i, f"app-{host}")) for host, members in table.items() for i in members)
    with Publisher(port) as publisher:
        pace(publisher, rows, rate, None)
        publisher.flush()


def pace(publisher: Publisher, rows: Iterable[bytes], rate: int, seconds: float | None) -> tuple[int, float]:
    """Sends rows in ticks, for `seconds` or until they end.

    Returns how many went and the worst lateness of a tick in s.
    """
    start = time.monotonic()
    source, sent, latest, tick = iter(rows), 0, 0.0, 0
    limit = None if seconds is None else int(rate * seconds)
    while limit is None or sent < limit:
        due = start + tick * TICK_S
        delay = due - time.monotonic()
        if delay > 0:
            time.sleep(delay)
        else:
            latest = max(latest, -delay)
        tick += 1
        wanted = int(rate * tick * TICK_S) - sent
        block = [row for _, row in zip(range(min(wanted, (limit or wanted + sent) - sent)), source, strict=False)]
        if not block and wanted:
            break
        publisher.send(block)
        sent += len(block)
    return sent, latest


def storm_rows(mode: str, instances: list[Instance], start: int) -> Iterator[bytes]:
    """Endless publications of a mode; hosts of `new` are numbered from `start`."""
    number = start
    while True:
        host = f"s{number if mode == 'new' else number % REFRESHED_HOSTS}.storm.bench"
        instance = instances[number % len(instances)]
        subject = "bench.elsewhere" if mode == "elsewhere" else SUBJECT
        yield publication(subject, message(host, instance, "app-storm"))
        number += 1


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="A paced storm of registrations.")
    parser.add_argument("--nats", type=int, required=True)
    parser.add_argument("--mode", choices=("new", "refresh", "elsewhere"), required=True)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--origins", required=True)
    options = parser.parse_args()
    instances = [Instance(int(port), f"i{number}") for number, port in enumerate(options.origins.split(","))]
    # Made before the clock starts, so that the pacing is not spent on JSON.
    endless = storm_rows(options.mode, instances, options.start)
    rows = [row for _, row in zip(range(int(options.rate * options.seconds)), endless, strict=False)]
    print("ready", flush=True)
    with Publisher(options.nats) as publisher:
        sent, latest = pace(publisher, rows, options.rate, options.seconds)
        publisher.flush()
    print(json.dumps({"sent": sent, "latest_tick_ms": round(latest * 1000, 1)}), flush=True)


if __name__ == "__main__":
    main()

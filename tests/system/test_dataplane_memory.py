"""Memory of a router process: flat under long bodies with a slow other side, small for clients that do not read.

GOROUTER_BIG=1 makes the bodies 2 GiB each. Throughput is printed (-s), never asserted.
"""

import os
import time
from pathlib import Path

import pytest

from tests.support.origins import Origin, Served
from tests.support.wire import Wire
from tests.system.harness import Router, until

pytestmark = [pytest.mark.release_only]

MIB = 1 << 20
LENGTH = 2048 * MIB if os.environ.get("GOROUTER_BIG") == "1" else 300 * MIB
BLOCK = bytes(range(256)) * 4096
ROOM_KIB = 4096
READERS = 500


def memory_kib(router: Router, what: str = "VmRSS") -> int:
    assert router.process is not None
    status = Path(f"/proc/{router.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(what + ":"))


def forget_peak(router: Router) -> None:
    assert router.process is not None
    Path(f"/proc/{router.process.pid}/clear_refs").write_text("5")


def take_slowly(wire: Wire, length: int) -> None:
    """Reads a body, with a stop at its start and short ones within."""
    time.sleep(0.3)
    left = length - len(wire.buffer)
    wire.buffer = b""
    turns = 0
    while left:
        got = len(wire.sock.recv(min(left, MIB)))
        assert got, f"{left} octets are missing"
        left -= got
        turns += 1
        if turns % 512 == 0:
            time.sleep(0.02)


def give(wire: Wire, length: int) -> None:
    for _ in range(length // len(BLOCK)):
        wire.sock.sendall(BLOCK)


def report(what: str, router: Router, before_kib: int, began: float) -> None:
    peak = memory_kib(router, "VmHWM")
    rate = LENGTH / MIB / (time.monotonic() - began)
    print(f"{what} of {LENGTH // MIB} MiB: peak RSS {peak} KiB, before {before_kib} KiB, {rate:.0f} MiB/s")
    assert peak < before_kib + ROOM_KIB


def handle(conn: Served) -> None:
    while (request := conn.request_head()) is not None:
        if request.method == "POST":
            take_slowly(conn, int(request.get("Content-Length") or 0))
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        elif request.target == b"/long":
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LENGTH)
            give(conn, LENGTH)
        elif request.target == b"/chunks":
            conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(200):
                conn.send(b"2000\r\n" + BLOCK[:8192] + b"\r\n")
        else:
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def test_long_bodies_and_a_slow_other_side() -> None:
    app = Origin(handle, receive_buffer=65536)
    try:
        with Router("--route", f"a.test={app.address}") as router:
            assert router.serves("a.test", b"ok")
            before = memory_kib(router)
            forget_peak(router)
            with Wire.connect(router.port) as client:
                began = time.monotonic()
                client.send(b"POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n" % LENGTH)
                give(client, LENGTH)
                assert client.answer("POST").body == b"done"
                report("upload", router, before, began)
            forget_peak(router)
            with Wire.connect(router.port, receive_buffer=65536) as client:
                began = time.monotonic()
                client.send(b"GET /long HTTP/1.1\r\nHost: a.test\r\n\r\n")
                assert client.answer_head().status == 200
                take_slowly(client, LENGTH)
                report("download", router, before, began)
            assert router.stop() == 0
    finally:
        app.finish()


@pytest.mark.parametrize("target", ["/long", "/chunks"])
def test_clients_that_do_not_read(target: str) -> None:
    app = Origin(handle)
    clients: list[Wire] = []
    try:
        with Router("--route", f"a.test={app.address}") as router:
            assert router.serves("a.test", b"ok")
            before = memory_kib(router)
            for _ in range(READERS):
                client = Wire.connect(router.port, receive_buffer=4096)
                client.send(f"GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
                clients.append(client)
            app.wait(lambda: len(app.requests) == READERS + 1)
            seen = -1
            while (now := memory_kib(router)) != seen:  # until nothing more is read
                seen = now
                time.sleep(0.2)
            each = (now - before) / READERS
            print(f"{READERS} readers of {target} that stopped: {each:.1f} KiB each")
            assert each <= 64  # a full output buffer, a read of input, the connections themselves
            for client in clients:
                client.close()
            until(lambda: router.metric("gorouter_connections_open") <= 1)
            assert router.serves("a.test", b"ok")
            assert router.stop() == 0
    finally:
        for client in clients:
            client.close()
        app.cut_all(hard=True)
        app.finish()

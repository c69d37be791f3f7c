"""Who closes a connection to an instance: the instance, where it said or was told to; the router after a while."""

import threading
import time
from pathlib import Path

import pytest

from tests.support.origins import OK, Served, answering
from tests.support.plane import MakeOrigin, MakeRouter, Router, until

CLOSES = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
UPLOAD = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
TIME_WAIT = "06"


class Leaver:
    """Answers one request on a connection and, a moment later, closes it. peers: the router's ports."""

    def __init__(self, answer: bytes = OK) -> None:
        self.answer = answer
        self.peers: list[int] = []
        self.lock = threading.Lock()

    def __call__(self, conn: Served) -> None:
        if conn.request() is None:
            return
        with self.lock:
            self.peers.append(int(conn.sock.getpeername()[1]))
        conn.send(self.answer)
        time.sleep(0.02)  # a router in a hurry would close first


def waiting(app_port: int, peers: list[int]) -> tuple[set[int], set[int]]:
    """(ports of the router, of those that peers names, that wait out the past; those whose instance's end does)."""
    routers, apps = set(), set()
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = row.split()
        here, there = int(local.rpartition(":")[2], 16), int(remote.rpartition(":")[2], 16)
        if state == TIME_WAIT and here in peers and there == app_port:
            routers.add(here)
        if state == TIME_WAIT and here == app_port and there in peers:
            apps.add(there)
    return routers, apps


def gone(front: Router) -> None:
    until(lambda: front.counter("upstream_open") == 0, "a connection to the instance is not closed")


@pytest.mark.parametrize(("answer", "keep"), [(OK, False), (CLOSES, False), (CLOSES, True)])
def test_the_instance_closes_first(router: MakeRouter, origin: MakeOrigin, answer: bytes, keep: bool) -> None:
    front, leaver = router(upstream_keep_alive=keep), Leaver(answer)
    app = origin(leaver)
    front.add(app)
    for _ in range(5):
        assert front.get().status == 200
    gone(front)
    app.wait(lambda: app.ended == 5)
    routers, apps = waiting(app.port, leaver.peers)
    assert routers == set(), "no port of the router is left behind"
    assert apps == set(leaver.peers)
    assert front.counter("upstream_connects") == 5
    assert [request.get("Connection") for request in app.requests] == [None if keep else "close"] * 5


def test_an_answer_ends_before_its_connection(router: MakeRouter, origin: MakeOrigin) -> None:
    def stays(conn: Served) -> None:
        assert conn.request() is not None
        conn.send(OK)
        assert conn.rest() == (b"", "end")

    front, app = router(upstream_keep_alive=False), origin(stays)
    front.add(app)
    with front.client() as client:
        for _ in range(3):
            client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            assert client.answer().body == b"ok", "the client does not wait for the instance to close"
    assert app.accepted == 3
    gone(front)
    app.wait(lambda: app.ended == 3, "in the end the router closes")
    assert front.counter("upstream_reused") == 0


def test_more_than_an_answer_ends_it(router: MakeRouter, origin: MakeOrigin) -> None:
    def talks_on(conn: Served) -> None:
        assert conn.request() is not None
        conn.send(OK)
        time.sleep(0.02)
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain")
        conn.rest()

    front, app = router(upstream_keep_alive=False), origin(talks_on)
    front.add(app)
    for _ in range(3):
        assert front.get().body == b"ok"
    gone(front)
    app.wait(lambda: app.ended == 3)


def test_stopping_does_not_wait_for_it(router: MakeRouter, origin: MakeOrigin) -> None:
    def stays(conn: Served) -> None:
        assert conn.request() is not None
        conn.send(OK)
        conn.rest()

    front, app = router(upstream_keep_alive=False), origin(stays)
    front.add(app)
    for _ in range(3):
        assert front.get().status == 200
    assert front.plane.stop()
    app.wait(lambda: app.ended == 3)


def test_kept_connections_say_nothing(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = router(), origin()
    front.add(app)
    for _ in range(3):
        assert front.get(lines="Connection: close\r\n").status == 200
    assert [request.get("Connection") for request in app.requests] == [None] * 3
    assert app.accepted == 1


def test_every_request_of_a_router_that_keeps_none(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = router(upstream_keep_alive=False), origin(Leaver())
    front.add(app)
    with front.client() as client:
        for method in ("GET", "HEAD", "DELETE"):
            client.send(f"{method} / HTTP/1.1\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n".encode())
            assert client.answer("HEAD" if method == "HEAD" else "GET").get("Connection") is None
    assert [request.all("Connection") for request in app.requests] == [["close"]] * 3
    assert app.accepted == 3


def upload(front: Router) -> None:
    with front.client() as client:
        client.send(UPLOAD.encode())
        assert client.answer_head().status == 100
        client.send(b"abc")
        assert client.answer().status == 200


def continues(conn: Served) -> None:
    while (request := conn.request_head()) is not None:
        if request.get("Expect"):
            conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert conn.request_body(request) == (b"abc" if request.method == "POST" else b"")
        conn.send(OK)
        if "close" in request.options():
            return


@pytest.mark.parametrize("keep", [False, True])
def test_expect_100_continue(router: MakeRouter, origin: MakeOrigin, keep: bool) -> None:
    front, app = router(keep_alive_100_continue=keep), origin(continues)
    front.add(app)
    for _ in range(2):
        upload(front)
        assert front.get().status == 200
    uploads, others = app.requests[::2], app.requests[1::2]
    assert [request.get("Connection") for request in uploads] == [None if keep else "close"] * 2
    assert [request.get("Expect") for request in uploads] == ["100-continue"] * 2, "passed on"
    assert [request.get("Connection") for request in others] == [None] * 2
    assert uploads[0].get("X-Forwarded-For") == others[0].get("X-Forwarded-For") == "127.0.0.1"
    if keep:
        assert app.accepted == 1
    else:
        assert app.seen_on[0] != app.seen_on[1], "nothing follows on a connection that was told to close"


def test_keeping_100_continue_keeps_nothing_else(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = router(upstream_keep_alive=False, keep_alive_100_continue=True), origin(continues)
    front.add(app)
    upload(front)
    assert front.get().status == 200
    assert [request.get("Connection") for request in app.requests] == ["close", "close"]


def test_an_upgrade_is_not_told_to_close(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(upstream_keep_alive=False)
    app = origin(answering(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"))
    front.add(app)
    with front.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        assert client.answer().status == 101
    assert app.last().options() == {"upgrade"}

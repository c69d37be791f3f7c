"""Upgrades and what follows them: octets both ways, half-close, and plain HTTP again where nothing was switched."""

import hashlib
import socket
import threading

import pytest
from websockets.sync.client import connect
from websockets.sync.server import serve

from tests.support.origins import OK, Served
from tests.support.plane import MakeOrigin, MakeRouter, until
from tests.support.wire import Cut

UPGRADE = b"GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nX-A: 1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def echo(conn: Served) -> None:
    conn.request()
    conn.send(SWITCH)
    while True:
        if conn.buffer:
            data, conn.buffer = conn.buffer, b""
            conn.send(data)
        try:
            conn.fill()
        except Cut as cut:
            if cut.how == "end":
                conn.half_close()
                conn.rest()
            return


def test_real_websocket(router: MakeRouter) -> None:
    front = router()
    with serve(lambda ws: [ws.send(message) for message in ws], "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            front.add(server.socket.getsockname()[1])
            sock = socket.create_connection(("127.0.0.1", front.port))
            with connect("ws://app.test/chat", sock=sock) as ws:
                for message in ("hello", "x" * 200_000, b"\0\xff" * 50_000):
                    ws.send(message)
                    assert ws.recv() == message
                assert front.counter("tunnels_open") == 1
                assert front.counter("requests_active") == 0
        finally:
            server.shutdown()
            thread.join()
    assert front.counter("websocket_upgrades") == 1


def test_heads_of_a_switch(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(echo), router(log=True)
    front.add(app)
    with front.client() as client:
        client.send(UPGRADE)
        answer = client.answer()
        assert answer.status == 101
        assert answer.get("Upgrade") == "websocket"
        assert answer.options() == {"upgrade"}
        assert answer.get("X-A") == "1"
        assert answer.get("X-Vcap-Request-Id")
        assert answer.get("Content-Length") is None
        assert answer.get("Transfer-Encoding") is None
        client.send(b"hi")
        assert client.take(2) == b"hi"
        address = client.address
    sent = app.last()
    assert sent.get("Upgrade") == "WebSocket"
    assert sent.options() == {"upgrade"}
    line = front.log_lines(1)[0]
    assert '"GET /ws HTTP/1.1" 101 0 0 ' in line
    assert f'"{address}" "{app.address}"' in line


@pytest.mark.parametrize("early", [b"early", b"e" * 3000, b"e" * 300_000])
def test_octets_right_behind_the_upgrade(router: MakeRouter, origin: MakeOrigin, early: bytes) -> None:
    """They belong to the tunnel, and reach the instance only if there is one."""
    front = router()
    front.add(origin(echo))
    with front.client() as client:
        sender = threading.Thread(target=client.send, args=(UPGRADE + early,))
        sender.start()
        assert client.answer().status == 101
        assert client.take(len(early)) == early
        sender.join()


def test_octets_right_behind_the_switch(router: MakeRouter, origin: MakeOrigin) -> None:
    def handle(conn: Served) -> None:
        conn.request()
        conn.send(SWITCH + b"early" * 1000)
        conn.rest()

    front = router()
    front.add(origin(handle))
    with front.client() as client:
        client.send(UPGRADE)
        assert client.answer().status == 101
        assert client.take(5000) == b"early" * 1000


@pytest.mark.parametrize("protocol", ["websocket", "x-own", "X-Own/2"])
def test_any_protocol_but_h2c(router: MakeRouter, origin: MakeOrigin, protocol: str) -> None:
    app, front = origin(SWITCH.replace(b"websocket", protocol.encode())), router()
    front.add(app)
    with front.client() as client:
        client.send(UPGRADE.replace(b"WebSocket", protocol.encode()))
        assert client.answer().status == 101
    front = router()
    front.add(app)
    assert front.ask(UPGRADE.replace(b"WebSocket", b"h2c")).status == 502, "an instance that switches all the same"
    assert app.last().get("Upgrade") is None


def test_half_close_of_the_client(router: MakeRouter, origin: MakeOrigin) -> None:
    def handle(conn: Served) -> None:
        conn.request()
        conn.send(SWITCH)
        data, how = conn.rest()
        conn.send(b"%d %s" % (len(data), how.encode()))

    app, front = origin(handle), router()
    front.add(app)
    with front.client() as client:
        client.send(UPGRADE)
        assert client.answer().status == 101
        client.send(b"x" * 100_000)
        client.half_close()
        assert client.rest() == (b"100000 end", "end")
    until(lambda: front.counter("tunnels_open") == 0)


def test_half_close_of_the_instance(router: MakeRouter, origin: MakeOrigin) -> None:
    got: list[bytes] = []

    def handle(conn: Served) -> None:
        conn.request()
        conn.send(SWITCH + b"bye")
        conn.half_close()
        got.append(conn.rest()[0])

    app, front = origin(handle), router()
    front.add(app)
    with front.client() as client:
        client.send(UPGRADE)
        assert client.answer().status == 101
        assert client.rest() == (b"bye", "end")
        client.send(b"y" * 100_000)
        client.half_close()
        app.wait(lambda: app.ended == 1)
    assert got == [b"y" * 100_000]


@pytest.mark.parametrize("who", ["client", "instance"])
def test_reset_reaches_the_other_side(router: MakeRouter, origin: MakeOrigin, who: str) -> None:
    ends: list[str] = []

    def handle(conn: Served) -> None:
        conn.request()
        conn.send(SWITCH)
        if who == "instance":
            conn.take(1)
            conn.reset()
        else:
            ends.append(conn.rest()[1])

    app, front = origin(handle), router()
    front.add(app)
    client = front.client()
    client.send(UPGRADE)
    assert client.answer().status == 101
    if who == "instance":
        client.send(b"x")
        assert client.rest() == (b"", "reset")
    else:
        client.reset()
        app.wait(lambda: app.ended == 1)
        assert ends == ["reset"]
    until(lambda: front.counter("tunnels_open") == 0)


def test_large_data_both_ways_with_a_slow_reader(router: MakeRouter, origin: MakeOrigin) -> None:
    """Each side's data is whole, and the reader's slowness does not cost the other direction its progress."""
    size = 20_000_000
    up, down = hashlib.sha256(), hashlib.sha256()
    got_up: list[str] = []

    def handle(conn: Served) -> None:
        conn.request()
        conn.send(SWITCH)
        writer = threading.Thread(target=write_all, args=(conn, b"d"))
        writer.start()
        seen = hashlib.sha256()
        left = size
        while left:
            data = conn.take(min(left, 65_536))
            seen.update(data)
            left -= len(data)
        got_up.append(seen.hexdigest())
        writer.join()
        conn.half_close()
        conn.rest()

    def write_all(side: object, letter: bytes) -> None:
        block = letter * 100_000
        for _ in range(size // len(block)):
            side.send(block)  # type: ignore[attr-defined]

    app, front = origin(handle), router()
    front.add(app)
    for digest, letter in ((up, b"u"), (down, b"d")):
        for _ in range(size // 100_000):
            digest.update(letter * 100_000)
    with front.client() as client:
        client.send(UPGRADE)
        assert client.answer().status == 101
        write_all(client, b"u")
        until(lambda: got_up)
        seen = hashlib.sha256()
        left = size
        while left:
            data = client.take(min(left, 65_536))
            seen.update(data)
            left -= len(data)
        client.half_close()
        assert client.rest() == (b"", "end")
    assert got_up == [up.hexdigest()]
    assert seen.hexdigest() == down.hexdigest()


@pytest.mark.parametrize("answer", [OK, b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"])
def test_refused_upgrade_is_plain_http_again(router: MakeRouter, origin: MakeOrigin, answer: bytes) -> None:
    app, front = origin(answer), router()
    front.add(app)
    with front.client() as client:
        client.send(UPGRADE + b"GET /next HTTP/1.1\r\nHost: app.test\r\n\r\n")
        first = client.answer()
        assert first.body in (b"ok", b"no")
        assert first.get("Upgrade") is None
        assert client.answer().status == first.status
    assert [request.target for request in app.requests] == [b"/ws", b"/next"]
    assert front.counter("websocket_failures") == 1
    assert front.counter("tunnels_open") == 0


def test_upgrade_with_a_body_is_not_offered(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router()
    front.add(app)
    with front.client() as client:
        client.send(UPGRADE.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc"))
        assert client.answer().status == 200
        assert client.is_open()
    assert app.requests[0].get("Upgrade") is None
    assert app.requests[0].body == b"abc"


def test_tunnel_outlives_its_instances_registration(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(echo), router()
    handle = front.add(app)
    with front.client() as client:
        client.send(UPGRADE)
        assert client.answer().status == 101
        front.remove(handle)
        front.plane.reclaim()
        for _ in range(3):
            client.send(b"still")
            assert client.take(5) == b"still"


def test_stop_ends_tunnels(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(echo), router(log=True)
    front.add(app)
    with front.client() as client:
        client.send(UPGRADE)
        assert client.answer().status == 101
        assert front.plane.stop()
        client.rest()
    app.wait(lambda: app.ended == 1)
    assert " 101 0 0 " in front.log_lines(1)[0]

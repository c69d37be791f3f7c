"""Every time-out, set small: what ends, what the client sees, and whom it counts against. No duration is asserted."""

import socket

import pytest

from tests.support.origins import OK, Served
from tests.support.plane import MakeOrigin, MakeRouter, TooLate, unhurried, until
from tests.support.wire import Cut, Wire

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"


def open_in_time(client: Wire) -> None:
    """One request and its answer, before a limit is over."""
    if not client.is_open():
        raise TooLate


def send_in_time(client: Wire, text: bytes) -> None:
    """The first octets of a request, before the connection is taken for one that brings none."""
    try:
        client.send(text)
        client.fill()
    except ConnectionError:
        raise TooLate from None
    except Cut as cut:
        if cut.before:
            raise
        raise TooLate from None


def hangs(conn: Served) -> None:
    conn.request()
    conn.rest()


@pytest.mark.parametrize("text", [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: app.test\r\nX: 1\r\n"])
@pytest.mark.parametrize("before", [0, 1])
def test_half_a_head_is_408(router: MakeRouter, origin: MakeOrigin, text: bytes, before: int) -> None:
    def attempt(ms: int) -> None:
        app, front = origin(), router(head_timeout_ms=ms)
        front.add(app)
        with front.client() as client:
            for _ in range(before):
                open_in_time(client)
            send_in_time(client, text)
            answer = client.answer()
            assert answer.status == 408
            assert answer.options() == {"close"}
            assert client.rest() == (b"", "end")
        assert len(app.requests) == before
        assert front.counter("client_timeouts") == 1

    unhurried(attempt, 40)


def test_dripping_head_is_408_all_the_same(router: MakeRouter) -> None:
    """Octets that keep coming do not move the limit."""

    def attempt(ms: int) -> None:
        front = router(head_timeout_ms=ms)
        with front.client() as client:
            client.send(b"GET / HTTP/1.1\r\n")
            with pytest.raises((Cut, ConnectionError)):
                for _ in range(4000):
                    client.send(b"X: 1\r\n")
                    client.sock.settimeout(0.005)
                    try:
                        client.fill()
                    except Cut as cut:
                        if cut.how != "silence":
                            raise
            if not client.buffer:
                raise TooLate
            assert client.buffer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")

    unhurried(attempt, 60)


def test_connection_without_a_request_ends_in_silence(router: MakeRouter) -> None:
    front = router(head_timeout_ms=40)
    with front.client() as client:
        assert client.rest() == (b"", "end")
    until(lambda: front.counter("connections_open") == 0)


def test_idle_connection_ends_in_silence(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(idle_timeout_ms=40)
    front.add(origin())
    with front.client() as client:
        assert client.is_open()
        assert client.rest() == (b"", "end")


@pytest.mark.parametrize("body", [b"", b"ab"])
def test_half_a_body_is_408(router: MakeRouter, origin: MakeOrigin, body: bytes) -> None:
    app, front = origin(), router(body_timeout_ms=40, log=True)
    front.add(app)
    with front.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\n" + body)
        answer = client.answer()
        assert answer.status == 408
        assert answer.options() == {"close"}
    app.wait(lambda: app.ended == 1)
    assert front.counter("endpoint_failures") == 0
    assert f" 408 {len(body)} " in front.log_lines(1)[0]


def test_slow_body_that_moves_is_taken(router: MakeRouter, origin: MakeOrigin) -> None:
    """All of it takes longer than the limit, no pause does."""

    def attempt(ms: int) -> None:
        app, front = origin(), router(body_timeout_ms=ms)
        front.add(app)
        with front.client() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\n")
            try:
                client.send_parts([b"x"] * 10, pause_s=ms / 5000)
                status = client.answer().status
            except ConnectionError:
                raise TooLate from None
            if status == 408:
                raise TooLate
            assert status == 200

    unhurried(attempt, 100)


def test_client_that_takes_nothing_is_cut(router: MakeRouter, origin: MakeOrigin) -> None:
    def handle(conn: Served) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            conn.send(b"x" * 100_000)

    app, front = origin(handle), router(body_timeout_ms=60)
    front.add(app)
    with front.client(receive_buffer=4096) as client:
        client.send(GET)
        app.wait(lambda: app.ended == 1)
        assert client.rest()[1] == "reset"
    assert front.counter("client_timeouts") == 1
    assert front.counter("endpoint_failures") == 0


def test_no_first_byte_is_502(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(hangs), router(first_byte_timeout_ms=40)
    front.add(app)
    with front.client() as client:
        client.send(GET)
        answer = client.answer()
        assert answer.status == 502
        assert answer.get("X-Cf-RouterError") == "endpoint_failure (context deadline exceeded)"
        client.send(GET)
        assert client.answer().status == 502
    app.wait(lambda: app.ended == 2)
    assert len(app.requests) == 2, "a time-out is not tried again"


def test_attempt_that_takes_too_long_before_the_answer(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(hangs), router(request_timeout_ms=60)
    front.add(app)
    answer = front.get()
    assert answer.status == 502
    assert answer.get("X-Cf-RouterError") == "endpoint_failure (context deadline exceeded)"


def test_attempt_that_takes_too_long_in_the_answer_is_cut(router: MakeRouter, origin: MakeOrigin) -> None:
    def handle(conn: Served) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not conn.origin.stopping.wait(0.01):
            conn.send(b"1\r\nx\r\n")

    def attempt(ms: int) -> None:
        app, front = origin(handle), router(request_timeout_ms=ms)
        front.add(app)
        with front.client() as client:
            client.send(GET)
            if client.answer_head().status == 502:
                raise TooLate
            whole, how = client.rest()
            assert how == "reset"
            assert not whole.endswith(b"0\r\n\r\n")
        app.wait(lambda: app.ended == 1)

    unhurried(attempt, 80)


def test_idle_connection_to_an_instance_ends(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router(upstream_idle_timeout_ms=40)
    front.add(app)
    front.get()
    app.wait(lambda: app.ended == 1)
    until(lambda: front.counter("upstream_open") == 0)


def test_connect_that_hangs(router: MakeRouter, origin: MakeOrigin) -> None:
    """A listening socket whose queue is full drops every further SYN."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = []
        for _ in range(8):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            waiting.append(one)
        try:
            front = router(connect_timeout_ms=60, max_attempts=2)
            front.add(port)
            front.add(port)
            answer = front.ask(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\n\r\nabc")
            assert answer.status == 502
            assert answer.get("X-Cf-RouterError") == f"endpoint_failure (dial tcp 127.0.0.1:{port}: i/o timeout)"
            assert front.counter("attempts") == 2
            front.add(origin())
            until(lambda: front.get().status == 200)
        finally:
            for one in waiting:
                one.close()


def test_silent_tunnel_ends(router: MakeRouter, origin: MakeOrigin) -> None:
    def handle(conn: Served) -> None:
        conn.request()
        conn.send(SWITCH)
        for _ in range(5):
            conn.send(conn.take(1))
        conn.rest()

    def attempt(ms: int) -> None:
        limits = {"tunnel_timeout_ms": ms, "request_timeout_ms": ms // 3, "body_timeout_ms": ms // 3}
        app, front = origin(handle), router(**limits)
        front.add(app)
        with front.client() as client:
            client.send(UPGRADE)
            if client.answer().status == 502:
                raise TooLate
            try:
                for _ in range(5):
                    app.stopping.wait(ms / 3000)
                    client.send(b"x")
                    assert client.take(1) == b"x"
            except (Cut, ConnectionError):
                raise TooLate from None
            assert client.rest()[0] == b""
        app.wait(lambda: app.ended == 1)

    unhurried(attempt, 150)


def test_lingering_ends(router: MakeRouter) -> None:
    """A client that is refused and neither reads the end nor stops: its connection goes away."""
    front = router(linger_timeout_ms=50)
    client = Wire.connect(front.port)
    client.send(b"BAD\r\n\r\n")
    until(lambda: front.counter("bad_requests") == 1)
    until(lambda: front.counter("connections_open") == 0)
    client.close()


def test_many_time_outs_at_once(router: MakeRouter, origin: MakeOrigin) -> None:
    """Half of them have had an answer and end in silence; half of them stop in a head."""

    def attempt(ms: int) -> None:
        front = router(head_timeout_ms=ms, idle_timeout_ms=60)
        front.add(origin(OK))
        clients = [front.client() for _ in range(100)]
        for client in clients[1::2]:
            open_in_time(client)
        for client in clients[::2]:
            try:
                client.send(b"GET")
            except ConnectionError:
                raise TooLate from None
        for client in clients[::2]:
            whole, how = client.rest()
            if (whole, how) in ((b"", "end"), (b"", "reset")):
                raise TooLate
            assert how == "end"
            assert whole.startswith(b"HTTP/1.1 408 ")
        assert [client.rest() for client in clients[1::2]] == [(b"", "end")] * 50

    unhurried(attempt, 80)

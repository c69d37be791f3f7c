"""Many requests on one connection: answered in order, each body with its own request, however the octets arrive."""

import pytest

from tests.support.origins import Served, echo_request
from tests.support.plane import MakeOrigin, MakeRouter, Router
from tests.support.wire import Wire


def get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n".encode()


def post(target: str, body: bytes) -> bytes:
    return f"POST {target} HTTP/1.1\r\nHost: app.test\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(target: str, *chunks: bytes, trailer: bytes = b"") -> bytes:
    head = f"PUT {target} HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailer + b"\r\n"


MIXED = [
    (get("/1"), b"/1 "),
    (post("/2", b"two"), b"/2 two"),
    (chunked("/3", b"th", b"ree", trailer=b"X-T: 1\r\n"), b"/3 three"),
    (post("/4", b""), b"/4 "),
    (chunked("/5"), b"/5 "),
    (get("/6"), b"/6 "),
    (post("/7", b"GET /no HTTP/1.1\r\nHost: app.test\r\n\r\n"), b"/7 GET /no HTTP/1.1\r\nHost: app.test\r\n\r\n"),
    (get("/8"), b"/8 "),
]
TEXT = b"".join(data for data, _ in MIXED)
BODIES = [body for _, body in MIXED]


@pytest.fixture
def front(router: MakeRouter, origin: MakeOrigin) -> Router:
    one = router()
    one.add(origin(echo_request))
    return one


def read_all(client: Wire) -> list[bytes]:
    return [client.answer().body for _ in BODIES]


def test_mixed_requests_in_one_write(front: Router) -> None:
    with front.client() as client:
        for _ in range(3):
            client.send(TEXT)
            assert read_all(client) == BODIES
    assert front.counter("requests") == 3 * len(MIXED)
    assert front.counter("connections") == 1


def test_octet_by_octet(front: Router) -> None:
    with front.client() as client:
        for at in range(len(TEXT)):
            client.send(TEXT[at : at + 1])
        assert read_all(client) == BODIES


def test_split_in_two_at_every_octet(front: Router) -> None:
    with front.client() as client:
        for at in range(1, len(TEXT)):
            client.send_parts([TEXT[:at], TEXT[at:]], pause_s=0.0003)
            assert read_all(client) == BODIES, at


def test_a_thousand_in_one_write(front: Router) -> None:
    with front.client() as client:
        client.send(b"".join(get(f"/{i}") for i in range(1000)))
        for i in range(1000):
            assert client.answer().body == b"/%d " % i


def test_large_bodies_behind_each_other(front: Router) -> None:
    bodies = [bytes([i]) * (100_000 + i) for i in range(8)]
    with front.client() as client:
        client.send(b"".join(post(f"/{i}", body) for i, body in enumerate(bodies[:4])))
        for i, body in enumerate(bodies[:4]):
            assert client.answer().body == b"/%d " % i + body


def test_an_answer_is_not_overtaken(router: MakeRouter, origin: MakeOrigin) -> None:
    """The second request's instance is fast and idle; its answer comes behind the first one's all the same."""

    def slow(conn: Served) -> None:
        conn.request()
        assert not conn.origin.stopping.wait(0.05)
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")

    front = router()
    front.add(origin(slow), "slow.test")
    front.add(origin(), "fast.test")
    with front.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: slow.test\r\n\r\nGET / HTTP/1.1\r\nHost: fast.test\r\n\r\n")
        assert [client.answer().body for _ in range(2)] == [b"slow", b"ok"]


def test_requests_behind_close_are_not_served(front: Router) -> None:
    with front.client() as client:
        client.send(b"GET /a HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n" + get("/b"))
        answer = client.answer()
        assert answer.body == b"/a "
        assert answer.options() == {"close"}
        assert client.rest() == (b"", "end")
    assert front.counter("requests") == 1


# -- HTTP/1.0 and persistence -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "line", "stays"),
    [
        ("1.1", "", True), ("1.1", "Connection: close", False), ("1.1", "Connection: Keep-Alive, CLOSE", False),
        ("1.1", "Connection: x\r\nConnection: close", False), ("1.0", "", False), ("1.0", "Connection: close", False),
        ("1.0", "Connection: keep-alive", True), ("1.0", "Connection: Keep-Alive, close", False),
    ],
)  # fmt: skip
def test_persistence(front: Router, version: str, line: str, stays: bool) -> None:
    text = f"GET / HTTP/{version}\r\nHost: app.test\r\n" + (line + "\r\n" if line else "") + "\r\n"
    with front.client() as client:
        client.send(text.encode())
        answer = client.answer()
        assert answer.status == 200
        assert answer.minor == int(version[2])
        if not stays:
            assert "close" in answer.options()
            assert client.rest() == (b"", "end")
            return
        if version == "1.0":
            assert answer.options() == {"keep-alive"}
        client.send(text.encode())
        assert client.answer().status == 200


def test_http_1_0_reaches_the_instance_as_1_1(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router()
    front.add(app)
    assert front.ask(b"GET / HTTP/1.0\r\nHost: app.test\r\n\r\n").minor == 0
    assert app.last().minor == 1
    assert app.last().options() == set()


# -- a client that ends its side ----------------------------------------------------------------------------------


def test_half_close_behind_requests_still_gets_the_answers(front: Router) -> None:
    with front.client() as client:
        client.send(TEXT)
        client.half_close()
        assert read_all(client) == BODIES
        assert client.rest() == (b"", "end")


def test_half_close_and_a_slow_reader_get_the_whole_answer(router: MakeRouter, origin: MakeOrigin) -> None:
    """The answer is longer than what socket buffers hold, and the client reads only when the instance has sent all."""
    body = bytes(range(256)) * 40_000

    def handle(conn: Served) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        conn.send(body)
        conn.rest()

    app, front = origin(handle), router()
    front.add(app)
    with front.client(receive_buffer=4096) as client:
        client.send(get("/"))
        client.half_close()
        assert client.answer().body == body
        assert client.rest() == (b"", "end")

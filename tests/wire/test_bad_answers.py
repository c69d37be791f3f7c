"""Instances that cut, stall, lie, drip or babble: the client sees a whole answer, a clean 502, or a visibly cut one.

Never a mixed one: whatever an instance sent beyond or instead of its answer is seen by nobody.
"""

import time

import pytest

from tests.support.origins import Served
from tests.support.plane import MakeOrigin, MakeRouter
from tests.support.wire import Cut, Message

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\n\r\nabc"
BAD_GATEWAY = b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"
STATUS = b"HTTP/1.1 200 OK\r\n"

MALFORMED = {
    "garbage": b"garbage\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "tls-alert": b"\x15\x03\x01\x00\x02\x02\x16",
    "html": b"<html>no head</html>\r\n\r\n",
    "empty-lines": b"\r\n\r\n",
    "nul": b"\0\0\0\0",
    "http-0.9": b"hello",
    "version-2": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "version-1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "version-case": b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "status-two-digits": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
    "status-four-digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
    "status-letters": b"HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok",
    "status-zero": b"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok",
    "status-99": b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok",
    "status-minus": b"HTTP/1.1 -20 OK\r\nContent-Length: 2\r\n\r\nok",
    "status-missing": b"HTTP/1.1\r\nContent-Length: 2\r\n\r\nok",
    "reason-nul": b"HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok",
    "reason-cr": b"HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok",
    "lf-line": b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok",
    "lf-field": STATUS + b"Content-Length: 2\n\r\nok",
    "lf-end": STATUS + b"Content-Length: 2\r\n\nok",
    "fold": STATUS + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
    "no-colon": STATUS + b"X\r\nContent-Length: 2\r\n\r\nok",
    "space-colon": STATUS + b"Content-Length : 2\r\n\r\nok",
    "empty-name": STATUS + b": 1\r\nContent-Length: 2\r\n\r\nok",
    "nul-value": STATUS + b"X: a\0b\r\nContent-Length: 2\r\n\r\nok",
    "control-value": STATUS + b"X: a\x01b\r\nContent-Length: 2\r\n\r\nok",
    "cr-value": STATUS + b"X: a\rb\r\nContent-Length: 2\r\n\r\nok",
    "cl-te": STATUS + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "cl-cl": STATUS + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "cl-cl-same": STATUS + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "cl-empty": STATUS + b"Content-Length: \r\n\r\n",
    "cl-minus": STATUS + b"Content-Length: -1\r\n\r\n",
    "cl-hex": STATUS + b"Content-Length: 0x2\r\n\r\nok",
    "cl-wrap": STATUS + b"Content-Length: 18446744073709551618\r\n\r\nok",
    "te-gzip": STATUS + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "te-twice": STATUS + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "te-1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "101-unasked": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw",
    "too-many-fields": STATUS + b"X: 1\r\n" * 5000 + b"\r\n",
    "huge-head": STATUS + (b"X: " + b"v" * 10_000 + b"\r\n") * 120 + b"\r\n",
    "endless-line": STATUS + b"X: " + b"v" * 1_200_000,
    "interim-then-garbage": b"HTTP/1.1 103 E\r\n\r\ngarbage\r\n\r\n",
    "interim-then-end": b"HTTP/1.1 103 E\r\n\r\n",
    "half-status": b"HTTP/1.1 20",
    "half-head": STATUS + b"Content-Len",
}


def sends_and_ends(data: bytes, *, hard: bool = False) -> object:
    def handle(conn: Served) -> None:
        conn.request()
        conn.send(data)
        if hard:
            time.sleep(0.01)
            conn.reset()
            return
        conn.half_close()
        conn.rest()

    return handle


def is_clean_502(answer: Message) -> None:
    assert answer.status == 502
    assert answer.body == BAD_GATEWAY
    assert (answer.get("X-Cf-RouterError") or "").startswith("endpoint_failure (")
    assert answer.get("Content-Type") == "text/plain; charset=utf-8"
    assert answer.get("X-Content-Type-Options") == "nosniff"


@pytest.mark.parametrize("hard", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_head_is_502(router: MakeRouter, origin: MakeOrigin, name: str, hard: bool) -> None:
    app, front = origin(sends_and_ends(MALFORMED[name], hard=hard)), router()
    front.add(app)
    with front.client() as client:
        for request in (GET, POST):
            client.send(request)
            is_clean_502(client.answer())
    assert [request.method for request in app.requests] == ["GET", "POST"], "a babbling instance is not asked again"
    assert front.counter("bad_gateways") == 2


BROKEN = "net/http: HTTP/1.x transport connection broken: "
TOLD = {  # gorouter: the texts of Go's net/http
    "garbage": 'malformed HTTP response "garbage"',
    "ssh": 'malformed HTTP response "SSH-2.0-OpenSSH_9.2"',
    "quote": 'malformed HTTP response "a\\"\\\\\\x01b"',
    "status-two-digits": 'malformed HTTP status code "20"',
    "status-four-digits": 'malformed HTTP status code "2000"',
    "status-letters": 'malformed HTTP status code "abc"',
    "status-minus": 'malformed HTTP status code "-20"',
    "version-2": 'malformed HTTP version "HTTP/2.0"',
    "version-case": 'malformed HTTP version "http/1.1"',
    "status-missing": 'malformed HTTP response "HTTP/1.1"',
    "no-colon": "malformed MIME header",
    "huge-head": "net/http: server response headers exceeded 1048576 bytes; aborted",
    "half-head": "unexpected EOF",
}
HEADS = {**MALFORMED, "quote": b'a"\\\x01b\r\n\r\n'}


@pytest.mark.parametrize("name", TOLD)
def test_what_is_malformed_is_told(router: MakeRouter, origin: MakeOrigin, name: str) -> None:
    app, front = origin(sends_and_ends(HEADS[name])), router(log=True)
    front.add(app)
    error = f"endpoint_failure ({BROKEN}{TOLD[name]})"
    assert front.get().get("X-Cf-RouterError") == error
    quoted = error.replace("\\", "\\\\").replace('"', '\\"')
    assert front.log_lines(1)[0].endswith(f'x_cf_routererror:"{quoted}"')
    (event,) = front.plane.events()
    assert event["error"] == BROKEN + TOLD[name]


def test_a_long_status_line_is_cut(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(sends_and_ends(b"\xff" * 5000 + b"\r\n\r\n")), router(log=True)
    front.add(app)
    error = f'endpoint_failure ({BROKEN}malformed HTTP response "{chr(92)}xff'
    assert (front.get().get("X-Cf-RouterError") or "").startswith(error)
    assert len(front.log_lines(1)[0]) < 2000


# What comes behind a good head, and what of it may be shown.
BAD_BODIES = {
    "short": (STATUS + b"Content-Length: 10\r\n\r\n12345", b"12345"),
    "short-empty": (STATUS + b"Content-Length: 10\r\n\r\n", b""),
    "chunks-without-end": (STATUS + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n", b"12345"),
    "chunk-cut": (STATUS + b"Transfer-Encoding: chunked\r\n\r\n9\r\n12345", b"12345"),
    "chunk-size": (STATUS + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\nzz\r\nEVIL", b"12345"),
    "chunk-end": (STATUS + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345EVIL\r\n0\r\n\r\n", b"12345"),
    "chunk-lf": (STATUS + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\n0\r\n\r\n", b"12345"),
    "chunk-wrap": (STATUS + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n10000000000000005\r\nEVIL", b"12345"),
    "trailer": (STATUS + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\nX: a\0\r\n\r\n", b"12345"),
    "trailer-cut": (STATUS + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\nX: a\r\n", b"12345"),
    "trailer-length": (
        STATUS + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\nContent-Length: 5\r\n\r\n",
        b"12345",
    ),
}


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("hard", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize("name", BAD_BODIES)
def test_body_that_breaks_is_visibly_cut(
    router: MakeRouter, origin: MakeOrigin, name: str, hard: bool, version: str
) -> None:
    data, most = BAD_BODIES[name]
    app, front = origin(sends_and_ends(data, hard=hard)), router(log=True)
    front.add(app)
    with front.client() as client:
        client.send(f"GET / HTTP/{version}\r\nHost: app.test\r\n\r\n".encode() + GET)
        whole, how = client.rest()
    assert how == "reset" or whole == b"", "an end would look like the end of the answer"
    assert b"EVIL" not in whole
    assert b"\r\n0\r\n" not in whole
    assert whole.count(b"HTTP/1.") <= 1
    if whole:
        assert whole.startswith(f"HTTP/{version} 200 OK\r\n".encode())
        body = whole.partition(b"\r\n\r\n")[2]
        assert most.startswith(body) or body.endswith((most, most + b"\r\n"))
    assert len(app.requests) == 1
    assert " 200 0 " in front.log_lines(1)[0]


EXTRA = [
    (STATUS + b"Content-Length: 2\r\n\r\nok", b"EVIL"),
    (STATUS + b"Content-Length: 2\r\n\r\nok", STATUS + b"Content-Length: 4\r\n\r\nEVIL"),
    (STATUS + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", STATUS + b"Content-Length: 4\r\n\r\nEVIL"),
    (STATUS + b"Content-Length: 0\r\n\r\n", b"E"),
    (b"HTTP/1.1 304 N\r\n\r\n", STATUS + b"Content-Length: 4\r\n\r\nEVIL"),
]


@pytest.mark.parametrize("pause_s", [0.0, 0.005])
@pytest.mark.parametrize("case", range(len(EXTRA)))
def test_octets_behind_an_answer_reach_nobody(
    router: MakeRouter, origin: MakeOrigin, case: int, pause_s: float
) -> None:
    good, extra = EXTRA[case]

    def handle(conn: Served) -> None:
        while conn.request() is not None:
            if pause_s:
                conn.send(good)
                time.sleep(pause_s)
                conn.send(extra)
            else:
                conn.send(good + extra)

    app, front = origin(handle), router()
    front.add(app)
    with front.client() as client:
        for i in range(5):
            client.send(GET)
            answer = client.answer()
            assert answer.status in (200, 304)
            assert answer.body in (b"ok", b"")
            if pause_s:
                app.wait(lambda: app.ended == i + 1)  # noqa: B023
        assert client.is_silent()
    assert app.accepted == 5


# -- upgrades that are none ---------------------------------------------------------------------------------------

UPGRADE = b"GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\nEVIL",
        b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\n\r\nEVIL",
        b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket, other\r\n\r\nEVIL",
    ],
)  # fmt: skip
def test_switch_to_what_was_not_asked_for_is_502(router: MakeRouter, origin: MakeOrigin, answer: bytes) -> None:
    app, front = origin(answer), router()
    front.add(app)
    with front.client() as client:
        client.send(UPGRADE)
        assert client.answer().status == 502
        assert client.is_silent()
    assert front.counter("websocket_failures") == 1
    assert front.counter("tunnels_open") == 0


# -- no answer ----------------------------------------------------------------------------------------------------


def ends_at_once(conn: Served) -> None:
    conn.request()


def resets_at_once(conn: Served) -> None:
    conn.request()
    conn.reset()


@pytest.mark.parametrize("handler", [ends_at_once, resets_at_once])
def test_get_without_an_answer_goes_to_another_instance(
    router: MakeRouter, origin: MakeOrigin, handler: object
) -> None:
    bad, good = origin(handler), origin()
    front = router(cool_down_ms=0)
    front.add(bad)
    front.add(good)
    for _ in range(10):
        assert front.get().status == 200
    assert len(bad.requests) >= 1
    assert len(good.requests) == 10
    assert front.counter("retries") == len(bad.requests)


@pytest.mark.parametrize(
    ("head", "times"),
    [
        ("GET / HTTP/1.1", 2), ("HEAD / HTTP/1.1", 2), ("OPTIONS / HTTP/1.1", 2), ("TRACE / HTTP/1.1", 2),
        ("POST / HTTP/1.1", 1), ("PUT / HTTP/1.1", 1), ("DELETE / HTTP/1.1", 1), ("PATCH / HTTP/1.1", 1),
        ("POST / HTTP/1.1\r\nIdempotency-Key: k", 2), ("DELETE / HTTP/1.1\r\nX-Idempotency-Key: k", 2),
        ("GET / HTTP/1.1\r\nContent-Length: 3", 1), ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked", 1),
        ("POST / HTTP/1.1\r\nContent-Length: 3\r\nIdempotency-Key: k", 1),
        ("GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket", 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("handler", [ends_at_once, resets_at_once])
def test_what_is_sent_once_more_and_what_never(
    router: MakeRouter, origin: MakeOrigin, handler: object, head: str, times: int
) -> None:
    apps = [origin(handler) for _ in range(4)]
    front = router(max_attempts=4)
    for app in apps:
        front.add(app)
    body = b"abc" if "Content-Length: 3" in head else b"3\r\nabc\r\n0\r\n\r\n" if "chunked" in head else b""
    answer = front.ask(f"{head}\r\nHost: app.test\r\n\r\n".encode() + body, head.partition(" ")[0])
    assert answer.status == 502
    assert sum(len(app.requests) for app in apps) == times
    assert all(len(app.requests) <= 1 for app in apps)


def test_repetition_can_be_off(router: MakeRouter, origin: MakeOrigin) -> None:
    apps = [origin(ends_at_once) for _ in range(2)]
    front = router(retry_idempotent=False)
    for app in apps:
        front.add(app)
    is_clean_502(front.get())
    assert sum(len(app.requests) for app in apps) == 1


def test_end_of_an_unanswered_request_names_its_cause(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    front.add(origin(ends_at_once))
    assert front.get().get("X-Cf-RouterError") == "endpoint_failure (EOF)"
    front = router()
    front.add(origin(resets_at_once))
    assert front.get().get("X-Cf-RouterError") == "endpoint_failure (read: connection reset by peer)"


# -- slowly -------------------------------------------------------------------------------------------------------


def test_drip(router: MakeRouter, origin: MakeOrigin) -> None:
    data = (
        b"HTTP/1.1 103 E\r\nX: 1\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
        b"3\r\nabc\r\n2;x\r\nde\r\n0\r\nX-T: t\r\n\r\n"
    )

    def handle(conn: Served) -> None:
        while conn.request() is not None:
            for at in range(len(data)):
                conn.send(data[at : at + 1])

    app, front = origin(handle), router()
    front.add(app)
    with front.client() as client:
        for _ in range(5):
            client.send(GET)
            answer = client.answer()
            assert answer.body == b"abcde"
            assert answer.get("X-A") == "b"
            assert answer.trailers == [("X-T", "t")]
            assert len(answer.interim) == 1
    assert app.accepted == 1


def test_client_that_resets_while_it_waits_frees_the_instance(router: MakeRouter, origin: MakeOrigin) -> None:
    def handle(conn: Served) -> None:
        conn.request()
        with pytest.raises(Cut):
            conn.take(1)

    app, front = origin(handle), router(log=True)
    front.add(app)
    client = front.client()
    client.send(GET)
    app.wait(lambda: app.requests)
    client.reset()
    app.wait(lambda: app.ended == 1)
    assert '"GET / HTTP/1.1" 499 0 0 ' in front.log_lines(1)[0]
    assert front.counter("client_aborts") == 1
    assert front.counter("endpoint_failures") == 0


def large(conn: Served) -> None:
    conn.request()
    conn.send(STATUS + b"Content-Length: 100000000\r\n\r\n")
    for _ in range(1000):
        conn.send(b"x" * 100_000)


def test_client_that_ends_in_an_answer_frees_the_instance(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(large), router(log=True)
    front.add(app)
    for way in ("reset", "close"):
        client = front.client()
        client.send(GET)
        assert client.answer_head().status == 200
        client.take(1000)
        getattr(client, way)()
    app.wait(lambda: app.ended == 2)
    lines = front.log_lines(2)
    assert all('"GET / HTTP/1.1" 200 0 ' in line for line in lines)
    assert front.counter("endpoint_failures") == 0

"""What a client receives of an answer: lengths, chunks, trailers, interim answers, and answers without a body."""

import email.utils
import re

import pytest

from tests.support.origins import OK, Served
from tests.support.plane import MakeOrigin, MakeRouter, Router
from tests.support.wire import Wire

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: app.test\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n"


def shown(router: MakeRouter, origin: MakeOrigin, answer: bytes) -> Router:
    front = router()
    front.add(origin(answer))
    return front


def test_order_and_case_of_fields_are_kept(router: MakeRouter, origin: MakeOrigin) -> None:
    front = shown(
        router,
        origin,
        b"HTTP/1.1 299 My Own  Reason!\r\nx-LOWER: 1\r\nServer: t\r\nA: 1\r\nDate: yesterday\r\nA: 2\r\n"
        b"X-Vcap-Request-Id: theirs\r\nCONTENT-length: 0\r\nX-Odd: \xe9\t\x80\r\n\r\n",
    )
    answer = front.get()
    assert answer.start == b"HTTP/1.1 299 My Own  Reason!"
    assert answer.names() == ["x-LOWER", "Server", "A", "Date", "A", "X-Vcap-Request-Id", "X-Odd", "Content-Length"]
    assert answer.get("Date") == "yesterday"
    assert answer.get("X-Vcap-Request-Id") == "theirs", "the instance's value wins"
    assert answer.get("X-Odd") == "\xe9\t\x80"


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 ", b"HTTP/1.1 200", b"HTTP/1.1 404 \xc3\xa9", b"HTTP/1.0 200 OK"])
def test_odd_status_lines(router: MakeRouter, origin: MakeOrigin, line: bytes) -> None:
    answer = shown(router, origin, line + b"\r\nContent-Length: 2\r\n\r\nok").get()
    assert answer.minor == 1
    assert answer.status == int(line[9:12])
    assert answer.reason.encode("latin-1") == line[13:]
    assert answer.body == b"ok"


def test_date_and_request_id_are_added(router: MakeRouter, origin: MakeOrigin) -> None:
    answer = shown(router, origin, OK).get()
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.get("X-Vcap-Request-Id") or "")
    date = answer.get("Date") or ""
    assert email.utils.format_datetime(email.utils.parsedate_to_datetime(date), usegmt=True) == date
    assert answer.get("Content-Type") is None, "nothing is guessed"


def test_hop_by_hop_fields_end_here(router: MakeRouter, origin: MakeOrigin) -> None:
    answer = shown(
        router,
        origin,
        b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nProxy-Authenticate: Basic\r\nTE: x\r\n"
        b"Upgrade: h2c\r\nConnection: keep-alive, X-One\r\nX-One: 1\r\nX-Two: 2\r\nX-CF-Proxy-Signature: s\r\n"
        b"Content-Length: 2\r\n\r\nok",
    ).get()
    assert answer.names() == ["X-Two", "X-Vcap-Request-Id", "Date", "Content-Length"]


def test_nominating_the_length_does_not_hide_it(router: MakeRouter, origin: MakeOrigin) -> None:
    front = shown(router, origin, b"HTTP/1.1 200 OK\r\nConnection: Content-Length\r\nContent-Length: 2\r\n\r\nok")
    with front.client() as client:
        client.send(GET)
        assert client.answer().body == b"ok"
        assert client.is_open()


@pytest.mark.parametrize("size", [0, 1, 4096, 16_384, 65_536, 2_000_003])
def test_length_bodies(router: MakeRouter, origin: MakeOrigin, size: int) -> None:
    body = bytes(i * 31 % 251 for i in range(size))
    front = shown(router, origin, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body)
    with front.client() as client:
        for request in (GET, OLD, GET):
            client.send(request)
            answer = client.answer()
            assert answer.body == body
            assert answer.get("Content-Length") == str(size)
    assert front.counter("upstream_connects") == 1


CHUNKED = (
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x="y"\r\nabc\r\n005\r\ndefgh\r\n0;z\r\nX-Sum: 8\r\n\r\n'
)


def test_chunks_are_written_anew_with_trailers(router: MakeRouter, origin: MakeOrigin) -> None:
    front = shown(router, origin, CHUNKED)
    with front.client() as client:
        for _ in range(2):
            client.send(GET)
            answer = client.answer()
            assert answer.get("Transfer-Encoding") == "chunked"
            assert answer.body == b"abcdefgh"
            assert answer.trailers == [("X-Sum", "8")]
    assert front.counter("upstream_connects") == 1


def test_chunks_end_with_the_connection_for_http_1_0(router: MakeRouter, origin: MakeOrigin) -> None:
    front = shown(router, origin, CHUNKED)
    with front.client() as client:
        client.send(OLD)
        answer = client.answer()
        assert answer.minor == 0
        assert answer.get("Transfer-Encoding") is None
        assert answer.get("Content-Length") is None
        assert answer.options() == {"close"}
        assert answer.body == b"abcdefgh"
    assert front.get().body == b"abcdefgh"
    assert front.counter("upstream_connects") == 1, "the instance's connection was clean"


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_body_that_ends_with_the_connection(router: MakeRouter, origin: MakeOrigin, version: bytes) -> None:
    body = b"x" * 200_000

    def handle(conn: Served) -> None:
        conn.request()
        conn.send(b"HTTP/" + version + b" 200 OK\r\n\r\n" + body)
        conn.half_close()
        conn.rest()

    front = router()
    front.add(origin(handle))
    with front.client() as client:
        for _ in range(2):
            client.send(GET)
            answer = client.answer()
            assert answer.get("Transfer-Encoding") == "chunked"
            assert answer.body == body
        client.send(OLD)
        answer = client.answer()
        assert answer.body == body
        assert answer.options() == {"close"}
    assert front.counter("upstream_connects") == 3


def test_each_piece_is_passed_on_at_once(router: MakeRouter, origin: MakeOrigin) -> None:
    """A stream of events: the instance goes on only when the client has seen the last piece."""

    def handle(conn: Served) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(20):
            conn.send(b"6\r\nev %03d\r\n" % i)
            with conn.origin.changed:
                assert conn.origin.changed.wait_for(lambda: len(seen) > i, 20)  # noqa: B023
        conn.send(b"0\r\n\r\n")
        conn.rest()

    seen: list[bytes] = []
    app, front = origin(handle), router()
    front.add(app)
    with front.client() as client:
        client.send(GET)
        assert client.answer_head().status == 200
        for i in range(20):
            assert client.line() == b"6"
            assert client.take(8) == b"ev %03d\r\n" % i
            with app.changed:
                seen.append(b"")
                app.changed.notify_all()
        assert client.take(5) == b"0\r\n\r\n"


# -- no body ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "length"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", "12345"), (b"HTTP/1.1 200 OK\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "0"),
    ],
)  # fmt: skip
def test_head(router: MakeRouter, origin: MakeOrigin, head: bytes, length: str | None) -> None:
    front = shown(router, origin, head)
    with front.client() as client:
        client.send(HEAD * 3)
        for _ in range(3):
            answer = client.answer("HEAD")
            assert answer.get("Content-Length") == length
        assert client.is_silent()


@pytest.mark.parametrize(
    ("head", "length"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", None), (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", None),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", None),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: x\r\n\r\n", "77"),
    ],
)  # fmt: skip
def test_statuses_without_a_body(router: MakeRouter, origin: MakeOrigin, head: bytes, length: str | None) -> None:
    front = shown(router, origin, head)
    with front.client() as client:
        client.send(GET * 3)
        for _ in range(3):
            answer = client.answer()
            assert answer.get("Content-Length") == length
            assert answer.get("Transfer-Encoding") is None
        assert client.is_silent()
    assert front.counter("upstream_connects") == 1


def test_body_behind_an_answer_that_has_none_is_not_shown(router: MakeRouter, origin: MakeOrigin) -> None:
    """An instance that answers HEAD with a body: the client sees none of it, the connection is not used again."""
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
    for request, method, answer in (
        (HEAD, "HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)),
        (GET, "GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: %d\r\n\r\n" % len(body)),
        (GET, "GET", b"HTTP/1.1 204 No Content\r\nContent-Length: %d\r\n\r\n" % len(body)),
        (GET, "GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    ):
        app, front = origin(answer + body), router()
        front.add(app)
        with front.client() as client:
            for _ in range(3):
                client.send(request)
                client.answer(method)
            assert client.is_silent()
        assert app.accepted == 3


# -- interim answers ----------------------------------------------------------------------------------------------


def interim(conn: Served) -> None:
    while conn.request() is not None:
        conn.send(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nLink: </b>\r\nConnection: X-Hop\r\n"
            b"X-Hop: 1\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
        )
        conn.send(OK)


def test_interim_answers_pass(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    front.add(origin(interim))
    with front.client() as client:
        for _ in range(2):
            client.send(GET)
            answer = client.answer()
            assert [one.status for one in answer.interim] == [103, 102]
            assert answer.interim[0].fields == [("Link", "</a>; rel=preload"), ("Link", "</b>")]
            assert answer.body == b"ok"
    assert front.counter("upstream_connects") == 1
    assert front.counter("responses_1xx") == 4


def test_interim_answers_do_not_reach_http_1_0(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    front.add(origin(interim))
    answer = front.ask(OLD)
    assert (answer.status, answer.interim) == (200, [])


def test_interim_answers_at_the_bound_pass_one_more_does_not(router: MakeRouter, origin: MakeOrigin) -> None:
    many = b"HTTP/1.1 103 E\r\n\r\n"
    assert len(shown(router, origin, many * 100 + OK).get().interim) == 100
    front = shown(router, origin, many * 101 + OK)
    with front.client() as client:
        client.send(GET)
        answer = client.answer()
        assert answer.status == 502
        assert len(answer.interim) == 100
        assert client.is_silent(), "the client's connection is not to blame"
    large = b"HTTP/1.1 103 E\r\nX: " + b"v" * 8000 + b"\r\n\r\n"
    front = shown(router, origin, large * 9 + OK)
    assert front.get().status == 502


def test_unasked_continue_is_not_shown(router: MakeRouter, origin: MakeOrigin) -> None:
    answer = shown(router, origin, b"HTTP/1.1 100 Continue\r\n\r\n" + OK).get()
    assert (answer.status, answer.interim) == (200, [])


# -- persistence --------------------------------------------------------------------------------------------------


def test_close_of_the_instance_is_its_own(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"), router()
    front.add(app)
    with front.client() as client:
        for _ in range(3):
            assert client.is_open()
    assert app.accepted == 3


def test_http_1_0_instance_is_not_kept_unless_it_says_so(router: MakeRouter, origin: MakeOrigin) -> None:
    for line, connects in ((b"", 3), (b"Connection: keep-alive\r\n", 1)):
        app, front = origin(b"HTTP/1.0 200 OK\r\n" + line + b"Content-Length: 2\r\n\r\nok"), router()
        front.add(app)
        with front.client() as client:
            for _ in range(3):
                assert client.is_open()
        assert app.accepted == connects
        assert front.get().minor == 1


# -- health -------------------------------------------------------------------------------------------------------


def test_health(router: MakeRouter) -> None:
    front = router()
    with Wire.connect(front.health_port) as client:
        for healthy in (True, False, True):
            front.plane.set_health(healthy)
            client.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = client.answer()
            assert answer.status == (200 if healthy else 503)
            assert answer.body == (b"ok\n" if healthy else b"")
            assert answer.get("Cache-Control") == "private, max-age=0"
            assert answer.get("Expires") == "0"
        front.plane.set_health(False)
        client.send(b"GET /is-process-alive-do-not-use-for-loadbalancing HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.answer().body == b"ok\n"
        client.send(b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = client.answer()
        assert (answer.status, answer.body) == (404, b"404 page not found\n")
    assert front.counter("health_checks") == 5


def test_health_by_user_agent(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router()
    front.add(app)
    answer = front.get(lines="User-Agent: HTTP-Monitor/1.1\r\n")
    assert (answer.status, answer.body) == (200, b"ok\n")
    assert answer.get("Content-Type") is None
    front.plane.set_health(False)
    assert front.get(lines="User-Agent: HTTP-Monitor/1.1\r\n").status == 503
    assert front.get(lines="User-Agent: HTTP-Monitor/1.2\r\n").status == 200
    assert len(app.requests) == 1

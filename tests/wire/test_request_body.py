"""Request bodies: lengths, chunks, trailers, Expect, and answers that come before the body was read."""

import pytest

from tests.support.origins import OK, Served, echo_request
from tests.support.plane import MakeOrigin, MakeRouter, until
from tests.support.wire import Cut

POST = b"POST /up HTTP/1.1\r\nHost: app.test\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: app.test\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize("size", [0, 1, 2, 4095, 4096, 16_384, 65_536, 65_537, 1_000_003])
def test_length_bodies(router: MakeRouter, origin: MakeOrigin, size: int) -> None:
    app, front = origin(echo_request), router()
    front.add(app)
    body = bytes(i * 31 % 251 for i in range(size))
    with front.client() as client:
        for _ in range(2):
            client.send(POST + b"Content-Length: %d\r\n\r\n" % size + body)
            assert client.answer().body == b"/up " + body
    assert [request.get("Content-Length") for request in app.requests] == [str(size)] * 2
    assert app.accepted == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_method_that_expects_content_says_there_is_none(router: MakeRouter, origin: MakeOrigin, method: str) -> None:
    app, front = origin(), router()
    front.add(app)
    front.ask(f"{method} / HTTP/1.1\r\nHost: app.test\r\n\r\n".encode())
    assert app.last().get("Content-Length") == "0"


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD", "OPTIONS"])
def test_method_without_content_stays_without(router: MakeRouter, origin: MakeOrigin, method: str) -> None:
    app, front = origin(), router()
    front.add(app)
    front.ask(f"{method} / HTTP/1.1\r\nHost: app.test\r\n\r\n".encode(), method)
    assert app.last().get("Content-Length") is None
    assert app.last().get("Transfer-Encoding") is None


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS"])
def test_bodies_of_unusual_methods_pass(router: MakeRouter, origin: MakeOrigin, method: str) -> None:
    app, front = origin(echo_request), router()
    front.add(app)
    answer = front.ask(f"{method} /b HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n\r\nbody".encode())
    assert answer.body == b"/b body"


def test_chunks_are_written_anew_without_extensions(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(echo_request), router()
    front.add(app)
    with front.client() as client:
        client.send(
            POST + b"Transfer-Encoding: Chunked\r\nTrailer: X-Sum\r\n\r\n"
            b'4;name=value;q="a\\"b";flag\r\nWiki\r\n00005\r\npedia\r\nE\r\n in\r\n\r\nchunks.\r\n'
            b"0;last\r\nX-Sum: 9\r\n\r\n"
        )
        assert client.answer().body == b"/up Wikipedia in\r\n\r\nchunks."
        assert client.is_open()
    sent = app.requests[0]
    assert sent.get("Transfer-Encoding") == "chunked"
    assert sent.trailers == [("X-Sum", "9")]


def test_chunked_body_without_data(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(echo_request), router()
    front.add(app)
    assert front.ask(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n").body == b"/up "
    assert app.last().get("Transfer-Encoding") == "chunked"


@pytest.mark.parametrize("size", [1, 17, 16_383, 65_536, 300_000])
def test_chunks_of_any_size(router: MakeRouter, origin: MakeOrigin, size: int) -> None:
    app, front = origin(echo_request), router()
    front.add(app)
    chunk = bytes(i % 256 for i in range(size))
    count = max(3, 600_000 // size) if size > 100 else 200
    data = b"".join(b"%x\r\n%s\r\n" % (size, chunk) for _ in range(count)) + b"0\r\n\r\n"
    assert front.ask(POST + b"Transfer-Encoding: chunked\r\n\r\n" + data).body == b"/up " + chunk * count
    assert app.accepted == 1


def test_trailers_of_several_lines(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(echo_request), router()
    front.add(app)
    lines = [(f"X-T{i}", "v" * i) for i in range(60)]
    text = "".join(f"{name}: {value}\r\n" for name, value in lines).encode()
    front.ask(POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + text + b"\r\n")
    assert app.last().trailers == lines


BAD_CHUNKS = {
    "lf-size": b"4\nWiki\r\n0\r\n\r\n",
    "no-end": b"4\r\nWiki0\r\n\r\n",
    "long-data": b"4\r\nWikiX\r\n0\r\n\r\n",
    "lf-data": b"4\r\nWiki\n0\r\n\r\n",
    "cr-data": b"4\r\nWiki\r0\r\n\r\n",
    "no-hex": b"g\r\n",
    "no-size": b"\r\n0\r\n\r\n",
    "space-size": b" 4\r\nWiki\r\n",
    "size-space": b"4 \r\nWiki\r\n",
    "minus": b"-1\r\n",
    "plus": b"+4\r\nWiki\r\n",
    "0x": b"0x4\r\nWiki\r\n",
    "ext-lf": b"4;a\nb\r\nWiki\r\n",
    "ext-cr": b"4;\rX\r\n",
    "ext-nul": b"4;a=\x00\r\n",
    "ext-empty": b"4;\r\nWiki\r\n",
    "ext-open-quote": b'4;a="\r\nWiki\r\n',
    "ext-long": b"4;" + b"x" * 300 + b"\r\nWiki\r\n",
    "wrap-to-0": b"10000000000000000\r\n",
    "wrap-signed": b"ffffffffffffffff\r\n",
    "wrap-63": b"8000000000000000\r\n",
    "zeros": b"0" * 40 + b"\r\n\r\n",
    "trailer-length": b"4\r\nWiki\r\n0\r\nContent-Length: 3\r\n\r\n",
    "trailer-coding": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "trailer-host": b"0\r\nHost: evil.test\r\n\r\n",
    "trailer-nul": b"0\r\nX: a\x00b\r\n\r\n",
    "trailer-fold": b"0\r\n folded: 1\r\n\r\n",
    "trailer-lf": b"0\r\nX: 1\n\r\n",
    "trailer-end-lf": b"0\r\nX: 1\r\n\n",
    "trailer-no-colon": b"0\r\nno colon\r\n\r\n",
    "trailer-long": b"0\r\n" + b"X: " + b"v" * 20_000 + b"\r\n\r\n",
    "waste": b"1;a=" + b"x" * 200 + b"\r\na\r\n" + (b"1;a=" + b"x" * 200 + b"\r\na\r\n") * 200 + b"0\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_bad_chunks_are_refused_whole_and_the_connection_ends(
    router: MakeRouter, origin: MakeOrigin, name: str
) -> None:
    app, front = origin(), router()
    front.add(app)
    with front.client() as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + BAD_CHUNKS[name] + HIDDEN)
        answer = client.answer()
        assert answer.status == 400
        assert "close" in answer.options()
        assert client.rest() == (b"", "end")
    assert all(request.target == b"/up" for request in app.requests)
    assert front.counter("endpoint_failures") == 0, "a client's fault counts against nobody"


def test_client_that_ends_its_side_in_a_body_is_no_fault_of_the_instance(
    router: MakeRouter, origin: MakeOrigin
) -> None:
    app, front = origin(), router(log=True)
    front.add(app)
    with front.client() as client:
        client.send(POST + b"Content-Length: 10\r\n\r\nabc")
        app.wait(lambda: app.requests)
        client.half_close()
        client.rest()
    until(lambda: front.counter("client_aborts") == 1)
    assert front.counter("endpoint_failures") == 0
    assert '"POST /up HTTP/1.1" 499 3 0 ' in front.log_lines(1)[0]


# -- Expect -------------------------------------------------------------------------------------------------------


def test_continue_of_the_instance_is_passed_on(router: MakeRouter, origin: MakeOrigin) -> None:
    def handle(conn: Served) -> None:
        while (request := conn.request_head()) is not None:
            conn.send(CONTINUE)
            conn.request_body(request)
            conn.send(OK)

    app, front = origin(handle), router()
    front.add(app)
    with front.client() as client:
        for _ in range(2):
            client.send(POST + b"Expect: 100-Continue\r\nContent-Length: 4\r\n\r\n")
            assert client.answer_head().status == 100
            client.send(b"body")
            answer = client.answer()
            assert (answer.status, answer.interim) == (200, [])
    assert [request.body for request in app.requests] == [b"body"] * 2
    assert app.requests[0].get("Expect") == "100-Continue"


def test_a_silent_instance_is_answered_for_after_a_while(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router()
    front.add(app)
    with front.client() as client:
        client.send(POST + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        app.wait(lambda: app.requests)
        assert client.is_silent(), "the instance was not given the time to answer"
        assert client.answer_head().status == 100
        client.send(b"body")
        assert client.answer().status == 200
        assert client.is_open()
    assert app.requests[0].body == b"body"


def test_a_late_continue_is_not_shown_twice(router: MakeRouter, origin: MakeOrigin) -> None:
    def handle(conn: Served) -> None:
        while (request := conn.request_head()) is not None:
            conn.request_body(request)
            conn.send(CONTINUE + OK)

    app, front = origin(handle), router()
    front.add(app)
    with front.client() as client:
        client.send(POST + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert client.answer_head().status == 100
        client.send(b"body")
        assert client.answer().interim == []


def test_a_client_that_does_not_wait_needs_no_continue(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router()
    front.add(app)
    with front.client() as client:
        client.send(POST + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\nbody")
        answer = client.answer()
        assert (answer.status, answer.interim) == (200, [])
        assert client.is_open()
    assert app.requests[0].body == b"body"


@pytest.mark.parametrize("status", [b"200 OK", b"413 Too Large", b"401 No"])
def test_early_answer_to_expect_closes(router: MakeRouter, origin: MakeOrigin, status: bytes) -> None:
    def handle(conn: Served) -> None:
        conn.request_head()
        conn.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nno")
        conn.rest()

    app, front = origin(handle), router()
    front.add(app)
    with front.client() as client:
        client.send(POST + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        answer = client.answer()
        assert answer.status == int(status[:3])
        assert "close" in answer.options()
        client.send(b"GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n")
        assert client.rest()[0] == b""
    app.wait(lambda: app.ended == 1, "the instance's connection is not closed though its request was never whole")
    assert [request.target for request in app.requests] == [b"/up"]


def test_expect_without_a_body(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router()
    front.add(app)
    with front.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\nExpect: 100-continue\r\n\r\n")
        assert client.answer().status == 200
        assert client.is_open()


def test_expect_with_http_1_0_is_ignored(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router()
    front.add(app)
    with front.client() as client:
        client.send(b"POST / HTTP/1.0\r\nHost: app.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        app.wait(lambda: app.requests)
        client.send(b"body")
        answer = client.answer()
        assert (answer.status, answer.interim) == (200, [])


@pytest.mark.parametrize("value", ["200-ok", "100-continue, other", "100-continu"])
def test_unknown_expectation_is_417(router: MakeRouter, origin: MakeOrigin, value: str) -> None:
    app, front = origin(), router()
    front.add(app)
    with front.client() as client:
        client.send(POST + f"Expect: {value}\r\nContent-Length: 4\r\n\r\n".encode())
        answer = client.answer()
        assert answer.status == 417
        assert "close" in answer.options()
        client.send(b"body")
        assert client.rest()[0] == b""
    assert app.requests == []


# -- early answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", [b"Content-Length: 10000000", b"Transfer-Encoding: chunked"])
def test_early_answer_to_an_upload(router: MakeRouter, origin: MakeOrigin, framing: bytes) -> None:
    def handle(conn: Served) -> None:
        conn.request_head()
        conn.send(b"HTTP/1.1 413 Enough\r\nContent-Length: 6\r\n\r\nenough")
        conn.rest()

    app, front = origin(handle), router()
    front.add(app)
    with front.client() as client:
        client.send(POST + framing + b"\r\n\r\n")
        answer = client.answer()
        assert (answer.status, answer.body) == (413, b"enough")
        assert "close" in answer.options()
        assert client.rest() == (b"", "end")


def test_answer_while_the_client_still_sends_arrives_whole(router: MakeRouter, origin: MakeOrigin) -> None:
    body = b"x" * 100_000

    def handle(conn: Served) -> None:
        conn.request_head()
        conn.take(10)
        conn.send(b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        conn.rest()

    app, front = origin(handle), router()
    front.add(app)
    with front.client() as client:
        client.send(POST + b"Content-Length: 150000\r\n\r\n" + b"y" * 100_000)
        answer = client.answer()
        assert (answer.status, answer.body) == (400, body)


def test_early_answer_whose_instance_closes(router: MakeRouter, origin: MakeOrigin) -> None:
    """The upload breaks, but the answer is there: it is what the client sees."""

    def handle(conn: Served) -> None:
        conn.request_head()
        conn.send(b"HTTP/1.1 413 Enough\r\nContent-Length: 6\r\nConnection: close\r\n\r\nenough")
        conn.half_close()
        conn.rest()

    app, front = origin(handle), router()
    front.add(app)
    with front.client() as client:
        client.send(POST + b"Content-Length: 1000000\r\n\r\n" + b"y" * 5000)
        answer = client.answer()
        assert (answer.status, answer.body) == (413, b"enough")


def test_upload_that_the_instance_breaks_off_is_502(router: MakeRouter, origin: MakeOrigin) -> None:
    def handle(conn: Served) -> None:
        conn.request_head()
        conn.take(5)
        conn.reset()

    app, front = origin(handle), router()
    front.add(app)
    with front.client() as client:
        client.send(POST + b"Content-Length: 1000000\r\n\r\n" + b"y" * 5000)
        answer = client.answer()
        assert answer.status == 502
        assert "close" in answer.options()
    assert len(app.requests) == 1, "a request whose body was read is never sent twice"


def test_answer_to_a_slow_upload_is_streamed_meanwhile(router: MakeRouter, origin: MakeOrigin) -> None:
    """Both directions move at once: the answer's first part is read before the request's last."""

    def handle(conn: Served) -> None:
        conn.request_head()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        for _ in range(3):
            conn.send(conn.take(2))

    app, front = origin(handle), router()
    front.add(app)
    with front.client() as client:
        client.send(POST + b"Content-Length: 6\r\n\r\n")
        assert client.answer_head().status == 200
        for part in (b"ab", b"cd", b"ef"):
            client.send(part)
            assert client.take(2) == part


def test_client_that_resets_in_an_upload_frees_the_instance(router: MakeRouter, origin: MakeOrigin) -> None:
    def handle(conn: Served) -> None:
        conn.request_head()
        with pytest.raises(Cut):
            conn.take(1_000_000)

    app, front = origin(handle), router()
    front.add(app)
    client = front.client()
    client.send(POST + b"Content-Length: 1000000\r\n\r\n" + b"y" * 5000)
    app.wait(lambda: app.requests)
    client.reset()
    app.wait(lambda: app.ended == 1)
    assert front.counter("endpoint_failures") == 0

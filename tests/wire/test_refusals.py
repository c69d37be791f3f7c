"""What is refused: a whole answer, Connection: close, nothing behind it, and not one octet at an instance.

Each case is followed by a request that must never be seen: whoever reads a message's length otherwise than its sender
meant would find it (request smuggling).
"""

import pytest

from tests.support.plane import MakeOrigin, MakeRouter
from tests.support.wire import Message, Wire

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: app.test\r\n\r\n"
HOST = b"Host: app.test\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST
POST = b"POST / HTTP/1.1\r\n" + HOST
BODY = b"0\r\n\r\n"

# -- heads that are refused: (name, head and whatever follows it, status) -----------------------------------------

LINES = {
    "nine": (b"GET /\r\n\r\n", 400),
    "no-target": (b"GET HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "empty-target": (b"GET  HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "two-spaces": (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "space-behind": (b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n", 400),
    "tab": (b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "space-before": (b" GET / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "space-in-target": (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "fragment": (b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "nul-in-target": (b"GET /\x00 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "del-in-target": (b"GET /\x7f HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "relative-target": (b"GET a HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "asterisk-get": (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "authority-get": (b"GET app.test:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "userinfo": (b"GET http://u@app.test/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "scheme": (b"GET ftp://app.test/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "method": (b"G(T / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "long-method": (b"G" * 100 + b" / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "lower-version": (b"GET / http/1.1\r\n" + HOST + b"\r\n", 400),
    "version-junk": (b"GET / HTTP/1.1x\r\n" + HOST + b"\r\n", 400),
    "version-short": (b"GET / HTTP/1\r\n" + HOST + b"\r\n", 400),
    "version-1.2": (b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", 505),
    "version-2.0": (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    "version-0.9": (b"GET / HTTP/0.9\r\n" + HOST + b"\r\n", 505),
    "preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "long-target": (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "endless-target": (b"GET /" + b"a" * 140_000, 414),
}
FIELDS = {
    "bare-lf-line": (b"GET / HTTP/1.1\n" + HOST + b"\r\n", 400),
    "bare-lf-field": (b"GET / HTTP/1.1\r\nHost: app.test\nX: 1\r\n\r\n", 400),
    "bare-lf-end": (GET + b"X: 1\r\n\n", 400),
    "bare-lf-all": (b"GET / HTTP/1.1\nHost: app.test\n\n", 400),
    "bare-cr": (GET + b"X: a\rb\r\n\r\n", 400),
    "bare-cr-end": (GET + b"X: 1\r\r\n\r\n", 400),
    "fold": (GET + b"X: a\r\n b\r\n\r\n", 400),
    "fold-tab": (GET + b"X: a\r\n\tb\r\n\r\n", 400),
    "fold-first": (b"GET / HTTP/1.1\r\n X: 1\r\n" + HOST + b"\r\n", 400),
    "space-colon": (GET + b"X : 1\r\n\r\n", 400),
    "space-colon-length": (POST + b"Content-Length : 5\r\n\r\nhello", 400),
    "tab-colon-coding": (POST + b"Transfer-Encoding\t: chunked\r\n\r\n" + BODY, 400),
    "no-colon": (GET + b"X\r\n\r\n", 400),
    "empty-name": (GET + b": 1\r\n\r\n", 400),
    "space-name": (GET + b"X Y: 1\r\n\r\n", 400),
    "nul-name": (GET + b"X\x00: 1\r\n\r\n", 400),
    "high-name": (GET + b"X\xe9: 1\r\n\r\n", 400),
    "long-name": (GET + b"X" * 70_000 + b": 1\r\n\r\n", 400),
    "nul-value": (GET + b"X: a\x00b\r\n\r\n", 400),
    "control-value": (GET + b"X: a\x01b\r\n\r\n", 400),
    "del-value": (GET + b"X: a\x7fb\r\n\r\n", 400),
    "vt-value": (GET + b"X: a\x0bb\r\n\r\n", 400),
    "no-host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two-hosts": (GET + HOST + b"\r\n", 400),
    "two-hosts-differ": (GET + b"hOST: other.test\r\n\r\n", 400),
    "host-comma": (b"GET / HTTP/1.1\r\nHost: app.test, other.test\r\n\r\n", 400),
    "host-space": (b"GET / HTTP/1.1\r\nHost: app.test other\r\n\r\n", 400),
    "host-path": (b"GET / HTTP/1.1\r\nHost: app.test/x\r\n\r\n", 400),
    "host-userinfo": (b"GET / HTTP/1.1\r\nHost: u@app.test\r\n\r\n", 400),
    "host-port": (b"GET / HTTP/1.1\r\nHost: app.test:x\r\n\r\n", 400),
    "host-port-big": (b"GET / HTTP/1.1\r\nHost: app.test:99999\r\n\r\n", 400),
    "host-query": (b"GET / HTTP/1.1\r\nHost: app.test?a\r\n\r\n", 400),
    "fields": (GET + b"X: 1\r\n" * 5000 + b"\r\n", 431),
    "connection-list": (GET + b"Connection: " + b"a," * 1000 + b"close\r\n\r\n", 400),
}
LENGTHS = {
    "cl-te": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY, 400),
    "te-cl": (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + BODY, 400),
    "cl-cl-same": (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    "cl-cl": (POST + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello", 400),
    "cl-list": (POST + b"Content-Length: 5, 5\r\n\r\nhello", 400),
    "cl-empty": (POST + b"Content-Length:\r\n\r\n", 400),
    "cl-plus": (POST + b"Content-Length: +5\r\n\r\nhello", 400),
    "cl-minus": (POST + b"Content-Length: -5\r\n\r\nhello", 400),
    "cl-hex": (POST + b"Content-Length: 0x5\r\n\r\nhello", 400),
    "cl-point": (POST + b"Content-Length: 5.0\r\n\r\nhello", 400),
    "cl-space": (POST + b"Content-Length: 5 0\r\n\r\nhello", 400),
    "cl-wrap64": (POST + b"Content-Length: 18446744073709551621\r\n\r\nhello", 400),
    "cl-wrap63": (POST + b"Content-Length: 9223372036854775808\r\n\r\nhello", 400),
    "cl-wrap32": (POST + b"Content-Length: 000000000000000000000000000005\r\n\r\nhello", 400),
    "te-identity": (POST + b"Transfer-Encoding: identity\r\n\r\n" + BODY, 501),
    "te-gzip": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + BODY, 501),
    "te-twice": (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + BODY, 501),
    "te-lines": (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY, 501),
    "te-lines-identity": (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + BODY, 501),
    "te-comma": (POST + b"Transfer-Encoding: chunked,\r\n\r\n" + BODY, 501),
    "te-comma-first": (POST + b"Transfer-Encoding: ,chunked\r\n\r\n" + BODY, 501),
    "te-parameter": (POST + b"Transfer-Encoding: chunked;a=b\r\n\r\n" + BODY, 501),
    "te-quoted": (POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + BODY, 501),
    "te-x": (POST + b"Transfer-Encoding: xchunked\r\n\r\n" + BODY, 501),
    "te-empty": (POST + b"Transfer-Encoding:\r\n\r\n" + BODY, 501),
    "te-vt": (POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + BODY, 400),
    "te-nul": (POST + b"Transfer-Encoding: chunked\x00\r\n\r\n" + BODY, 400),
    "te-old": (b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + BODY, 400),
    "te-cl-nominated": (
        POST + b"Connection: Content-Length\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY,
        400,
    ),
    "te-behind-nul": (POST + b"X: 1\x00\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY, 400),
    "te-folded": (POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + BODY, 501),
}
REFUSED = {**LINES, **FIELDS, **LENGTHS}


def is_whole_refusal(client: Wire, status: int) -> Message:
    """One answer with that status, marked as the last, and then the end."""
    answer = client.answer()
    assert answer.status == status, answer.start
    assert answer.minor == 1
    assert answer.options() == {"close"}
    assert answer.get("Content-Length") is not None
    assert answer.get("Content-Type") == "text/plain; charset=utf-8"
    assert answer.get("X-Content-Type-Options") == "nosniff"
    assert answer.body.startswith(b"%d %s" % (status, answer.reason.encode()))
    assert client.rest() == (b"", "end")
    return answer


@pytest.mark.parametrize("name", REFUSED)
def test_refused_alone(router: MakeRouter, origin: MakeOrigin, name: str) -> None:
    app, front = origin(), router()
    front.add(app)
    data, status = REFUSED[name]
    with front.client() as client:
        client.send(data + HIDDEN)
        is_whole_refusal(client, status)
    assert app.accepted == 0
    assert front.counter("bad_requests") == 1
    assert front.counter("requests") == 0


@pytest.mark.parametrize("name", REFUSED)
def test_refused_behind_a_good_request_in_one_write(router: MakeRouter, origin: MakeOrigin, name: str) -> None:
    app, front = origin(), router()
    front.add(app)
    data, status = REFUSED[name]
    with front.client() as client:
        client.send(b"GET /first HTTP/1.1\r\n" + HOST + b"\r\n" + data + HIDDEN)
        assert client.answer().status == 200
        is_whole_refusal(client, status)
    assert [request.target for request in app.requests] == [b"/first"]


@pytest.mark.parametrize("name", sorted(set(REFUSED) - {"fields", "long-target", "endless-target", "long-name"}))
def test_refused_octet_by_octet(router: MakeRouter, origin: MakeOrigin, name: str) -> None:
    """However the octets arrive, the verdict is the same."""
    app, front = origin(), router()
    front.add(app)
    data, status = REFUSED[name]
    with front.client() as client:
        for at in range(len(data)):
            try:
                client.send(data[at : at + 1])
            except ConnectionError:
                break
        is_whole_refusal(client, status)
    assert app.accepted == 0


def test_head_over_a_mebibyte(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router()
    front.add(app)
    with front.client() as client:
        client.send(GET + (b"X-Filler: " + b"v" * 1000 + b"\r\n") * 1100 + b"\r\n")
        answer = client.answer()
        assert answer.status == 431
        assert answer.options() == {"close"}
    assert app.accepted == 0


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_connect_is_405(router: MakeRouter, origin: MakeOrigin, version: str) -> None:
    app, front = origin(), router()
    front.add(app)
    with front.client() as client:
        client.send(f"CONNECT app.test:443 HTTP/{version}\r\nHost: app.test:443\r\n\r\n".encode())
        assert client.answer().status == 405
    assert app.accepted == 0


@pytest.mark.parametrize(
    ("head", "status", "error"),
    [
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "empty_host"),
        (b"GET / HTTP/1.0\r\n\r\n", 400, "empty_host"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400, "empty_host"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8081\r\n\r\n", 400, "empty_host"),
        (b"GET / HTTP/1.1\r\nHost: Nowhere.test:81\r\n\r\n", 404, "unknown_route"),
        (b"GET / HTTP/1.1\r\nHost: app.test.\r\n\r\n", 404, "unknown_route"),
    ],
)
def test_no_route(router: MakeRouter, origin: MakeOrigin, head: bytes, status: int, error: str) -> None:
    app, front = origin(), router()
    front.add(app)
    with front.client() as client:
        client.send(head)
        answer = client.answer()
        assert answer.status == status
        assert answer.get("X-Cf-RouterError") == error
        assert answer.get("Content-Type") == "text/plain; charset=utf-8"
        assert answer.get("X-Content-Type-Options") == "nosniff"
        if status == 404:
            assert answer.get("Cache-Control") == "no-cache, no-store"
            host = b"app.test." if b"app" in head else b"Nowhere.test:81"
            assert answer.body == b"404 Not Found: Requested route ('%s') does not exist.\n" % host
        else:
            assert answer.get("Cache-Control") == "public,max-age=2"
            assert answer.body == b"400 Bad Request: Request had empty Host header\n"
        if b"HTTP/1.1" in head:
            assert client.is_open()
    assert front.counter("rejected_requests") == 1
    assert front.counter("bad_requests") == 0


@pytest.mark.parametrize("with_503", [False, True])
def test_route_without_an_instance(router: MakeRouter, origin: MakeOrigin, with_503: bool) -> None:
    front = router(empty_pool_503=with_503)
    handle = front.add(origin())
    front.handles.remove(handle)
    front.plane.remove(handle, keep_empty=True)
    answer = front.get()
    assert answer.status == (503 if with_503 else 404)
    assert answer.get("X-Cf-RouterError") == ("no_endpoints" if with_503 else "unknown_route")
    if with_503:
        assert answer.get("Cache-Control") == "public,max-age=2"
        expected = b"503 Service Unavailable: Requested route ('app.test') has no available endpoints.\n"
        assert answer.body == expected
    assert front.plane.drop_empty("app.test")


def test_unknown_route_with_a_body_closes(router: MakeRouter) -> None:
    """What would follow cannot be told from the body that nobody reads."""
    front = router()
    with front.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: nowhere.test\r\nContent-Length: 40\r\n\r\n")
        answer = client.answer()
        assert answer.status == 404
        assert "close" in answer.options()
        client.send(HIDDEN)
        assert client.rest()[0] == b""


def test_answer_to_head_of_an_unknown_route_has_no_body(router: MakeRouter) -> None:
    front = router()
    with front.client() as client:
        client.send(b"HEAD / HTTP/1.1\r\nHost: nowhere.test\r\n\r\nGET / HTTP/1.1\r\nHost: nowhere.test\r\n\r\n")
        assert client.answer("HEAD").status == 404
        assert client.answer().status == 404


# -- heads that are taken -----------------------------------------------------------------------------------------


def test_one_empty_line_before_a_request_is_tolerated(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router()
    front.add(app)
    with front.client() as client:
        client.send(b"\r\nGET /a HTTP/1.1\r\nHost: app.test\r\n\r\n\r\nGET /b HTTP/1.1\r\nHost: app.test\r\n\r\n")
        assert client.answer().status == 200
        assert client.answer().status == 200
    assert [request.raw_head.split(b"\r\n")[0] for request in app.requests] == [b"GET /a HTTP/1.1", b"GET /b HTTP/1.1"]

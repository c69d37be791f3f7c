"""Bounds on heads that the operator sets: requests are counted after the look-up, answers when they arrive."""

import pytest

from tests.support.origins import OK, Origin, Served
from tests.support.plane import HOST, MakeOrigin, MakeRouter, Router
from tests.support.wire import Message

LIMIT = 1000
OWN_ID = "X-Vcap-Request-Id: 00000000-0000-4000-8000-000000000000\r\n"


def limited(router: MakeRouter, origin: MakeOrigin, answer: bytes = OK, **settings: object) -> tuple[Router, Origin]:
    front, app = router(log=True, **settings), origin(answer)
    front.add(app, app="guid", instance_id="one")
    return front, app


def size(request: bytes) -> int:
    """What a request without a body counts."""
    start, *lines = request.removesuffix(b"\r\n\r\n").split(b"\r\n")
    method, target, version = start.split(b" ")
    fields = [line.partition(b":") for line in lines]
    return len(method + target + version) + 4 + sum(len(name) + len(value.strip()) + 4 for name, _, value in fields)


def assert_too_large(answer: Message) -> None:
    assert answer.start == b"HTTP/1.1 431 Request Header Fields Too Large"
    assert answer.get("X-Cf-RouterError") == "max-request-size-exceeded"
    assert answer.get("Content-Length") == "0"
    assert answer.body == b""


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("spaces", [" ", "", " \t  "])
def test_bytes_of_a_request(router: MakeRouter, origin: MakeOrigin, method: str, spaces: str) -> None:
    front, app = limited(router, origin, max_request_header_bytes=LIMIT)
    base = (
        f"{method} /a/b?c=d HTTP/1.1\r\nHost: app.test:80\r\n{OWN_ID}X-A: 1\r\nX-A:\r\nX-B:{spaces}%s{spaces}\r\n\r\n"
    )
    pad = LIMIT - size((base % "").encode())
    fits, over = (base % ("x" * (pad - 1))).encode(), (base % ("x" * pad)).encode()
    assert (size(fits), size(over)) == (LIMIT - 1, LIMIT)
    assert front.ask(fits).status == 200
    assert_too_large(front.ask(over))
    assert len(app.requests) == 1
    lines = front.log_lines(2)
    assert f'"{method} /a/b?c=d HTTP/1.1" 431 0 0 ' in lines[1]
    assert f'"{app.address}" x_forwarded_for:' in lines[1], "the instance that was chosen is shown"
    assert 'app_id:"guid"' in lines[1]
    assert lines[1].endswith('x_cf_routererror:"max-request-size-exceeded"')
    assert front.counter("attempts") == 1


def test_the_target_counts(router: MakeRouter, origin: MakeOrigin) -> None:
    front, _ = limited(router, origin, max_request_header_bytes=LIMIT)
    pad = LIMIT - size(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n{OWN_ID}\r\n".encode())
    assert front.get("/" + "x" * (pad - 1), lines=OWN_ID).status == 200
    assert_too_large(front.get("/" + "x" * pad, lines=OWN_ID))


def test_the_host_counts(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = limited(router, origin, max_request_header_bytes=200)
    front.add(app, host="*.app.test")
    pad = 200 - size(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n{OWN_ID}\r\n".encode())
    assert front.get(host="x" * (pad - 2) + "." + HOST, lines=OWN_ID).status == 200
    assert_too_large(front.get(host="x" * (pad - 1) + "." + HOST, lines=OWN_ID))


def test_no_bound_unless_one_is_set(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = limited(router, origin)
    lines = "".join(f"X-{n}: {'v' * 1000}\r\n" for n in range(300))
    assert front.get(lines=lines).status == 200
    assert app.last().get("X-299") == "v" * 1000


def test_an_unknown_route_is_said_first(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = limited(router, origin, max_request_header_bytes=LIMIT, max_request_headers=5)
    lines = "".join(f"X-{n}: {'v' * 1000}\r\n" for n in range(100))
    answer = front.get(host="other.test", lines=lines)
    assert answer.status == 404
    assert answer.body == b"404 Not Found: Requested route ('other.test') does not exist.\n"
    assert_too_large(front.get(lines=lines))
    assert not app.requests


def test_the_connection_goes_on(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = limited(router, origin, max_request_header_bytes=LIMIT)
    with front.client() as client:
        client.send(f"GET / HTTP/1.1\r\nHost: app.test\r\nX-A: {'x' * LIMIT}\r\n\r\n".encode())
        assert_too_large(client.answer())
        assert client.is_open()
    assert len(app.requests) == 1


def test_number_of_request_headers(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = limited(router, origin, max_request_headers=20)
    few = OWN_ID + "".join(f"X-A: {n}\r\n" for n in range(18))
    many = OWN_ID + "".join(f"X-A: {n}\r\n" for n in range(20))
    assert front.get(lines=few).status == 200
    assert len(app.last().all("X-A")) == 18
    assert_too_large(front.get(lines=many))
    assert len(app.requests) == 1, "values count, not names"


def answer_with(lines: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + lines + b"\r\nok"


def assert_bad_gateway(answer: Message) -> None:
    assert answer.status == 502
    assert answer.body == b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"


def test_number_of_response_headers(router: MakeRouter, origin: MakeOrigin) -> None:
    front, _ = limited(router, origin, answer_with(b"X-A: 1\r\n" * 9), max_response_headers=10)
    assert len(front.get().all("X-A")) == 9
    front, app = limited(router, origin, answer_with(b"X-A: 1\r\n" * 10), max_response_headers=10)
    for _ in range(2):
        answer = front.get()
        assert_bad_gateway(answer)
        assert answer.get("X-Cf-RouterError") == "endpoint_failure (Too many response headers)"
        assert answer.get("X-A") is None
    assert len(app.requests) == 2, "not tried again"
    assert front.log_lines(2)[0].endswith('x_cf_routererror:"endpoint_failure (Too many response headers)"')
    assert front.counter("bad_gateways") == 2


@pytest.mark.parametrize("chunked", [False, True])
def test_bytes_of_an_answer(router: MakeRouter, origin: MakeOrigin, chunked: bool) -> None:
    body = b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: 2\r\n"
    answer = b"HTTP/1.1 200 OK\r\n" + body + b"X-A: %s\r\n\r\n" + (b"2\r\nok\r\n0\r\n\r\n" if chunked else b"ok")
    front, _ = limited(router, origin, answer % (b"x" * 400), max_response_header_bytes=500)
    assert front.get().status == 200
    front, app = limited(router, origin, answer % (b"x" * 501), max_response_header_bytes=500)
    for _ in range(2):
        assert_bad_gateway(front.get())
    assert len(app.requests) == 2
    assert "502 0 67" in front.log_lines(1)[0]


def test_a_large_answer_head_that_comes_in_parts(router: MakeRouter, origin: MakeOrigin) -> None:
    def handle(conn: Served) -> None:
        while conn.request() is not None:
            conn.send_parts([b"HTTP/1.1 200 OK\r\nX-A: ", b"x" * 20000, b"\r\nContent-Length: 2\r\n\r\nok"])

    front, app = router(max_response_header_bytes=10000), origin(handle)
    front.add(app)
    assert_bad_gateway(front.get())

"""http_rewrite: headers removed from and added to answers; X-Vcap-Trace, which asks who answered."""

import pytest

from tests.support.origins import OK
from tests.support.plane import MakeOrigin, MakeRouter, Router
from tests.support.wire import Wire
from tests.wire.test_attempts import refused_port

ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: s\r\nX-Keep: k\r\nx-gone: 1\r\nX-GONE: 2\r\nCache-Control: no-store\r\n"
    b"Content-Length: 2\r\n\r\nok"
)
ADDED = (("X-New", "1"), ("Cache-Control", "private"), ("X-Twice", "a"), ("X-Twice", "b"))
REMOVED = ("X-Gone", "server")


def rewriting(router: MakeRouter, origin: MakeOrigin, answer: bytes = ANSWER, **settings: object) -> Router:
    front = router(**{"add_response_headers": ADDED, "remove_response_headers": REMOVED, **settings})
    front.add(origin(answer))
    return front


def test_answers_of_instances(router: MakeRouter, origin: MakeOrigin) -> None:
    answer = rewriting(router, origin).get()
    assert answer.body == b"ok"
    assert answer.get("X-Keep") == "k"
    assert answer.all("X-Gone") == answer.all("Server") == []
    assert answer.get("X-New") == "1"
    assert answer.get("Cache-Control") == "no-store", "what is there stays"
    assert answer.all("X-Twice") == ["a", "b"]


def test_a_name_that_is_there_is_not_added(router: MakeRouter, origin: MakeOrigin) -> None:
    front = rewriting(router, origin, OK.replace(b"\r\n\r\n", b"\r\nx-tWICE: own\r\nX-New:\r\n\r\n"))
    answer = front.get()
    assert answer.all("X-Twice") == ["own"]
    assert answer.get("X-New") == "", "an empty value is a value"
    assert answer.get("Cache-Control") == "private"


def test_a_name_may_be_replaced(router: MakeRouter, origin: MakeOrigin) -> None:
    front = rewriting(router, origin, add_response_headers=(("SERVER", "router"), ("X-Gone", "")))
    answer = front.get()
    assert answer.all("Server") == ["router"]
    assert answer.all("X-Gone") == [""]


def test_what_the_router_adds_can_be_removed(router: MakeRouter, origin: MakeOrigin) -> None:
    front = rewriting(router, origin, remove_response_headers=("x-vcap-request-id", "X-Cf-RouterError", "set-cookie"))
    answer = front.get(lines="Cookie: JSESSIONID=1; __VCAP_ID__=gone\r\n")
    assert answer.status == 200
    assert answer.get("X-Vcap-Request-Id") is answer.get("Set-Cookie") is None
    answer = front.get(host="other.test")
    assert answer.status == 404
    assert answer.get("X-Cf-RouterError") is None


def test_an_id_of_the_instance_stays_with_it(router: MakeRouter, origin: MakeOrigin) -> None:
    front = rewriting(router, origin, add_response_headers=(("X-Vcap-Request-Id", "mine"), ("Set-Cookie", "a=b")))
    answer = front.get()
    assert answer.get("X-Vcap-Request-Id") != "mine", "the router's own is there already"
    assert answer.get("Set-Cookie") == "a=b"


@pytest.mark.parametrize(
    "request_lines", ["Host: other.test", "Host:", "Host: app.test\r\nX-CF-App-Instance: x", "Host: bad.test"]
)
def test_pages_of_the_router(router: MakeRouter, origin: MakeOrigin, request_lines: str) -> None:
    front = rewriting(router, origin, remove_response_headers=("x-content-type-options",))
    front.add(refused_port(), host="bad.test")
    answer = front.ask(f"GET / HTTP/1.1\r\n{request_lines}\r\n\r\n".encode())
    assert answer.status in (400, 404, 502)
    assert answer.get("X-Content-Type-Options") is None
    assert answer.get("Content-Type") == "text/plain; charset=utf-8"
    assert answer.get("X-New") == "1"
    assert answer.all("X-Twice") == ["a", "b"]
    own = {404: "no-cache, no-store", 502: None}.get(answer.status, answer.get("Cache-Control"))
    assert answer.get("Cache-Control") == (own or "private")
    assert answer.body


def test_health_replies(router: MakeRouter, origin: MakeOrigin) -> None:
    front = rewriting(router, origin, remove_response_headers=("expires",))
    front.plane.set_health(True)
    answer = front.ask(b"GET / HTTP/1.1\r\nHost: app.test\r\nUser-Agent: HTTP-Monitor/1.1\r\n\r\n")
    assert (answer.status, answer.body) == (200, b"ok\n")
    assert answer.get("Expires") is None
    assert answer.get("Cache-Control") == "private, max-age=0"
    assert answer.get("X-New") == "1"


def test_framing_is_not_touched(router: MakeRouter, origin: MakeOrigin) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    names = ("content-length", "transfer-encoding", "connection")
    for answer, length in ((OK, "2"), (chunked, None)):
        front = rewriting(router, origin, answer, remove_response_headers=names)
        with front.client() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            seen = client.answer()
            assert seen.body == b"ok"
            assert seen.get("Content-Length") == length
            assert client.is_open()


def test_interim_answers_are_passed_on_as_they_are(router: MakeRouter, origin: MakeOrigin) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nServer: s\r\n\r\n"
    answer = rewriting(router, origin, early + ANSWER).get()
    assert answer.interim[0].get("Link") == "</a>"
    assert answer.interim[0].get("X-New") is None
    assert answer.get("X-New") == "1"
    assert answer.get("Server") is None


def test_each_answer_of_a_connection(router: MakeRouter, origin: MakeOrigin) -> None:
    front = rewriting(router, origin)
    client: Wire = front.client()
    for host in ("app.test", "other.test", "app.test"):
        client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = client.answer()
        assert answer.all("X-Twice") == ["a", "b"]
        assert answer.get("Server") is None


# -- X-Vcap-Trace ---------------------------------------------------------------------------------------------


def test_who_answered(router: MakeRouter, origin: MakeOrigin) -> None:
    app = origin()
    front = router(trace_key="22", router_ip="192.0.2.7")
    front.add(app)
    answer = front.get(lines="x-vcap-trace: 22\r\n")
    assert answer.get("X-Vcap-Router") == "192.0.2.7"
    assert answer.get("X-Vcap-Backend") == app.address
    assert answer.get("X-Cf-RouteEndpoint") == app.address
    assert app.last().get("X-Vcap-Trace") == "22", "passed on"


@pytest.mark.parametrize(
    "lines", ["", "X-Vcap-Trace: 2\r\n", "X-Vcap-Trace: 222\r\n", "X-Vcap-Trace:\r\n", "X-Vcap-Trace: a\r\n"]
)
@pytest.mark.parametrize("key", ["22", "A", ""])
def test_only_who_knows_the_key(router: MakeRouter, origin: MakeOrigin, key: str, lines: str) -> None:
    front = router(trace_key=key, router_ip="192.0.2.7")
    front.add(origin())
    answer = front.get(lines=lines)
    assert answer.get("X-Vcap-Router") is answer.get("X-Vcap-Backend") is answer.get("X-Cf-RouteEndpoint") is None

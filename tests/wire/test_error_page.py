"""The operator's HTML error page on the wire: which answers use it, and that what it shows is escaped."""

from gorouter_py.control.error_page import compile_page
from tests.support.plane import MakeRouter

PAGE = (
    "<h1>{{.Status}} {{.StatusText}}</h1>"
    '{{if eq (.Header.Get "X-Cf-RouterError") "unknown_route"}}<p>{{.Message}}</p>{{else}}?{{end}}'
)


def test_own_errors_use_the_page(router: MakeRouter) -> None:
    front = router(error_page=compile_page(PAGE))
    with front.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a'b.test\r\n\r\n")
        answer = client.answer()
        assert answer.status == 404
        assert answer.get("Content-Type") == "text/html; charset=utf-8"
        assert answer.body == (
            b"<h1>404 Not Found</h1><p>Requested route (&#39;a&#39;b.test&#39;) does not exist.</p>"
        )
        client.send(b"GET / HTTP/1.1\r\nHost: \r\n\r\n")
        assert client.answer().body == b"<h1>400 Bad Request</h1>?"


def test_errors_of_endpoints_do_not(router: MakeRouter) -> None:
    front = router(error_page=compile_page(PAGE))
    front.plane.add("app.test", "127.0.0.1", 1)
    with front.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        answer = client.answer()
        assert answer.status == 502
        assert answer.get("Content-Type") == "text/plain; charset=utf-8"
        assert answer.body == b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"


def test_a_long_page_is_cut_not_broken(router: MakeRouter) -> None:
    front = router(error_page=compile_page("{{.Message}}" * 200 + "end"))
    with front.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: " + b"h" * 250 + b"\r\n\r\n")
        answer = client.answer()
        assert answer.status == 404
        assert answer.body.startswith(b"Requested route (&#39;h")
        assert 24_000 < len(answer.body) <= 24_576
        client.send(b"GET / HTTP/1.1\r\nHost: b.test\r\n\r\n")
        assert client.answer().status == 404

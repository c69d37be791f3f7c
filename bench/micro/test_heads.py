"""Head parsing: from bytes to an index of fields. 1 us in the table is 1 ns per head."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import httptools
import pytest

SMALL = b"GET / HTTP/1.1\r\nHost: app.example.com\r\nUser-Agent: wrk\r\nAccept: */*\r\n\r\n"
BROWSER = (
    b"GET /shop/items/4711?sort=price&page=2 HTTP/1.1\r\n"
    b"Host: app.example.com\r\n"
    b"Connection: keep-alive\r\n"
    b'sec-ch-ua: "Chromium";v="130", "Not=A?Brand";v="99"\r\n'
    b"sec-ch-ua-mobile: ?0\r\n"
    b'sec-ch-ua-platform: "Linux"\r\n'
    b"Upgrade-Insecure-Requests: 1\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 "
    b"Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n"
    b"Sec-Fetch-Site: same-origin\r\n"
    b"Sec-Fetch-Mode: navigate\r\n"
    b"Sec-Fetch-User: ?1\r\n"
    b"Sec-Fetch-Dest: document\r\n"
    b"Referer: http://app.example.com/shop/\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
    b"Cookie: JSESSIONID=0123456789ABCDEF0123456789ABCDEF; __VCAP_ID__=66666666-7777-8888-9999-aaaaaaaaaaaa; "
    b"theme=dark\r\n"
    b"\r\n"
)
POST = (
    b"POST /api/orders HTTP/1.1\r\nHost: app.example.com\r\nContent-Type: application/json\r\nContent-Length: 4096\r\n"
    b"Authorization: Bearer 0123456789abcdef0123456789abcdef\r\nAccept: application/json\r\n\r\n"
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 05:00:00 GMT\r\nContent-Type: text/html; charset=utf-8\r\n"
    b"Content-Length: 5120\r\nCache-Control: private, max-age=0\r\nVary: Accept-Encoding\r\nServer: app\r\n\r\n"
)
REQUESTS = {"small": SMALL, "browser": BROWSER, "post": POST}


@pytest.mark.parametrize("kind", REQUESTS)
def test_parse_request(micro: ModuleType, steps: Callable[..., Any], kind: str) -> None:
    data = REQUESTS[kind]
    assert steps(micro.Heads().request, data) == (len(data), data.count(b"\r\n") - 2)


def test_parse_response(micro: ModuleType, steps: Callable[..., Any]) -> None:
    assert steps(micro.Heads().response, ANSWER) == (len(ANSWER), ANSWER.count(b"\r\n") - 2)


class Nothing:
    """A receiver without callbacks: what the parser costs by itself."""


@pytest.mark.parametrize("kind", REQUESTS)
def test_parse_request_llhttp_for_comparison(steps: Callable[..., Any], kind: str) -> None:
    """llhttp by way of httptools, a new parser object per head as its Python users have one per connection or head."""
    data = REQUESTS[kind].replace(b"Content-Length: 4096", b"Content-Length: 0")

    def parse(times: int) -> int:
        for _ in range(times):
            parser = httptools.HttpRequestParser(Nothing())
            parser.feed_data(data)
        return len(parser.get_method())

    assert steps(parse) == len(data.split(b" ")[0])

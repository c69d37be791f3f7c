"""Header rewriting and the access-log line. 1 us in the table is 1 ns per message."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from bench.micro.test_heads import ANSWER, BROWSER, SMALL

SESSION = ANSWER.replace(b"Server: app", b"Set-Cookie: JSESSIONID=0123456789ABCDEF; Path=/; HttpOnly")
BEHIND_A_PROXY = SMALL.replace(
    b"Accept", b"X-Forwarded-For: 198.51.100.7, 192.0.2.1\r\nX-Forwarded-Proto: https\r\nAccept"
)


@pytest.mark.parametrize(
    ("request_head", "forwarded_for"),
    [(SMALL, b"192.0.2.33"), (BROWSER, b"192.0.2.33"), (BEHIND_A_PROXY, b"198.51.100.7, 192.0.2.1, 192.0.2.33")],
    ids=["small", "browser", "behind-a-proxy"],
)
def test_rewrite_request(
    micro: ModuleType, steps: Callable[..., Any], request_head: bytes, forwarded_for: bytes
) -> None:
    made = steps(micro.Forwarding(request_head, ANSWER).request)
    assert made.startswith(request_head.split(b"\r\n")[0]) and made.endswith(b"\r\n\r\n")
    assert b"X-Forwarded-For: " + forwarded_for + b"\r\n" in made
    assert b"\r\nX-Vcap-Request-Id: " in made and b"\r\nX-Cf-Instanceid: " in made


@pytest.mark.parametrize(("response_head", "cookies"), [(ANSWER, 0), (SESSION, 2)], ids=["plain", "sticky"])
def test_rewrite_response(micro: ModuleType, steps: Callable[..., Any], response_head: bytes, cookies: int) -> None:
    made = steps(micro.Forwarding(BROWSER, response_head).response)
    assert made.startswith(b"HTTP/1.1 200 OK\r\n") and made.endswith(b"\r\n\r\n")
    assert made.count(b"\r\nSet-Cookie: ") == cookies


@pytest.mark.parametrize("request_head", [SMALL, BROWSER], ids=["small", "browser"])
def test_log_line(micro: ModuleType, steps: Callable[..., Any], request_head: bytes) -> None:
    made = steps(micro.Forwarding(request_head, ANSWER).log_line)
    assert made.startswith(b"app.example.com - [") and made.endswith(b'x_cf_routererror:"-"\n')
    assert made.count(b"\n") == 1 and b'"10.0.16.7:61001"' in made

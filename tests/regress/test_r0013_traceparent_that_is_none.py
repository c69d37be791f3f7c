"""A traceparent of the right length and the wrong digits was half taken over: the instance got a malformed one."""

import re

import pytest

from tests.support.plane import MakeOrigin, MakeRouter

B3 = b"b3: 0123456789abcdef0123456789abcdef-0123456789abcdef\r\n"


@pytest.mark.parametrize("extra", [b"", B3])
@pytest.mark.parametrize("trace", [b"00-" + b"g" * 32 + b"-0123456789abcdef-01", b"x" * 55])
def test_a_fresh_one_is_made(router: MakeRouter, origin: MakeOrigin, trace: bytes, extra: bytes) -> None:
    app, front = origin(b"HTTP/1.1 204 No Content\r\n\r\n"), router(enable_w3c=True, enable_zipkin=True)
    front.add(app)
    with front.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\ntraceparent: " + trace + b"\r\n" + extra + b"\r\n")
        assert client.answer().status == 204
    sent = app.requests[-1].get("traceparent") or ""
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", sent)

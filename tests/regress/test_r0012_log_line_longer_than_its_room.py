"""A client could write past the room a worker has for a log line.

Every column was cut to a share of the room, but the number of logged headers had no part in that sum: six headers full
of bytes that are escaped as four, beside a target full of bytes that are escaped as three, were more than the room.
"""

from tests.support.plane import MakeOrigin, MakeRouter, until

JUNK = b"\xff" * 1500


def test_many_long_headers(router: MakeRouter, origin: MakeOrigin) -> None:
    names = tuple(f"X-{number}" for number in range(64))
    app, front = origin(b"HTTP/1.1 204 No Content\r\n\r\n"), router(
        log=True, extra_headers_to_log=names, enable_zipkin=True, enable_w3c=True
    )
    front.add(app)
    lines = [b"%s: %s\r\n" % (name.encode(), JUNK) for name in (*names, "Referer", "User-Agent", "X-Forwarded-For")]
    with front.client() as client:
        client.send(b"GET /" + b"\xff" * 8190 + b" HTTP/1.1\r\nHost: app.test\r\n" + b"".join(lines) + b"\r\n")
        assert client.answer().status == 204
        client.send(b"GET /again HTTP/1.1\r\nHost: app.test\r\n\r\n")
        assert client.answer().status == 204
    until(lambda: front.counter("access_log_lines") == 2)

"""A client that had said its end lost the last answers.

The instance was done and the kernel took no more: the rest waited in the router when the client's half-close was read,
and the connection was closed with it. Earlier tests had one answer under way, which the instance was still sending.
"""

from tests.support.plane import MakeOrigin, MakeRouter


def test_half_close_with_the_tail_in_the_router(router: MakeRouter, origin: MakeOrigin) -> None:
    body = b"x" * 15_000
    count = 500
    app, front = origin(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body), router()
    front.add(app)
    with front.client(receive_buffer=4096) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n" * count)
        client.half_close()
        app.settled()
        for _ in range(count):
            assert client.answer().body == body
        assert client.rest() == (b"", "end")

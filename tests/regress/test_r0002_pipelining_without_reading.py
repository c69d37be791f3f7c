"""One client that sent requests and took no answers filled the router's memory.

Each answer was small enough to be queued at once, so no source was ever paused, and the next request was begun.
Earlier tests of slow readers had one long answer.
"""

from tests.support.plane import MakeOrigin, MakeRouter, until


def test_pipelining_without_reading_is_bounded(router: MakeRouter, origin: MakeOrigin) -> None:
    body = b"x" * 15_000
    app, front = origin(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body), router()
    front.add(app)
    count = 3000
    with front.client(receive_buffer=4096) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n" * count)
        assert app.settled() < 1000, "45 MB of answers would wait in the router"
        for _ in range(count):
            assert client.answer().body == body
    until(lambda: len(app.requests) == count)

"""A head over head_bytes_max was served when it still fitted the buffer it was read into.

The limit was looked at only where a larger buffer would have been needed. Earlier tests used the default limit, of a
mebibyte, which no buffer's size comes near.
"""

from tests.support.plane import MakeOrigin, MakeRouter

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n"
LINE = b"X-Filler: " + b"v" * 100 + b"\r\n"


def test_head_over_the_limit(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router(head_bytes_max=20_000)
    front.add(app)
    with front.client() as client:
        client.send(GET + LINE * 150 + b"\r\n")
        assert client.answer().status == 200
    with front.client() as client:
        client.send(GET + LINE * 220 + b"\r\n")
        answer = client.answer()
        assert answer.status == 431
        assert answer.options() == {"close"}
        assert client.rest() == (b"", "end")
    assert len(app.requests) == 1

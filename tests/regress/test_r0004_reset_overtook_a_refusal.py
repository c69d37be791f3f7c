"""A client that went on sending saw a reset instead of the 400 it was sent.

The connection was closed with unread octets in the kernel's buffer, on connections that had served requests before.
Earlier tests sent all of their request in one write, so nothing was left to arrive.
"""

from tests.support.plane import MakeOrigin, MakeRouter, Router, until

AMBIGUOUS = b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"


def refused(front: Router) -> bool:
    return front.counter("bad_requests") == 1


def test_refusal_is_read_by_a_client_that_goes_on_sending(router: MakeRouter, origin: MakeOrigin) -> None:
    for before in (0, 1):
        app, front = origin(), router()
        front.add(app)
        with front.client() as client:
            for _ in range(before):
                assert client.is_open()
            client.send(AMBIGUOUS)
            until(lambda front=front: refused(front))
            for _ in range(20):
                client.send(b"x" * 1000)
            answer = client.answer()
            assert answer.status == 400
            assert answer.options() == {"close"}
            assert client.rest() == (b"", "end")
        assert len(app.requests) == before

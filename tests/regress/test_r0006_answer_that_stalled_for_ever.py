"""An instance that stopped in the middle of an answer's body held its client for ever.

body_timeout_ms watched request bodies alone. Earlier tests of that time-out were about uploads.
"""

from tests.support.origins import Served
from tests.support.plane import MakeOrigin, MakeRouter


def test_answer_that_stalls_is_cut(router: MakeRouter, origin: MakeOrigin) -> None:
    def handle(conn: Served) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        conn.rest()

    app, front = origin(handle), router(body_timeout_ms=60)
    front.add(app)
    with front.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        assert client.rest()[1] == "reset"
    app.wait(lambda: app.ended == 1)

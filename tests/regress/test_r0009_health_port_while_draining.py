"""A load balancer was refused on the status port while the router drained, instead of being told 503.

Closing the listeners closed that one too. Earlier tests asked for the health before the listeners closed.
"""

import pytest

from tests.support.origins import OK, Served
from tests.support.plane import MakeOrigin, MakeRouter
from tests.support.wire import Wire

CHECK = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


def test_health_answers_while_requests_end(router: MakeRouter, origin: MakeOrigin) -> None:
    def handle(conn: Served) -> None:
        while (request := conn.request()) is not None:
            if request.target == b"/":
                conn.origin.wait(lambda: released)
            conn.send(OK)

    released: list[bool] = []
    app, front = origin(handle), router()
    front.plane.set_health(True)
    front.add(app)
    with front.client() as client, front.client() as idle, Wire.connect(front.health_port) as kept:
        assert idle.is_open()
        kept.send(CHECK)
        assert kept.answer().status == 200
        client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        app.wait(lambda: len(app.requests) == 2)
        front.plane.set_health(False)
        front.plane.close_listeners()

        assert idle.rest() == (b"", "end")
        with pytest.raises(ConnectionRefusedError):
            front.client()
        for _ in range(3):
            with Wire.connect(front.health_port) as fresh:
                fresh.send(CHECK)
                assert fresh.answer().status == 503
        with app.changed:
            released.append(True)
            app.changed.notify_all()
        assert client.answer().body == b"ok"
        assert client.rest() == (b"", "end")
        with Wire.connect(front.health_port) as fresh:
            fresh.send(CHECK)
            assert fresh.answer().status == 503


@pytest.mark.parametrize("healthy", [True, False])
def test_health_of_a_running_router(router: MakeRouter, healthy: bool) -> None:
    front = router()
    front.plane.set_health(healthy)
    with Wire.connect(front.health_port) as client:
        client.send(CHECK)
        assert client.answer().status == (200 if healthy else 503)

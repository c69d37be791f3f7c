"""An answer in two small writes took 40 ms more on some kernels: TCP_NODELAY was set on one side only.

No test could see it by the octets, and none may assert a duration: this one looks at the sockets themselves.
"""

import os
import socket

from tests.support.origins import Served
from tests.support.plane import MakeOrigin, MakeRouter


def own_sockets() -> list[socket.socket]:
    """Copies of every connected TCP socket of this process."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            one = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        try:
            one.getpeername()
        except OSError:
            one.close()
            continue
        found.append(one)
    return found


def test_nothing_waits_for_acknowledgements(router: MakeRouter, origin: MakeOrigin) -> None:
    shown: list[tuple[str, int]] = []

    def handle(conn: Served) -> None:
        conn.request()
        for one in own_sockets():
            if one.family == socket.AF_INET and one.getsockname()[1] == front.port:
                shown.append(("client", one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
            elif one.family == socket.AF_INET and one.getpeername()[1] == conn.origin.port:
                shown.append(("instance", one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
            one.close()
        conn.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    app, front = origin(handle), router()
    front.add(app)
    with front.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        assert client.answer().status == 204
    assert sorted(side for side, _ in shown) == ["client", "instance"]
    assert all(value for _, value in shown), shown

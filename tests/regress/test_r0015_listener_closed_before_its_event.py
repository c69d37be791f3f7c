"""The same batch of kernel events held the command to close the listeners and a connection to one of them.

The listener was freed by the first and read by the second. Only the address sanitizer sees it.
"""

import contextlib
import socket
import threading

from tests.support.plane import MakeOrigin, MakeRouter


def test_connects_while_listeners_close(router: MakeRouter, origin: MakeOrigin) -> None:
    app = origin()
    for _ in range(100):
        front = router()
        front.add(app)
        go = threading.Event()

        def connect(port: int = front.port, go: threading.Event = go) -> None:
            go.set()
            with contextlib.suppress(OSError):
                for _ in range(50):
                    socket.create_connection(("127.0.0.1", port)).close()

        threads = [threading.Thread(target=connect) for _ in range(2)]
        for t in threads:
            t.start()
        go.wait()
        front.plane.close_listeners()
        for t in threads:
            t.join()
        assert front.plane.stop()

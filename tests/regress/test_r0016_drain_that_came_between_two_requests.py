"""A drain could end while no request was in progress, before the workers had even heard of it.

What had just arrived was cut, although an instance had seen it. Now a worker says when the drain has come to every
connection.
"""

import threading
import time

from tests.support.origins import echo_request
from tests.support.plane import MakeOrigin, MakeRouter
from tests.support.wire import Cut, Wire


def test_drain_loses_nothing_that_was_begun(router: MakeRouter, origin: MakeOrigin) -> None:
    lost: list[tuple[int, str]] = []
    for turn in range(60):
        app, front = origin(echo_request), router()
        front.add(app)
        unanswered: list[str] = []

        def ask(name: int, port: int = front.port, unanswered: list[str] = unanswered) -> None:
            try:
                with Wire.connect(port) as client:
                    for n in range(10_000):
                        target = f"/{name}/{n}"
                        unanswered.append(target)
                        client.send(f"GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n".encode())
                        answer = client.answer()
                        unanswered.remove(target)
                        if "close" in answer.options():
                            return
            except (Cut, OSError):
                pass

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(2)]
        for t in threads:
            t.start()
        app.wait(lambda app=app, turn=turn: len(app.requests) > 5 + turn % 7)
        front.plane.close_listeners()
        while front.plane.active():
            time.sleep(0.001)
        assert front.plane.stop()
        for t in threads:
            t.join(10)
        reached = {r.target.decode() for r in app.requests}
        lost += [(turn, t) for t in unanswered if t in reached]
    assert not lost, f"{len(lost)} requests: {lost[:5]}"

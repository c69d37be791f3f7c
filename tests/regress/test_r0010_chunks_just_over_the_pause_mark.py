"""A slow reader of many small chunks waited for ever.

The end of a chunk lifted the queue over the mark where the source pauses, but the note that the source is to be told
when the queue is empty was made only while data was queued. Earlier tests of slow readers had bodies of a length.
"""

import pytest

from tests.support.origins import Served
from tests.support.plane import MakeOrigin, MakeRouter

SIZES = (1, 2, 5, 13, 50, 117, 333, 1000, 4085, 4090, 4091, 4093)


@pytest.mark.parametrize("size", SIZES)
def test_slow_reader_of_small_chunks(router: MakeRouter, origin: MakeOrigin, size: int) -> None:
    total = 1_000_000 if size > 100 else 300_000
    count = total // (size + 5)
    chunk = b"%x\r\n" % size + b"c" * size + b"\r\n"
    sent = []

    def handle(conn: Served) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(count):
            conn.send(chunk)
            sent.append(size)
        conn.send(b"0\r\n\r\n")
        conn.rest()

    app, front = origin(handle), router()
    front.add(app)
    with front.client(receive_buffer=2048) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        before = -1
        while before != len(sent):  # until the router takes no more
            before = len(sent)
            app.stopping.wait(0.05)
        assert client.answer().body == b"c" * (size * count)

"""A TCP proxy that stands between two parties and treats them badly, the same way each time.

It cuts after a number of octets in one direction, writes in pieces of given sizes, and waits between them. One thread
serves all of its connections. Counting starts with `arm`, over all connections, so a kept connection can be cut in its
second use. Nothing is dropped or reordered: what is passed on is a prefix of what came.
"""

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

UP, DOWN = 0, 1  # from the side that connected; towards it


@dataclass(frozen=True)
class Cut:
    """After `at` octets in a direction: "end" closes both sides, "reset" does it hard, "half" ends that direction."""

    direction: int
    at: int
    how: str


class Pair:
    """A connection through the proxy."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.sides = (near, far)
        self.ended = [False, False]
        for side in self.sides:
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self, *, hard: bool) -> None:
        """Ends both sides."""
        for side in self.sides:
            if hard:
                with contextlib.suppress(OSError):
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            side.close()


class Between:
    """Listens on `port` and connects to `target` for whoever comes."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.passed = [0, 0]  # octets since arm
        self.reached = 0  # connections that have passed an octet up since arm
        self.was_cut = False
        self._cut: Cut | None = None
        self._again = False
        self._sizes: tuple[Iterator[int], Iterator[int]] | None = None
        self._pause_s = 0.0
        self._pairs: set[Pair] = set()
        self._touched: set[Pair] = set()
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(1024)
        self.port = int(self._listener.getsockname()[1])
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._ours, wake = socket.socketpair()
        self._selector.register(wake, selectors.EVENT_READ)
        self._wake = wake
        self._apply: Callable[[], None] = lambda: None
        self._applied = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def arm(
        self,
        cut: Cut | None = None,
        *,
        sizes: tuple[Sequence[int], Sequence[int]] = ((), ()),
        pause_s: float = 0.0,
        again: bool = False,
    ) -> None:
        """What happens from now on, when all that came before is passed on; only between exchanges.

        sizes: of the pieces in each direction, over and over. again: counting starts anew behind each cut."""

        def apply() -> None:
            self.passed = [0, 0]
            self.reached = 0
            self._touched = set()
            self.was_cut = False
            self._sizes = (cycle(sizes[UP]), cycle(sizes[DOWN])) if sizes[UP] and sizes[DOWN] else None
            self._pause_s = pause_s
            self._cut = cut
            self._again = again

        self._apply = apply
        self._applied.clear()
        self._ours.send(b"a")
        assert self._applied.wait(10)

    def finish(self) -> None:
        """Ends everything."""
        self._ours.close()
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._wake.close()
        self._listener.close()
        for pair in self._pairs:
            pair.close(hard=False)
        self._selector.close()

    def _run(self) -> None:
        while True:
            ready = self._selector.select()
            if len(ready) == 1 and ready[0][0].fileobj is self._wake:
                if not self._wake.recv(1):
                    return
                self._apply()
                self._applied.set()
                continue
            for key, _ in ready:
                if key.fileobj is self._wake:
                    continue
                if key.fileobj is self._listener:
                    self._accept()
                    continue
                pair, direction = key.data
                if pair in self._pairs:
                    self._pass_on(pair, direction)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self.target), 10)
        except OSError:
            near.close()
            return
        pair = Pair(near, far)
        self._pairs.add(pair)
        self._selector.register(near, selectors.EVENT_READ, (pair, UP))
        self._selector.register(far, selectors.EVENT_READ, (pair, DOWN))

    def _end(self, pair: Pair, *, hard: bool) -> None:
        for direction in (UP, DOWN):
            if not pair.ended[direction]:
                self._selector.unregister(pair.sides[direction])
        self._pairs.discard(pair)
        pair.close(hard=hard)

    def _end_direction(self, pair: Pair, direction: int) -> None:
        self._selector.unregister(pair.sides[direction])
        pair.ended[direction] = True
        if all(pair.ended):
            self._pairs.discard(pair)
            pair.close(hard=False)
            return
        with contextlib.suppress(OSError):
            pair.sides[1 - direction].shutdown(socket.SHUT_WR)

    def _pass_on(self, pair: Pair, direction: int) -> None:
        try:
            data = pair.sides[direction].recv(65536)
        except OSError:
            self._end(pair, hard=True)
            return
        if not data:
            self._end_direction(pair, direction)
            return
        counts = not pair.ended[UP]  # who connected is still there: it may belong to this exchange
        cut = self._cut if counts else None
        room = cut.at - self.passed[direction] if cut and cut.direction == direction else len(data)
        if direction == UP and room > 0 and pair not in self._touched:
            self._touched.add(pair)
            self.reached += 1
        try:
            self._write(pair.sides[1 - direction], data[: max(room, 0)], direction)
        except OSError:
            self._end(pair, hard=True)
            return
        if counts:
            self.passed[direction] += min(len(data), max(room, 0))
        if cut is not None and len(data) >= room and cut.direction == direction:
            self.was_cut = True
            if self._again:
                self.passed[direction] = 0
            else:
                self._cut = None
            if cut.how == "half":
                self._end_direction(pair, direction)
            else:
                self._end(pair, hard=cut.how == "reset")

    def _write(self, to: socket.socket, data: bytes, direction: int) -> None:
        if self._sizes is None:
            to.sendall(data)
            return
        while data:
            size = next(self._sizes[direction])
            to.sendall(data[:size])
            data = data[size:]
            if self._pause_s:
                time.sleep(self._pause_s)

"""App instances for tests: each connection is handled by a plain function that may do anything to it.

An Origin reads requests strictly (tests/support/wire.py), so a request that the router mangles shows up as a
complaint; `finish` raises it. Handlers run in threads of their own and end when the origin does.
"""

import contextlib
import socket
import threading
from collections.abc import Callable

from tests.support.wire import Cut, Message, Wire

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Handler = Callable[["Served"], None]


class Served(Wire):
    """A connection that the router opened."""

    def __init__(self, sock: socket.socket, origin: "Origin", number: int) -> None:
        super().__init__(sock)
        self.origin = origin
        self.number = number  # from 0, in the order of accepting

    def request_head(self) -> Message | None:
        """As Wire's, and noted in origin.requests."""
        message = super().request_head()
        if message is not None:
            with self.origin.changed:
                self.origin.requests.append(message)
                self.origin.seen_on.append(self.number)
                self.origin.changed.notify_all()
        return message


def answering(*answers: bytes) -> Handler:
    """Reads whole requests on each connection; answers the n-th with answers[n], the last one for ever."""

    def handle(conn: Served) -> None:
        served = 0
        while conn.request() is not None:
            conn.send(answers[min(served, len(answers) - 1)])
            served += 1

    return handle


def echo_request(conn: Served) -> None:
    """Answers each request with "<target> <body>" in it."""
    while (request := conn.request()) is not None:
        body = request.target + b" " + request.body
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


class Origin:
    """A listening instance. requests: every request head seen, in order; accepted: connections so far."""

    def __init__(
        self, handler: Handler | bytes = OK, *, host: str = "127.0.0.1", port: int = 0, receive_buffer: int = 0
    ) -> None:
        self.handler = answering(handler) if isinstance(handler, bytes) else handler
        self.requests: list[Message] = []
        self.seen_on: list[int] = []  # for each request, the number of its connection
        self.accepted = 0
        self.ended = 0
        self.changed = threading.Condition()
        self.stopping = threading.Event()
        self._complaints: list[BaseException] = []
        self._open: set[Served] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind((host, port))
        self._listener.listen(1024)
        self.port = int(self._listener.getsockname()[1])
        self.address = f"{host}:{self.port}"
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            conn = Served(sock, self, self.accepted)
            with self.changed:
                if self.stopping.is_set():
                    sock.close()
                    return
                self.accepted += 1
                self._open.add(conn)
                self.changed.notify_all()
            thread = threading.Thread(target=self._serve, args=(conn,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, conn: Served) -> None:
        try:
            self.handler(conn)
        except (Cut, OSError):
            pass  # the router may end a connection whenever it likes
        except BaseException as error:
            self._complaints.append(error)
        finally:
            with self.changed:
                self._open.discard(conn)
                self.ended += 1
                conn.close()
                self.changed.notify_all()

    def wait(self, condition: Callable[[], object], what: str = "") -> None:
        """Blocks until a condition on this origin's attributes holds."""
        with self.changed:
            assert self.changed.wait_for(condition, 20), what or "the origin did not see what it should"

    def settled(self) -> int:
        """The number of requests seen once no more have come for a while."""
        seen = -1
        while seen != len(self.requests):
            seen = len(self.requests)
            self.stopping.wait(0.1)
        return seen

    def last(self) -> Message:
        """The request seen last."""
        return self.requests[-1]

    def close_listener(self) -> None:
        """From now on connects are refused; open connections go on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(5)

    def cut_all(self, *, hard: bool = False) -> None:
        """Ends every open connection."""
        with self.changed:
            for conn in list(self._open):
                with contextlib.suppress(OSError):
                    if hard:
                        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    conn.sock.shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        """Ends everything; raises what a handler complained of."""
        self.stopping.set()
        self.close_listener()
        self.cut_all()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a handler does not end"
        if self._complaints:
            raise self._complaints[0]

"""Applications on real listeners, served as the router serves them: a control loop here, uvicorn on its thread."""

import asyncio
import contextlib
import http.client
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

from gorouter_py.control.status import Page, StatusServer
from tests.system.harness import Served

DEADLINE_S = 30.0


class Serving:
    """Context manager. pages: gets the server's `await_` and makes the pages; called on the control loop.

    The control loop runs on a thread of its own; `run` has it run a coroutine."""

    def __init__(self, pages: Callable[..., list[Page]]) -> None:
        self._pages = pages
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._server: StatusServer | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self.run(self._server.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(DEADLINE_S)
        self.loop.close()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(DEADLINE_S)

    async def _start(self) -> None:
        pages: list[Page] = []
        self._server = StatusServer(pages, None)  # type: ignore[arg-type]  # no page of its own asks for a source
        pages.extend(self._pages(self._server.await_))
        self._server.start()

    @staticmethod
    @contextlib.contextmanager
    def connect(path: str, port: int = 0) -> Iterator[http.client.HTTPConnection]:
        """A connection to a unix socket, or to a port of 127.0.0.1."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
        if path:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(DEADLINE_S)
            connection.sock.connect(path)
        try:
            yield connection
        finally:
            connection.close()


class Answers(Served):
    """Answers with `status` and `body`, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.status, self.body = 200, b""
        self.asked: list[tuple[str, str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Answers

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_GET = do_POST = _answer

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

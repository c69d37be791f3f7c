"""The unix socket and its connections: one request at a time on each, replies in the order of the requests.

A connection that is closed by its client still does what it was asked; only Stream ends. `drain` ends connections that
do nothing, or that wait for a job, at once, and the others after the request they are at.
"""

import asyncio
import os
import socket
import stat
import time
from collections import deque
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from gorouter_py.component import Logger
from warden import commands
from warden.engine.api import EngineError
from warden.errors import WardenError
from warden.manager import Manager
from warden.protocol import BadFrame, Decoder, Message, ProtocolError, encode, pb

QUEUE_MAX = 1000  # requests of one connection that wait; with more, no more is read from it
_READ = 64 << 10
_BACKLOG = 128


class ServerError(Exception):
    """The socket cannot be had; the text says why."""


class Connection:
    """One client."""

    def __init__(self, server: "Server", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._requests: deque[Any] = deque()
        self._turn = asyncio.Event()  # something changed: a request came, one was taken, the client went
        self._current: Any = None
        self._closing = False
        self._worker: asyncio.Task[None] | None = None
        self.gone = asyncio.Event()

    async def serve(self) -> None:
        """Until the client has gone and all it asked for is done, or the server drains."""
        for container in list(self._server.manager.containers.values()):
            container.refer(self)
        self._worker = asyncio.create_task(self._work())
        reader = asyncio.create_task(self._read())
        try:
            await asyncio.wait({self._worker, reader}, return_when=asyncio.FIRST_COMPLETED)
            self._left()
            await asyncio.wait({self._worker})
        finally:
            reader.cancel()
            self._left()
            self._writer.close()

    async def _read(self) -> None:
        decoder = Decoder()
        try:
            while data := await self._reader.read(_READ):
                for request in decoder.feed(data):
                    if isinstance(request, BadFrame):
                        self._server.log.warn("dropped a frame", reason=request.reason)
                    else:
                        self._requests.append(request)
                self._turn.set()
                while len(self._requests) > QUEUE_MAX:
                    await asyncio.sleep(0.01)
        except OSError:
            pass  # the client's end
        except ProtocolError as error:
            self._server.log.warn("closing a connection", reason=str(error))

    def _left(self) -> None:
        """The client is gone: containers that nobody else refers to begin their grace time."""
        if self.gone.is_set():
            return
        self.gone.set()
        self._turn.set()
        if not self._server.draining:
            for container in list(self._server.manager.containers.values()):
                container.release(self)

    async def _work(self) -> None:
        while not self._closing:
            if not self._requests:
                if self.gone.is_set():
                    return
                self._turn.clear()
                await self._turn.wait()
                continue
            self._current = self._requests.popleft()
            reply = await self._answer(self._current)
            if reply is not None:
                await self.send(reply)
            self._current = None

    async def _answer(self, request: Any) -> Message | None:
        name = type(request).__name__
        began = time.monotonic()
        error: Exception
        try:
            reply = await commands.execute(self._server.manager, self, request)
            took = round(time.monotonic() - began, 6)
            self._server.log.debug("request", type=name, handle=getattr(request, "handle", None), took=took)
            return reply
        except (WardenError, EngineError) as caught:
            error = caught
            self._server.log.warn("refused", type=name, handle=getattr(request, "handle", None), reason=str(error))
        except Exception as caught:
            error = caught
            self._server.log.error("failed", type=name, error=f"{type(error).__name__}: {error}")
        text = str(error).encode(errors="replace").decode()
        return pb.ErrorResponse(message=text)

    async def send(self, reply: Message) -> None:
        try:
            self._writer.write(encode(reply))
            await self._writer.drain()
        except OSError:
            pass  # nobody is there to hear it

    def protect(self, work: Awaitable[Any]) -> Awaitable[Any]:
        return self._server.protect(work)

    def drain(self) -> None:
        """Ends now if it does nothing or waits for a job, else after its request."""
        self._closing = True
        if self._worker is not None and (self._current is None or isinstance(self._current, commands.INTERRUPTIBLE)):
            self._worker.cancel()


class Server:
    def __init__(self, manager: Manager, log: Logger) -> None:
        self.manager = manager
        self.log = log
        self.draining = False
        self._listener: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._open: set[Connection] = set()
        self._work: set[asyncio.Future[Any]] = set()

    async def listen(self, path: str, mode: int) -> None:
        """Serves the socket. ServerError if another server does, or it cannot be made."""
        place = Path(path)
        _make_room(place)
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(path)
            os.chmod(path, mode)  # before anybody can connect
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise ServerError(f"{path}: {error.strerror}") from error
        self._listener = await asyncio.start_unix_server(self._accept, sock=listener)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self._open.add(connection)
        try:
            if not self.draining:
                await connection.serve()
        finally:
            writer.close()
            self._open.discard(connection)
            self._connections.discard(task)

    def protect(self, work: Awaitable[Any]) -> Awaitable[Any]:
        """Work that goes on when the one who waits for it is cancelled, and that a drain waits for."""
        future = asyncio.ensure_future(work)
        self._work.add(future)
        future.add_done_callback(self._work.discard)
        return asyncio.shield(future)

    async def drain(self) -> None:
        """No new connection; returns when the last has ended and nothing is on its way."""
        self.draining = True
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._open):
            connection.drain()
        while self._connections or self._work:
            await asyncio.wait({*self._connections, *self._work})


def _make_room(place: Path) -> None:
    """Removes the socket of a server that is no more."""
    try:
        if not stat.S_ISSOCK(place.lstat().st_mode):
            raise ServerError(f"{place} is no socket; set server.unix_domain_path to another path, or remove it")
    except FileNotFoundError:
        return
    probe = socket.socket(socket.AF_UNIX)
    probe.settimeout(5)
    try:
        probe.connect(str(place))
    except ConnectionRefusedError:
        place.unlink(missing_ok=True)
    except OSError as error:
        raise ServerError(f"{place}: {error}") from error
    else:
        raise ServerError(f"another server answers at {place}")
    finally:
        probe.close()

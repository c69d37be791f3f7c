"""Clients of a warden server, for asyncio (`Client`) and for plain code (`BlockingClient`).

    with BlockingClient.connect("/tmp/warden.sock") as client:
        handle = client.call(pb.CreateRequest()).handle
        print(client.call(pb.RunRequest(handle=handle, script=b"echo hello")).stdout)

Requests and replies are the protocol's messages. While a connection is open, the containers it has used (and those
there were when it was opened) outlive their grace time. One request at a time: replies come in the order of requests.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self

from warden.protocol import BadFrame, Decoder, ProtocolError, encode, pb

DEFAULT_PATH = "/tmp/warden.sock"
_READ = 64 << 10


class WardenError(Exception):
    """The server refused a request; the text is its own."""


def _checked(reply: Any) -> Any:
    if isinstance(reply, BadFrame):
        raise ProtocolError(f"the server sent what is no reply: {reply.reason}")
    if isinstance(reply, pb.ErrorResponse):
        raise WardenError(reply.message)
    return reply


def _is_last(reply: pb.StreamResponse) -> bool:
    return not reply.HasField("name")


class BlockingClient:
    """One connection. OSError where it cannot be made or breaks."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._decoder = Decoder(replies=True)
        self._replies: list[Any] = []

    @classmethod
    def connect(cls, path: str = DEFAULT_PATH, timeout: float | None = None) -> Self:
        """timeout: seconds a reply may take (TimeoutError then); None: any time, a job may run long."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        try:
            connection.connect(path)
        except BaseException:
            connection.close()
            raise
        return cls(connection)

    def call(self, request: Any) -> Any:
        """The reply to a request (not to a StreamRequest). WardenError if the server refuses it."""
        self.send(request)
        return self.receive()

    def send(self, request: Any) -> None:
        """Half of a call: several can be sent before the first reply is received."""
        self._socket.sendall(encode(request))

    def stream(self, handle: str, job_id: int) -> Iterator[pb.StreamResponse]:
        """What a job writes, piece by piece; the last reply has no name, but the exit status."""
        self.send(pb.StreamRequest(handle=handle, job_id=job_id))
        while True:
            reply = self.receive()
            yield reply
            if _is_last(reply):
                return

    def receive(self) -> Any:
        """The next reply. WardenError if it is a refusal."""
        while not self._replies:
            data = self._socket.recv(_READ)
            if not data:
                raise ConnectionResetError("the server closed the connection")
            self._replies.extend(self._decoder.feed(data))
        return _checked(self._replies.pop(0))

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Client:
    """One connection, for one event loop; calls of several tasks wait for each other. OSError where it breaks.

    A call that is cancelled closes the connection, since nobody would wait for its reply."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = Decoder(replies=True)
        self._replies: list[Any] = []
        self._lock = asyncio.Lock()

    @classmethod
    async def connect(cls, path: str = DEFAULT_PATH) -> Self:
        return cls(*await asyncio.open_unix_connection(path))

    async def call(self, request: Any) -> Any:
        """The reply to a request (not to a StreamRequest). WardenError if the server refuses it."""
        async with self._lock:
            await self._send(request)
            return await self._reply()

    async def stream(self, handle: str, job_id: int) -> AsyncIterator[pb.StreamResponse]:
        """What a job writes, piece by piece; the last reply has no name, but the exit status.

        Left early, the connection is closed, and the job stays for another."""
        async with self._lock:
            await self._send(pb.StreamRequest(handle=handle, job_id=job_id))
            ended = False
            try:
                while not ended:
                    reply = await self._reply()
                    ended = _is_last(reply)
                    yield reply
            except WardenError:
                ended = True
                raise
            finally:
                if not ended:
                    self._writer.close()

    async def _send(self, request: Any) -> None:
        if self._writer.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._writer.write(encode(request))
        await self._writer.drain()

    async def _reply(self) -> Any:
        try:
            while not self._replies:
                data = await self._reader.read(_READ)
                if not data:
                    raise ConnectionResetError("the server closed the connection")
                self._replies.extend(self._decoder.feed(data))
        except BaseException:
            self._writer.close()
            raise
        return _checked(self._replies.pop(0))

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

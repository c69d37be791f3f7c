"""An HTTP/1.1 client for the control plane.

`Client` opens a connection per request: what it is for happens every few seconds, and a connection that lasts for
hours (an event stream) must not stand in the way of another request. h11 reads, asyncio carries; nothing blocks the
loop. Redirects are not followed and cookies not kept. It has no state and knows nobody; used on the control loop.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import h11

CONNECT_TIMEOUT_S: Final = 10.0
ANSWER_TIMEOUT_S: Final = 30.0  # silence within an answer
BODY_BYTES_MAX: Final = 256 << 20  # 250,000 routes are about 100 MB
READ_BYTES: Final = 64 << 10
KEEP_ALIVE_S: Final = 30


class RequestFailed(Exception):
    """No answer, or not the one that was wanted; str() says why. `status` is 0 without an answer."""

    def __init__(self, why: str, status: int = 0) -> None:
        super().__init__(why)
        self.status = status

    @property
    def is_unauthorized(self) -> bool:
        return self.status == 401


@dataclass(frozen=True)
class Client:
    """Requests to one server: `base` is "https://host:port" (or http), `tls` what https is spoken with."""

    base: str
    tls: ssl.SSLContext | None = None

    async def fetch(
        self, path: str, headers: dict[str, str], *, method: str = "GET", body: bytes = b""
    ) -> tuple[int, bytes]:
        """Status and body of the answer. RequestFailed without a whole answer."""
        parts: list[bytes] = []
        size = 0
        async with contextlib.aclosing(self.stream(path, headers, method=method, body=body)) as stream:
            status = int(await anext(stream))
            async for part in stream:
                assert isinstance(part, bytes)
                size += len(part)
                if size > BODY_BYTES_MAX:
                    raise RequestFailed(f"{method} {path}: the answer has more than {BODY_BYTES_MAX} bytes", status)
                parts.append(part)
        return status, b"".join(parts)

    async def stream(
        self,
        path: str,
        headers: dict[str, str],
        *,
        method: str = "GET",
        body: bytes = b"",
        silence_s: float | None = ANSWER_TIMEOUT_S,
    ) -> AsyncGenerator[int | bytes, None]:
        """Yields the status and then pieces of the body as they come. silence_s: None waits for ever."""
        what = f"{method} {self.base}{path}"
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await self._connect()
        except (OSError, TimeoutError, ValueError) as error:  # ValueError: `base` is no address
            raise RequestFailed(f"{what}: {str(error) or 'timed out'}") from None
        try:
            connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=READ_BYTES)
            host = urlsplit(self.base).netloc
            fields = {"Host": host, "Content-Length": str(len(body)), "Connection": "close", **headers}
            request = h11.Request(method=method, target=path, headers=list(fields.items()))
            sent = (request, h11.Data(data=body), h11.EndOfMessage())
            writer.write(b"".join(connection.send(event) or b"" for event in sent))
            await writer.drain()
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    async with asyncio.timeout(silence_s):
                        connection.receive_data(await reader.read(READ_BYTES))
                elif isinstance(event, h11.Response):
                    yield event.status_code
                elif isinstance(event, h11.Data):
                    yield bytes(event.data)
                elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                    return
        except (OSError, TimeoutError, h11.ProtocolError) as error:
            raise RequestFailed(f"{what}: {str(error) or 'timed out'}") from None
        finally:
            writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        target = urlsplit(self.base)
        if target.scheme not in ("http", "https") or not target.hostname:
            raise ValueError("write https://name:port")
        secure = target.scheme == "https"
        tls = (self.tls or ssl.create_default_context()) if secure else None
        reader, writer = await asyncio.open_connection(target.hostname, target.port or (443 if secure else 80), ssl=tls)
        # A stream may be silent for hours; that its server is gone shows only to those who ask.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE_S)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_ALIVE_S)
        return reader, writer

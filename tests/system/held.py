"""Connections that last through a rollout: WebSockets and slow uploads through a router, the app they end at, and
routes and instances that come and go meanwhile. All of it on one event loop, so that thousands are cheap."""

import asyncio
import itertools
import json
import re
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Self

import nats

from tests.system.harness import DEADLINE_S
from tests.system.rollouts import HOST, Rig

_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)", re.I)
_VERSION = re.compile(rb"\r\nX-Version: (\S+)")
UPLOAD_BYTES = 8192
BATCH = 50  # registrations between two looks at the clock
ROUTES_KEPT = 500  # other routes that are there at a time
# What is done to the rollout, one after the other: up, to the side, down, and back.
ACTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("promote", {}), ("set", {"weight": "20%"}), ("abort", {}), ("undo", {}), ("promote", {}), ("promote", {}),
)  # fmt: skip


class App:
    """An instance of a version: echoes WebSockets, answers an upload once it is whole."""

    def __init__(self, version: str) -> None:
        self.version = version
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=4096)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        served = dict(self._open)
        for writer in served:
            writer.transport.abort()
        await asyncio.gather(*(task for task in served.values() if task), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        named = f"X-Version: {self.version}\r\n".encode()
        self._open[writer] = asyncio.current_task()
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"upgrade: websocket" in head.lower():
                    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    writer.write(switched + named + b"\r\n")
                    while data := await reader.read(4096):
                        writer.write(data)
                    return
                if length := _LENGTH.search(head):
                    await reader.readexactly(int(length[1]))
                writer.write(b"HTTP/1.1 200 OK\r\n" + named + b"Content-Length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.pop(writer)
            writer.close()


class Held:
    """A connection to the router with one request on it that does not end by itself."""

    async def connect(self, port: int) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)

    async def ask(self, head: str, body: bytes = b"") -> None:
        self.writer.write(f"{head}\r\nHost: {HOST}\r\n".encode() + body)

    async def answer(self) -> tuple[int, str]:
        """Status and version."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
        version = _VERSION.search(head)
        return int(head[9:12]), version[1].decode() if version else ""

    async def echoes(self, token: bytes) -> bool:
        """Whether the app at the other end of a WebSocket is still there."""
        try:
            self.writer.write(token)
            return await asyncio.wait_for(self.reader.readexactly(len(token)), DEADLINE_S) == token
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            return False

    async def finished(self) -> bool:
        """Sends the rest of an upload; whether it was taken."""
        try:
            self.writer.write(b"b" * (UPLOAD_BYTES // 2))
            return (await self.answer())[0] == 200
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            return False


async def websocket(port: int) -> Held:
    """One that is open."""
    held = Held()
    await held.connect(port)
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
    await held.ask("GET /ws HTTP/1.1", f"Connection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n\r\n".encode())
    status, _ = await held.answer()
    assert status == 101, status
    return held


async def upload(port: int) -> Held:
    """One that is half sent."""
    held = Held()
    await held.connect(port)
    await held.ask("POST /up HTTP/1.1", f"Content-Length: {UPLOAD_BYTES}\r\n\r\n".encode() + b"a" * (UPLOAD_BYTES // 2))
    return held


@dataclass
class Churn:
    """Registrations over the bus, `rate` a second at most: other routes come and go, and so do `guests` at the route
    of the rollout."""

    rig: Rig
    guests: Sequence[App]
    rate: float
    sent: int = 0
    last: str = ""  # the other route that came last
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        client = await nats.connect(f"nats://127.0.0.1:{self.rig.nats.port}")
        try:
            for turn in itertools.count():
                began = time.monotonic()
                for _ in range(BATCH - len(self.guests)):
                    self.last = f"churn-{self.sent}.test"
                    await self._say(client, "register", self.last, 9)
                    await self._say(client, "unregister", f"churn-{self.sent - ROUTES_KEPT}.test", 9)
                    self.sent += 1
                for app in self.guests:
                    options = {"options": {"version": app.version}}
                    await self._say(client, "unregister" if turn % 2 else "register", HOST, app.port, **options)
                    self.sent += 1
                await client.flush()
                if self.ended.is_set():
                    return
                await asyncio.sleep(max(0.0, BATCH / self.rate - (time.monotonic() - began)))
        finally:
            await client.close()

    async def _say(self, client: Any, verb: str, uri: str, port: int, **more: Any) -> None:
        body = {"host": "127.0.0.1", "port": port, "uris": [uri], **more}
        await client.publish(f"router.{verb}", json.dumps(body).encode())

    async def more(self, count: int) -> None:
        """Waits for so many more registrations."""
        wanted = self.sent + count
        while self.sent < wanted:
            await asyncio.sleep(0.01)


@dataclass
class Kept:
    """What became of everything. dropped: connections that did not live to the end of their work; actions: of the
    rollout; failed: short requests that had another answer than 200."""

    websockets: int = 0
    uploads: int = 0
    short: int = 0
    registrations: int = 0
    rate: float = 0.0
    actions: int = 0
    dropped: int = 0
    failed: int = 0
    versions: set[str] = field(default_factory=set)


async def beside_a_rollout(rig: Rig, websockets: int, uploads: int, rate: float, each: int) -> Kept:
    """Takes a rollout through ACTIONS while connections are held and the bus is busy.

    rate: registrations a second, at most; each: registrations before each action."""
    kept = Kept(websockets, uploads, actions=1 + len(ACTIONS))
    async with AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(App(version)) for version in ("v1", "v2")]
        guests = [await stack.enter_async_context(App(version)) for version in ("v1", "v2")]
        for app in apps:
            await asyncio.to_thread(rig.nats.register, HOST, app.port, options={"version": app.version})
        while len(await asyncio.to_thread(lambda: rig.router.routes().get(HOST, []))) < 2:
            await asyncio.sleep(0.01)
        churn = Churn(rig, guests, rate)
        busy = asyncio.create_task(churn.run())
        held = await _open(rig.port, websockets // 2, uploads // 2)
        await asyncio.to_thread(lambda: rig.start(steps=["5%", "50%", "100%"]))
        held += await _open(rig.port, websockets - websockets // 2, uploads - uploads // 2)
        began, before = time.monotonic(), churn.sent
        for action, body in ACTIONS:
            await churn.more(each)
            await asyncio.to_thread(lambda action=action, body=body: rig.act(action, **body))
            for status, version in await asyncio.gather(*(_short(rig.port) for _ in range(20))):
                kept.short += 1
                kept.failed += status != 200
                kept.versions.add(version)
            kept.dropped += (await asyncio.gather(*(one.echoes(b"ping") for one, kind in held if kind == "ws"))).count(
                False
            )
        kept.registrations, kept.rate = churn.sent, (churn.sent - before) / (time.monotonic() - began)
        churn.ended.set()
        await busy
        kept.dropped += (await asyncio.gather(*(one.finished() for one, kind in held if kind == "up"))).count(False)
        for one, _ in held:
            one.writer.transport.abort()
        while churn.last not in await asyncio.to_thread(rig.router.routes):  # the router has kept up with all of it
            await asyncio.sleep(0.05)
    return kept


async def _open(port: int, websockets: int, uploads: int) -> list[tuple[Held, str]]:
    found: list[tuple[Held, str]] = []
    for _ in range(0, websockets, BATCH):
        count = min(BATCH, websockets - len(found))
        found += [(one, "ws") for one in await asyncio.gather(*(websocket(port) for _ in range(count)))]
    return found + [(one, "up") for one in await asyncio.gather(*(upload(port) for _ in range(uploads)))]


async def _short(port: int) -> tuple[int, str]:
    held = Held()
    await held.connect(port)
    await held.ask("GET / HTTP/1.1", b"\r\n")
    try:
        return await held.answer()
    finally:
        held.writer.close()

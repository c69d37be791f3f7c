"""The message bus: the only home of the NATS client.

Owns the connection. What comes in on `router.*` is handed as bytes to one callable on the control thread, in order;
`router.greet` is answered; `router.start` is published after each (re)connect. Between reconnects the client library
keeps the subscriptions and tries the servers in turn, forever.

Load: the library calls a coroutine per message and never yields while messages wait, so this file yields to the loop
after each BURST. Beyond PENDING_MESSAGES waiting messages the library drops; that is counted in `dropped`.

Does not decode messages, and knows nothing of routes.
"""

import asyncio
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gorouter_py.control import lean_nats  # noqa: F401

# isort: split
import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

PENDING_MESSAGES: Final = 131072  # gorouter: the client's pending limit
PENDING_BYTES: Final = PENDING_MESSAGES * 1024
BURST: Final = 64  # messages handled before others get a turn: about 0.4 ms
RECONNECT_WAIT_S: Final = 1  # gorouter: its suite allows two seconds after the server is back
FIRST_CONNECT_WAIT_S: Final = 0.1  # gorouter: 3 attempts 100 ms apart
CONNECT_TIMEOUT_S: Final = 2
REOPEN_WAIT_S: Final = 1.0
STUCK_S: Final = 4 * CONNECT_TIMEOUT_S + 2  # connect, greeting, TLS and login of one server, and some more
CLOSE_TIMEOUT_S: Final = 2.0


class Unreachable(ConnectionError):
    """No server could be reached in the attempts that were granted; str() is for the log."""


class Log(Protocol):
    def debug(self, message: str, /, **data: object) -> None: ...
    def info(self, message: str, /, **data: object) -> None: ...
    def warn(self, message: str, /, **data: object) -> None: ...
    def error(self, message: str, /, **data: object) -> None: ...


@dataclass(frozen=True)
class Servers:
    """Where the bus is and who we are. `tls`: refuse servers that do not offer TLS, and verify with this context."""

    hosts: Sequence[tuple[str, int]]
    user: str = ""
    password: str = ""
    credentials_file: str = ""
    tls: ssl.SSLContext | None = None
    ping_interval_s: float = 20.0


class _Client(Client):
    """The library falls back to plain text if the server does not ask for TLS; credentials must not go that way."""

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and "tls" in self.options and not info.get("tls_required"):
            raise nats.errors.Error("nats: secure connection not available")
        await super()._process_info(info, initial_connection)


class Bus:
    """See the head of the file.

    on_message(subject, payload) must not raise. on_closed is called when the connection is given up for good while
    `optional` is False (gorouter then ends); with `optional` a new one is opened instead.
    """

    def __init__(
        self,
        servers: Servers,
        log: Log,
        on_message: Callable[[str, bytes], None],
        start_message: Callable[[], bytes],
        *,
        optional: bool,
        subscriber_log: Log | None = None,
        on_closed: Callable[[], None] | None = None,
        name: str = "gorouter",
    ) -> None:
        self._servers = servers
        self._log = log
        self._subscriber_log = subscriber_log or log
        self._on_message = on_message
        self._start_message = start_message
        self._optional = optional
        self._on_closed = on_closed
        self._name = name
        self._client: _Client | None = None
        self._subscription: Subscription | None = None
        self._host = ""
        self._address = ""
        self._burst = 0
        self._failures = 0
        self._failed: asyncio.Event = asyncio.Event()
        self._last_error: BaseException | None = None
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._offers: list[tuple[str, str, Callable[[], Awaitable[bytes]]]] = []
        self._services: list[tuple[str, str, Callable[[bytes], Awaitable[bytes]]]] = []
        self.messages = 0
        self.dropped = 0
        self.reconnects = 0
        self.connected_since: float | None = None  # monotonic seconds

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    @property
    def pending(self) -> int:
        """Messages that wait to be handled."""
        return self._subscription.pending_msgs if self._subscription is not None else 0

    # -- life ----------------------------------------------------------------------------------------------

    async def connect(self, attempts: int) -> None:
        """Connects, trying all servers `attempts` times; Unreachable if that fails. Call subscribe() next."""
        await self._open(attempts * len(self._servers.hosts))

    def connect_in_background(self) -> None:
        """Connects and subscribes whenever a server can be reached."""
        self._spawn(self._open_and_subscribe())

    async def subscribe(self) -> None:
        """Publishes router.start and listens (gorouter: in this order: start, greet, router.*)."""
        client = self._client
        assert client is not None, "connect() first"
        self._subscriber_log.info("subscriber-starting")
        await client.publish("router.start", self._start_message())
        await client.subscribe("router.greet", cb=self._answer)
        self._subscription = await client.subscribe(
            "router.*",
            cb=self._take,
            pending_msgs_limit=PENDING_MESSAGES,
            pending_bytes_limit=PENDING_BYTES,
        )
        for offer in self._offers:
            await self._begin_offer(*offer)
        for service in self._services:
            await self._begin_service(*service)
        await client.flush()
        self._subscriber_log.info("subscriber-started")

    async def publish(self, subject: str, payload: bytes) -> bool:
        """False if there is no connection now."""
        client = self._client
        if client is None or not client.is_connected:
            return False
        await client.publish(subject, payload)
        return True

    async def offer(self, discover: str, announce: str, page: Callable[[], Awaitable[bytes]]) -> None:
        """Publishes a page once on `announce`, and in answer to each request on `discover`, for good.

        Without a connection it begins with the next subscribe()."""
        self._offers.append((discover, announce, page))
        if self._subscription is not None:
            await self._begin_offer(discover, announce, page)

    async def _begin_offer(self, discover: str, announce: str, page: Callable[[], Awaitable[bytes]]) -> None:
        client = self._client
        assert client is not None

        async def answer(message: Msg) -> None:
            if message.reply and client.is_connected:
                await client.publish(message.reply, await page())

        await client.subscribe(discover, cb=answer)
        await client.publish(announce, await page())

    async def serve(self, subject: str, answer: Callable[[bytes], Awaitable[bytes]], queue: str = "") -> None:
        """Answers requests on a subject, for good; answer must not raise. queue: of those that serve under one name
        only one gets each request."""
        self._services.append((subject, queue, answer))
        if self._subscription is not None:
            await self._begin_service(subject, queue, answer)

    async def _begin_service(self, subject: str, queue: str, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        client = self._client
        assert client is not None

        async def respond(message: Msg) -> None:
            payload = await answer(message.data)
            if message.reply and client.is_connected:
                await client.publish(message.reply, payload)

        await client.subscribe(subject, queue=queue, cb=respond)

    def client(self) -> Client | None:
        """The client of the present connection, for what stores things there; None while there is none."""
        return self._client if self._subscription is not None else None

    async def stop(self) -> None:
        """Closes the connection; what is still waiting is dropped. Never raises, and ends in CLOSE_TIMEOUT_S."""
        self._stopping = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close_client()

    # -- opening -------------------------------------------------------------------------------------------

    async def _open_and_subscribe(self) -> None:
        while not self._stopping:
            try:
                await self._open(None)
                await self.subscribe()
                return
            except (OSError, nats.errors.Error, TimeoutError) as error:
                self._log.warn("nats-connection-error", error=str(error) or type(error).__name__)
                await self._close_client()
                await asyncio.sleep(REOPEN_WAIT_S)

    async def _open(self, failures_max: int | None) -> None:
        """Connects; Unreachable after failures_max failed attempts (None: never)."""
        self._failures = 0
        self._last_error = None
        while not await self._try_client(failures_max):
            await asyncio.sleep(FIRST_CONNECT_WAIT_S if failures_max is not None else REOPEN_WAIT_S)
        assert self._client is not None
        self._client.options["reconnect_time_wait"] = RECONNECT_WAIT_S
        self.connected_since = time.monotonic()
        self._note_server()
        self._log.info("Successfully-connected-to-nats", host=self._host, addr=self._address)

    async def _try_client(self, failures_max: int | None) -> bool:
        """Lets a new client try its servers. False if that client is of no more use.

        The library tries forever, so failures are counted in its error callback. After a failed TLS handshake it
        waits for an end of the connection that does not come; such a client is given up."""
        client = _Client()
        self._client = client
        opening = asyncio.get_running_loop().create_task(client.connect(**self._options()))
        is_open = False
        try:
            while not opening.done():
                self._failed.clear()
                failed = asyncio.get_running_loop().create_task(self._failed.wait())
                await asyncio.wait((opening, failed), timeout=STUCK_S, return_when=asyncio.FIRST_COMPLETED)
                is_stuck = not failed.done() and not opening.done()
                failed.cancel()
                if opening.done():
                    break
                self._failures += is_stuck
                if failures_max is not None and self._failures >= failures_max:
                    raise Unreachable(f"nats: no servers available for connection ({self._why()})")
                if failures_max is None and self._failures == len(self._servers.hosts):
                    self._log.warn("nats-connection-error", error=self._why(), retrying=True)
                if is_stuck or isinstance(self._last_error, ssl.SSLError):
                    return False
            await opening
            is_open = True
            return True
        finally:
            if not is_open:
                opening.cancel()
                await asyncio.gather(opening, return_exceptions=True)
                await self._close_client()

    def _options(self) -> dict[str, Any]:
        servers = self._servers
        hosts = [f"nats://[{host}]:{port}" if ":" in host else f"nats://{host}:{port}" for host, port in servers.hosts]
        options: dict[str, Any] = {
            "servers": hosts,
            "name": self._name,
            "error_cb": self._note_error,
            "disconnected_cb": self._note_disconnect,
            "reconnected_cb": self._note_reconnect,
            "closed_cb": self._note_closed,
            "allow_reconnect": True,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": FIRST_CONNECT_WAIT_S if not self._optional else REOPEN_WAIT_S,
            "connect_timeout": CONNECT_TIMEOUT_S,
            "ping_interval": servers.ping_interval_s,
        }
        if servers.user or servers.password:
            options |= {"user": servers.user, "password": servers.password}
        if servers.credentials_file:
            options["user_credentials"] = servers.credentials_file
        if servers.tls is not None:
            options["tls"] = servers.tls
        return options

    def _why(self) -> str:
        if self._last_error is None:
            return "no answer"
        return str(self._last_error) or type(self._last_error).__name__

    def _note_server(self) -> None:
        """Host as configured, address as connected."""
        client = self._client
        url = client.connected_url if client is not None else None
        self._host = url.netloc.rpartition("@")[2] if url is not None else ""
        transport = getattr(client, "_transport", None)
        writer = getattr(transport, "_io_writer", None)
        peer = writer.get_extra_info("peername") if writer is not None else None
        self._address = f"{peer[0]}:{peer[1]}" if peer else self._host

    async def _close_client(self) -> None:
        client, self._client, self._subscription = self._client, None, None
        self.connected_since = None
        if client is not None and not client.is_closed:
            try:
                await asyncio.wait_for(client.close(), CLOSE_TIMEOUT_S)
            except (OSError, nats.errors.Error, TimeoutError) as error:
                self._log.debug("nats-close", error=str(error) or type(error).__name__)

    def _spawn(self, coroutine: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- callbacks of the library: coroutines by its rule, none may raise -----------------------------------

    async def _take(self, message: Msg) -> None:
        self.messages += 1
        self._on_message(message.subject, message.data)
        self._burst += 1
        if self._burst >= BURST:
            self._burst = 0
            await asyncio.sleep(0)

    async def _answer(self, message: Msg) -> None:
        client = self._client
        if message.reply and client is not None and client.is_connected:
            await client.publish(message.reply, self._start_message())

    async def _note_error(self, error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            self.dropped += 1
            return
        # What a server said is worth more than the reset that follows it.
        if not (isinstance(error, ConnectionError) and isinstance(self._last_error, nats.errors.Error)):
            self._last_error = error
        client = self._client
        if client is None or client.is_connected:
            # What ends the connection is told by the line about that.
            lost = isinstance(error, (ConnectionError, nats.errors.UnexpectedEOF, nats.errors.StaleConnectionError))
            tell = self._log.debug if lost else self._log.error
            tell("nats-error", error=str(error) or type(error).__name__)
            return
        self._failures += 1
        self._failed.set()

    async def _note_disconnect(self) -> None:
        if self._stopping or self.connected_since is None:
            return
        self.connected_since = None
        self._log.info("nats-connection-disconnected", host=self._host, addr=self._address)
        self._spawn(self._remind())

    async def _remind(self) -> None:
        while True:
            await asyncio.sleep(self._servers.ping_interval_s)
            if self.connected or self._stopping:
                return
            self._log.info("nats-connection-still-disconnected")

    async def _note_reconnect(self) -> None:
        self.reconnects += 1
        self.connected_since = time.monotonic()
        self._note_server()
        self._log.info("nats-connection-reconnected", host=self._host, addr=self._address)
        await self.publish("router.start", self._start_message())

    async def _note_closed(self) -> None:
        """Only the library's own decision comes here, e.g. after the server withdrew our authorisation."""
        if self._stopping or self._client is None:
            return
        self._log.error("nats-connection-closed", error="unexpected close", last_error=self._why())
        if self._optional:
            self._client = None
            self._subscription = None
            self._spawn(self._reopen())
        elif self._on_closed is not None:
            self._on_closed()

    async def _reopen(self) -> None:
        await asyncio.sleep(REOPEN_WAIT_S)
        await self._open_and_subscribe()


def tls_context(ca_certs: str = "", cert_chain: str = "", private_key: str = "") -> ssl.SSLContext:
    """TLS 1.2 to 1.3 with verification; PEM texts as the configuration holds them, "" for the system's CAs or none.

    Raises ssl.SSLError for what is no certificate or key."""
    context = ssl.create_default_context(cadata=ca_certs or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert_chain:
        # The ssl module reads chains from files alone; one in memory leaves no key on a disk.
        descriptor = os.memfd_create("nats-client-certificate", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, f"{cert_chain}\n{private_key}\n".encode())
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    return context

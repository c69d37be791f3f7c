"""Routes from the routing API: the whole list now and then, and its events in between.

`Api` speaks to the server, `Fetcher` keeps the registry in step with it: a full list every `interval_s` (what has
vanished from it is withdrawn), and a subscription to `Upsert` and `Delete` events that is taken up again whenever it
ends. A 401 makes the next attempt with a new token. Unlike gorouter the first list is fetched at once and not after
an interval, so that a router which serves after its start delay knows the routes.

Runs as two tasks on the control loop; a list is applied in portions. A failure is counted and logged, never raised:
routes that are known stay until they are stale.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from gorouter_py.control.http_client import Client, RequestFailed
from gorouter_py.control.messages import Port, Registration, RoutingApiRegistration

ROUTES: Final = "/routing/v1/routes"
EVENTS: Final = "/routing/v1/events"
SUBSCRIBE_RETRIES: Final = 3
RETRY_INTERVAL_S: Final = 1.0
EVENT_BYTES_MAX: Final = 1 << 20
STEP: Final = 256  # routes applied between two turns of the loop: about 1 ms


class Log(Protocol):
    """What is needed of the component log."""

    def debug(self, message: str, /, **data: Any) -> None: ...
    def info(self, message: str, /, **data: Any) -> None: ...
    def error(self, message: str, /, **data: Any) -> None: ...


class Tokens(Protocol):
    """Where tokens come from."""

    async def fetch(self, *, force: bool) -> str: ...


class Registry(Protocol):
    """Where routes go to."""

    def register(self, message: Registration, now: float) -> None: ...
    def unregister(self, message: Registration, now: float) -> None: ...


class ModificationTag(msgspec.Struct, frozen=True):
    guid: str = ""
    index: int = 0


class Route(msgspec.Struct, frozen=True):
    """A route as the API shows it; ttl in seconds."""

    route: str = ""
    port: Port = 0
    ip: str = ""
    ttl: int | None = None
    log_guid: str = ""
    route_service_url: str = ""
    modification_tag: ModificationTag = ModificationTag()

    @property
    def identity(self) -> tuple[str, str, int]:
        return self.route, self.ip, self.port

    def registration(self) -> RoutingApiRegistration:
        """A new message for the registry: never TLS, and all names of the app are its log_guid."""
        return RoutingApiRegistration(
            uris=[self.route],
            host=self.ip,
            port=self.port,
            app=self.log_guid,
            server_cert_domain_san=self.log_guid,
            stale_threshold_in_seconds=self.ttl or 0,
            route_service_url=self.route_service_url,
            tag_guid=self.modification_tag.guid,
            tag_index=self.modification_tag.index,
        )


@dataclass(frozen=True)
class Event:
    action: str  # "Upsert" or "Delete"; others are ignored
    route: Route


_decode_routes = msgspec.json.Decoder(list[Route]).decode
_decode_route = msgspec.json.Decoder(Route).decode


class Api:
    """The two requests to the routing API, with a token."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def routes(self, token: str) -> list[Route]:
        """All routes. RequestFailed."""
        status, body = await self._client.fetch(ROUTES, _headers(token))
        _check(status, body)
        try:
            return _decode_routes(body)
        except msgspec.MsgspecError as error:
            raise RequestFailed(f"the routing API's answer is no list of routes: {error}") from None

    async def events(self, token: str, on_open: Callable[[], None]) -> AsyncGenerator[Event, None]:
        """Events as they come; on_open is called once the server has agreed. RequestFailed."""
        headers = {**_headers(token), "Accept": "text/event-stream", "Cache-Control": "no-cache"}
        async with contextlib.aclosing(self._client.stream(EVENTS, headers, silence_s=None)) as stream:
            status = int(await anext(stream))
            if status != 200:
                body = await anext(stream, b"")
                _check(status, body if isinstance(body, bytes) else b"")
            on_open()
            lines = EventLines()
            async for part in stream:
                assert isinstance(part, bytes)
                for name, data in lines.take(part):
                    try:
                        yield Event(name, _decode_route(data))
                    except msgspec.MsgspecError as error:
                        raise RequestFailed(f"not an event of a route: {error}") from None


class EventLines:
    """Reads a text/event-stream piece by piece: names and data of whole events. RequestFailed if one is too long."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def take(self, part: bytes) -> list[tuple[str, bytes]]:
        text = self._rest + part
        ends_in_cr = text.endswith(b"\r")  # its LF may be in the next piece
        lines = (text[:-1] if ends_in_cr else text).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + (b"\r" if ends_in_cr else b"")
        found = [event for line in lines if (event := self._line(line)) is not None]
        if self._size + len(self._rest) > EVENT_BYTES_MAX:
            raise RequestFailed(f"an event has more than {EVENT_BYTES_MAX} bytes")
        return found

    def _line(self, line: bytes) -> tuple[str, bytes] | None:
        if not line:
            event = (self._name, b"\n".join(self._data)) if self._data else None
            self._name, self._data, self._size = "", [], 0
            return event
        self._size += len(line)
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            self._name = value.decode(errors="replace")
        elif field == b"data":
            self._data.append(value)
        return None


@dataclass
class Counts:
    """For metrics; they only grow."""

    token_fetch_errors: int = 0
    subscribe_events_errors: int = 0


class Fetcher:
    """See the head of the file."""

    def __init__(
        self,
        api: Api,
        tokens: Tokens,
        registry: Registry,
        log: Log,
        interval_s: float,
        retry_interval_s: float = RETRY_INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._tokens = tokens
        self._registry = registry
        self._log = log
        self._interval_s = interval_s
        self._retry_interval_s = retry_interval_s
        self._clock = clock
        self._known: dict[tuple[str, str, int], Route] = {}  # the latest list
        self._tasks: list[asyncio.Task[None]] = []
        self.counts = Counts()

    async def check(self) -> None:
        """A token and the list of routes, once. RequestFailed says why not, in gorouter's words."""
        try:
            token = await self._tokens.fetch(force=True)
        except RequestFailed as error:
            raise RequestFailed(f"unable-to-fetch-token: {error}", error.status) from None
        await self._api.routes(token)

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._fetch_forever()), loop.create_task(self._listen_forever())]
        self._log.info("syncer-started")

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- lists ---------------------------------------------------------------------------------------------

    async def _fetch_forever(self) -> None:
        while True:
            try:
                await self.refresh()
            except RequestFailed as error:
                self._log.error("failed-to-fetch-routes", error=str(error))
            await asyncio.sleep(self._interval_s)

    async def refresh(self) -> None:
        """One full list; with a second attempt and a new token after a 401. RequestFailed."""
        self._log.debug("syncer-fetch-routes-started")
        routes: Sequence[Route] = ()
        for force in (False, True):
            self._log.debug("syncer-fetching-token")
            try:
                token = await self._tokens.fetch(force=force)
            except RequestFailed:
                self.counts.token_fetch_errors += 1
                raise
            self._log.debug("syncer-fetching-routes")
            try:
                routes = await self._api.routes(token)
                break
            except RequestFailed as error:
                if force or not error.is_unauthorized:
                    raise
        self._log.debug("syncer-refreshing-endpoints", **{"number-of-routes": len(routes)})
        await self._apply(routes)
        self._log.debug("syncer-fetch-routes-completed")

    async def _apply(self, routes: Sequence[Route]) -> None:
        before, self._known = self._known, {route.identity: route for route in routes}
        gone = [route for identity, route in before.items() if identity not in self._known]
        for number, route in enumerate(gone, 1):
            self._give(self._registry.unregister, route)
            if number % STEP == 0:
                await asyncio.sleep(0)
        for number, route in enumerate(routes, 1):
            self._give(self._registry.register, route)
            if number % STEP == 0:
                await asyncio.sleep(0)

    def _give(self, take: Callable[[Registration, float], None], route: Route) -> None:
        service = route.route_service_url
        if not route.ip or not route.port or (service and not service.startswith("https")):
            self._log.error("route-not-usable", uri=route.route, ip=route.ip, port=route.port, route_service=service)
            return
        take(route.registration(), self._clock())

    # -- events --------------------------------------------------------------------------------------------

    async def _listen_forever(self) -> None:
        force = False
        while True:
            self._log.debug("fetching-token")
            try:
                token = await self._tokens.fetch(force=force)
            except RequestFailed as error:
                self.counts.token_fetch_errors += 1
                self._log.error("failed-to-fetch-token", error=str(error))
            else:
                force = await self._listen(token)
            await asyncio.sleep(self._retry_interval_s)

    async def _listen(self, token: str) -> bool:
        """One subscription, until it ends. True if the token was refused."""
        attempt = 0
        is_open = False

        def opened() -> None:
            nonlocal is_open
            is_open = True
            self._log.info("Successfully-subscribed-to-routing-api-event-stream")

        self._log.info("Subscribing-to-routing-api-event-stream")
        while True:
            try:
                async with contextlib.aclosing(self._api.events(token, opened)) as events:
                    async for event in events:
                        self._take(event)
                error = RequestFailed("EOF")
            except RequestFailed as failure:
                error = failure
            attempt += 1
            if is_open or error.is_unauthorized or attempt > SUBSCRIBE_RETRIES:
                break
            await asyncio.sleep(self._retry_interval_s)
        self.counts.subscribe_events_errors += 1
        message = "failed-getting-next-event: " if is_open else "failed-subscribing-to-routing-api-event-stream"
        self._log.error(message, error=str(error))
        return error.is_unauthorized

    def _take(self, event: Event) -> None:
        route = event.route
        self._log.debug("received-event", action=event.action, uri=route.route, ip=route.ip, port=route.port)
        if event.action == "Upsert":
            self._give(self._registry.register, route)
        elif event.action == "Delete":
            self._give(self._registry.unregister, route)


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"bearer {token}"} if token else {}


def _check(status: int, body: bytes) -> None:
    if status == 401:
        raise RequestFailed("unauthorized", 401)
    if status != 200:
        raise RequestFailed(f"unexpected status {status}: {body[:500].decode(errors='replace')}", status)

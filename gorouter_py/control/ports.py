"""The port map of a running router: public ports opened and closed in all workers, one app behind each.

Entries come from the configuration file (fixed) and from the store (added while running; perhaps by another router
that shares it). An entry whose port cannot be opened stays in the map with its reason and is tried again; the rest
keeps serving. A change is written to the store only when the port is open, and is undone if it cannot be written.

Control loop. Knows neither sockets nor workers: the functions that open and map them are handed in.
"""

import asyncio
import dataclasses
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gorouter_py.control import mappings, store
from gorouter_py.control.admin_api import Refusal
from gorouter_py.control.mappings import Listen, Mapping

PREFIX: Final = "port."
CLOSE_POLL_S: Final = 0.005
CLOSE_POLLS_MAX: Final = 1000
BUSY_TRIES: Final = 20


class Plane(Protocol):
    """The data plane's share: handles are void after unmap_port and remap_port."""

    def map_port(self, fds: Sequence[int], host: str, port: int, cookies: Sequence[str] = ()) -> int: ...
    def remap_port(self, handle: int, host: str, cookies: Sequence[str] = ()) -> int: ...
    def unmap_port(self, handle: int) -> None: ...
    def mapped_listeners(self, handle: int) -> int: ...


class Listener(Protocol):
    def fileno(self) -> int: ...
    def detach(self) -> int: ...
    def close(self) -> None: ...


class Log(Protocol):
    def info(self, message: str, /, **data: object) -> None: ...
    def warn(self, message: str, /, **data: object) -> None: ...
    def error(self, message: str, /, **data: object) -> None: ...


@dataclass(slots=True)
class _Entry:
    mapping: Mapping
    fixed: bool
    handle: int | None = None  # None: not open, see error
    error: str = ""


class Ports:
    """See the head of the file. Methods that change something raise Refusal, and then nothing has changed.

    open_group: one listening socket per worker on an address, OSError if there is something against it;
    has_route: whether a host has a route now."""

    def __init__(
        self,
        plane: Plane,
        open_group: Callable[[str, int], Sequence[Listener]],
        has_route: Callable[[str], bool],
        kept: store.Store,
        fixed: Iterable[Mapping],
        handed_out: mappings.Range | None,
        log: Log,
    ) -> None:
        self._plane = plane
        self._open_group = open_group
        self._has_route = has_route
        self._store = kept
        self._range = handed_out
        self._log = log
        self._entries = {mapping.listen: _Entry(mapping, fixed=True) for mapping in fixed}
        self._busy = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = False

    # -- life ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Opens every entry there is. Those that cannot be opened are told in the log, and tried again by `retry`."""
        async with self._busy:
            self._running = True
            for key, kept in self._store.entries(PREFIX).items():
                self._take_over(key, kept.value)
            for entry in tuple(self._entries.values()):
                await self._try_to_open(entry)
        self._store.watch(PREFIX, self._changed_elsewhere)

    async def retry(self) -> None:
        """Tries once more to open what could not be opened."""
        async with self._busy:
            for entry in tuple(self._entries.values()):
                if entry.handle is None and self._running:
                    await self._try_to_open(entry, again=True)

    def stop(self) -> None:
        """No port is opened from now on; the data plane closes those that are."""
        self._running = False
        for task in tuple(self._tasks):
            task.cancel()

    # -- asking and changing -------------------------------------------------------------------------------

    def list(self) -> list[dict[str, Any]]:
        """Every entry as `add` gives it, by port."""
        ordered = sorted(self._entries, key=lambda listen: (listen.port, listen.address))
        return [self._shown(self._entries[listen]) for listen in ordered]

    async def add(self, value: Any, *, replace: bool = False) -> dict[str, Any]:
        """Maps value["listen"] ("ADDRESS:PORT", or "auto": a port of the configured range) to value["host"].

        With `replace`, the same listen may go over to another host without closing. An entry that is there already
        as asked for is no error. Gives {listen, host, cookies, origin ("file" or "added"), open, error, routed} and,
        for a host without a route, "warning"."""
        async with self._busy:
            if isinstance(value, dict) and value.get("listen") == mappings.AUTO:
                return await self._add_somewhere(value)
            wanted: Mapping = _parsed(mappings.parse, value)
            known = self._entries.get(wanted.listen)
            if known is None:
                return await self._add_new(wanted)
            if known.mapping != wanted:
                self._check_change(known, replace)
                await self._change(known, wanted)
            elif known.handle is None:
                await self._open(known)
            return self._shown(known)

    async def remove(self, listen: str) -> dict[str, Any]:
        """Closes the port and forgets it; gives the entry that was."""
        async with self._busy:
            entry = self._entries.get(_parsed(mappings.parse_listen, listen))
            if entry is None:
                raise Refusal(404, "port_unknown", f"{listen} is not in the port map; `ports list` shows what is")
            if entry.fixed:
                raise Refusal(409, "port_fixed", f"{listen} is in the configuration file; take it out there")
            shown = self._shown(entry)
            await _kept(self._store.delete(PREFIX + str(entry.mapping.listen)))
            await self._drop(entry)
            return shown

    async def _add_somewhere(self, value: dict[str, Any]) -> dict[str, Any]:
        """Maps a port of the range: the one that the host has there, else the first that nobody has."""
        within = self._range
        if within is None:
            raise Refusal(422, "no_range", "no range is configured (gorouter_py.port_map_range); name a port")
        wanted: Mapping = _parsed(mappings.parse, {**value, "listen": str(Listen(within.address, within.first))})
        for listen, entry in self._entries.items():
            inside = listen.address == within.address and within.first <= listen.port <= within.last
            if inside and not entry.fixed and entry.mapping.host == wanted.host:
                return self._shown(entry)
        for listen in within.free(tuple(self._entries)):
            try:
                return await self._add_new(dataclasses.replace(wanted, listen=listen))
            except Refusal as refusal:
                if refusal.code not in ("port_taken", "port_mapped"):
                    raise  # it would be the same with every port
        raise Refusal(409, "range_full", f"no port from {within.first} to {within.last} is free; widen port_map_range")

    def _check_change(self, known: _Entry, replace: bool) -> None:
        listen = known.mapping.listen
        if known.fixed:
            raise Refusal(409, "port_fixed", f"{listen} is in the configuration file, for {known.mapping.host}")
        if not replace:
            reason = f"{listen} is mapped to {known.mapping.host} already; remove that first, or replace it"
            raise Refusal(409, "port_mapped", reason)

    async def _add_new(self, wanted: Mapping) -> dict[str, Any]:
        for other in self._entries:
            if other.overlaps(wanted.listen):
                host = self._entries[other].mapping.host
                raise Refusal(409, "port_overlaps", f"{wanted.listen} overlaps {other}, which is mapped to {host}")
        entry = _Entry(wanted, fixed=False)
        await self._open(entry)
        try:
            await _kept(self._store.put(PREFIX + str(wanted.listen), wanted.value(), 0))
        except Refusal:
            await self._close(entry)
            raise
        self._entries[wanted.listen] = entry
        self._tell("port-mapped", entry)
        return self._shown(entry)

    async def _change(self, entry: _Entry, wanted: Mapping) -> None:
        before = entry.mapping
        await _kept(self._store.put(PREFIX + str(wanted.listen), wanted.value()))
        entry.mapping = wanted
        try:
            await self._apply(entry)
        except Refusal:
            entry.mapping = before
            await _kept(self._store.put(PREFIX + str(before.listen), before.value()))
            raise
        self._tell("port-mapped", entry)

    def _shown(self, entry: _Entry) -> dict[str, Any]:
        shown = {
            **entry.mapping.value(),
            "origin": "file" if entry.fixed else "added",
            "open": entry.handle is not None,
            "error": entry.error,
            "routed": self._has_route(entry.mapping.host),
        }
        if not shown["routed"]:
            shown["warning"] = f"{entry.mapping.host} has no route now; clients get 404 until an instance registers"
        return shown

    def _tell(self, message: str, entry: _Entry) -> None:
        shown = self._shown(entry)
        tell = self._log.info if shown["routed"] else self._log.warn
        tell(message, listen=shown["listen"], host=shown["host"], routed=shown["routed"])

    # -- changes of others ---------------------------------------------------------------------------------

    def _changed_elsewhere(self, key: str, kept: store.Entry | None) -> None:
        task = asyncio.get_running_loop().create_task(self._follow(key, kept))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, key: str, kept: store.Entry | None) -> None:
        try:
            async with self._busy:
                if not self._running:
                    return
                if kept is not None:
                    entry = self._take_over(key, kept.value)
                    if entry is not None:
                        await self._try_to_open(entry)
                    return
                entry = self._entries.get(mappings.parse_listen(key.removeprefix(PREFIX)))
                if entry is not None and not entry.fixed:
                    await self._drop(entry)
        except Exception:
            self._log.error("port-map-not-followed", key=key, error=traceback.format_exc())

    def _take_over(self, key: str, value: Any) -> _Entry | None:
        """The entry of what the store says; None for what is not usable here, which is told."""
        try:
            mapping = mappings.parse(value)
        except ValueError as error:
            self._log.error("port-map-entry-unfit", key=key, error=str(error))
            return None
        known = self._entries.get(mapping.listen)
        for other, entry in self._entries.items():
            if other.overlaps(mapping.listen) and (entry is not known or entry.fixed):
                if entry.mapping != mapping:
                    clash = f"{mapping.listen} overlaps {other}, which is mapped to {entry.mapping.host}"
                    self._log.error("port-map-entry-unfit", key=key, error=clash)
                return None
        if known is None:
            known = self._entries[mapping.listen] = _Entry(mapping, fixed=False)
        known.mapping = mapping
        return known

    # -- opening and closing -------------------------------------------------------------------------------

    async def _try_to_open(self, entry: _Entry, *, again: bool = False) -> None:
        try:
            await self._apply(entry)
        except Refusal as refusal:
            if not again or entry.error != refusal.reason:
                listen, host = str(entry.mapping.listen), entry.mapping.host
                self._log.error("port-not-opened", listen=listen, host=host, error=refusal.reason)
            entry.error = refusal.reason
        else:
            self._tell("port-opened", entry)

    async def _apply(self, entry: _Entry) -> None:
        """Makes the data plane have what the entry says."""
        if entry.handle is None:
            await self._open(entry)
            return
        mapping, handle = entry.mapping, entry.handle
        entry.handle = await _patient(lambda: self._plane.remap_port(handle, mapping.host, mapping.cookies))

    async def _open(self, entry: _Entry) -> None:
        mapping = entry.mapping
        if not self._running:
            raise Refusal(503, "not_serving", "the router is starting or ending; try again")
        try:
            listeners = self._open_group(mapping.listen.address, mapping.listen.port)
        except OSError as error:
            raise Refusal(409, "port_taken", str(error)) from None
        fds = [listener.fileno() for listener in listeners]
        try:
            port = mapping.listen.port
            entry.handle = await _patient(lambda: self._plane.map_port(fds, mapping.host, port, mapping.cookies))
        except BaseException:
            for listener in listeners:
                listener.close()
            raise
        for listener in listeners:
            listener.detach()  # the data plane's from here on
        entry.error = ""

    async def _drop(self, entry: _Entry) -> None:
        await self._close(entry)
        del self._entries[entry.mapping.listen]
        self._log.info("port-unmapped", listen=str(entry.mapping.listen), host=entry.mapping.host)

    async def _close(self, entry: _Entry) -> None:
        """Returns when the port is free again."""
        handle, entry.handle = entry.handle, None
        if handle is None or not self._running:
            return
        await _patient(lambda: self._plane.unmap_port(handle))
        for _ in range(CLOSE_POLLS_MAX):
            if self._plane.mapped_listeners(handle) == 0:
                return
            await asyncio.sleep(CLOSE_POLL_S)
        self._log.error("port-not-closed", listen=str(entry.mapping.listen), error="a worker does not answer")


def _parsed(parse: Callable[[Any], Any], value: Any) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise Refusal(422, "unfit", str(error)) from None


async def _kept(writing: Any) -> None:
    try:
        await writing
    except store.Conflict:
        reason = "another router has mapped this port just now; `ports list` shows it"
        raise Refusal(409, "port_mapped", reason) from None
    except store.Unavailable as error:
        raise Refusal(503, "not_kept", f"the port map could not be written: {error}") from None


async def _patient(action: Callable[[], Any]) -> Any:
    """The result of a command to the workers, whose mailboxes may be full for a moment."""
    for _ in range(BUSY_TRIES):
        try:
            return action()
        except BlockingIOError:
            await asyncio.sleep(CLOSE_POLL_S)
        except RuntimeError as error:
            raise Refusal(503, "not_serving", f"the router is starting or ending: {error}") from None
    raise Refusal(503, "busy", "the workers are busy; try again")

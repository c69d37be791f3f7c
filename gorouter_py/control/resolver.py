"""Host names of instances: the data plane sees socket addresses only, so names are resolved here, again and again.

Owns the watched names and their last known addresses. A name is resolved in the loop's thread pool when it is first
watched and every `interval_s` after that; when its set of addresses changes, `on_change` is told. A name that cannot
be resolved keeps the addresses it had: an outage of the name server must not take instances away.

Called on the control thread. Does not decide which addresses are used, and does not touch the route table.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final, Protocol

INTERVAL_S: Final = 30.0
LOOKUPS_AT_ONCE: Final = 16  # the thread pool is shared with everything else


class Log(Protocol):
    def warn(self, message: str, /, **data: object) -> None: ...
    def info(self, message: str, /, **data: object) -> None: ...


class _Name:
    __slots__ = ("addresses", "failed", "users")

    def __init__(self) -> None:
        self.users = 0
        self.addresses: tuple[str, ...] = ()
        self.failed = False


class Resolver:
    """See the head of the file. Names may be watched before start(); they are resolved once it runs."""

    def __init__(self, log: Log, interval_s: float = INTERVAL_S) -> None:
        self._log = log
        self._interval_s = interval_s
        self._names: dict[str, _Name] = {}
        self._waiting: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.on_change: Callable[[str, tuple[str, ...]], None] | None = None

    def watch(self, host: str) -> tuple[str, ...]:
        """Adds a user of the name; returns the addresses known by now (none at first)."""
        name = self._names.get(host)
        if name is None:
            name = self._names[host] = _Name()
            self._waiting.add(host)
            self._wake.set()
        name.users += 1
        return name.addresses

    def unwatch(self, host: str) -> None:
        """Takes a user of the name away; with the last one it is forgotten."""
        name = self._names[host]
        name.users -= 1
        if name.users == 0:
            del self._names[host]
            self._waiting.discard(host)

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def settled(self, timeout_s: float) -> bool:
        """Resolves what waits now, before the first listener opens; False if the time did not suffice."""
        try:
            await asyncio.wait_for(self._resolve_waiting(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._interval_s
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), max(0.0, due - loop.time()))
            except TimeoutError:
                due = loop.time() + self._interval_s
                self._waiting.update(self._names)
            await self._resolve_waiting()

    async def _resolve_waiting(self) -> None:
        self._wake.clear()
        hosts = list(self._waiting)
        self._waiting.clear()
        for start in range(0, len(hosts), LOOKUPS_AT_ONCE):
            await asyncio.gather(*(self._resolve(host) for host in hosts[start : start + LOOKUPS_AT_ONCE]))

    async def _resolve(self, host: str) -> None:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # UnicodeError: no name at all, e.g. an empty label
            name = self._names.get(host)
            if name is not None and not name.failed:
                name.failed = True
                self._log.warn("name-not-resolved", host=host, error=str(error), kept=name.addresses)
            return
        # A link-local IPv6 address is of no use without its zone, which the table does not hold.
        known = {str(entry[4][0]) for entry in found if "%" not in str(entry[4][0])}
        addresses = tuple(sorted(known, key=lambda address: (":" in address, address)))
        name = self._names.get(host)
        if name is None or not addresses:
            return
        if name.failed:
            name.failed = False
            self._log.info("name-resolved-again", host=host, addresses=addresses)
        if addresses != name.addresses:
            name.addresses = addresses
            if self.on_change is not None:
                self.on_change(host, addresses)

"""All containers of a server: their handles, what they borrow from the pools, their making, end and return.

It knows no connection and no protocol. `start` takes up what an earlier server left; `leave` writes down what stays.
"""

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gorouter_py.component import Logger
from warden import snapshot
from warden.container import Container, Host
from warden.engine.api import EngineError
from warden.errors import WardenError
from warden.pools import Pool
from warden.snapshot import Resources, Snapshot
from warden.state import State

_DIGITS = "0123456789abcdefghijklmnopqrstuv"
ID_LENGTH = 11  # a network interface has up to 15 characters: "w-", the id, "-0"


@dataclass
class Pools:
    networks: Pool[str]
    ports: Pool[int]
    uids: Pool[int]


def base32(number: int) -> str:
    """The last ID_LENGTH digits of a number, in base 32."""
    digits = ""
    for _ in range(ID_LENGTH):
        number, digit = divmod(number, 32)
        digits = _DIGITS[digit] + digits
    return digits


class Manager:
    def __init__(self, host: Host, pools: Pools, rootfs: Path, grace_time: float | None, log: Logger) -> None:
        self.host = host
        self.pools = pools
        self.containers: dict[str, Container] = {}
        self._rootfs = rootfs
        self._grace_time = grace_time
        self._log = log
        self._next_id = time.time_ns() // 1000
        self._handles_taken: set[str] = set()  # of containers that are on their way
        self._tasks: set[asyncio.Task[None]] = set()

    # -- life -----------------------------------------------------------------------------------------------

    def find(self, handle: str) -> Container:
        try:
            return self.containers[handle]
        except KeyError:
            raise WardenError("unknown handle") from None

    async def create(
        self,
        handle: str | None = None,
        grace_time: float | None = None,
        network: str | None = None,
        rootfs: str | None = None,
        bind_mounts: Iterable[tuple[str, str, bool]] = (),
    ) -> Container:
        """A container that runs. WardenError or EngineError if it cannot be had; then nothing of it is left."""
        mounts = list(bind_mounts)
        container_id = base32(self._next_id)
        self._next_id += 1
        handle = handle or container_id
        if handle in self.containers or handle in self._handles_taken:
            raise WardenError(f"container with handle: {handle} already exists.")
        for src, _, _ in mounts:
            if not Path(src).exists():
                raise WardenError(f"Source path for bind mount does not exist: {src}")
        chosen = Path(rootfs) if rootfs else self._rootfs
        if self.host.engine.isolated and not chosen.is_dir():
            raise WardenError(f"rootfs {chosen} not found")
        resources = Resources(container_id, handle, rootfs=str(chosen), bind_mounts=mounts)
        if grace_time is None:
            grace_time = self._grace_time
        self._handles_taken.add(handle)
        try:
            self._borrow(resources, network)
            container = self._container(resources, grace_time)
            try:
                await container.create()
            except BaseException:
                self._give_back(resources)
                raise
            self.containers[handle] = container
        finally:
            self._handles_taken.discard(handle)
        return container

    async def destroy(self, container: Container) -> None:
        """The container goes, and what it borrowed is free again. EngineError if something of it stays."""
        async with container.ending:
            if self.containers.get(container.handle) is not container:
                raise WardenError("unknown handle")
            await container.destroy()
            del self.containers[container.handle]
            self._give_back(container.resources)

    async def net_in(self, container: Container, host_port: int | None, container_port: int | None) -> tuple[int, int]:
        """(host port, container port) of a new forwarding; a port of the pool where the request names none."""
        container.check("net_in")
        borrowed = not host_port
        port = host_port or self.pools.ports.acquire()
        try:
            return port, await container.net_in(port, container_port or port, borrowed)
        except BaseException:
            if borrowed:
                self.pools.ports.release(port)
            raise

    def _container(self, resources: Resources, grace_time: float | None) -> Container:
        return Container(self.host, resources, grace_time, self._grace_ended)

    def _grace_ended(self, container: Container) -> None:
        self.background(self.destroy(container), f"destroy {container.handle}")

    def background(self, work: Coroutine[Any, Any, None], what: str) -> None:
        """Does something for which nobody waits; an error is logged."""

        async def guarded() -> None:
            try:
                await work
            except (WardenError, EngineError) as error:
                self._log.error("failed", what=what, reason=str(error))

        task = asyncio.create_task(guarded(), name=what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Waits for what goes on in the background."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    # -- what containers borrow -----------------------------------------------------------------------------

    def _borrow(self, resources: Resources, network: str | None) -> None:
        resources.uid = self.pools.uids.acquire()
        try:
            if network is None:
                resources.network = self.pools.networks.acquire()
            elif self.pools.networks.take(network):
                resources.network = network
            else:
                raise WardenError(f"Could not acquire network: {network}")
        except WardenError:
            self.pools.uids.release(resources.uid)
            raise

    def _give_back(self, resources: Resources) -> None:
        self.pools.uids.release(resources.uid)
        self.pools.networks.release(resources.network)
        for port in resources.ports:
            self.pools.ports.release(port)

    def _take_again(self, resources: Resources) -> None:
        """What a container had before the restart; a pool that was moved since then does not know it."""
        known = self.pools.uids.take(resources.uid) and self.pools.networks.take(resources.network)
        if not (known and all([self.pools.ports.take(port) for port in resources.ports])):
            self._log.warn("a container has what is in no pool", handle=resources.handle)

    # -- restart --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Takes up the containers of an earlier server that are whole, and removes all others."""
        self.host.depot.mkdir(parents=True, exist_ok=True)
        folders = sorted(path for path in self.host.depot.iterdir() if len(path.name) == ID_LENGTH and path.is_dir())
        for folder in folders:
            old = snapshot.read(folder, snapshot.SNAPSHOT, Snapshot)
            if old is None or not await self._restore(old):
                await self._remove(folder.name)
        known = {container.resources.container_id for container in self.containers.values()}
        for container_id in sorted(await self.host.engine.leftovers() - known):
            await self._remove(container_id)
        for container in self.containers.values():
            container.start_grace()

    async def _restore(self, old: Snapshot) -> bool:
        container = self._container(old.resources, old.grace_time)
        try:
            if not await container.restore(old):
                return False
        except (EngineError, WardenError, ValueError, OSError) as error:
            self._log.error("not restored", handle=old.resources.handle, reason=str(error))
            return False
        self._take_again(old.resources)
        self.containers[container.handle] = container
        self.host.last_job_id = max(self.host.last_job_id, *(int(name) for name in old.jobs), 0)
        self._log.info("restored", handle=container.handle, id=old.resources.container_id)
        return True

    async def _remove(self, container_id: str) -> None:
        """A container that is dead or half made."""
        folder = self.host.depot / container_id
        resources = snapshot.read(folder, snapshot.RESOURCES, Resources)
        if resources is None or resources.container_id != container_id:
            resources = Resources(container_id, container_id, rootfs=str(self._rootfs))
        container = self._container(resources, None)
        container.state = State.DESTROYED
        self._log.info("removing what an earlier server left", id=container_id)
        with contextlib.suppress(OSError):
            folder.mkdir()
        try:
            await container.adopt_jobs()
            await container.destroy()
        except EngineError as error:
            self._log.error("not removed", id=container_id, reason=str(error))

    async def leave(self) -> None:
        """The server goes; the containers stay as they are written down."""
        await self.settle()
        for container in self.containers.values():
            await container.leave()

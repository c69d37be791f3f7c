"""The real engine: containers by runc, with limits, a network and a disk layer of their own.

What belongs to one server carries its tag, made of its name and depot, so that several servers share a machine:
the nftables table, the cgroup parent, the group number of links. Its own folder in the depot is `.engine`:

    disk.img, disk/    the image of the layers, and where it is mounted       (see `disk`)
    runc/              what runc remembers

A container is in the depot at `<id>`: config.json, init.pid, runc.log, tmp/rootfs (the merged file system).
Blocking steps run in threads; independent ones side by side.
"""

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from gorouter_py.component import Logger
from warden.engine import bundle, cgroup, copy, disk, kernel, rootfs
from warden.engine.api import EngineError, Flow, Info, Limits, Settings, Spec
from warden.engine.firewall import Firewall
from warden.engine.forwarding import Forwarding
from warden.engine.network import Network
from warden.engine.shaping import Shaper

INIT = "catatonit"
Figures = TypeVar("Figures")
_ID_LENGTH = 11
_GRACE_S = 10.0  # between the first TERM and KILL
_TERM_S = 1.0
_POLL_S = 0.02
_REPORT_S = 0.2


def tag(settings: Settings) -> str:
    """Names what is this server's on the machine."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(settings.depot))).hexdigest()
    return f"{settings.name}_{digest[:8]}"


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


class RuncEngine:
    name = "runc"
    isolated = True
    leaves_orphans = True

    def __init__(self, settings: Settings, log: Logger) -> None:
        self._settings = settings
        self._log = log
        self._base = Path(os.path.realpath(settings.depot)) / ".engine"  # as the mount table names it
        self._state = self._base / "runc"
        self._tag = tag(settings)
        group = int(hashlib.sha256(self._tag.encode()).hexdigest()[:8], 16) >> 1 | 1 << 16
        self._network = Network(group, settings.mtu)
        self._shaper = Shaper(self._network, settings.mtu)
        self._firewall = Firewall(self._tag, settings)
        self._forwarding = Forwarding(self._tag)
        self._layers = disk.find(self._base, settings.depot, settings.disk_image_size, settings.disk_limits)
        self._groups: cgroup.Groups | None = None
        self._init = Path()
        self._watches: dict[str, int] = {}

    # -- the server's start and end ---------------------------------------------------------------------------

    async def setup(self) -> None:
        missing = [name for name in ("runc", "nft", INIT, "mount") if not shutil.which(name)]
        if missing:
            raise EngineError(f"missing: {', '.join(missing)}; `warden doctor` says how to get it")
        if os.geteuid() != 0:
            raise EngineError("containers need root; start the server as root, or with the insecure engine")
        self._init = Path(shutil.which(INIT) or "")
        try:
            self._groups = cgroup.find(self._tag)
            await asyncio.to_thread(self._network.check, self._settings.pool_network)
            await asyncio.to_thread(self._make_base)
            await self._firewall.setup()
            await asyncio.to_thread(self._forwarding.acquire)
            await asyncio.to_thread(self._groups.make_parent)
        except OSError as error:
            raise EngineError(_reason(error)) from error
        if self._layers.remark:
            self._log.warn("disk limits without btrfs", layers=self._layers.name, missing=disk.lacking())

    def _make_base(self) -> None:
        self._state.mkdir(parents=True, exist_ok=True)
        self._base.chmod(0o700)
        self._layers.setup()

    async def teardown(self) -> None:
        for container_id in list(self._watches):
            self._unwatch(container_id)
        failures: list[Exception] = []
        try:
            await self._firewall.teardown()
        except EngineError as error:
            failures.append(error)
        failures += await kernel.attempt(
            self._forwarding.release,
            self._cgroups.remove_parent,
            self._layers.teardown,
            lambda: shutil.rmtree(self._base),
        )
        if failures:
            raise EngineError("; ".join(map(_reason, failures)))

    @property
    def _cgroups(self) -> cgroup.Groups:
        if self._groups is None:
            raise EngineError("the engine is not set up")
        return self._groups

    # -- a container's start and end --------------------------------------------------------------------------

    async def create(self, spec: Spec) -> None:
        making = asyncio.ensure_future(self._create(spec))
        try:
            await asyncio.shield(making)
        except BaseException as error:
            await asyncio.shield(self._undo(spec, making))
            if isinstance(error, OSError):
                raise EngineError(_reason(error)) from error
            raise

    async def _undo(self, spec: Spec, making: asyncio.Future[None]) -> None:
        """Takes down what a creation that failed, or that nobody waits for any more, has made."""
        # Its threads and processes cannot be called off: what they make after the clean-up would stay.
        await asyncio.wait([making])
        if not making.cancelled():
            making.exception()
        try:
            await self._remove(spec)
        except EngineError as left:
            self._log.error("half a container is left", container=spec.container_id, reason=str(left))

    async def _create(self, spec: Spec) -> None:
        namespace = -1
        made = await asyncio.gather(
            asyncio.to_thread(self._network.create, spec),
            asyncio.to_thread(self._prepare, spec),
            self._firewall.add(spec),
            return_exceptions=True,  # all have ended before anything is cleaned up
        )
        if isinstance(made[0], int):
            namespace = made[0]
        try:
            for result in made:
                if isinstance(result, BaseException):
                    raise result
            self._write_config(spec, f"/proc/{os.getpid()}/fd/{namespace}")
            await asyncio.gather(self._run(spec), asyncio.to_thread(self._network.start, spec))
        finally:
            if namespace >= 0:
                os.close(namespace)

    def _prepare(self, spec: Spec) -> None:
        self._layers.add(spec.container_id)
        rootfs.mount(spec, self._settings, self._layers.folder(spec.container_id))

    def _write_config(self, spec: Spec, namespace: str) -> None:
        binds = (*rootfs.binds(spec.rootfs), *spec.bind_mounts)
        groups = f"/{self._tag}/{spec.container_id}"
        root = Path(os.path.realpath(rootfs.merged(spec)))  # runc takes no path with a link in it
        config = bundle.config(spec, self._settings, root, binds, self._init, namespace, groups)
        (spec.path / "config.json").write_text(json.dumps(config))

    def _runc(self, spec: Spec, *command: str) -> list[str]:
        log = str(spec.path / "runc.log")
        return ["runc", "--root", str(self._state), "--log", log, "--log-format", "json", *command]

    async def _run(self, spec: Spec) -> None:
        """Starts the init. Its outputs are nobody's: an init that held ours would keep us waiting for their end."""
        command = self._runc(spec, "run", "--detach", "--bundle", str(spec.path), "--pid-file")
        process = await asyncio.create_subprocess_exec(
            *command, str(spec.path / "init.pid"), spec.container_id,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        if await process.wait():
            raise EngineError(f"runc: {self._complaint(spec) or f'exit status {process.returncode}'}")
        if not self._settings.allow_nested:
            await asyncio.to_thread(self._cgroups.restrict_devices, spec.container_id, bundle.DEVICES)

    def _complaint(self, spec: Spec) -> str:
        """The last error that runc wrote to its log."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            lines = [json.loads(line) for line in (spec.path / "runc.log").read_text().splitlines()]
            return str(next(line["msg"] for line in reversed(lines) if line["level"] in ("error", "fatal")))
        return ""

    def _init_pid(self, spec: Spec) -> int:
        """0 if there is no init, or it is none of the container's."""
        try:
            pid = int((spec.path / "init.pid").read_text())
        except (OSError, ValueError):
            return 0
        return pid if pid in self._cgroups.pids(spec.container_id) else 0

    async def restore(self, spec: Spec, flows: Sequence[Flow], ports: Sequence[tuple[int, int]]) -> bool:
        if not self._init_pid(spec) or spec.container_id not in await asyncio.to_thread(self._network.ids):
            return False
        await self._firewall.add(spec, flows, ports)
        try:
            await asyncio.to_thread(self._network.start, spec)  # a crash may have come between start and snapshot
        except (OSError, EngineError) as error:
            self._log.warn("container without a network", container=spec.container_id, reason=_reason(error))
            return False
        return True

    async def leftovers(self) -> set[str]:
        def collect() -> set[str]:
            found = self._cgroups.ids() | self._network.ids() | self._layers.ids() | self._mounted()
            return found | {entry.name for entry in os.scandir(self._state)} | self._firewall.ids()

        return {name for name in await asyncio.to_thread(collect) if len(name) == _ID_LENGTH}

    def _mounted(self) -> set[str]:
        """Folders of the depot below which something is mounted."""
        depot = Path(os.path.realpath(self._settings.depot))
        below = [mount.target.relative_to(depot) for mount in kernel.mounts() if mount.target.is_relative_to(depot)]
        return {path.parts[0] for path in below if path.parts}

    async def stop(self, spec: Spec, kill: bool) -> None:
        init = self._init_pid(spec)
        kill_at = time.monotonic() + (0.0 if kill else _GRACE_S)
        term_at = 0.0
        while others := set(self._cgroups.pids(spec.container_id)) - {init}:
            now = time.monotonic()
            if now >= kill_at:
                gone = await asyncio.to_thread(cgroup.empty, self._cgroups, spec.container_id, init)
                if not gone:
                    raise EngineError(f"processes do not end: {sorted(others)}")
                return
            if now >= term_at:
                term_at = now + _TERM_S
                for pid in others:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
            await asyncio.sleep(_POLL_S)

    async def destroy(self, spec: Spec) -> None:
        await self._remove(spec)
        await asyncio.to_thread(shutil.rmtree, spec.path, ignore_errors=True)
        if spec.path.exists():
            raise EngineError(f"{spec.path} cannot be removed")

    async def _remove(self, spec: Spec) -> None:
        """All but the folder in the depot, which names the container until the rest is gone."""
        container_id = spec.container_id
        self._unwatch(container_id)
        self._shaper.forget(container_id)
        if not await asyncio.to_thread(cgroup.empty, self._cgroups, container_id):
            raise EngineError(f"processes do not end: {self._cgroups.pids(container_id)}")
        results = await asyncio.gather(
            self._firewall.remove(container_id),
            kernel.attempt(lambda: self._network.remove(container_id)),
            kernel.attempt(
                lambda: kernel.unmount(rootfs.merged(spec)),
                lambda: self._layers.remove(container_id),
            ),
            kernel.attempt(
                lambda: self._cgroups.remove(container_id),
                lambda: shutil.rmtree(self._state / container_id, ignore_errors=True),
            ),
            return_exceptions=True,
        )
        failures = [one for result in results for one in (result if isinstance(result, list) else [result]) if one]
        if failures:
            raise EngineError("; ".join(map(_reason, failures)))

    # -- jobs ---------------------------------------------------------------------------------------------------

    def job_argv(self, spec: Spec, user: str, rlimits: Mapping[str, int], pid_file: Path) -> list[str]:
        process = pid_file.with_name("process.json")
        process.write_text(json.dumps(bundle.process(user, spec.uid, rlimits, self._settings.allow_nested)))
        runc = ["runc", "--root", str(self._state), "exec", "--detach", "--process", str(process)]
        return [*runc, "--pid-file", str(pid_file), spec.container_id]

    async def _copy(self, way: str, spec: Spec, src: str, dst: str, owner: tuple[int, int]) -> None:
        init = self._init_pid(spec)
        if not init:
            raise EngineError("the container's init is gone")
        program = (sys.executable, "-I", "-S", copy.__file__, way)
        try:
            await kernel.run(*program, str(init), src, dst, *map(str, owner))
        except EngineError as error:
            raise EngineError(f"copying {src} to {dst}: {error}") from error

    async def copy_in(self, spec: Spec, src: str, dst: str) -> None:
        await self._copy("in", spec, src, dst, (spec.uid, spec.uid))

    async def copy_out(self, spec: Spec, src: str, dst: str, owner: str | None) -> None:
        await self._copy("out", spec, src, dst, (os.getuid(), os.getgid()))
        if owner:
            await kernel.run("chown", "-R", "-h", "--", owner, dst)

    # -- network ------------------------------------------------------------------------------------------------

    async def net_in(self, spec: Spec, host_port: int, container_port: int) -> int:
        await self._firewall.forward(spec, host_port, container_port)
        return container_port

    async def net_out(self, spec: Spec, flow: Flow) -> None:
        await self._firewall.open(spec, flow)

    # -- limits -------------------------------------------------------------------------------------------------

    async def limit_memory(self, spec: Spec, limit: int) -> None:
        await self._quick(self._cgroups.limit_memory, spec.container_id, limit)

    async def limit_cpu(self, spec: Spec, shares: int) -> None:
        await self._quick(self._cgroups.limit_cpu, spec.container_id, shares)

    async def limit_bandwidth(self, spec: Spec, rate: int, burst: int) -> None:
        await self._quick(self._shaper.limit, spec.container_id, rate, burst)

    async def limit_disk(self, spec: Spec, byte: int | None, inode: int | None) -> None:
        if inode and self._layers.name == "btrfs":
            self._log.warn("inodes are not limited on btrfs", container=spec.container_id, wanted=inode)
        await self._quick(self._layers.limit, spec.container_id, byte, inode)

    async def _quick(self, function: Callable[..., object], *arguments: object) -> None:
        """A blocking step; what the kernel says becomes the client's error."""
        try:
            await asyncio.to_thread(function, *arguments)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "")
            raise EngineError(f"{name} {error.strerror or error}".strip()) from error

    async def read_limits(self, spec: Spec) -> Limits:
        def read() -> Limits:
            container_id = spec.container_id
            rate, burst = self._shaper.limits(container_id)
            byte, inode = self._layers.limits(container_id)
            memory, shares = self._cgroups.memory_limit(container_id), self._cgroups.cpu_shares(container_id)
            return Limits(memory, shares, rate, burst, byte, inode)

        try:
            return await asyncio.to_thread(read)
        except OSError as error:
            raise EngineError(_reason(error)) from error

    async def info(self, spec: Spec) -> Info:
        container_id = spec.container_id

        def get(what: str, function: Callable[[str], Figures]) -> Figures:
            try:
                return function(container_id)
            except OSError as error:
                raise EngineError(f"Failed getting {what}: {_reason(error)}") from error

        def read() -> Info:
            return Info(
                get("memory usage", self._cgroups.memory_stat),
                get("cpu stats", self._cgroups.cpu_stat),
                get("disk usage", self._layers.usage) if self._layers.limited else None,
                get("bandwidth", self._shaper.stat),
                (self._layers.remark,) if self._layers.remark else (),
            )

        return await asyncio.to_thread(read)

    def on_out_of_memory(self, spec: Spec, callback: Callable[[], None]) -> None:
        container_id = spec.container_id
        self._unwatch(container_id)
        try:
            descriptor, is_out = self._cgroups.watch_memory(container_id)
        except OSError as error:
            raise EngineError(_reason(error)) from error
        self._watches[container_id] = descriptor

        loop = asyncio.get_running_loop()

        def readable() -> None:
            if is_out():
                self._unwatch(container_id)
                # Whoever hears of it stops the container. The kernel kills a process at the same time, and the shell
                # that waits for that one is to report it first.
                loop.call_later(_REPORT_S, callback)

        loop.add_reader(descriptor, readable)

    def _unwatch(self, container_id: str) -> None:
        descriptor = self._watches.pop(container_id, None)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

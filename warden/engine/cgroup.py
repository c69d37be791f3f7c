"""The cgroups of containers: `<hierarchy>/<parent>/<container id>` in each hierarchy of the machine.

`find` gives the one object that knows the layout: `V1` (one hierarchy for each controller, also when v2 is mounted
beside them), or `V2` (one hierarchy). Both show the same limits and statistics, in v1's words: shares, memory.stat.
Functions are quick reads and writes of small files; they raise OSError. Creating the groups is runc's work.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from warden.engine import kernel
from warden.engine.api import CpuStat

Devices = Iterable[tuple[int, int | None]]  # major, minor; None: all of that major
_UNLIMITED = 1 << 62  # v1 shows a number near 2^63 where there is no limit
_TICK_NS = 10_000_000  # USER_HZ is 100 on every architecture of Linux
_POLL_S = 0.005
_FREEZE_AFTER = 5  # rounds of plain kills before a group that keeps forking is frozen first
# The statistics of a container's memory, each also as total_*; and the two that stand alone.
_MEMORY_STATS = (
    "cache", "rss", "mapped_file", "pgpgin", "pgpgout", "swap", "pgfault", "pgmajfault", "inactive_anon", "active_anon",
    "inactive_file", "active_file", "unevictable",
)  # fmt: skip
_MEMORY_LIMITS = ("hierarchical_memory_limit", "hierarchical_memsw_limit")
_SHOWN = {*_MEMORY_STATS, *(f"total_{name}" for name in _MEMORY_STATS), *_MEMORY_LIMITS}
_NOT_CONTROLLERS = {"rw", "ro", "xattr", "clone_children", "noprefix"}
# Statistics of v2 by the names they have in v1.
_MEMORY_NAMES = {
    "file": "cache", "anon": "rss", "file_mapped": "mapped_file", "pgfault": "pgfault", "pgmajfault": "pgmajfault",
    "inactive_anon": "inactive_anon", "active_anon": "active_anon", "inactive_file": "inactive_file",
    "active_file": "active_file", "unevictable": "unevictable",
}  # fmt: skip


class Groups(Protocol):
    """Groups of one server, by container id."""

    parent: str

    def controllers(self) -> set[str]:
        """Those that the machine offers; on v2 pids, devices and freezing need none to be named."""

    def ids(self) -> set[str]: ...

    def pids(self, container_id: str) -> list[int]:
        """Processes as the host numbers them; empty if there is no such group."""

    def kill(self, container_id: str, spared: int = 0) -> None:
        """One KILL to all but `spared`, in such a way that none gets away by forking after some rounds."""

    def remove(self, container_id: str) -> None:
        """Removes the groups of a container, when no process is in them, or OSError."""

    def make_parent(self) -> None:
        """Makes the parent where it is not there; runc makes the groups in it."""

    def remove_parent(self) -> None:
        """Removes the parent if no container is left; else leaves it."""

    def limit_memory(self, container_id: str, limit: int) -> None: ...

    def memory_limit(self, container_id: str) -> int | None: ...

    def limit_cpu(self, container_id: str, shares: int) -> None: ...

    def cpu_shares(self, container_id: str) -> int | None: ...

    def memory_stat(self, container_id: str) -> dict[str, int]: ...

    def cpu_stat(self, container_id: str) -> CpuStat: ...

    def restrict_devices(self, container_id: str, devices: Devices) -> None:
        """Exactly these character devices, to read and write; runc leaves some more open."""

    def watch_memory(self, container_id: str) -> tuple[int, Callable[[], bool]]:
        """A descriptor that becomes readable, and a function to call then: is it out of memory?"""


def find(parent: str, mounts: Iterable[kernel.Mount] | None = None) -> Groups:
    """The machine's layout. OSError if there are no cgroups, or no memory controller among them."""
    controllers: dict[str, Path] = {}
    unified: Path | None = None
    for mount in kernel.mounts() if mounts is None else mounts:
        if mount.kind == "cgroup2" and unified is None:
            unified = mount.target
        elif mount.kind == "cgroup":
            for option in mount.options:
                if option not in _NOT_CONTROLLERS:
                    controllers.setdefault(option, mount.target)
    if "memory" in controllers:
        return V1(parent, controllers, unified)
    if unified is not None and "memory" in (unified / "cgroup.controllers").read_text().split():
        return V2(parent, unified)
    raise OSError("no cgroup hierarchy with a memory controller is mounted")


def _number(path: Path) -> int:
    return int(path.read_text())


def _table(path: Path) -> dict[str, int]:
    """A file of lines "name number"."""
    found = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(" ")
        found[name] = int(value)
    return found


def _listed(folder: Path) -> list[int]:
    try:
        return [int(line) for line in (folder / "cgroup.procs").read_text().split()]
    except (FileNotFoundError, OSError):
        return []


def _folders(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in os.scandir(folder) if entry.is_dir()}
    except FileNotFoundError:
        return set()


def _remove_tree(folder: Path) -> None:
    """rmdir of a group and of the groups that were made in it. A group is busy for a moment after its last process."""
    deadline = time.monotonic() + 2
    for inner in sorted(_folders(folder)):
        _remove_tree(folder / inner)
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)


def _signal_all(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def empty(groups: Groups, container_id: str, spared: int = 0, timeout_s: float = 10.0) -> bool:
    """Kills until none but `spared` is left in the group; False if some still are. Blocks."""
    deadline = time.monotonic() + timeout_s
    while set(groups.pids(container_id)) - {spared}:
        if time.monotonic() > deadline:
            return False
        groups.kill(container_id, spared)
        time.sleep(_POLL_S)
    return True


class V1:
    """One hierarchy per controller; several may share one mount (cpu,cpuacct). Where v2 is mounted beside them, runc
    makes groups in it as well, which limit nothing."""

    def __init__(self, parent: str, controllers: Mapping[str, Path], unified: Path | None) -> None:
        self.parent = parent
        self._controllers = dict(controllers)
        self._hierarchies = {*controllers.values()} | ({unified} if unified else set())
        self._rounds: dict[str, int] = {}

    def _folder(self, controller: str, container_id: str) -> Path:
        return self._controllers[controller] / self.parent / container_id

    def controllers(self) -> set[str]:
        return set(self._controllers)

    def ids(self) -> set[str]:
        return set().union(*(_folders(mount / self.parent) for mount in self._hierarchies))

    def pids(self, container_id: str) -> list[int]:
        return _listed(self._folder("memory", container_id))

    def kill(self, container_id: str, spared: int = 0) -> None:
        rounds = self._rounds[container_id] = self._rounds.get(container_id, 0) + 1
        state = self._folder("freezer", container_id) / "freezer.state" if "freezer" in self._controllers else None
        freeze = rounds > _FREEZE_AFTER and state is not None and state.exists()
        if freeze and state is not None:
            state.write_text("FROZEN")
        try:
            _signal_all(set(self.pids(container_id)) - {spared}, signal.SIGKILL)
        finally:
            if freeze and state is not None:
                state.write_text("THAWED")

    def remove(self, container_id: str) -> None:
        self._rounds.pop(container_id, None)
        for mount in self._hierarchies:
            _remove_tree(mount / self.parent / container_id)

    def make_parent(self) -> None:
        for mount in self._hierarchies:
            (mount / self.parent).mkdir(exist_ok=True)

    def remove_parent(self) -> None:
        for mount in self._hierarchies:
            with contextlib.suppress(OSError):
                (mount / self.parent).rmdir()

    def limit_memory(self, container_id: str, limit: int) -> None:
        # limit <= memsw holds at all times, so the one that must give way goes first.
        folder = self._folder("memory", container_id)
        names = ["memory.limit_in_bytes"]
        swap = folder / "memory.memsw.limit_in_bytes"
        if swap.exists():
            names.insert(0 if limit > _number(swap) else 1, swap.name)
        for name in names:
            (folder / name).write_text(str(limit))

    def memory_limit(self, container_id: str) -> int | None:
        limit = _number(self._folder("memory", container_id) / "memory.limit_in_bytes")
        return None if limit >= _UNLIMITED else limit

    def limit_cpu(self, container_id: str, shares: int) -> None:
        (self._folder("cpu", container_id) / "cpu.shares").write_text(str(shares))

    def cpu_shares(self, container_id: str) -> int | None:
        return _number(self._folder("cpu", container_id) / "cpu.shares")

    def memory_stat(self, container_id: str) -> dict[str, int]:
        table = _table(self._folder("memory", container_id) / "memory.stat")
        return {name: value for name, value in table.items() if name in _SHOWN}

    def cpu_stat(self, container_id: str) -> CpuStat:
        folder = self._folder("cpuacct", container_id)
        table = _table(folder / "cpuacct.stat")
        return CpuStat(_number(folder / "cpuacct.usage"), table["user"], table["system"])

    def restrict_devices(self, container_id: str, devices: Devices) -> None:
        folder = self._folder("devices", container_id)
        (folder / "devices.deny").write_text("a")
        for major, minor in devices:
            (folder / "devices.allow").write_text(f"c {major}:{'*' if minor is None else minor} rw")

    def watch_memory(self, container_id: str) -> tuple[int, Callable[[], bool]]:
        folder = self._folder("memory", container_id)
        control = folder / "memory.oom_control"
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            with control.open() as stream:
                (folder / "cgroup.event_control").write_text(f"{event} {stream.fileno()}")
        except OSError:
            os.close(event)
            raise

        def look() -> bool:
            os.eventfd_read(event)
            return control.exists()  # the removal of a group wakes its watchers too

        return event, look


class V2:
    """One hierarchy. Shares become weights and back, by the formula that runc uses."""

    def __init__(self, parent: str, root: Path) -> None:
        self.parent = parent
        self._root = root

    def _folder(self, container_id: str) -> Path:
        return self._root / self.parent / container_id

    def controllers(self) -> set[str]:
        return set((self._root / "cgroup.controllers").read_text().split())

    def ids(self) -> set[str]:
        return _folders(self._root / self.parent)

    def pids(self, container_id: str) -> list[int]:
        return _listed(self._folder(container_id))

    def kill(self, container_id: str, spared: int = 0) -> None:
        at_once = self._folder(container_id) / "cgroup.kill"  # since Linux 5.14
        if spared == 0 and at_once.exists():
            at_once.write_text("1")
        else:
            _signal_all(set(self.pids(container_id)) - {spared}, signal.SIGKILL)

    def remove(self, container_id: str) -> None:
        _remove_tree(self._folder(container_id))

    def make_parent(self) -> None:
        (self._root / self.parent).mkdir(exist_ok=True)

    def remove_parent(self) -> None:
        with contextlib.suppress(OSError):
            (self._root / self.parent).rmdir()

    def limit_memory(self, container_id: str, limit: int) -> None:
        folder = self._folder(container_id)
        if (folder / "memory.swap.max").exists():  # memory and swap together are the limit, as with memsw
            (folder / "memory.swap.max").write_text("0")
        (folder / "memory.max").write_text(str(limit))

    def memory_limit(self, container_id: str) -> int | None:
        text = (self._folder(container_id) / "memory.max").read_text().strip()
        return None if text == "max" else int(text)

    def limit_cpu(self, container_id: str, shares: int) -> None:
        shares = min(max(shares, 2), 262144)
        (self._folder(container_id) / "cpu.weight").write_text(str(1 + (shares - 2) * 9999 // 262142))

    def cpu_shares(self, container_id: str) -> int | None:
        # The smallest number of shares that gives this weight.
        weight = _number(self._folder(container_id) / "cpu.weight")
        return 2 + -(-(weight - 1) * 262142 // 9999)

    def memory_stat(self, container_id: str) -> dict[str, int]:
        folder = self._folder(container_id)
        table = _table(folder / "memory.stat")
        found = {ours: table[theirs] for theirs, ours in _MEMORY_NAMES.items() if theirs in table}
        if (folder / "memory.swap.current").exists():
            found["swap"] = _number(folder / "memory.swap.current")
        limit = self.memory_limit(container_id)
        if limit is not None:
            found["hierarchical_memory_limit"] = limit
        return found

    def cpu_stat(self, container_id: str) -> CpuStat:
        table = _table(self._folder(container_id) / "cpu.stat")
        return CpuStat(
            table["usage_usec"] * 1000,
            table.get("user_usec", 0) * 1000 // _TICK_NS,
            table.get("system_usec", 0) * 1000 // _TICK_NS,
        )

    def restrict_devices(self, container_id: str, devices: Devices) -> None:
        """Nothing to write to here: the list is a program in the kernel, which runc loaded."""

    def watch_memory(self, container_id: str) -> tuple[int, Callable[[], bool]]:
        events = self._folder(container_id) / "memory.events"
        before = _table(events).get("oom_kill", 0)
        descriptor = kernel.watch_changes(events)

        def look() -> bool:
            os.read(descriptor, 4096)
            try:
                return _table(events).get("oom_kill", 0) > before
            except FileNotFoundError:
                return False

        return descriptor, look

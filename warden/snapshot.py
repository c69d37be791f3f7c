"""What is written down about a container, so that the next server finds it: `snapshot.json` in its folder.

The names in it are the original's, ours stand beside them. `resources.json` is written before anything of the container
is made, so that a server that starts after a crash knows what to remove. Both are replaced by a rename.
"""

import contextlib
import os
from pathlib import Path
from typing import TypeVar

import msgspec

from warden.engine.api import BindMount, Flow, Spec
from warden.pools import PREFIX, addresses

SNAPSHOT, RESOURCES = "snapshot.json", "resources.json"
NetOut = tuple[str | None, str | None, str, int | None, int | None, bool]
Record = TypeVar("Record", bound=msgspec.Struct)


class JobRecord(msgspec.Struct):
    iomux_spawn_pid: int
    discard_output: bool = False
    log_tag: str | None = None
    status: int | None = None


class Resources(msgspec.Struct):
    """What a container has of the machine. network: the address of its /30; bind_mounts: (src, dst, read only)."""

    container_id: str
    handle: str
    network: str = ""
    uid: int = 0
    ports: list[int] = []
    net_in: list[tuple[int, int]] = []
    net_out: list[NetOut] = []
    limit_memory: int | None = None
    limit_cpu: int | None = None
    rootfs: str = ""
    bind_mounts: list[tuple[str, str, bool]] = []

    def spec(self, depot: Path) -> Spec:
        host, container = addresses(self.network) if self.network else ("", "")
        return Spec(
            self.container_id, self.handle, depot / self.container_id, Path(self.rootfs), self.uid, host, container,
            PREFIX, tuple(BindMount(*mount) for mount in self.bind_mounts),
        )  # fmt: skip


class Snapshot(msgspec.Struct):
    """limits: bandwidth and disk, by the names of `warden.limits`; jobs: by their ids, as text."""

    resources: Resources
    state: str
    events: list[str] = []
    grace_time: float | None = None
    jobs: dict[str, JobRecord] = {}
    limits: dict[str, int] = {}


def write(folder: Path, name: str, record: msgspec.Struct) -> None:
    """Replaces the file at once. OSError if it cannot be written; the old one is still there then."""
    new = folder / f"{name}.new"
    new.write_bytes(msgspec.json.encode(record))
    os.rename(new, folder / name)


def read(folder: Path, name: str, kind: type[Record]) -> Record | None:
    """The record, or None if there is none that can be read."""
    try:
        return msgspec.json.decode((folder / name).read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def delete(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        (folder / SNAPSHOT).unlink()


# -- network rules in the record ------------------------------------------------------------------------------------


def net_out_of(flow: Flow) -> NetOut:
    ports = f"{flow.ports[0]}:{flow.ports[1]}" if flow.ports else None
    return (flow.network, ports, flow.protocol, flow.icmp_type, flow.icmp_code, flow.log)


def flow_of(entry: NetOut) -> Flow:
    network, ports, protocol, icmp_type, icmp_code, log = entry
    pair = None
    if ports:
        first, _, last = ports.partition(":")
        pair = (int(first), int(last))
    return Flow(network, pair, protocol, icmp_type, icmp_code, log)

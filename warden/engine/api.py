"""What the server asks of an engine. It knows neither protocol nor pools nor jobs: an engine is told ids and numbers.

Two engines stand behind it: `warden.engine.runc.RuncEngine` and `warden.engine.process.ProcessEngine`; both are
constructed as `Engine(settings, log)` by `warden.app`, inside the running event loop.

Rules for an engine: no method blocks the event loop. A method that fails raises EngineError, whose text reaches the
client of the API. `create` cleans up after itself when it fails; `destroy` also removes what is half made. All calls
for one container come one after the other, except `info`, `read_limits` and `copy_out`, which may come at any time.
`destroy` may come for a container of an earlier server of which nothing is known but the id: then handle is the id, uid
0 and the addresses are "".

Beside the engines, the commands call `warden.doctor.report(settings) -> int`, which prints what the machine lacks and
gives the exit status, and `warden.engine.rootfs.build(path, minimal) -> None`, which makes a root file system in a
folder (minimal: of the host's own /usr) and raises EngineError.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gorouter_py.component import Logger

UNLIMITED = (1 << 64) - 1


class EngineError(Exception):
    """Something an engine could not do; the text is what the client sees."""


@dataclass(frozen=True)
class Settings:
    """What an engine needs of the configuration; sizes in bytes."""

    depot: Path  # one folder for each container, by id
    rootfs: Path  # the default root file system
    pool_network: str  # "10.254.0.0/24": addresses of all containers
    allow_networks: tuple[str, ...] = ()
    allow_host_access: bool = False
    dns_servers: tuple[str, ...] = ()
    mtu: int = 1500
    disk_limits: bool = True  # server.quota.disk_quota_enabled
    disk_image_size: int = 16 << 30  # of the sparse loop image below the depot
    pids_limit: int = 1024
    cpu_quota_percent: int = 0  # of one core, a ceiling for each container; 0 = none
    allow_nested: bool = False
    name: str = "warden"  # of the nft table, cgroup parent and such; two servers on a machine need two names


@dataclass(frozen=True)
class BindMount:
    src: str
    dst: str
    read_only: bool


@dataclass(frozen=True)
class Spec:
    """One container, as far as an engine is concerned. It never changes while the container lives."""

    container_id: str  # 11 characters of 0-9a-v
    handle: str
    path: Path  # <depot>/<container_id>; exists before create is called, goes with destroy
    rootfs: Path
    uid: int  # of the user vcap, on the host as in the container
    host_ip: str
    container_ip: str
    prefix: int  # 30
    bind_mounts: tuple[BindMount, ...] = ()


@dataclass(frozen=True)
class Flow:
    """One net_out rule: what may leave the container. None = any."""

    network: str | None  # "A.B.C.D", "A.B.C.D/N" or "A.B.C.D-A.B.C.D"
    ports: tuple[int, int] | None  # first and last
    protocol: str  # "tcp", "udp", "icmp", "all"
    icmp_type: int | None = None
    icmp_code: int | None = None
    log: bool = False


@dataclass(frozen=True)
class Limits:
    """What is set now; None = no limit. memory, disk_bytes, burst in bytes, rate in bytes/s."""

    memory: int | None = None
    cpu_shares: int | None = None
    bandwidth_rate: int | None = None
    bandwidth_burst: int | None = None
    disk_bytes: int | None = None
    disk_inodes: int | None = None


@dataclass(frozen=True)
class CpuStat:
    usage: int  # ns
    user: int  # in 1/100 s
    system: int


@dataclass(frozen=True)
class DiskStat:
    bytes_used: int
    inodes_used: int | None = None


@dataclass(frozen=True)
class BandwidthStat:
    """Bytes/s and bytes; 0xffffffff = no limit. in = towards the container."""

    in_rate: int
    in_burst: int
    out_rate: int
    out_burst: int


@dataclass(frozen=True)
class Info:
    """memory_stat: by the names of InfoResponse.MemoryStat, which are those of cgroup v1; unknown ones are left out."""

    memory_stat: Mapping[str, int] = field(default_factory=dict)
    cpu_stat: CpuStat | None = None
    disk_stat: DiskStat | None = None
    bandwidth_stat: BandwidthStat | None = None
    remarks: tuple[str, ...] = ()  # what the engine does otherwise than usual here; shown among the events


class Engine(Protocol):
    name: str
    isolated: bool
    leaves_orphans: bool  # job_argv's program ends, well, when the job's process is there and its pid in pid_file

    def __init__(self, settings: Settings, log: Logger) -> None: ...

    async def setup(self) -> None:
        """Once at the start of the server: cgroup parents, nft table, loop image. Idempotent, also after a crash.

        EngineError says what the machine lacks."""

    async def teardown(self) -> None:
        """At a plain exit with no container left: removes all that setup made."""

    async def create(self, spec: Spec) -> None:
        """When it returns, the container runs (an init holds its namespaces). Cleans up itself when it fails."""

    async def restore(self, spec: Spec, flows: Sequence[Flow], ports: Sequence[tuple[int, int]]) -> bool:
        """After a restart of the server: False if the container is dead; else its net rules are there again.

        ports: (host port, container port) of each net_in."""

    async def leftovers(self) -> set[str]:
        """Ids of containers of which anything (mount, link, cgroup, rule, loop device) is on the machine."""

    def job_argv(self, spec: Spec, user: str, rlimits: Mapping[str, int], pid_file: Path) -> list[str]:
        """The program that runs /bin/bash as `user` in the container; script on stdin, its exit status the job's.

        It writes its own or the shell's pid (as seen by the host) to pid_file: the process a kill of the job aims at.
        A shell that a signal ended counts as 255 (a shell whose child was killed says 128 + n itself). rlimits: the
        names of ResourceLimits ("nofile", all 15) to soft = hard, UNLIMITED for infinity."""

    async def stop(self, spec: Spec, kill: bool) -> None:
        """TERM to all processes but init each second, KILL after 10 s (kill: at once); returns when init is alone."""

    async def destroy(self, spec: Spec) -> None:
        """Everything of it goes, the folder too, also when half made. Idempotent."""

    async def net_in(self, spec: Spec, host_port: int, container_port: int) -> int:
        """Forwards; returns the container port that answers (an engine without network namespaces: host_port)."""

    async def net_out(self, spec: Spec, flow: Flow) -> None: ...

    async def copy_in(self, spec: Spec, src: str, dst: str) -> None:
        """As `rsync -r -p --links src dst` from the host into the container, owned by vcap.

        A src with a slash at its end: its content; a dst with one is a folder."""

    async def copy_out(self, spec: Spec, src: str, dst: str, owner: str | None) -> None:
        """The other way; owner "USER:GROUP" of the host is given to chown -R."""

    async def limit_memory(self, spec: Spec, limit: int) -> None: ...

    async def limit_cpu(self, spec: Spec, shares: int) -> None: ...

    async def limit_bandwidth(self, spec: Spec, rate: int, burst: int) -> None: ...

    async def limit_disk(self, spec: Spec, byte: int | None, inode: int | None) -> None:
        """None leaves that one as it is; 0 lifts it."""

    async def read_limits(self, spec: Spec) -> Limits: ...

    async def info(self, spec: Spec) -> Info: ...

    def on_out_of_memory(self, spec: Spec, callback: Callable[[], None]) -> None:
        """Calls back on the event loop, once, when the container met its memory limit. Set before any limit_memory."""

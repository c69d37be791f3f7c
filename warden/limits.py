"""What the limit requests mean: fields that stand for one another, defaults, and what is answered."""

from collections.abc import Mapping
from dataclasses import dataclass

from warden.engine.api import UNLIMITED, Flow
from warden.errors import WardenError
from warden.protocol import pb

BLOCK = 1024  # bytes
# What the kernel says where nothing is set.
MEMORY_UNLIMITED = 0x7FFFFFFFFFFFF000
SHARES_DEFAULT = 1024

# Of every job, where neither configuration nor request says otherwise; all others are infinite.
RLIMITS: dict[str, int] = {
    **{field.name: UNLIMITED for field in pb.ResourceLimits.DESCRIPTOR.fields},
    "core": 0, "memlock": 64 << 10, "msgqueue": 819200, "nice": 0, "nofile": 1024, "nproc": 1024, "rtprio": 0,
    "sigpending": 1024, "stack": 8 << 20,
}  # fmt: skip


def rlimits(configured: Mapping[str, int], asked: pb.ResourceLimits) -> dict[str, int]:
    """All limits of one job: those asked for before those configured before the built-in ones."""
    given = {field.name: int(value) for field, value in asked.ListFields()}
    return {**RLIMITS, **configured, **given}


@dataclass(frozen=True)
class DiskQuota:
    """Blocks and inodes; 0 = no limit."""

    block_soft: int = 0
    block_hard: int = 0
    inode_soft: int = 0
    inode_hard: int = 0

    @property
    def byte_limit(self) -> int:
        """What is enforced: the hard one, or the soft one where there is no other."""
        return (self.block_hard or self.block_soft) * BLOCK

    @property
    def inode_limit(self) -> int:
        return self.inode_hard or self.inode_soft

    def answer(self) -> dict[str, int]:
        """All twelve fields of a LimitDiskResponse."""
        found: dict[str, int] = {}
        for unit, factor, soft, hard in (
            ("block", 1, self.block_soft, self.block_hard),
            ("inode", 1, self.inode_soft, self.inode_hard),
            ("byte", BLOCK, self.block_soft, self.block_hard),
        ):
            for ending, value in (("_limit", hard), ("", hard), ("_soft", soft), ("_hard", hard)):
                found[unit + ending] = value * factor
        return found


def disk_quota(old: DiskQuota, request: pb.LimitDiskRequest) -> DiskQuota:
    """The quota after a request; what it does not mention stays."""

    def latest(kind: str, ending: str) -> int | None:
        value = None
        for unit in ("byte", "block") if kind == "block" else ("inode",):
            for name in (f"{unit}_limit", unit, f"{unit}_{ending}"):
                if request.HasField(name):
                    amount = int(getattr(request, name))
                    value = -(-amount // BLOCK) if unit == "byte" else amount
        return value

    def pick(kind: str, ending: str, kept: int) -> int:
        value = latest(kind, ending)
        return kept if value is None else value

    return DiskQuota(
        pick("block", "soft", old.block_soft), pick("block", "hard", old.block_hard),
        pick("inode", "soft", old.inode_soft), pick("inode", "hard", old.inode_hard),
    )  # fmt: skip


_PROTOCOLS = {pb.NetOutRequest.TCP: "tcp", pb.NetOutRequest.UDP: "udp", pb.NetOutRequest.ICMP: "icmp"}


def flow(request: pb.NetOutRequest) -> Flow:
    """The rule a NetOut asks for. WardenError where it is none."""
    network = request.network if request.HasField("network") and request.network else None
    if network is None and not request.HasField("port") and not request.port_range:
        raise WardenError("Please specify network, port, and/or port_range.")
    ports = None
    if request.port_range:
        first, _, last = request.port_range.partition(":")
        if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
            raise WardenError(f"command exited with failure: port_range {request.port_range!r} is not FIRST:LAST")
        if int(first) >= int(last):
            raise WardenError("Port range maximum must be greater than minimum")
        ports = (int(first), int(last))
    elif request.HasField("port"):
        ports = (request.port, request.port)
    if ports is not None and ports[1] > 65535:
        raise WardenError(f"command exited with failure: {ports[1]} is no port")
    protocol = _PROTOCOLS.get(request.protocol, "all")
    if ports is not None and protocol not in ("tcp", "udp"):
        raise WardenError(f"command exited with failure: protocol {protocol} has no ports")
    return Flow(
        network, ports, protocol,
        request.icmp_type if request.HasField("icmp_type") else None,
        request.icmp_code if request.HasField("icmp_code") else None,
        request.log,
    )  # fmt: skip

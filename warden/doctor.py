"""What a machine lacks for real containers, and how to get it: `warden doctor`.

Looks only; nothing is loaded, mounted or set. One row for each need, with the remedy beside it. A row that is no
failure but worth knowing is a remark: containers run, with less.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from warden.engine import cgroup, disk
from warden.engine.api import Settings

GOOD, REMARK, BAD = "ok", "note", "lacks"

# Program, Debian package, what it is for.
PROGRAMS = (
    ("runc", "runc", "runs the containers"),
    ("nft", "nftables", "writes the rules for their traffic"),
    ("catatonit", "catatonit", "is their first process"),
    ("mount", "mount", "attaches the image of their disks"),
)
# Capability number, name, what it is for. Root of a container or a restricted unit may lack them.
CAPABILITIES = (
    (21, "SYS_ADMIN", "mounts and namespaces"),
    (12, "NET_ADMIN", "links and rules"),
    (27, "MKNOD", "devices"),
)
FILE_SYSTEMS = (("overlay", "the containers' root"),)
KERNEL_NETWORK = "CONFIG_VETH, CONFIG_NF_TABLES, CONFIG_NFT_NAT, CONFIG_NFT_MASQ, CONFIG_NFT_FIB_INET"


@dataclass(frozen=True)
class Finding:
    state: str  # GOOD, REMARK or BAD
    what: str
    remedy: str = ""


def _programs(_: Settings) -> Iterator[Finding]:
    for program, package, use in PROGRAMS:
        if shutil.which(program):
            yield Finding(GOOD, f"{program} {use}")
        else:
            yield Finding(BAD, f"{program}, which {use}", f"apt-get install {package}")


def _rights(_: Settings) -> Iterator[Finding]:
    if os.geteuid() != 0:
        yield Finding(BAD, "root", "start the server as root, or with --engine insecure, which isolates nothing")
        return
    yield Finding(GOOD, "root")
    status = Path("/proc/self/status").read_text()
    held = int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)
    for number, name, use in CAPABILITIES:
        if not held >> number & 1:
            yield Finding(BAD, f"CAP_{name}, for {use}", "give it to the unit or container that the server runs in")
    if not held >> 24 & 1:
        yield Finding(REMARK, "CAP_SYS_RESOURCE is missing: jobs get no higher limits than the server itself has")


def _kernel(_: Settings) -> Iterator[Finding]:
    known = Path("/proc/filesystems").read_text().split()
    for name, use in FILE_SYSTEMS:
        if name in known:
            yield Finding(GOOD, f"{name}, {use}")
        else:
            yield Finding(BAD, f"{name}, {use}", f"modprobe {name}, or a kernel that has it")
    try:
        found = cgroup.find("warden")
    except OSError as error:
        yield Finding(BAD, str(error), "mount them: systemd does, or the package cgroupfs-mount")
        return
    version = "v1" if isinstance(found, cgroup.V1) else "v2"
    yield Finding(GOOD, f"cgroups {version}")
    missing = {"memory", "cpu", "cpuacct", "devices", "pids", "freezer"} - found.controllers()
    if version == "v1" and missing:
        yield Finding(BAD, f"cgroup controllers {', '.join(sorted(missing))}", "mount them, or boot with cgroup v2")
    if not Path("/proc/sys/net/ipv4/conf").exists():
        yield Finding(BAD, "IPv4 settings in /proc/sys", "mount /proc, writable")
    elif not os.access("/proc/sys/net/ipv4/ip_forward", os.W_OK) and os.geteuid() == 0:
        yield Finding(BAD, "/proc/sys is not writable", "run the server where it is: ip_forward must be set")


def _network(settings: Settings) -> Iterator[Finding]:
    if not shutil.which("nft") or os.geteuid() != 0:
        return
    listed = subprocess.run(["nft", "-j", "list", "ruleset"], capture_output=True, text=True, check=False)
    if listed.returncode:
        yield Finding(BAD, f"nftables: {listed.stderr.strip()}", f"a kernel with {KERNEL_NETWORK}")
        return
    yield Finding(GOOD, "nftables")
    for item in json.loads(listed.stdout)["nftables"]:
        chain = item.get("chain", {})
        if chain.get("hook") == "forward" and chain.get("policy") == "drop":
            place = f"{chain['family']} {chain['table']} {chain['name']}"
            yield Finding(
                REMARK,
                f"the host's firewall drops what it forwards (chain {place}): containers reach nothing, and net_in "
                "works from the host alone",
                f"let it accept: nft insert rule {place} ip saddr {settings.pool_network} accept; "
                f"nft insert rule {place} ip daddr {settings.pool_network} accept",
            )
    if Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "0":
        yield Finding(GOOD, "net.ipv4.ip_forward is off; the server sets it, and restores it at its end")
    yield Finding(GOOD, "route_localnet, for net_in on 127.0.0.1: set on the links of containers alone, gone with them")


def _disk(settings: Settings) -> Iterator[Finding]:
    if not settings.disk_limits:
        yield Finding(REMARK, "disk limits are switched off by server.quota.disk_quota_enabled")
        return
    for name in disk.lacking():
        yield Finding(
            REMARK,
            f"{name} is missing: the containers' files are kept in memory (tmpfs), which their disk limits bound",
            "apt-get install btrfs-progs, modprobe loop, modprobe btrfs; or set server.quota.disk_quota_enabled: false",
        )
    if not disk.lacking():
        yield Finding(GOOD, "btrfs on a loop image: disk limits in bytes; inodes are not limited")


def _rootfs(settings: Settings) -> Iterator[Finding]:
    shell = settings.rootfs / "bin" / "bash"
    borrowed = (settings.rootfs / ".warden-rootfs.json").exists()
    if not settings.rootfs.is_dir():
        build = f"warden rootfs build {settings.rootfs} (debootstrap), or with --minimal (the host's own /usr)"
        yield Finding(BAD, f"the root file system {settings.rootfs}", build)
    elif not borrowed and not shell.exists() and not shell.is_symlink():
        yield Finding(BAD, f"{shell}, which runs the jobs", f"install bash in {settings.rootfs}")
    else:
        yield Finding(GOOD, f"root file system {settings.rootfs}")
    if not shutil.which("debootstrap"):
        yield Finding(REMARK, "debootstrap, which `warden rootfs build` uses", "apt-get install debootstrap")


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (_programs, _rights, _kernel, _network, _disk, _rootfs)


def examine(settings: Settings) -> list[Finding]:
    return [finding for check in CHECKS for finding in check(settings)]


def report(settings: Settings) -> int:
    """Prints what there is and what is not; 1 if containers cannot run."""
    findings = examine(settings)
    for finding in findings:
        print(f"{finding.state:5}  {finding.what}")
        if finding.remedy:
            print(f"       -> {finding.remedy}")
    bad = sum(finding.state == BAD for finding in findings)
    count = "one thing is" if bad == 1 else f"{bad} things are"
    print(f"{count} missing" if bad else "containers can run here")
    return 1 if bad else 0

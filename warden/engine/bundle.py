"""What runc is told, in the form of the OCI runtime specification: config.json of a container, and one file per job.

The container's first process is catatonit, which waits and reaps; it needs nothing of the root file system. Jobs come
in by `runc exec`. Pure functions: nothing is read but this process's own hard limits, nothing is written.
"""

import os
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warden.engine import seccomp
from warden.engine.api import BindMount, EngineError, Settings, Spec

USER = "vcap"
HOME = Path("/home") / USER
INIT = "/dev/init"  # below a tmpfs of runc's, so that the root file system stays as it was
INIT_UID = 65534  # no job may signal the init: it has a user of its own

# (major, minor) of character devices that may be read and written; None: all.
DEVICES = ((1, 3), (1, 5), (1, 8), (1, 9), (5, 0), (5, 2), (136, None), (10, 229))
_NODES = {"/dev/fuse": (10, 229)}  # runc makes the others itself

# Of a privileged job: what administers the container, not the machine. A job of vcap has none.
CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in (
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID",
        "SYS_CHROOT",
    )
)  # fmt: skip
# Added where containers may hold containers.
_NESTED = tuple(
    f"CAP_{name}" for name in ("MKNOD", "NET_ADMIN", "NET_RAW", "SETFCAP", "SETPCAP", "SYS_ADMIN", "SYS_PTRACE")
)
_MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
    "/proc/timer_list", "/proc/timer_stats", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

INFINITE = resource.RLIM_INFINITY
# Of every job, unless the request or the configuration says otherwise; soft = hard. gorouter: wsh/msg.c has these.
RLIMITS = {
    "as": INFINITE, "core": 0, "cpu": INFINITE, "data": INFINITE, "fsize": INFINITE, "locks": INFINITE,
    "memlock": 64 << 10, "msgqueue": 819200, "nice": 0, "nofile": 1024, "nproc": 1024, "rss": INFINITE, "rtprio": 0,
    "sigpending": 1024, "stack": 8 << 20,
}  # fmt: skip
_RLIMIT_NUMBERS = {"locks": 10, "sigpending": 11, "msgqueue": 12, "nice": 13, "rtprio": 14}  # asm-generic/resource.h


def _mount(target: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": kind, "options": list(options)}


def _bind(mount: BindMount) -> dict[str, Any]:
    options = ["rbind", "rro" if mount.read_only else "rw", "nosuid", "nodev"]
    return {"destination": mount.dst, "type": "bind", "source": mount.src, "options": options}


def _mounts(binds: tuple[BindMount, ...], init: Path) -> list[dict[str, Any]]:
    return [
        _mount("/proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        _mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        _mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
        {"destination": INIT, "type": "bind", "source": str(init), "options": ["bind", "ro", "nosuid", "nodev"]},
        *(_bind(mount) for mount in binds),
    ]


def _resources(settings: Settings) -> dict[str, Any]:
    devices: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    if settings.allow_nested:
        devices.append({"allow": True, "access": "rwm"})
    for major, minor in DEVICES:
        rule = {"allow": True, "type": "c", "major": major, "access": "rw"}
        devices.append(rule if minor is None else {**rule, "minor": minor})
    found: dict[str, Any] = {"devices": devices, "pids": {"limit": settings.pids_limit}}
    if settings.cpu_quota_percent:
        period_us = 100_000
        found["cpu"] = {"period": period_us, "quota": period_us * settings.cpu_quota_percent // 100}
    return found


def config(
    spec: Spec, settings: Settings, root: Path, binds: tuple[BindMount, ...], init: Path, netns: str, groups: str
) -> dict[str, Any]:
    """config.json. root: the merged file system; binds: all of them; netns: a path to the network namespace;
    groups: the path of the cgroups in each hierarchy."""
    linux: dict[str, Any] = {
        "cgroupsPath": groups,
        "namespaces": [
            {"type": "pid"},
            {"type": "mount"},
            {"type": "ipc"},
            {"type": "uts"},
            {"type": "cgroup"},
            {"type": "network", "path": netns},
        ],
        "sysctl": {"net.ipv4.ping_group_range": "0 2147483647"},  # ping without a capability
        "devices": [
            {"path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o666, "uid": 0, "gid": 0}
            for path, (major, minor) in _NODES.items()
        ],
        "resources": _resources(settings),
        "rootfsPropagation": "private",
    }
    if not settings.allow_nested:
        linux["seccomp"] = seccomp.profile(os.uname().machine)
        linux["maskedPaths"] = list(_MASKED)
        linux["readonlyPaths"] = list(_READ_ONLY)
    return {
        "ociVersion": "1.0.2",
        "hostname": spec.container_id,
        "root": {"path": str(root), "readonly": False},
        "mounts": _mounts(binds, init),
        "process": {
            "user": {"uid": INIT_UID, "gid": INIT_UID},
            "args": [INIT, "-P"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": True,
        },
        "linux": linux,
    }


_SET_BY_SHELL = {"as": "v", "data": "d"}


def rlimits(wanted: Mapping[str, int]) -> list[dict[str, Any]]:
    """`wanted` over the built-in ones. Without the right to raise a hard limit, ours is the most a job can have."""
    unknown = sorted(wanted.keys() - RLIMITS.keys())
    if unknown:
        raise EngineError(f"unknown resource limit {unknown[0]!r}; valid: {', '.join(RLIMITS)}")
    found = []
    for name, default in RLIMITS.items():
        value = wanted.get(name, default)
        number = _RLIMIT_NUMBERS.get(name)
        ours = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}") if number is None else number)[1]
        if not 0 <= value < 1 << 63:
            value = INFINITE
        if not _may_raise() and ours != INFINITE and (value == INFINITE or value > ours):
            value = ours
        number_or_all = (1 << 64) - 1 if value == INFINITE else value
        found.append({"type": f"RLIMIT_{name.upper()}", "soft": number_or_all, "hard": number_or_all})
    return found


def _may_raise() -> bool:
    """CAP_SYS_RESOURCE, which some machines keep even from root."""
    with open("/proc/self/status") as status:
        effective = next(line.split()[1] for line in status if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> 24 & 1)


def _split_limits(limits: Mapping[str, int]) -> tuple[dict[str, int], str]:
    """Limits that hold from the start, and those that the job's shell sets, as words of its ulimit (which counts KiB).

    runc's own start takes more address space than many a job is given."""
    late = {name: limits[name] for name in _SET_BY_SHELL if 0 <= limits.get(name, INFINITE) < 1 << 63}
    early = {name: value for name, value in limits.items() if name not in late}
    return early, " ".join(f"-{_SET_BY_SHELL[name]} {value // 1024}" for name, value in late.items())


def process(user: str, uid: int, limits: Mapping[str, int], nested: bool) -> dict[str, Any]:
    """One job: bash as `user` ("root" or "vcap"), with the script on its stdin."""
    privileged = user == "root"
    home = Path("/", "root") if privileged else HOME
    held = list(CAPABILITIES + (_NESTED if nested else ())) if privileged else []
    path = "/sbin:/bin:/usr/sbin:/usr/bin" if privileged else "/bin:/usr/bin"
    early, late = _split_limits(limits)
    return {
        "user": {"uid": 0 if privileged else uid, "gid": 0 if privileged else uid, "umask": 0o022},
        "args": ["/bin/bash", "-c", f"ulimit {late} && exec /bin/bash"] if late else ["/bin/bash"],
        "env": [f"HOME={home}", f"USER={user}", f"PATH={path}", f"LANG={os.environ.get('LANG', 'en_US.UTF-8')}"],
        "cwd": str(home),
        "capabilities": {kind: held for kind in ("bounding", "effective", "permitted")},
        "rlimits": rlimits(early),
        "noNewPrivileges": True,
    }

"""Root file systems: the overlay that a container runs on, and how a folder to build it on is made.

The overlay has the configured folder below and the container's own layer on top. What must differ from container to
container (name, addresses, the user vcap) is written into the layer before it is mounted, so that no link in the
folder below can lead out of it.

A folder made by `build_minimal` holds no programs: its file MARK names folders of the host that are bound into each
container read-only.
"""

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

from warden.engine import kernel
from warden.engine.api import BindMount, EngineError, Settings, Spec
from warden.engine.bundle import HOME, USER

MARK = ".warden-rootfs.json"
_LAYER_FOLDERS = ("rw", "work")
_PASSWD = """\
root:x:0:0:root:{root}:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
_GROUP = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"
_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV
# Of the host's /etc, without which programs of its /usr do not run as they should.
_ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "nsswitch.conf", "protocols", "services", "ssl")
_ROOT_HOME = str(Path("/", "root"))


def merged(spec: Spec) -> Path:
    """Where the host sees the container's root; clients look for files there, as the original had them there."""
    return spec.path / "tmp" / "rootfs"


def binds(folder: Path) -> tuple[BindMount, ...]:
    """What a minimal root file system borrows from the host."""
    try:
        names = json.loads((folder / MARK).read_text())["binds"]
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{folder / MARK}: {error}; `warden rootfs build --minimal` writes it anew") from error
    return tuple(BindMount(str(name), str(name), True) for name in names)


# -- the layer of one container -----------------------------------------------------------------------------------


def _lines(path: Path) -> list[str]:
    """Lines of a file of the folder below; none if it is not there, or no plain file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return []
    with open(descriptor, errors="surrogateescape") as stream:
        return stream.read().splitlines()


def _folder(layer: Path, below: Path, inside: Path) -> Path:
    """A folder of the layer, with the mode and owner of the one that it covers."""
    made = layer
    for part in inside.parts:
        made, below = made / part, below / part
        if made.is_dir():
            continue
        made.mkdir(mode=0o755)
        if below.is_dir() and not below.is_symlink():
            state = below.stat()
            os.chown(made, state.st_uid, state.st_gid)
            made.chmod(stat.S_IMODE(state.st_mode))
    return made


def _write(path: Path, lines: list[str]) -> None:
    with path.open("w", errors="surrogateescape") as stream:
        stream.write("".join(f"{line}\n" for line in lines))
    path.chmod(0o644)


def resolvers(settings: Settings, host_ip: str, host_lines: list[str]) -> list[str]:
    """/etc/resolv.conf: the configured servers, else the host's; a server on the host's loopback is not in reach."""
    if settings.dns_servers:
        return [f"nameserver {server}" for server in settings.dns_servers]
    if [line for line in host_lines if line.strip()] == ["nameserver 127.0.0.1"]:
        return [f"nameserver {host_ip}"]
    return host_lines


def write_etc(spec: Spec, settings: Settings, layer: Path) -> int | None:
    """Name, addresses and users; the uid that vcap has in the folder below, None if it has none there."""
    etc = _folder(layer, spec.rootfs, Path("etc"))
    below = spec.rootfs / "etc"
    _write(etc / "hostname", [spec.container_id])
    _write(etc / "hosts", ["127.0.0.1 localhost", f"{spec.container_ip} {spec.container_id}"])
    # The host's own file may be a link to where its resolver keeps it: that is meant to be followed.
    host_lines = Path("/etc/resolv.conf").read_text(errors="replace").splitlines() if _has_resolvers() else []
    _write(etc / "resolv.conf", resolvers(settings, spec.host_ip, host_lines))
    users = _lines(below / "passwd") or _PASSWD.format(root=_ROOT_HOME).splitlines()
    groups = _lines(below / "group") or _GROUP.splitlines()
    before = next((int(line.split(":")[2]) for line in users if line.startswith(f"{USER}:")), None)
    kept = [line for line in users if not line.startswith(f"{USER}:")]
    _write(etc / "passwd", [*kept, f"{USER}:x:{spec.uid}:{spec.uid}::{HOME}:/bin/bash"])
    kept = [line for line in groups if not line.startswith(f"{USER}:")]
    _write(etc / "group", [*kept, f"{USER}:x:{spec.uid}:"])
    return before


def _has_resolvers() -> bool:
    return os.path.isfile("/etc/resolv.conf")


def mount(spec: Spec, settings: Settings, layer: Path) -> None:
    """The container's root, at `merged`. layer: an empty folder of its own."""
    layer.chmod(0o755)
    for name in _LAYER_FOLDERS:
        (layer / name).mkdir(mode=0o755)
    upper = layer / "rw"
    before = write_etc(spec, settings, upper)
    inside = HOME.relative_to("/")
    home = _folder(upper, spec.rootfs, inside)
    os.chown(home, spec.uid, spec.uid)
    target = merged(spec)
    target.mkdir(parents=True)
    options = f"lowerdir={_quoted(spec.rootfs)},upperdir={_quoted(upper)},workdir={_quoted(layer / 'work')}"
    kernel.mount("overlay", target, "overlay", _FLAGS, options)
    if before is not None and before != spec.uid and (spec.rootfs / inside).is_dir():
        _give(target / inside, before, spec.uid)


def _quoted(path: Path) -> str:
    """overlay's options end at a comma, and folders below are separated by colons."""
    return str(path).replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")


def _give(folder: Path, before: int, uid: int) -> None:
    """Files of the former vcap in its home become the new one's."""
    for _, folders, names, descriptor in os.fwalk(folder):
        for name in (*folders, *names):
            if os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_uid == before:
                os.chown(name, uid, uid, dir_fd=descriptor, follow_symlinks=False)


# -- building -----------------------------------------------------------------------------------------------------


def build(target: Path, minimal: bool) -> None:
    """A root file system in a new folder, or an empty one; EngineError if it cannot be made."""
    try:
        if minimal:
            build_minimal(target)
        else:
            build_debian(target)
    except (OSError, shutil.Error) as error:
        raise EngineError(f"{target}: {error}") from error


def build_minimal(target: Path) -> None:
    """A folder that borrows the host's /usr: nothing is downloaded, some seconds are saved, and what the host has
    installed the containers can run. The host's /etc stays out, but for a few harmless files."""
    _fresh(target)
    for name in ("dev", "etc", "home", "opt", "proc", "run", "srv", "sys", "usr", "var"):
        (target / name).mkdir(mode=0o755)
    for name in ("bin", "lib", "lib32", "lib64", "libx32", "sbin"):
        at_host = Path("/", name)
        if at_host.is_symlink():
            (target / name).symlink_to(os.readlink(at_host))
        elif at_host.is_dir():  # /usr is not merged: these are folders of their own
            (target / name).mkdir()
    for inside in ("tmp", "var/tmp"):
        (target / inside).mkdir()
        (target / inside).chmod(0o1777)
    (target / "root").mkdir(mode=0o700)
    for name in _ETC:
        source = Path("/etc", name)
        if source.is_dir():
            private = shutil.ignore_patterns("private")
            shutil.copytree(source, target / "etc" / name, symlinks=True, ignore=private)
        elif source.is_file():
            shutil.copy2(source, target / "etc" / name)
    _write(target / "etc" / "passwd", _PASSWD.format(root=_ROOT_HOME).splitlines())
    _write(target / "etc" / "group", _GROUP.splitlines())
    folders = ["/usr", *(f"/{name}" for name in ("bin", "lib", "lib64", "sbin") if _is_own_folder(name))]
    (target / MARK).write_text(json.dumps({"binds": folders}) + "\n")


def _is_own_folder(name: str) -> bool:
    return Path("/", name).is_dir() and not Path("/", name).is_symlink()


def _fresh(target: Path) -> None:
    """A new folder, or one that is empty."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise EngineError(f"{target} is there already and not an empty folder; remove it or name another one")
    target.mkdir(parents=True, exist_ok=True)
    target.chmod(0o755)


def debootstrap_command(target: Path, suite: str, mirror: str | None) -> list[str]:
    include = "bash,ca-certificates,curl,iproute2,procps"
    command = ["debootstrap", "--variant=minbase", f"--include={include}", suite, str(target)]
    return [*command, mirror] if mirror else command


def build_debian(target: Path, suite: str = "bookworm", mirror: str | None = None) -> None:
    """A Debian of its own, by debootstrap (half a minute, 250 MB); its output goes to ours."""
    if not shutil.which("debootstrap"):
        raise EngineError("debootstrap is missing; install the package of that name, or build with --minimal")
    _fresh(target)
    done = subprocess.run(debootstrap_command(target, suite, mirror), check=False)
    if done.returncode:
        shutil.rmtree(target, ignore_errors=True)
        raise EngineError(f"debootstrap failed with status {done.returncode}")

"""Where containers write: one layer for each, limited and measured.

`find` chooses. `Image`: a btrfs in a sparse file, a subvolume each, limits in force at once, usage exact;
no limit of inodes. `Memory`: where loop devices or btrfs are missing, a tmpfs for each container; limits bytes and
inodes, but fills memory. `Plain`: folders in the depot, for servers without disk limits. All blocks; OSError.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from warden.engine import btrfs, kernel
from warden.engine.api import DiskStat, EngineError

_MS_REMOUNT = 32
_TMPFS_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV
_TMPFS_PAGE = 4096
MIN_IMAGE = 128 << 20  # bytes; mkfs.btrfs wants about 110 MB


class Layers(Protocol):
    name: str
    remark: str  # what a client should know of this kind; "" if nothing
    limited: bool

    def setup(self) -> None: ...

    def teardown(self) -> None: ...

    def ids(self) -> set[str]: ...

    def folder(self, container_id: str) -> Path:
        """Holds the overlay's two folders, "rw" and "work"."""

    def add(self, container_id: str) -> None: ...

    def remove(self, container_id: str) -> None:
        """Also when it is half made, or not there."""

    def limit(self, container_id: str, byte: int | None, inode: int | None) -> None:
        """None leaves as it is, 0 lifts."""

    def limits(self, container_id: str) -> tuple[int | None, int | None]:
        """Bytes and inodes."""

    def usage(self, container_id: str) -> DiskStat: ...


def _program(*arguments: str | Path) -> str:
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"{arguments[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def lacking() -> list[str]:
    """What the machine lacks for limits on btrfs."""
    found = []
    if not shutil.which("mkfs.btrfs"):
        found.append("mkfs.btrfs (package btrfs-progs)")
    if not os.path.exists("/dev/loop-control"):
        found.append("loop devices (/dev/loop-control)")
    filesystems = Path("/proc/filesystems").read_text().split()
    if "btrfs" not in filesystems and not list(Path("/lib/modules", os.uname().release).glob("kernel/fs/btrfs")):
        found.append("a kernel with btrfs")
    return found


def find(base: Path, depot: Path, size: int, wanted: bool) -> Layers:
    """base: the engine's own folder in the depot; size: of the image; wanted: whether disks are to be limited."""
    if not wanted:
        return Plain(depot)
    return Memory(base / "layers") if lacking() else Image(base, size)


def _children(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)}
    except FileNotFoundError:
        return set()


def loop_devices(image: Path) -> list[str]:
    """Loop devices that an image is attached to."""
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if backing.read_text().strip() == str(image):
                found.append(f"/dev/{backing.parts[3]}")
    return found


class Image:
    name = "btrfs"
    remark = ""
    limited = True

    def __init__(self, base: Path, size: int) -> None:
        self.image = base / "disk.img"
        self.mount = base / "disk"
        self._size = max(size, MIN_IMAGE)

    def setup(self) -> None:
        if any(mount.target == self.mount and mount.kind == "btrfs" for mount in kernel.mounts()):
            return
        if not self.image.exists():
            # Under its own name only when it is whole: a crash leaves no half file system.
            new = self.image.with_suffix(".new")
            new.unlink(missing_ok=True)
            with new.open("wb") as stream:
                stream.truncate(self._size)
            _program("mkfs.btrfs", "-q", "-m", "single", new)
            new.rename(self.image)
        self.mount.mkdir(exist_ok=True)
        # mount(8) attaches the loop device so that it goes with the mount.
        _program("mount", "-t", "btrfs", "-o", "loop,nosuid,nodev,discard", self.image, self.mount)
        btrfs.enable_quota(self.mount)

    def teardown(self) -> None:
        kernel.unmount(self.mount)
        for device in loop_devices(self.image):  # one that a crash between attaching and mounting left
            subprocess.run(["losetup", "-d", device], capture_output=True, check=False)
        self.image.unlink(missing_ok=True)
        self.image.with_suffix(".new").unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self.mount.rmdir()

    def ids(self) -> set[str]:
        return _children(self.mount)

    def folder(self, container_id: str) -> Path:
        return self.mount / container_id

    def add(self, container_id: str) -> None:
        btrfs.create(self.mount, container_id)

    def remove(self, container_id: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            btrfs.delete(self.mount, container_id)

    def limit(self, container_id: str, byte: int | None, inode: int | None) -> None:
        if byte is not None:
            btrfs.limit(self.folder(container_id), byte or None)

    def limits(self, container_id: str) -> tuple[int | None, int | None]:
        return btrfs.limit_of(self.folder(container_id)), None

    def usage(self, container_id: str) -> DiskStat:
        btrfs.sync(self.mount)
        return DiskStat(btrfs.usage(self.folder(container_id)))


class Memory:
    name = "tmpfs"
    remark = "disk layer in memory (tmpfs)"
    limited = True

    def __init__(self, base: Path) -> None:
        self._base = base

    def setup(self) -> None:
        self._base.mkdir(exist_ok=True)

    def teardown(self) -> None:
        with contextlib.suppress(OSError):
            self._base.rmdir()

    def ids(self) -> set[str]:
        return _children(self._base)

    def folder(self, container_id: str) -> Path:
        return self._base / container_id

    def add(self, container_id: str) -> None:
        self.folder(container_id).mkdir()
        kernel.mount("tmpfs", self.folder(container_id), "tmpfs", _TMPFS_FLAGS, "mode=755")

    def remove(self, container_id: str) -> None:
        kernel.unmount(self.folder(container_id))
        with contextlib.suppress(FileNotFoundError):
            self.folder(container_id).rmdir()

    def limit(self, container_id: str, byte: int | None, inode: int | None) -> None:
        options = []
        if byte is not None:
            options.append(f"size={byte}")  # 0: no limit
        if inode is not None:
            options.append(f"nr_inodes={inode}")
        if options:
            folder = self.folder(container_id)
            kernel.mount("tmpfs", folder, "tmpfs", _MS_REMOUNT | _TMPFS_FLAGS, ",".join(options))

    def limits(self, container_id: str) -> tuple[int | None, int | None]:
        folder = self.folder(container_id)
        mine = next((mount for mount in reversed(list(kernel.mounts())) if mount.target == folder), None)
        options = dict(option.partition("=")[::2] for option in mine.options) if mine else {}
        size = options.get("size", "").removesuffix("k")
        inodes = options.get("nr_inodes", "").removesuffix("k")
        scale = 1024 if options.get("nr_inodes", "").endswith("k") else 1
        return (int(size) << 10 or None if size else None), (int(inodes) * scale or None if inodes else None)

    def usage(self, container_id: str) -> DiskStat:
        state = os.statvfs(self.folder(container_id))
        if not state.f_blocks:  # without a size the kernel does not count
            return DiskStat(*_measured(self.folder(container_id)))
        return DiskStat((state.f_blocks - state.f_bfree) * state.f_frsize, state.f_files - state.f_ffree)


class Plain:
    name = "folder"
    remark = ""
    limited = False

    def __init__(self, depot: Path) -> None:
        self._depot = depot

    def setup(self) -> None:
        pass

    def teardown(self) -> None:
        pass

    def ids(self) -> set[str]:
        return set()  # the depot's folders are those of the server

    def folder(self, container_id: str) -> Path:
        return self._depot / container_id / "layer"

    def add(self, container_id: str) -> None:
        self.folder(container_id).mkdir()

    def remove(self, container_id: str) -> None:
        shutil.rmtree(self.folder(container_id), ignore_errors=True)

    def limit(self, container_id: str, byte: int | None, inode: int | None) -> None:
        raise EngineError("disk limits are switched off: server.quota.disk_quota_enabled is false")

    def limits(self, container_id: str) -> tuple[int | None, int | None]:
        return None, None

    def usage(self, container_id: str) -> DiskStat:
        return DiskStat(*_measured(self.folder(container_id)))


def _measured(folder: Path) -> tuple[int, int]:
    """Bytes and inodes, by walking."""
    seen: set[int] = set()
    size = 0
    walks: Iterable[tuple[str, list[str], list[str], int]] = os.fwalk(folder)
    for _, folders, names, descriptor in walks:
        for name in (*folders, *names):
            with contextlib.suppress(FileNotFoundError):
                state = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if state.st_ino not in seen:
                    seen.add(state.st_ino)
                    size += state.st_blocks * 512
    return size, len(seen)

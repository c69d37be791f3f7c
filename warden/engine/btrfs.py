"""The calls of btrfs that the engine needs, by ioctl: subvolumes, and the quota group that each has of its own.

Numbers and layouts: linux/btrfs.h and linux/btrfs_tree.h, the same on every architecture. Everything blocks and raises
OSError.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SUBVOL_CREATE = 0x5000940E
_SNAP_DESTROY = 0x5000940F
_SYNC = 0x9408
_TREE_SEARCH = 0xD0009411
_INO_LOOKUP = 0xD0009412
_QUOTA_CTL = 0xC0109428
_QGROUP_LIMIT = 0x8030942B
_QUOTA_ENABLE = 1
_QUOTA_TREE = 8
_QGROUP_INFO = 242
_QGROUP_LIMIT_ITEM = 244
_MAX_RFER = 1  # what the subvolume refers to
_NAME_MAX = 4087
_FIRST_FREE_OBJECT = 256
_SEARCH = struct.Struct("=QQQQQQQIIIIQQQQ")  # btrfs_ioctl_search_key
_FOUND = struct.Struct("=QQQII")  # btrfs_ioctl_search_header
_SEARCH_SIZE = 4096


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _named(name: str) -> bytearray:
    encoded = os.fsencode(name)
    assert len(encoded) <= _NAME_MAX
    return bytearray(struct.pack(f"=q{_NAME_MAX + 1}s", 0, encoded))  # Python takes bytes up to 1024 only


def create(parent: Path, name: str) -> None:
    """A new, empty subvolume."""
    with _opened(parent) as descriptor:
        fcntl.ioctl(descriptor, _SUBVOL_CREATE, _named(name))


def delete(parent: Path, name: str) -> None:
    """A subvolume with all that is in it; the blocks come free in the background. None there: FileNotFoundError."""
    with _opened(parent) as descriptor:
        fcntl.ioctl(descriptor, _SNAP_DESTROY, _named(name))


def enable_quota(mount: Path) -> None:
    with _opened(mount) as descriptor:
        fcntl.ioctl(descriptor, _QUOTA_CTL, struct.pack("=QQ", _QUOTA_ENABLE, 0))


def sync(mount: Path) -> None:
    """Writes out what is dirty; usage is exact after it."""
    with _opened(mount) as descriptor:
        fcntl.ioctl(descriptor, _SYNC)


def _subvolume(descriptor: int) -> int:
    """The id of the subvolume that an open folder is in."""
    buffer = bytearray(struct.pack("=QQ", 0, _FIRST_FREE_OBJECT) + bytes(4080))
    fcntl.ioctl(descriptor, _INO_LOOKUP, buffer)
    return int(struct.unpack_from("=Q", buffer)[0])


def limit(subvolume: Path, size: int | None) -> None:
    """Bytes that it may hold, at once in force; None: as many as there is room for. Its parent must be another one."""
    value = (1 << 64) - 1 if size is None else size  # all ones clear a limit
    with _opened(subvolume) as inner, _opened(subvolume.parent) as outer:
        request = struct.pack("=QQQQQQ", _subvolume(inner), _MAX_RFER, value, 0, 0, 0)
        # By way of the parent, as the call itself takes room: it would fail in a subvolume that is full.
        fcntl.ioctl(outer, _QGROUP_LIMIT, request)


def _item(descriptor: int, kind: int) -> bytes:
    """The item of that kind of the open subvolume's own quota group; empty if there is none."""
    group = _subvolume(descriptor)
    key = _SEARCH.pack(_QUOTA_TREE, 0, 0, group, group, 0, (1 << 64) - 1, kind, kind, 1, 0, 0, 0, 0, 0)
    buffer = bytearray(key.ljust(_SEARCH_SIZE, b"\0"))
    fcntl.ioctl(descriptor, _TREE_SEARCH, buffer)
    count = struct.unpack_from("=I", buffer, 64)[0]
    if not count:
        return b""
    length = _FOUND.unpack_from(buffer, _SEARCH.size)[4]
    start = _SEARCH.size + _FOUND.size
    return bytes(buffer[start : start + length])


def usage(subvolume: Path) -> int:
    """Bytes it holds, as of the last sync."""
    with _opened(subvolume) as descriptor:
        item = _item(descriptor, _QGROUP_INFO)
    return int(struct.unpack_from("<QQ", item)[1]) if item else 0


def limit_of(subvolume: Path) -> int | None:
    """Bytes it may hold; None: no limit."""
    with _opened(subvolume) as descriptor:
        item = _item(descriptor, _QGROUP_LIMIT_ITEM)
    if not item:
        return None
    flags, size = struct.unpack_from("<QQ", item)
    return int(size) if flags & _MAX_RFER and size != (1 << 64) - 1 else None

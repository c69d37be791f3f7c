"""System calls that Python lacks, the mount table, and running the programs that the engine needs.

Everything here blocks, but `run`. Failures of system calls are OSError, of programs EngineError with what they said.
"""

import asyncio
import ctypes
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from warden.engine.api import EngineError

MS_NOSUID, MS_NODEV = 2, 4
MNT_DETACH = 2
CLONE_NEWNET = 0x40000000
IN_MODIFY = 2
_IN_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # IN_NONBLOCK and IN_CLOEXEC are these
_ESCAPED = re.compile(r"\\([0-7]{3})")

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def mount(source: str, target: Path, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    arguments = (source.encode(), os.fsencode(target), kind.encode())
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), os.fsencode(data)), str(target))


def unmount(target: Path) -> None:
    """Takes every mount on top of `target` off, used or not. Nothing mounted there is fine."""
    while os.path.lexists(target) and _libc.umount2(os.fsencode(target), MNT_DETACH) == 0:
        pass


def unshare(flags: int) -> None:
    """unshare(2), of the calling thread."""
    _check(_libc.unshare(flags), "unshare")


def watch_changes(path: Path) -> int:
    """An inotify descriptor that becomes readable when the file is written to."""
    descriptor = _check(_libc.inotify_init1(_IN_FLAGS), "inotify")
    try:
        _check(_libc.inotify_add_watch(descriptor, os.fsencode(path), IN_MODIFY), str(path))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@dataclass(frozen=True)
class Mount:
    """A line of the mount table. options: of the file system; v1 cgroup controllers are among them."""

    target: Path
    kind: str
    source: str
    options: tuple[str, ...]


def mounts() -> Iterator[Mount]:
    """What is mounted in this process's mount namespace, in the order of mounting."""
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        kind, source, options = [*after.split(" "), "", "", ""][:3]
        target = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), before.split(" ")[4])
        yield Mount(Path(target), kind, source, tuple(options.split(",")))


async def run(*arguments: str | Path, stdin: str = "") -> str:
    """Runs a program to its end and gives what it wrote to stdout."""
    try:
        process = await asyncio.create_subprocess_exec(
            *map(str, arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise EngineError(f"{arguments[0]}: {error.strerror}; `warden doctor` says how to get it") from error
    out, err = await process.communicate(stdin.encode())
    if process.returncode:
        said = err.decode(errors="replace").strip() or f"exit status {process.returncode}"
        raise EngineError(f"{Path(str(arguments[0])).name}: {said}")
    return out.decode(errors="replace")


async def attempt(*steps: Callable[[], object]) -> list[Exception]:
    """Does blocking steps one after the other in a thread, each whatever became of those before; what they raised."""

    def all_steps() -> list[Exception]:
        failures: list[Exception] = []
        for step in steps:
            try:
                step()
            except Exception as error:
                failures.append(error)
        return failures

    return await asyncio.to_thread(all_steps)

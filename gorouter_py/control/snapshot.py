"""The routes on disk: what a start without the bus can serve until it is stale.

Layout, all msgpack: [header map, crc32 of the third element's bytes, array of [uri, end of life, registration map]].
Times are wall clock seconds, since a monotonic clock does not survive a reboot. The file is replaced as a whole
(write aside, fsync, rename), so it is always a complete one; a file that cannot be read is put aside as
"<name>.corrupt" and the router starts empty.

Entries are packed in portions on the control thread; writing and fsync happen in a worker thread. Registrations of
TLS endpoints and static routes are not in it (see Registry.export).

Does not know the registry: takes portions, gives entries.
"""

import asyncio
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from gorouter_py.control.messages import Registration

FORMAT: Final = "gorouter-py routes"
VERSION: Final = 1
_ARRAY_OF_3: Final = b"\x93"
_UINT32: Final = b"\xce"
_ARRAY32: Final = b"\xdd"


class Header(msgspec.Struct):
    """The head of a snapshot; `written_at` is wall clock seconds."""

    format: str
    version: int
    written_at: float
    entries: int


class Entry(msgspec.Struct, array_like=True, gc=False):
    """One endpoint under one route; `until` is the wall clock second at which it is stale."""

    uri: str
    until: float
    registration: Registration


class _File(msgspec.Struct, array_like=True):
    header: Header
    crc: int
    body: msgspec.Raw


class Corrupt(ValueError):
    """The file is not a snapshot that this version can read; str() says why."""


class Log(Protocol):
    def info(self, message: str, /, **data: object) -> None: ...
    def error(self, message: str, /, **data: object) -> None: ...


_encode = msgspec.msgpack.Encoder().encode
_decode_file = msgspec.msgpack.Decoder(_File).decode
_decode_entries = msgspec.msgpack.Decoder(list[Entry]).decode


def pack(portions: Iterable[list[tuple[str, float, Registration]]], offset_s: float) -> Iterator[list[bytes] | None]:
    """Packs portion by portion, yielding None after each and at last the whole file, in pieces.

    offset_s is what turns the portions' times into wall clock seconds."""
    packed: list[bytes] = []
    count = 0
    crc = 0
    for portion in portions:
        part = b"".join([_encode((uri, until + offset_s, facts)) for uri, until, facts in portion])
        packed.append(part)
        count += len(portion)
        yield None
    head = _ARRAY32 + struct.pack(">I", count)
    crc = zlib.crc32(head)
    for number, part in enumerate(packed):
        crc = zlib.crc32(part, crc)
        if number % 8 == 7:  # about 1 ms
            yield None
    header = Header(FORMAT, VERSION, time.time(), count)
    yield [_ARRAY_OF_3 + _encode(header) + _UINT32 + struct.pack(">I", crc) + head, *packed]


def unpack(data: bytes) -> tuple[Header, list[Entry]]:
    """Reads a whole file. Raises Corrupt."""
    try:
        file = _decode_file(data)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"not a snapshot: {error}") from None
    if file.header.format != FORMAT:
        raise Corrupt(f"not a snapshot: format is {file.header.format!r}")
    if file.header.version != VERSION:
        raise Corrupt(f"version {file.header.version} is not known; this program reads version {VERSION}")
    body = bytes(file.body)
    if zlib.crc32(body) != file.crc:
        raise Corrupt("checksum does not match")
    try:
        entries = _decode_entries(body)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"bad entry: {error}") from None
    return file.header, entries


def write(path: Path, pieces: Sequence[bytes]) -> None:
    """Replaces the file; blocks. OSError if that fails, with the old file untouched."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(path: Path, log: Log, now: float | None = None) -> list[Entry]:
    """The entries that are not stale yet. A missing file is none; a corrupt one is logged and put aside.

    An unreadable file (permissions) raises OSError: starting as if it were empty would overwrite it."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    try:
        header, entries = unpack(data)
    except Corrupt as error:
        kept = path.with_name(path.name + ".corrupt")
        os.replace(path, kept)
        log.error("snapshot-corrupt", file=str(path), error=str(error), kept_as=str(kept))
        return []
    now = time.time() if now is None else now
    alive = [entry for entry in entries if entry.until > now]
    log.info(
        "snapshot-loaded",
        file=str(path),
        endpoints=len(alive),
        stale=len(entries) - len(alive),
        age_seconds=round(now - header.written_at, 3),
    )
    return alive


class Writer:
    """Keeps one file up to date. One write at a time."""

    def __init__(
        self,
        path: Path,
        portions: Callable[[], Iterable[list[tuple[str, float, Registration]]]],
        version: Callable[[], int],
        log: Log,
    ) -> None:
        self._path = path
        self._portions = portions
        self._version = version
        self._log = log
        self._written: int | None = None
        self._busy = asyncio.Lock()
        self.failures = 0
        self.last_written: float | None = None  # wall clock

    async def write(self, force: bool = False) -> bool:
        """Writes if something changed since the last write, or always with force. False if it could not be written."""
        async with self._busy:
            version = self._version()
            if version == self._written and not force:
                return True
            pieces: list[bytes] | None = None
            for made in pack(self._portions(), time.time() - time.monotonic()):
                pieces = made
                await asyncio.sleep(0)
            assert pieces is not None
            try:
                await asyncio.get_running_loop().run_in_executor(None, write, self._path, pieces)
            except OSError as error:
                self.failures += 1
                self._log.error("snapshot-not-written", file=str(self._path), error=str(error))
                return False
            self._written = version
            self.last_written = time.time()
            return True

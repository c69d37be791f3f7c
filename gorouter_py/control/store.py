"""What must survive a restart and may be shared by routers: JSON values by key, with revisions to compare and set.

`Store` is what the parts see. This file has the one that keeps a local file; control/bucket.py has the one that
shares a bucket on the bus. Both hold everything they know in memory, so reading is no I/O; what is written is known
here at once and on disk (or in the bucket) when `put` returns. Small things only: rollouts, port maps.

The file is JSON, replaced as a whole (write aside, fsync, rename), so it is always a complete one. One that cannot be
read is put aside as "<name>.corrupt", told, and the router starts without it.
Control loop; the disk is touched on other threads.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from gorouter_py.control import snapshot

FORMAT: Final = "gorouter-py state"
VERSION: Final = 1
BYTES_MAX: Final = 64 << 20


class Entry(NamedTuple):
    """value: what JSON can say. revision: grows with every change of this key; never 0."""

    value: Any
    revision: int


class Conflict(Exception):
    """The key is not at the revision that was named: somebody else was faster."""


class Unavailable(Exception):
    """It cannot be written just now; str() says what is wrong and what to do."""


Watcher = Callable[[str, Entry | None], None]


class Store(Protocol):
    """Keys: "kind.name"; any text. See the head of the file."""

    @property
    def shared(self) -> bool:
        """Whether other routers see the same."""

    def get(self, key: str) -> Entry | None: ...

    def entries(self, prefix: str) -> dict[str, Entry]:
        """All keys that begin so."""

    async def put(self, key: str, value: Any, revision: int | None = None) -> int:
        """Writes and gives the new revision. revision: only if the key is still at it (0: is not there yet).
        Conflict or Unavailable; then nothing has changed."""

    async def delete(self, key: str, revision: int | None = None) -> None:
        """No error if it is not there. Conflict or Unavailable."""

    def watch(self, prefix: str, changed: Watcher) -> None:
        """Calls changed(key, entry, None if it has gone) on the control loop for each change others make, for good."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Log(Protocol):
    def info(self, message: str, /, **data: object) -> None: ...
    def error(self, message: str, /, **data: object) -> None: ...


class FileStore:
    """A Store of one router alone. path "": memory, for as long as the process lives."""

    shared = False

    def __init__(self, path: str, log: Log) -> None:
        self._path = Path(path) if path else None
        self._log = log
        self._entries: dict[str, Entry] = {}
        self._unfit = ""  # why the file is left alone
        self._busy = asyncio.Lock()
        self.failures = 0
        if self._path is not None:
            self._load(self._path)

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def entries(self, prefix: str) -> dict[str, Entry]:
        return {key: entry for key, entry in self._entries.items() if key.startswith(prefix)}

    async def put(self, key: str, value: Any, revision: int | None = None) -> int:
        return await self._change(key, json.dumps(value, allow_nan=False), revision)

    async def delete(self, key: str, revision: int | None = None) -> None:
        if key in self._entries or revision:
            await self._change(key, None, revision)

    def watch(self, prefix: str, changed: Watcher) -> None:
        """Nobody else writes the file."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        async with self._busy:
            pass

    async def _change(self, key: str, text: str | None, revision: int | None) -> int:
        async with self._busy:
            known = self._entries.get(key)
            number = known.revision if known is not None else 0
            if revision is not None and revision != number:
                raise Conflict(f"{key} is at revision {number}, not {revision}")
            entries = dict(self._entries)
            if text is None:
                entries.pop(key, None)
            else:
                # A copy of its own: what the caller does to the value later is not what was written.
                entries[key] = Entry(json.loads(text), number + 1)
            await self._write(entries)
            self._entries = entries
            return number + 1

    async def _write(self, entries: dict[str, Entry]) -> None:
        path = self._path
        if path is None:
            return
        if self._unfit:
            raise Unavailable(self._unfit)
        try:
            await asyncio.get_running_loop().run_in_executor(None, _write, path, entries)
        except OSError as error:
            self.failures += 1
            reason = f"{path} could not be written: {error.strerror or error}"
            self._log.error("state-not-written", file=str(path), error=reason)
            raise Unavailable(f"{reason}; make room or mend its permissions, and try again") from None

    def _load(self, path: Path) -> None:
        """Blocks; before anything runs."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            self._unfit = f"{path} could not be read at the start: {error.strerror}; mend its permissions and restart"
            self._log.error("state-not-read", file=str(path), error=self._unfit)
            return
        try:
            self._entries = decode(data)
        except ValueError as error:
            kept = path.with_name(path.name + ".corrupt")
            with contextlib.suppress(OSError):
                os.replace(path, kept)
            mend = f"mend {kept} and put it back before a restart, or delete it and state what it held anew"
            self._log.error("state-corrupt", file=str(path), error=str(error), kept_as=str(kept), mend=mend)
            return
        self._log.info("state-loaded", file=str(path), entries=len(self._entries))


def _write(path: Path, entries: dict[str, Entry]) -> None:
    """Blocks."""
    snapshot.write(path, [encode(entries)])


def encode(entries: dict[str, Entry]) -> bytes:
    """The content of the file."""
    shown = {key: {"revision": entry.revision, "value": entry.value} for key, entry in sorted(entries.items())}
    return json.dumps({"format": FORMAT, "version": VERSION, "entries": shown}, indent=1, allow_nan=False).encode()


def decode(data: bytes) -> dict[str, Entry]:
    """What `encode` made. ValueError says what is wrong, and where."""
    if len(data) > BYTES_MAX:
        raise ValueError(f"it has {len(data)} bytes; at most {BYTES_MAX} are read")
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON: {error}") from None
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise ValueError(f'it is no state of this program: "format" is not {FORMAT!r}')
    if whole.get("version") != VERSION:
        raise ValueError(f'"version" {whole.get("version")!r} is not known; this program reads {VERSION}')
    found: dict[str, Entry] = {}
    entries = whole.get("entries")
    if not isinstance(entries, dict):
        raise ValueError('"entries" is no object')
    for key, entry in entries.items():
        revision = entry.get("revision") if isinstance(entry, dict) else None
        if not isinstance(revision, int) or isinstance(revision, bool) or revision < 1 or "value" not in entry:
            raise ValueError(f'entries[{key!r}] has no "value" or no "revision" of 1 or more')
        found[key] = Entry(entry["value"], revision)
    return found

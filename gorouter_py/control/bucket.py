"""A Store that routers share: a key-value bucket of NATS JetStream, followed as it changes.

Everything in the bucket is held in memory, so reading is no I/O and works while the bus is away; writing is not
possible then (Unavailable). Changes of others arrive within a round trip. A follower that has gone silent is noticed
by the number of the bucket's last message, and begun anew. What was heard is also kept in a local file, if there is
one, for a start while the bus is away. Control loop.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import Callable
from typing import Any, Final, Protocol

from gorouter_py.control import lean_nats  # noqa: F401

# isort: split
import nats.errors
import nats.js.errors
from nats.js.kv import KeyValue

from gorouter_py.control.store import Conflict, Entry, FileStore, Unavailable, Watcher

REQUEST_S: Final = 3.0
CHECK_S: Final = 2.0
AWAY_S: Final = 0.1  # how often it is looked whether the bus is there
RETRY_S: Final = 1.0
MIRROR_S: Final = 1.0
PASSING: Final = ("lease.", "verdict.")  # keys that are of no use without the bus
STALE_LOOKS: Final = 2  # so often behind the bucket's last message, and the follower is begun anew
FAULTS: Final = (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError)
BUCKET_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Log(Protocol):
    def info(self, message: str, /, **data: object) -> None: ...
    def warn(self, message: str, /, **data: object) -> None: ...
    def error(self, message: str, /, **data: object) -> None: ...


class BucketStore:
    """See the head of the file. client: the connected client of the bus, None while there is none.

    mirror: what the bucket had is kept there, too. ValueError for a name that cannot be one."""

    shared = True

    def __init__(self, name: str, client: Callable[[], Any], mirror: FileStore, log: Log) -> None:
        if not BUCKET_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a bucket; valid: letters, digits, - and _")
        self._name = name
        self._client = client
        self._mirror = mirror
        self._log = log
        self._kv: KeyValue | None = None
        self._entries: dict[str, Entry] = {}
        self._gone: dict[str, int] = {}  # deleted keys and the revision of that
        self._heard = 0  # newest revision
        self._watchers: list[tuple[str, Watcher]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._unmirrored: set[str] = set()
        self._said = ""
        for key, entry in mirror.entries("").items():
            value = entry.value
            if isinstance(value, dict) and isinstance(value.get("revision"), int) and "value" in value:
                self._entries[key] = Entry(value["value"], value["revision"])

    # -- Store ---------------------------------------------------------------------------------------------

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def entries(self, prefix: str) -> dict[str, Entry]:
        return {key: entry for key, entry in self._entries.items() if key.startswith(prefix)}

    async def put(self, key: str, value: Any, revision: int | None = None) -> int:
        payload = json.dumps(value, allow_nan=False).encode()
        kv = self._ready()
        try:
            async with asyncio.timeout(REQUEST_S):
                if revision is None:
                    number = await kv.put(escape(key), payload)
                elif revision:
                    number = await kv.update(escape(key), payload, last=revision)
                else:
                    number = await kv.create(escape(key), payload)
        except nats.js.errors.KeyWrongLastSequenceError:
            await self._refresh(kv, key)
            raise Conflict(f"{key} is not at revision {revision} any more") from None
        except FAULTS as error:
            raise self._unavailable(error) from None
        self._note(key, Entry(json.loads(payload), number), number, is_own=True)
        return number

    async def delete(self, key: str, revision: int | None = None) -> None:
        kv = self._ready()
        try:
            async with asyncio.timeout(REQUEST_S):
                await kv.delete(escape(key), last=revision)
        except nats.js.errors.APIError as error:
            if error.err_code in (10071, 10164):  # wrong last sequence
                await self._refresh(kv, key)
                raise Conflict(f"{key} is not at revision {revision} any more") from None
            raise self._unavailable(error) from None
        except FAULTS as error:
            raise self._unavailable(error) from None
        if self._entries.pop(key, None) is not None:
            self._unmirrored.add(key)

    def watch(self, prefix: str, changed: Watcher) -> None:
        self._watchers.append((prefix, changed))

    async def start(self) -> None:
        for work in (self._run(), self._keep_mirror()):
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._mirror_changes()
        await self._mirror.stop()

    # -- following -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            client = self._client()
            if client is None or not client.is_connected:
                await asyncio.sleep(AWAY_S)
                continue
            try:
                jetstream = client.jetstream(timeout=REQUEST_S)
                self._kv = await self._open(jetstream)
                self._said = ""
                await self._follow(self._kv, client)
            except Exception as error:  # of the client library too: following goes on whatever it was
                self._kv = None
                said = str(error) or type(error).__name__
                if said != self._said:
                    self._said = said
                    mend = "it needs nats-server with JetStream (-js), and rights on the bucket; trying again"
                    self._log.error("state-bucket-unavailable", bucket=self._name, error=said, mend=mend)
                await asyncio.sleep(RETRY_S)

    async def _open(self, jetstream: Any) -> KeyValue:
        try:
            found: KeyValue = await jetstream.key_value(self._name)
        except nats.js.errors.NotFoundError:
            found = await jetstream.create_key_value(bucket=self._name, history=1)
            self._log.info("state-bucket-created", bucket=self._name)
        return found

    async def _follow(self, kv: KeyValue, client: Any) -> None:
        """Returns when the connection is another one or the follower has fallen behind."""
        await self._is_behind(kv)
        watcher: Any = await kv.watchall()
        try:
            there: set[str] = set()
            whole, behind = False, 0
            while client is self._client():
                try:
                    entry = await watcher.updates(timeout=CHECK_S)
                except nats.errors.TimeoutError:
                    behind = behind + 1 if await self._is_behind(kv) else 0
                    if behind >= STALE_LOOKS:
                        return
                    continue
                behind = 0
                if entry is None:
                    whole = True
                    await self._restore(kv, [key for key in self._entries if key not in there])
                    self._log.info("state-bucket-followed", bucket=self._name, entries=len(self._entries))
                    continue
                key = unescape(entry.key)
                if not whole:
                    there.add(key)
                self._take(key, entry)
        finally:
            with contextlib.suppress(*FAULTS):
                await watcher.stop()

    async def _is_behind(self, kv: KeyValue) -> bool:
        """Whether the bucket has messages that were not heard. One with fewer than there were is another bucket: it
        was deleted, or lost with its server; then nothing that is known has a revision there."""
        last = (await kv.status()).stream_info.state.last_seq
        if last < max(self._heard, *(entry.revision for entry in self._entries.values()), 0):
            self._heard = 0
            self._gone.clear()
            self._entries = {key: Entry(entry.value, 0) for key, entry in self._entries.items()}
            return True
        return bool(last > self._heard)

    async def _restore(self, kv: KeyValue, keys: list[str]) -> None:
        """Writes what the bucket has lost (a deletion would have left its mark); who is faster wins."""
        for key in keys:
            value = self._entries[key].value
            self._log.warn("state-entry-written-again", bucket=self._name, key=key)
            self._entries[key] = Entry(value, 0)
            try:
                number = await kv.create(escape(key), json.dumps(value).encode())
            except nats.js.errors.KeyWrongLastSequenceError:
                await self._refresh(kv, key)
            else:
                self._entries[key] = Entry(value, number)
                self._heard = max(self._heard, number)

    def _take(self, key: str, entry: KeyValue.Entry) -> None:
        number = entry.revision or 0
        if entry.operation in ("DEL", "PURGE"):
            self._note(key, None, number)
            return
        try:
            value = json.loads(entry.value or b"")
        except (ValueError, RecursionError) as error:
            mend = "it is left out; whoever wrote it can write it anew"
            self._log.error("state-entry-unfit", bucket=self._name, key=key, error=str(error), mend=mend)
            self._heard = max(self._heard, number)
            return
        self._note(key, Entry(value, number), number)

    def _note(self, key: str, entry: Entry | None, number: int, *, is_own: bool = False) -> None:
        """Holds what is newer than what is known, and tells those who watch unless it is our own."""
        self._heard = max(self._heard, number)
        known = self._entries.get(key)
        if number <= max(known.revision if known is not None else 0, self._gone.get(key, 0)):
            return
        self._unmirrored.add(key)
        if entry is None:
            self._entries.pop(key, None)
            self._gone[key] = number
        else:
            self._entries[key] = entry
            self._gone.pop(key, None)
        for prefix, changed in self._watchers:
            if key.startswith(prefix) and not is_own:
                changed(key, entry)

    async def _refresh(self, kv: KeyValue, key: str) -> None:
        """The newest value of a key: what a conflict was about."""
        try:
            async with asyncio.timeout(REQUEST_S):
                entry = await kv.get(escape(key))
        except (nats.js.errors.KeyNotFoundError, *FAULTS):
            return
        self._take(key, entry)

    def _ready(self) -> KeyValue:
        kv, client = self._kv, self._client()
        if kv is None or client is None or not client.is_connected:
            raise self._unavailable(ConnectionError(self._said or "the bus is not connected"))
        return kv

    def _unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(f"bucket {self._name}: {str(error) or 'no answer'}; see to NATS and try again")

    # -- the local copy ------------------------------------------------------------------------------------

    async def _keep_mirror(self) -> None:
        while True:
            await asyncio.sleep(MIRROR_S)
            await self._mirror_changes()

    async def _mirror_changes(self) -> None:
        keys, self._unmirrored = self._unmirrored, set()
        for key in keys:
            if key.startswith(PASSING):
                continue
            entry = self._entries.get(key)
            try:
                if entry is None:
                    await self._mirror.delete(key)
                else:
                    await self._mirror.put(key, {"revision": entry.revision, "value": entry.value})
            except Unavailable:
                return  # it has been told; a start without the bus is all that suffers


def escape(key: str) -> str:
    """The key in the letters that a bucket has: others as =XX of their UTF-8 bytes."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/"
    return "".join(chr(byte) if byte in plain else f"={byte:02X}" for byte in key.encode())


def unescape(key: str) -> str:
    parts = re.split(r"=([0-9A-F]{2})", key)
    raw = b"".join(bytes([int(part, 16)]) if number % 2 else part.encode() for number, part in enumerate(parts))
    return raw.decode("utf-8", "replace")

"""Jobs as the server sees them: one script each, its output so far, and its exit status in the end.

A job runs under a supervisor of its own (`warden.supervisor`), which outlives the server. `spawn` starts one, `adopt`
finds one again after a restart. What it writes is held here, up to a limit; over it the job is killed.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from gorouter_py.component import Logger
from warden import supervisor
from warden.errors import WardenError

OVER_LIMIT = "command exceeded maximum output"
_NAMES = {supervisor.STDOUT: "stdout", supervisor.STDERR: "stderr"}
_CURSORS = "cursors"
_START_S = 30.0  # a supervisor that says nothing for so long has failed
_AHEAD_S = 0.02
_PROGRAM = [sys.executable, "-I", "-S", supervisor.__file__]


@dataclass(frozen=True)
class JobOptions:
    """limit: bytes of both outputs together. sink: also gets each piece of output, as
    ("stdout", data), and none at the end."""

    discard: bool = False
    log_tag: str | None = None
    limit: int = 10 << 20
    sink: Callable[[str, bytes], None] | None = None


@dataclass(eq=False)
class Job:
    """One script. Output is kept in pieces in the order of their arrival, so that a late streamer sees all."""

    job_id: int
    folder: Path  # pid, socket, cursors, status
    options: JobOptions
    log: Logger
    supervisor_pid: int = 0
    exit_status: int | None = None
    exceeded: bool = False
    on_exceeded: Callable[[], None] = lambda: None
    on_end: Callable[[], None] = lambda: None
    _pieces: list[tuple[str, bytes]] = field(default_factory=list)
    _size: int = 0
    _offsets: dict[int, int] = field(default_factory=lambda: {supervisor.STDOUT: 0, supervisor.STDERR: 0})
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _writer: asyncio.StreamWriter | None = None
    _task: asyncio.Task[None] | None = None

    # -- what requests ask of it ----------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    async def wait(self) -> int:
        """The exit status, when there is one."""
        await self._ended.wait()
        assert self.exit_status is not None
        return self.exit_status

    def output(self, name: str) -> bytes:
        """All of "stdout" or "stderr" so far."""
        return b"".join(data for of, data in self._pieces if of == name)

    async def pieces(self) -> AsyncIterator[tuple[str, bytes]]:
        """What was written, from the beginning, and then what is, until the job has ended."""
        at = 0
        while True:
            while at < len(self._pieces):
                yield self._pieces[at]
                at += 1
            if self.ended:
                return
            changed = self._changed
            await changed.wait()

    def kill(self) -> None:
        self._say(b"K")

    async def detach(self) -> None:
        """Leaves the job to its supervisor and notes how far it was read: the server goes, the job stays."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if not self.ended:
            cursors = supervisor.HELLO.pack(self._offsets[supervisor.STDOUT], self._offsets[supervisor.STDERR])
            (self.folder / _CURSORS).write_bytes(cursors)

    def abandon(self) -> None:
        """Ends job and supervisor, whatever they do: the container goes."""
        self._say(b"Q")
        if self._task is not None and not self.ended:
            self._task.cancel()
        self._end(supervisor.KILLED)

    def prepare(self) -> None:
        """Makes its folder. WardenError if that is not possible."""
        try:
            self.folder.mkdir(parents=True, mode=0o700)
        except OSError as error:
            self.log.error("no folder for a job", job_id=self.job_id, reason=str(error))
            raise WardenError("iomux-spawn failed") from error

    def remove(self) -> None:
        """Its folder goes."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- the supervisor ---------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Listens to the supervisor, from the noted cursors on. OSError if nobody is there."""
        with contextlib.suppress(OSError):
            cursors = (self.folder / _CURSORS).read_bytes()
            if len(cursors) == supervisor.HELLO.size:
                out, err = supervisor.HELLO.unpack(cursors)
                self._offsets = {supervisor.STDOUT: out, supervisor.STDERR: err}
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:  # by descriptor: the name of a socket holds 107 bytes, that of a depot may be longer
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(client, f"/proc/self/fd/{folder}/{supervisor.SOCKET}")
            except BaseException:
                client.close()
                raise
        finally:
            os.close(folder)
        reader, self._writer = await asyncio.open_connection(sock=client)
        offsets = self._offsets
        self._writer.write(supervisor.HELLO.pack(offsets[supervisor.STDOUT], offsets[supervisor.STDERR]))
        self._task = asyncio.create_task(self._listen(reader), name=f"job {self.job_id}")

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                kind, offset, length = supervisor.FRAME.unpack(await reader.readexactly(supervisor.FRAME.size))
                if kind == supervisor.EXIT:
                    self._say(b"A")
                    self._end(offset)
                    return
                self._take(kind, offset, await reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            # The supervisor was killed. The status may have been written before.
            self.log.warn("job lost its supervisor", job_id=self.job_id, supervisor=self.supervisor_pid)
            self._end(self._written_status())
        finally:
            if self._writer is not None:
                self._writer.close()

    def _take(self, kind: int, offset: int, data: bytes) -> None:
        self._offsets[kind] = offset + len(data)
        name = _NAMES[kind]
        if self.options.sink is not None:
            self.options.sink(name, data)
        if self.options.discard or self.exceeded:
            return
        room = self.options.limit - self._size
        if len(data) > room:
            data = data[:room]
            self.exceeded = True
            self.log.warn(OVER_LIMIT, job_id=self.job_id, limit=self.options.limit)
            self.kill()
            self.on_exceeded()
        self._size += len(data)
        if data:
            self._pieces.append((name, data))
            self._wake()

    def _end(self, status: int) -> None:
        if self.ended:
            return
        if self.options.sink is not None:
            for name in _NAMES.values():
                self.options.sink(name, b"")
        self.exit_status = supervisor.KILLED if self.exceeded else status
        self._ended.set()
        self._wake()
        self.on_end()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _say(self, command: bytes) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(command)

    def _written_status(self) -> int:
        try:
            return int((self.folder / supervisor.STATUS).read_text())
        except (OSError, ValueError):
            return supervisor.KILLED

    async def adopt(self, status: int | None) -> None:
        """After a restart: listens again. One that had ended keeps its status and has lost its output."""
        if status is not None:
            self._end(status)
            return
        try:
            await self.connect()
        except OSError:
            self._end(self._written_status())


class Starter:
    """Starts supervisors, one ahead of each job: starting Python is much of what a short job takes.

    orphans: a job is not its program's process, but the one whose pid the program leaves in the file `pid`."""

    def __init__(self, orphans: bool) -> None:
        self._kind = supervisor.ORPHAN if orphans else supervisor.CHILD
        self._ahead: asyncio.Task[asyncio.subprocess.Process] | None = None

    def prepare(self) -> None:
        """Has a supervisor wait for the next job."""
        if self._ahead is None:
            self._ahead = asyncio.create_task(self._begin(), name="next supervisor")

    async def close(self) -> None:
        """The one that waits goes."""
        if (process := await self._waiting()) is not None:
            await process.communicate(b"")

    async def _waiting(self) -> asyncio.subprocess.Process | None:
        """Takes the one that waits. None where there is none, or it could not start."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None
        try:
            return await ahead
        except OSError:
            return None

    async def _begin(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *_PROGRAM, self._kind, start_new_session=True,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def _tell(self, order: bytes) -> tuple[bytes, bytes]:
        """Gives a supervisor its order; what it wrote to stdout and stderr."""
        if (process := await self._waiting()) is not None:
            answer = await process.communicate(order)
            if process.returncode == 0:
                return answer
            # It was killed while it waited, and has begun nothing.
        process = await self._begin()
        return await process.communicate(order)

    async def spawn(self, job: Job, argv: list[str], script: bytes) -> None:
        """Starts argv with the script as stdin, under a supervisor. WardenError if that does not come up."""
        try:
            order = supervisor.order(os.path.abspath(job.folder), str(job.folder / "pid"), argv, script)
            said, reason = await asyncio.wait_for(self._tell(order), _START_S)
            if not said.startswith(b"ready "):
                raise OSError(reason.decode(errors="replace").strip() or "it said nothing")
            job.supervisor_pid = int(said.split()[1])
            await job.connect()
            asyncio.get_running_loop().call_later(_AHEAD_S, self.prepare)  # out of this job's way
        except (TimeoutError, OSError) as error:
            job.log.error("supervisor did not start", job_id=job.job_id, reason=str(error))
            raise WardenError("iomux-spawn failed") from error

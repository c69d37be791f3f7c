"""Watches over one job: a small process of its own that outlives the server.

    python -I -S supervisor.py child|orphan

is started by `warden.jobs`, ahead of the job; stdlib only and few imports, for there is one per job. It waits for an
`order` on its stdin, and goes if that ends without one. Then it leaves its parent, starts PROGRAM in a session of its
own, in FOLDER and with the script as stdin, says "ready PID" on its stdout, keeps the last RING bytes of each output,
and serves one client at a time (a new one takes the place of the old) on the unix socket `job.sock` in FOLDER:

    client: 2 x u64 BE, the offsets in stdout and stderr from which on it wants them; then single bytes:
            K kill the job; A the end has been noted, be gone; Q kill the job and be gone
    answer: frames of u8 kind, u64 BE offset of the first byte, u32 BE length, data: kind 1 stdout, 2 stderr;
            at the end kind 3, with the exit status (0 to 255) as offset and no data

While a client listens nothing is lost: what it does not read, the job waits with; so it does for the first one. After
that, while none listens, the oldest bytes go. What the job leaves in the background keeps no output open: all that was
written when it ended is the whole of it.
The status is also in the file `status`. A folder that is removed ends job and supervisor.

The job is PROGRAM itself ("child"), or the process whose pid PROGRAM leaves in PID_FILE when it ends well ("orphan").
"""

# There is one such process for each job, and starting Python is most of what it costs: `socket`, `signal`, `contextlib`
# would more than double that, so it is done with what stands under them.
import _signal as signal  # type: ignore[import-not-found]
import _socket as socket
import fcntl
import os
import select
import struct
import sys
import termios

RING = 64 << 10  # bytes kept of each output
SOCKET, STATUS = "job.sock", "status"
HELLO = struct.Struct(">QQ")
FRAME = struct.Struct(">BQI")
_HEAD = struct.Struct(">I")
STDOUT, STDERR, EXIT = 1, 2, 3
CHUNK = 32 << 10
_LOOK_S = 5.0  # between looks whether the folder is still there
CHILD, ORPHAN = "child", "orphan"
PR_SET_CHILD_SUBREAPER = 36
KILLED = 255  # exit status of a job that a signal ended


def order(folder: str, pid_file: str, program: list[str], script: bytes) -> bytes:
    """What a supervisor is told of its job; nothing follows."""
    words = "\0".join((folder, pid_file, *program)).encode(errors="surrogateescape")
    return _HEAD.pack(len(words)) + words + script


class Output:
    """One output of the job: the pipe's end, and the ring with the offset of its first byte."""

    def __init__(self, kind: int, pipe: int) -> None:
        self.kind = kind
        self.pipe = pipe
        self.open = True
        self.start = 0
        self.ring = bytearray()
        self.sent = 0  # offset up to which the client has it

    @property
    def end(self) -> int:
        return self.start + len(self.ring)

    def read(self, room: int) -> int:
        """Takes at most `room` bytes from the pipe; the number, 0 at its end or when it is empty."""
        try:
            data = os.read(self.pipe, room)
        except BlockingIOError:
            return 0
        if not data:
            self.open = False
        self.ring += data
        surplus = len(self.ring) - RING
        if surplus > 0:
            del self.ring[:surplus]
            self.start += surplus
        return len(data)

    def waiting(self) -> int:
        """Bytes in the pipe now."""
        return int(struct.unpack("i", fcntl.ioctl(self.pipe, termios.FIONREAD, b"\0\0\0\0"))[0])


class Supervisor:
    def __init__(self, orphan: bool, script: int, pid_file: str, arguments: list[str]) -> None:
        self.folder = os.getcwd()
        self.orphan = orphan
        self.pid_file = pid_file
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(SOCKET)
        self.listener.listen(8)
        self.listener.setblocking(False)
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        self.outputs = (Output(STDOUT, out_read), Output(STDERR, err_read))
        for output in self.outputs:
            os.set_blocking(output.pipe, False)
        ends = ((script, 0), (out_write, 1), (err_write, 2))
        self.child = os.posix_spawnp(
            arguments[0], arguments, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, *pair) for pair in ends],
            setsid=True, setsigmask=[], setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP],
        )  # fmt: skip
        for end, _ in ends:
            os.close(end)
        self.child_descriptor = os.pidfd_open(self.child)
        self.left: dict[Output, int] | None = None  # after the child's end: bytes still to come of each output
        self.raw = 0  # exit status of the child
        self.code = -1  # that of the job: the same, once all output is here
        self.client: socket.socket | None = None
        self.heard = b""  # of a hello that is not complete
        self.greeted = False
        self.known = False  # there has been a client
        self.queue = bytearray()  # to the client
        self.told = False  # the end is in the queue
        if orphan:
            self.reap()  # not before the job is there: who stops all processes is to find it

    # -- the job --------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """KILL to the job's shell and its group, as the engine names it, and to the program that runs it."""
        if self.code >= 0 or self.left is not None:
            return
        for pid in (self.shell(), self.child):
            if pid > 1:
                for target in (-pid, pid):
                    try:  # noqa: SIM105
                        os.kill(target, signal.SIGKILL)
                    except OSError:
                        pass  # gone

    def reap(self) -> None:
        _, wait_status = os.waitpid(self.child, 0)
        os.close(self.child_descriptor)
        self.child_descriptor = -1
        self.raw = KILLED if os.WIFSIGNALED(wait_status) else os.WEXITSTATUS(wait_status)
        if self.orphan and self.raw == 0 and self.adopt():
            return
        self.left = {output: output.waiting() for output in self.outputs if output.open}

    def adopt(self) -> bool:
        """Waits from now on for the process that the program left; False if there is none."""
        self.orphan = False
        self.child = self.shell()
        try:
            self.child_descriptor = os.pidfd_open(self.child)
            os.waitid(os.P_PID, self.child, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # an error unless it is ours
        except OSError:
            self.raw = KILLED
            if self.child_descriptor >= 0:
                os.close(self.child_descriptor)
                self.child_descriptor = -1
        return self.child_descriptor >= 0

    def shell(self) -> int:
        """The pid in the file; 0 before it is there."""
        try:
            with open(self.pid_file) as stream:
                return int(stream.read())
        except (OSError, ValueError):
            return 0

    def settle(self) -> None:
        """Once the child has ended and all it wrote is here: the job has ended."""
        if self.left is None or self.code >= 0 or any(self.left.values()):
            return
        self.code = self.raw
        for output in self.outputs:
            output.open = False
            os.close(output.pipe)
        try:
            with open(STATUS + ".new", "w") as stream:
                stream.write(str(self.code))
            os.rename(STATUS + ".new", STATUS)
        except OSError:
            pass  # the folder is gone, or its disk is full: a client that asks still hears it

    def room(self, output: Output) -> int:
        """How many bytes may be read from an output now."""
        room = RING
        if self.greeted or not self.known:
            room -= output.end - max(output.sent, output.start)
        if self.left is not None:
            room = min(room, self.left.get(output, 0))
        return room

    def pull(self, output: Output, room: int) -> None:
        got = output.read(room)
        if self.left is not None:
            self.left[output] = self.left[output] - got if got else 0

    # -- the client -----------------------------------------------------------------------------------------

    def accept(self) -> None:
        try:
            client = socket.socket(fileno=self.listener._accept()[0])  # type: ignore[attr-defined]
        except OSError:
            return
        self.drop()
        client.setblocking(False)
        self.client = client

    def drop(self) -> None:
        if self.client is not None:
            self.client.close()
        self.client = None
        self.heard, self.greeted, self.told = b"", False, False
        self.queue.clear()

    def listen(self) -> bool:
        """Takes what the client says; False if that ends the supervisor."""
        assert self.client is not None
        try:
            data = self.client.recv(256)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            self.drop()
            return True
        if not self.greeted:
            self.heard += data
            if len(self.heard) < HELLO.size:
                return True
            wanted = HELLO.unpack(self.heard[: HELLO.size])
            data = self.heard[HELLO.size :]
            for output, offset in zip(self.outputs, wanted, strict=True):
                output.sent = min(max(offset, output.start), output.end)
            self.greeted = self.known = True
        for command in data:
            if command in b"KQ":
                self.kill()
            if command in b"AQ":
                return False
        return True

    def push(self) -> None:
        """Sends to the client until it has all there is, or takes no more."""
        while True:
            self.fill()
            if not self.queue:
                return
            self.send()
            if self.queue:
                return

    def fill(self) -> None:
        """Puts the next frames into the queue, when the last have left."""
        if not self.greeted or self.queue:
            return
        for output in self.outputs:
            if output.sent < output.end:
                begin = output.sent - output.start
                data = output.ring[begin : begin + CHUNK]
                self.queue += FRAME.pack(output.kind, output.sent, len(data)) + data
                output.sent += len(data)
        if not self.queue and self.code >= 0 and not self.told:
            self.queue += FRAME.pack(EXIT, self.code, 0)
            self.told = True

    def send(self) -> None:
        if self.client is None or not self.queue:
            return
        try:
            del self.queue[: self.client.send(self.queue)]
        except BlockingIOError:
            pass
        except OSError:
            self.drop()

    # -- the loop -------------------------------------------------------------------------------------------

    def turn(self) -> bool:
        """Waits for something to happen and does it; False at the end."""
        self.push()
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        if self.child_descriptor >= 0:
            poll.register(self.child_descriptor, select.POLLIN)
        readable = [(output, room) for output in self.outputs if output.open and (room := self.room(output)) > 0]
        for output, _ in readable:
            poll.register(output.pipe, select.POLLIN)
        if self.client is not None:
            poll.register(self.client, select.POLLIN | (select.POLLOUT if self.queue else 0))
        seen = dict(poll.poll(_LOOK_S * 1000))
        if not seen and not os.path.exists(self.folder):
            self.kill()
            return False
        for output, room in readable:
            if output.pipe in seen:
                self.pull(output, room)
        if self.child_descriptor in seen:
            self.reap()
        self.settle()
        if self.client is not None and seen.get(self.client.fileno(), 0) & ~select.POLLOUT and not self.listen():
            return False
        if self.listener.fileno() in seen:
            self.accept()
        return True


def read_order() -> tuple[list[str], int]:
    """The words of the order on stdin, and a descriptor of the script; no words where none came."""
    told = b""
    while data := os.read(0, 1 << 20):
        told += data
    if len(told) < _HEAD.size:
        return [], -1
    begin = _HEAD.size + int(_HEAD.unpack_from(told)[0])
    script = os.memfd_create("script", os.MFD_CLOEXEC)
    with open(script, "wb", closefd=False) as stream:
        stream.write(told[begin:])
    os.lseek(script, 0, os.SEEK_SET)
    return [os.fsdecode(word) for word in told[_HEAD.size : begin].split(b"\0")], script


def main(kind: str) -> int:
    for ignored in (signal.SIGPIPE, signal.SIGHUP, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    os.umask(0o022)  # the job's
    if kind == ORPHAN:
        import ctypes  # the other kind does without

        prctl = ctypes.CDLL(None).prctl
    words, script = read_order()
    if not words or os.fork():
        os._exit(0)  # the server is not to wait for a supervisor, and its end is not to be a supervisor's
    if kind == ORPHAN:
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans among the descendants fall to this process
    folder, pid_file, *program = words
    try:
        os.chdir(folder)
        supervisor = Supervisor(kind == ORPHAN, script, pid_file, program)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    os.write(1, b"ready %d\n" % os.getpid())
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # the ends of the server
        os.dup2(nothing, descriptor)
    os.close(nothing)
    while supervisor.turn():
        pass
    supervisor.drop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

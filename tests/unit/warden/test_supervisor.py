"""The program that watches over one job, spoken to on its socket."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.processes import Gate, alive
from tests.system.harness import until
from warden import supervisor

DEADLINE_S = 60.0


class Job:
    """A supervisor with bash as its program; `script` writes its pid to `pid` where the test kills it."""

    def __init__(
        self, folder: Path, script: str, program: tuple[str, ...] = ("/bin/bash",), kind: str = supervisor.CHILD
    ) -> None:
        self.folder = folder
        done = subprocess.run(
            [sys.executable, "-I", "-S", supervisor.__file__, kind], capture_output=True, start_new_session=True,
            input=supervisor.order(str(folder), str(folder / "pid"), list(program), script.encode()),
            timeout=DEADLINE_S,
        )  # fmt: skip
        self.said, self.complaint = done.stdout, done.stderr
        self.pid = int(done.stdout.split()[1]) if done.stdout else 0

    def connect(self, out: int = 0, err: int = 0) -> "Listener":
        return Listener(self.folder, out, err)

    def finish(self) -> "Listener":
        """Hears the whole and lets the supervisor go."""
        with self.connect() as listener:
            listener.hear()
            listener.say(b"A")
            until(lambda: not alive(self.pid), "the supervisor stays")
        return listener


class Listener:
    def __init__(self, folder: Path, out: int, err: int) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE_S)
        directory = os.open(folder, os.O_RDONLY)
        self.socket.connect(f"/proc/self/fd/{directory}/{supervisor.SOCKET}")
        os.close(directory)
        self.socket.sendall(supervisor.HELLO.pack(out, err))
        self.heard = {supervisor.STDOUT: b"", supervisor.STDERR: b""}
        self.first: dict[int, int] = {}
        self.status: int | None = None

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, command: bytes) -> None:
        self.socket.sendall(command)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            assert more, "the supervisor closed"
            data += more
        return data

    def hear(self, upto: bytes | None = None) -> "Listener":
        """Until the end, or until stdout has brought `upto`."""
        while self.status is None and not (upto and upto in self.heard[supervisor.STDOUT]):
            kind, offset, length = supervisor.FRAME.unpack(self._exactly(supervisor.FRAME.size))
            if kind == supervisor.EXIT:
                self.status = offset
            else:
                self.first.setdefault(kind, offset)
                self.heard[kind] += self._exactly(length)
        return self

    @property
    def out(self) -> bytes:
        return self.heard[supervisor.STDOUT]


def test_output_and_status(tmp_path: Path) -> None:
    job = Job(tmp_path, "echo out; echo err >&2; exit 3")
    assert job.said == b"ready %d\n" % job.pid
    listener = job.finish()
    assert (listener.status, listener.out, listener.heard[supervisor.STDERR]) == (3, b"out\n", b"err\n")
    assert (tmp_path / supervisor.STATUS).read_text() == "3"


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    job = Job(tmp_path, "", ("/no/such/program",))
    assert job.said == b""
    assert b"No such file" in job.complaint


def test_without_a_listener_the_latest_is_kept(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "go")
    job = Job(tmp_path, "echo begin; read line < go; head -c 300000 /dev/zero; echo end")
    with job.connect() as first:
        first.hear(b"begin\n")
    gate.open()
    until(lambda: (tmp_path / supervisor.STATUS).exists(), "the job waits for a listener")
    listener = job.finish()
    assert len(listener.out) == supervisor.RING
    assert listener.out.endswith(b"\0end\n")
    assert listener.first[supervisor.STDOUT] == 300010 - supervisor.RING


def test_with_a_listener_nothing_is_lost(tmp_path: Path) -> None:
    """Not before the first one comes either."""
    job = Job(tmp_path, "for i in $(seq 50000); do echo $i; done; echo done > mark")
    time.sleep(0.3)
    with job.connect() as listener:
        time.sleep(0.3)  # it does not read for a while
        assert not (tmp_path / "mark").exists()
        listener.hear()
        assert listener.out == b"".join(b"%d\n" % number for number in range(1, 50001))
        listener.say(b"A")


def test_another_listener_goes_on_from_an_offset(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "go")
    job = Job(tmp_path, "echo 12345; read line < go; echo 6789")
    with job.connect() as first:
        first.hear(b"12345\n")
        with job.connect(out=4) as second:
            gate.open()
            second.hear()
            assert (second.first[supervisor.STDOUT], second.out) == (4, b"5\n6789\n")
            assert first.socket.recv(1) == b""  # the new one took its place
            second.say(b"A")


def test_an_offset_that_was_never_reached(tmp_path: Path) -> None:
    job = Job(tmp_path, "echo hello")
    until(lambda: (tmp_path / supervisor.STATUS).exists(), "the job does not end")
    with job.connect(out=1 << 40) as listener:
        assert listener.hear().out == b""
        listener.say(b"A")


@pytest.mark.parametrize("command", [b"K", b"Q"])
def test_kill(tmp_path: Path, command: bytes) -> None:
    job = Job(tmp_path, "echo $$ > pid; (trap '' TERM; exec sleep 1000) & echo $!; wait")
    with job.connect() as listener:
        listener.hear(b"\n")
        child = int(listener.out)
        listener.say(command)
        if command == b"K":
            assert listener.hear().status == supervisor.KILLED
            listener.say(b"A")
    until(lambda: not alive(child), "a process of the job's group is left")
    until(lambda: not alive(job.pid), "the supervisor stays")


def test_a_folder_that_goes(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    job = Job(folder, "echo $$ > pid; sleep 1000")
    until(lambda: (folder / "pid").exists() and (folder / "pid").read_text(), "no pid")
    shell = int((folder / "pid").read_text())
    shutil.rmtree(folder)
    until(lambda: not alive(job.pid), "the supervisor stays")
    until(lambda: not alive(shell), "the job stays")


def test_what_goes_on_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    job = Job(tmp_path, "sleep 1000 & echo $!")
    listener = job.finish()
    assert listener.status == 0
    os.kill(int(listener.out), 9)


def test_the_job_finds_its_signals_as_usual(tmp_path: Path) -> None:
    listener = Job(tmp_path, "grep -E 'SigIgn|SigBlk' /proc/self/status; umask").finish()
    _, blocked, _, ignored, umask = listener.out.split()
    # 32 and 33 are the C library's own.
    assert (int(blocked, 16), int(ignored, 16) & 0x7FFFFFFF, umask) == (0, 0, b"0022")


# What a job begins with here: its program has gone, and the supervisor is its parent.
ALONE = "until grep -q supervisor.py /proc/$(cut -d' ' -f4 /proc/$$/stat)/cmdline; do sleep 0.01; done; "
LEAVES = ("/bin/sh", "-c", "{ bash <&3 & } 3<&0; echo $! > pid")


@pytest.mark.parametrize(("script", "status"), [("echo hello; exit 3", 3), ("kill -9 $$", 255), ("sleep 0.2", 0)])
def test_a_job_that_its_program_leaves_behind(tmp_path: Path, script: str, status: int) -> None:
    listener = Job(tmp_path, ALONE + script, LEAVES, supervisor.ORPHAN).finish()
    assert listener.status == status
    assert listener.out == (b"hello\n" if "hello" in script else b"")


def test_an_orphan_is_killed(tmp_path: Path) -> None:
    job = Job(tmp_path, ALONE + "echo $$; while :; do sleep 0.05; done", LEAVES, supervisor.ORPHAN)
    with job.connect() as listener:
        shell = int(listener.hear(b"\n").out)
        listener.say(b"K")
        assert listener.hear().status == supervisor.KILLED
        listener.say(b"A")
    assert not alive(shell)


@pytest.mark.parametrize(("program", "status"), [("exit 4", 4), ("exit 0", 255), ("echo 1 > pid", 255)])
def test_a_program_that_leaves_none(tmp_path: Path, program: str, status: int) -> None:
    assert Job(tmp_path, "", ("/bin/sh", "-c", program), supervisor.ORPHAN).finish().status == status

"""Processes of a measurement: started pinned, waited for, and ended by their own ids whatever happens.

A Fleet is a context manager; leaving it, also by an exception, Ctrl-C or SIGTERM, ends everything it started. Children
also die with the harness itself (PR_SET_PDEATHSIG), so that not even `kill -9` of it leaves a server behind.
"""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType

REPO = Path(__file__).resolve().parents[2]
NATIVE = Path(__file__).resolve().parent / "native"
PROXY_CPU, LOAD_CPU = 0, 1
FILES_MAX = 262144
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class BenchError(Exception):
    """A measurement cannot be made; the text says why and is shown to the user."""


def prepare(cpus: Sequence[int]) -> Callable[[], None]:
    """What a child does before it becomes the program: die with its parent, stay on its CPUs."""
    parent = os.getpid()

    def in_child() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        os.sched_setaffinity(0, cpus)

    return in_child


def raise_file_limit(wanted: int = FILES_MAX) -> int:
    """Raises RLIMIT_NOFILE of this process and its children as far as allowed; returns what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in ((wanted, max(hard, wanted)), (min(hard, wanted), hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit[0]), limit[1]))
            break
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def cpus() -> tuple[int, int]:
    """(CPU of the proxies, CPU of load and origins); the same one twice if there is no second."""
    free = sorted(os.sched_getaffinity(0))
    return (free[0], free[1]) if len(free) > 1 else (free[0], free[0])


def wait_for_port(port: int, process: "Process", timeout_s: float = 60.0) -> None:
    """Returns when 127.0.0.1:port accepts. BenchError with the process's last words if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.popen.poll() is not None:
            raise BenchError(f"{process.name} ended with {process.popen.returncode}:\n{process.last_words()}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise BenchError(f"{process.name} does not listen on port {port} after {timeout_s:.0f} s:\n{process.last_words()}")


def compile_native(name: str) -> Path:
    """Compiles native/NAME.c if it is newer than its program; returns the program."""
    source, program = NATIVE / f"{name}.c", REPO / "build" / "bench" / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        program.parent.mkdir(parents=True, exist_ok=True)
        command = ["cc", "-O2", "-Wall", "-Wextra", "-o", f"{program}.{os.getpid()}", str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise BenchError(f"{' '.join(command)}\n{done.stderr}")
        os.replace(f"{program}.{os.getpid()}", program)
    return program


@dataclass
class Process:
    """One started program and where its output goes."""

    name: str
    argv: list[str]
    popen: "subprocess.Popen[bytes]"
    output: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def last_words(self, size: int = 2000) -> str:
        """The end of what it wrote to stdout and stderr."""
        return self.output.read_text(errors="replace")[-size:]


@dataclass
class Fleet:
    """Everything a measurement has started; see the top of the file."""

    prefix: str = "gorouter-bench-"
    base: Path | None = None
    processes: list[Process] = field(default_factory=list)
    _directory: "tempfile.TemporaryDirectory[str] | None" = None
    _old_term: object = None
    _port: int = 0

    def __enter__(self) -> "Fleet":
        self._directory = tempfile.TemporaryDirectory(prefix=self.prefix, dir=self.base)
        self._old_term = signal.signal(signal.SIGTERM, _exit_on_term)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        held = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for process in reversed(self.processes):
                self.stop(process)
        finally:
            signal.signal(signal.SIGINT, held)
            signal.signal(signal.SIGTERM, self._old_term)  # type: ignore[arg-type]
            if self._directory is not None:
                self._directory.cleanup()

    @property
    def directory(self) -> Path:
        """A directory of this run alone; gone when the fleet is."""
        if self._directory is None:
            raise RuntimeError("the fleet is not entered")
        return Path(self._directory.name)

    def ports(self, count: int) -> list[int]:
        """Loopback ports that nobody listens on now, given out once, below the range the kernel uses for clients."""
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        self._port = self._port or 20000 + os.getpid() * 7 % 8000
        found: list[int] = []
        while len(found) < count:
            self._port += 1
            if self._port >= low:
                raise BenchError("no free ports below the ephemeral range")
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", self._port))
                except OSError:
                    continue
            found.append(self._port)
        return found

    def start(
        self, name: str, argv: Sequence[str | Path], cpu: int | Sequence[int], env: Mapping[str, str] | None = None
    ) -> Process:
        """Starts a program on the given CPU; BenchError if it is not installed."""
        output = self.directory / f"{name}.{len(self.processes)}.out"
        words = [str(word) for word in argv]
        pinned = [cpu] if isinstance(cpu, int) else list(cpu)
        try:
            with output.open("wb") as file:
                popen = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    cwd=REPO,
                    env={**os.environ, **(env or {})},
                    start_new_session=True,
                    preexec_fn=prepare(pinned),
                )
        except FileNotFoundError as error:
            raise BenchError(f"{words[0]} is not installed") from error
        process = Process(name, words, popen, output)
        self.processes.append(process)
        return process

    def stop(self, process: Process, grace_s: float = 5.0) -> None:
        """TERM, then KILL after the grace; waits for the end."""
        if process.popen.poll() is None:
            process.popen.terminate()
            try:
                process.popen.wait(grace_s)
            except subprocess.TimeoutExpired:
                print(f"{process.name} ({process.pid}) did not stop in {grace_s:.0f} s: killed", file=sys.stderr)
                process.popen.kill()
                process.popen.wait()
        if process in self.processes:
            self.processes.remove(process)

    def check(self) -> None:
        """BenchError if something that was started has ended by itself."""
        for process in self.processes:
            if process.popen.poll() is not None:
                raise BenchError(f"{process.name} ended with {process.popen.returncode}:\n{process.last_words()}")


def _exit_on_term(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)

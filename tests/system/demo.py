"""bin/run as the tests start it: on free ports, watched from outside, ended by signals."""

import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
UP_DEADLINE_S = 120.0


class Demo:
    """A bin/run in progress; what it printed so far is in lines."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            ["bin/run", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + UP_DEADLINE_S
        while time.monotonic() < deadline:
            if match := re.search(pattern, self.output):
                return match
            if self.process.poll() is not None and not self._reader.is_alive():
                break
            time.sleep(0.05)
        raise AssertionError(f"bin/run never printed {pattern!r}; it printed:\n{self.output}")

    def wait_until_up(self) -> None:
        self.wait_for(r"Ctrl-C stops all of it\.")

    @property
    def port(self) -> int:
        return int(self.wait_for(r"http://hello\.localhost:(\d+)/\n")[1])

    def children(self) -> dict[int, str]:
        """Process ids of what it started, with their command lines."""
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() for pid in pids}
        return {pid: command for pid, command in commands.items() if command}

    def end(self, number: signal.Signals) -> int:
        """Sends the signal and returns the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        self._reader.join(timeout=10)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(timeout=10)
        assert self.process.stdout is not None
        self.process.stdout.close()


def gone(pids: object, patience_s: float = 10.0) -> bool:
    """True once none of the processes exists."""
    assert isinstance(pids, dict)
    deadline = time.monotonic() + patience_s
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def running(free_port: Callable[[], int], *arguments: str) -> Iterator[Demo]:
    """bin/run on free ports, up; stopped at the end whatever happens."""
    ports = ["--port", str(free_port()), "--status-port", str(free_port()), "--routes-port", str(free_port())]
    demo = Demo(*ports, *arguments)
    try:
        demo.wait_until_up()
        yield demo
    finally:
        demo.close()

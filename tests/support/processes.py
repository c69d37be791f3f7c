"""Processes that are no children of the test: whether they live, and a gate at which one waits for the test."""

import os
import time
from pathlib import Path

DEADLINE_S = 60.0


def alive(pid: int) -> bool:
    """Whether a process runs: a zombie that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Gate:
    """A named pipe: who reads a line of it waits until `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)

    def open(self) -> None:
        """Lets the reader go on. TimeoutError if there is none for DEADLINE_S."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            try:
                descriptor = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody reads yet
                time.sleep(0.01)
                continue
            os.write(descriptor, b"\n")
            os.close(descriptor)
            return
        raise TimeoutError(f"nobody reads {self.path}")

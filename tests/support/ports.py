"""Ports of 127.0.0.1 that nobody listens on.

They lie below the range from which the kernel gives connections their own ports, and each process of a run has a range
of its own: else a port that is free now may be somebody's connection when it is wanted.
"""

import itertools
import os
import socket
from collections.abc import Iterator

FIRST = 12000
PER_PROCESS = 2000
PROCESSES = 10


def _mine() -> Iterator[int]:
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = FIRST + number % PROCESSES * PER_PROCESS
    offset = os.getpid() % PER_PROCESS  # another run on this machine begins elsewhere
    return itertools.cycle([*range(first + offset, first + PER_PROCESS), *range(first, first + offset)])


_ports = _mine()


def take() -> int:
    """A port that no other call in this run gave for a long time."""
    for port in itertools.islice(_ports, PER_PROCESS):
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port among {PER_PROCESS}")

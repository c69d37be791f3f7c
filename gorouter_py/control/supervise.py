"""Watching the data plane from outside: workers that stand still.

Called on the control thread, about once a second; does not block. What happens to a stuck worker (health to 503, a
dump, abort) is decided here; a process that cannot serve must end so that someone restarts it.
"""

import faulthandler
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, Protocol

STUCK_S: Final = 5.0


class Log(Protocol):
    def fatal(self, message: str, /, **data: object) -> None: ...


class Watchdog:
    """Finds workers whose loop has not turned for STUCK_S seconds."""

    def __init__(self, now: float) -> None:
        self._turns: list[int] = []
        self._since: list[float] = []
        self._looked = now

    def stuck(self, turns: Sequence[int], now: float) -> list[int]:
        """Numbers of the workers that stand still, given each worker's turn counter; `now` in monotonic seconds.

        A gap between two looks (this process was stopped, the machine slept) is nobody's fault: all start anew."""
        if len(turns) != len(self._turns) or now - self._looked > STUCK_S:
            self._turns = list(turns)
            self._since = [now] * len(turns)
        self._looked = now
        for worker, turn in enumerate(turns):
            if turn != self._turns[worker]:
                self._turns[worker] = turn
                self._since[worker] = now
        return [worker for worker, since in enumerate(self._since) if now - since >= STUCK_S]


def abort(log: Log, workers: Sequence[int], set_health: Callable[[bool], None]) -> NoReturn:
    """Ends the process with SIGABRT, after health says 503 and the stacks of all Python threads are on stderr."""
    set_health(False)
    log.fatal("worker-stuck", workers=list(workers), seconds=STUCK_S)
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    sys.stderr.flush()
    os.abort()

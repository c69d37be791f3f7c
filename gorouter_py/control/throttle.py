"""Bounds how often one kind of log line may appear; called on the control thread."""

import time
from collections.abc import Callable


class Throttle:
    """Admits at most `per_second` events in each second and counts the rest.

    A window starts with its first event. Nothing is lost silently: the first event admitted after a flood is told how
    many were held back.
    """

    __slots__ = ("_admitted", "_clock", "_held", "_per_second", "_window_end", "suppressed")

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._window_end = 0.0
        self._admitted = 0
        self._held = 0
        self.suppressed = 0  # in all, for metrics

    def admit(self) -> int | None:
        """The number of events held back since the last admitted one, or None if this one is held back too."""
        now = self._clock()
        if now >= self._window_end:
            self._window_end = now + 1.0
            self._admitted = 0
        if self._admitted >= self._per_second:
            self._held += 1
            self.suppressed += 1
            return None
        self._admitted += 1
        held, self._held = self._held, 0
        return held

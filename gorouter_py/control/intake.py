"""From bytes on the bus to the registry: decodes each message, and keeps a bad one from doing harm.

Called by the bus on the control thread for everything on `router.*`. Never raises. Of other subjects than register and
unregister only the shape is looked at (gorouter: complains about them, too). A flood of bad messages costs at most
LINES_PER_S log lines a second, which say how many more there were.
"""

import time
import traceback
from collections.abc import Callable
from typing import Final, Protocol

from gorouter_py.control import messages
from gorouter_py.control.throttle import Throttle

LINES_PER_S: Final = 10
PAYLOAD_SHOWN: Final = 2048  # characters of a bad message in the log


class Registry(Protocol):
    def register(self, message: messages.Registration, now: float) -> None: ...
    def unregister(self, message: messages.Registration, now: float) -> None: ...


class Log(Protocol):
    def enabled(self, level: str) -> bool: ...
    def debug(self, message: str, /, **data: object) -> None: ...
    def error(self, message: str, /, **data: object) -> None: ...


class Intake:
    """See the head of the file."""

    def __init__(self, registry: Registry, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._log = log
        self._clock = clock
        self._lines = Throttle(LINES_PER_S, clock)
        self.invalid = 0

    def take(self, subject: str, payload: bytes) -> None:
        try:
            if subject == "router.register":
                self._registry.register(messages.decode(payload), self._clock())
            elif subject == "router.unregister":
                self._registry.unregister(messages.decode(payload), self._clock())
                if self._log.enabled("debug"):
                    self._log.debug("unregister-route", message=_shown(payload))
            elif subject != "router.greet":  # that one has no body
                messages.parse(payload)
        except messages.InvalidMessage as error:
            self._complain("validation-error", str(error), subject, payload)
        except Exception:
            # A message must not end the subscription, whatever it triggers; the trace says it is our fault.
            self._complain("message-not-handled", traceback.format_exc(), subject, payload)

    def _complain(self, message: str, error: str, subject: str, payload: bytes) -> None:
        self.invalid += 1
        held = self._lines.admit()
        if held is not None:
            self._log.error(message, error=error, payload=_shown(payload), subject=subject, suppressed=held)


def _shown(payload: bytes) -> str:
    return payload[:PAYLOAD_SHOWN].decode("utf-8", "replace")

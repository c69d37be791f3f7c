"""One time-out in 256 hung its worker for ever.

A timer more than a second away waits in a slot of 256 ticks, and is moved to its own tick when the slot comes up. That
was done one tick early, when a timer due on the last tick of the slot is still 256 ticks away: it was put back into the
slot that was being emptied, without end. The watchdog then aborted the process, minutes after a burst of traffic. The
existing tests waited for a few time-outs at a time, most of them shorter than a second.
"""

import time

from tests.support.plane import MakeRouter, until

TICK_S = 0.004
TICKS = 256


def test_time_outs_on_every_tick_of_a_slot(router: MakeRouter) -> None:
    front = router(idle_timeout_ms=1500, head_timeout_ms=1500)
    clients = []
    begun = time.monotonic()
    for number in range(2 * (TICKS + 32)):  # two for each tick, over more than a whole slot
        delay = begun + number * TICK_S / 2 - time.monotonic()
        if delay > 0:
            time.sleep(delay)
        clients.append(front.client())
    until(lambda: front.counter("connections_open") == 0, "connections that time out stay open")
    turns = front.plane.turns()
    until(lambda: front.plane.turns() != turns, "the worker stands still")

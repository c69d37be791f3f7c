"""Who decides: of the routers that share a store one holds a lease, renews it, and loses it when it falls silent.

No clock is shared. A router watches the lease's revision; if that has not changed for LEASE_S of its own time, the
holder is silent and the lease may be taken, by compare and set, so two never get it at once. A holder that could not
renew for HOLD_S, which is less, knows by itself that it decides no more.
A store that nobody shares needs no lease. Control loop.
"""

from collections.abc import Callable
from typing import Final

from gorouter_py.control.store import Conflict, Store, Unavailable

KEY: Final = "lease.rollouts"
RENEW_S: Final = 2.0
HOLD_S: Final = 5.0
LEASE_S: Final = 8.0


class Lease:
    """node: the name of this router, unlike all others. clock: monotonic seconds."""

    def __init__(self, store: Store, node: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._node = node
        self._clock = clock
        self._renewed = -HOLD_S
        self._revision = 0  # seen last
        self._seen_at = clock()
        self._is_mine = False

    @property
    def held(self) -> bool:
        """Whether this router decides now."""
        if not self._store.shared:
            return True
        return self._is_mine and self._clock() - self._renewed < HOLD_S

    @property
    def is_silent(self) -> bool:
        """Whether nobody has renewed it lately, as far as is heard here: the bus may be away, too."""
        return self._store.shared and not self.held and self._clock() - self._seen_at >= HOLD_S

    @property
    def holder(self) -> str:
        """The name of the router that decides, as far as is known; "" if nobody does."""
        if self.held:
            return self._node
        entry = self._store.get(KEY)
        return str(entry.value.get("node", "")) if entry is not None and isinstance(entry.value, dict) else ""

    async def tick(self) -> None:
        """Renews or takes it if that is due; call it each second."""
        if not self._store.shared:
            return
        now, entry = self._clock(), self._store.get(KEY)
        revision = entry.revision if entry is not None else 0
        if revision != self._revision:
            self._revision, self._seen_at = revision, now
            self._is_mine = self._is_mine and entry is not None and entry.value == {"node": self._node}
        if self._is_mine:
            due = now - self._renewed >= RENEW_S
        else:
            silent = now - self._seen_at >= LEASE_S
            due = entry is None or silent or entry.value == {"node": self._node}
        if not due:
            return
        try:
            self._revision = await self._store.put(KEY, {"node": self._node}, revision)
        except Conflict:
            self._is_mine = False
            return
        except Unavailable:
            return  # held runs out by itself
        self._is_mine, self._renewed = True, now
        self._seen_at = now

    async def release(self) -> None:
        """Lets another router have it at once. Never raises."""
        if not self._store.shared or not self._is_mine:
            return
        self._is_mine = False
        try:
            await self._store.delete(KEY, self._revision)
        except (Conflict, Unavailable):
            return

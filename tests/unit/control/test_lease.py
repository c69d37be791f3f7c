"""Who decides: one at a time, no shared clock, and a holder that cannot renew knows that it decides no more."""

import asyncio
from collections.abc import Callable
from typing import Any

from gorouter_py.control import lease
from gorouter_py.control.lease import Lease
from gorouter_py.control.store import Conflict, FileStore, Unavailable
from tests.unit.control.fakes import FakeLog


class Shared(FileStore):
    """A store in memory that routers share; `away` makes it refuse to write."""

    shared = True  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__("", FakeLog())
        self.away = False

    async def put(self, key: str, value: Any, revision: int | None = None) -> int:
        if self.away:
            raise Unavailable("away")
        return await super().put(key, value, revision)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def scenario(play: Callable[[Shared, Clock, Lease, Lease], Any]) -> None:
    async def run() -> None:
        store, clock = Shared(), Clock()
        await play(store, clock, Lease(store, "one", clock), Lease(store, "two", clock))

    asyncio.run(run())


def test_the_first_has_it_and_keeps_it() -> None:
    async def play(store: Shared, clock: Clock, one: Lease, two: Lease) -> None:
        for _ in range(60):
            await one.tick()
            await two.tick()
            assert (one.held, two.held) == (True, False)
            assert one.holder == two.holder == "one"
            clock.now += 1

    scenario(play)


def test_a_silent_holder_loses_it_and_knows() -> None:
    async def play(store: Shared, clock: Clock, one: Lease, two: Lease) -> None:
        await one.tick()
        await two.tick()
        both = []
        for _ in range(200):
            clock.now += 0.1
            await two.tick()
            both.append((one.held, two.held))
        assert (True, True) not in both
        assert both[0] == (True, False) and both[-1] == (False, True)
        await one.tick()
        assert not one.held  # and does not take it back
        assert two.held

    scenario(play)


def test_a_holder_that_cannot_renew_decides_no_more() -> None:
    async def play(store: Shared, clock: Clock, one: Lease, two: Lease) -> None:
        await one.tick()
        store.away = True
        clock.now += lease.HOLD_S
        await one.tick()
        assert not one.held
        store.away = False
        await one.tick()
        assert one.held

    scenario(play)


def test_one_that_ends_lets_it_go() -> None:
    async def play(store: Shared, clock: Clock, one: Lease, two: Lease) -> None:
        await one.tick()
        await two.tick()
        await one.release()
        assert not one.held
        await two.tick()
        assert two.held

    scenario(play)


def test_of_two_that_want_it_one_gets_it() -> None:
    async def play(store: Shared, clock: Clock, one: Lease, two: Lease) -> None:
        real = store.put

        async def slower(key: str, value: Any, revision: int | None = None) -> int:
            store.put = real  # type: ignore[method-assign]
            await two.tick()
            try:
                return await real(key, value, revision)
            except Conflict:
                raise

        store.put = slower  # type: ignore[method-assign]
        await one.tick()
        assert (one.held, two.held) == (False, True)

    scenario(play)


def test_nobody_shares_a_file() -> None:
    it = Lease(FileStore("", FakeLog()), "one", Clock())
    asyncio.run(it.tick())
    assert it.held and it.holder == "one"

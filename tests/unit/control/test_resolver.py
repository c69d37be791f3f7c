"""Names: who is told what, against a loop whose name server is in our hands."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from gorouter_py.control.resolver import Resolver
from tests.unit.control.fakes import FakeLog

Answers = dict[str, list[str] | OSError]


class Bench:
    def __init__(self, answers: Answers, interval_s: float = 0.01) -> None:
        self.answers, self.log = answers, FakeLog()
        self.told: list[tuple[str, tuple[str, ...]]] = []
        self.asked: list[str] = []
        self.resolver = Resolver(self.log, interval_s)
        self.resolver.on_change = lambda host, addresses: self.told.append((host, addresses))
        asyncio.get_running_loop().getaddrinfo = self._answer  # type: ignore[method-assign]

    async def _answer(self, host: str, _port: object, **_: object) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        answer = self.answers[host]
        if isinstance(answer, OSError):
            raise answer
        family = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(family[":" in each], socket.SOCK_STREAM, 6, "", (each, 0)) for each in answer]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)


def play(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def test_a_watched_name_is_resolved_and_ipv4_comes_first() -> None:
    async def scenario() -> None:
        bench = Bench({"a": ["fd00::1", "10.0.0.2", "10.0.0.1", "fe80::1%eth0"]}, interval_s=1000)
        assert bench.resolver.watch("a") == ()
        bench.resolver.start()
        await bench.until(lambda: bool(bench.told))
        assert bench.told == [("a", ("10.0.0.1", "10.0.0.2", "fd00::1"))]
        assert bench.resolver.watch("a") == ("10.0.0.1", "10.0.0.2", "fd00::1")
        assert bench.asked == ["a"]
        await bench.resolver.stop()

    play(scenario)


def test_names_are_asked_again_and_only_changes_are_told() -> None:
    async def scenario() -> None:
        bench = Bench({"a": ["10.0.0.1"]})
        bench.resolver.watch("a")
        bench.resolver.start()
        await bench.until(lambda: len(bench.asked) >= 3)
        assert len(bench.told) == 1
        bench.answers["a"] = ["10.0.0.9"]
        await bench.until(lambda: len(bench.told) == 2)
        assert bench.told[1] == ("a", ("10.0.0.9",))
        await bench.resolver.stop()

    play(scenario)


def test_an_outage_keeps_the_addresses_and_is_logged_once() -> None:
    async def scenario() -> None:
        bench = Bench({"a": ["10.0.0.1"]})
        bench.resolver.watch("a")
        bench.resolver.start()
        await bench.until(lambda: bool(bench.told))
        bench.answers["a"] = OSError("server away")
        seen = len(bench.asked)
        await bench.until(lambda: len(bench.asked) >= seen + 3)
        assert len(bench.told) == 1
        assert [line["kept"] for line in bench.log.said("name-not-resolved")] == [("10.0.0.1",)]
        bench.answers["a"] = ["10.0.0.1"]
        await bench.until(lambda: bool(bench.log.said("name-resolved-again")))
        assert len(bench.told) == 1
        await bench.resolver.stop()

    play(scenario)


def test_a_forgotten_name_is_not_asked_again() -> None:
    async def scenario() -> None:
        bench = Bench({"a": ["10.0.0.1"], "b": ["10.0.0.2"]})
        for host in ("a", "a", "b"):
            bench.resolver.watch(host)
        bench.resolver.unwatch("a")
        bench.resolver.start()
        await bench.until(lambda: bench.asked.count("a") >= 2)  # one user is left
        bench.resolver.unwatch("a")
        count = bench.asked.count("a")
        seen = bench.asked.count("b")
        await bench.until(lambda: bench.asked.count("b") >= seen + 3)
        assert bench.asked.count("a") <= count + 1  # one lookup may have been under way
        await bench.resolver.stop()

    play(scenario)


def test_settled_resolves_before_the_first_listener_opens() -> None:
    async def scenario() -> None:
        bench = Bench({f"host-{n}": [f"10.0.0.{n}"] for n in range(40)})
        for host in bench.answers:
            bench.resolver.watch(host)
        assert await bench.resolver.settled(10)
        assert len(bench.told) == 40

    play(scenario)


def test_a_slow_name_server_does_not_hold_up_the_start() -> None:
    async def scenario() -> None:
        bench = Bench({"a": ["10.0.0.1"]})
        gate = asyncio.Event()
        quick = bench._answer

        async def slow(host: str, port: object, **rest: object) -> list[tuple[Any, ...]]:
            await gate.wait()
            return await quick(host, port, **rest)

        asyncio.get_running_loop().getaddrinfo = slow  # type: ignore[method-assign, assignment]
        bench.resolver.watch("a")
        assert await bench.resolver.settled(0.01) is False
        gate.set()
        bench.resolver.start()
        await bench.until(lambda: bool(bench.told))  # what was cut off is asked again
        await bench.resolver.stop()

    play(scenario)


def test_a_real_lookup() -> None:
    async def scenario() -> None:
        told: list[tuple[str, ...]] = []
        resolver = Resolver(FakeLog())
        resolver.on_change = lambda _host, addresses: told.append(addresses)
        resolver.watch("localhost")
        assert await resolver.settled(30)
        assert told and set(told[0]) <= {"127.0.0.1", "::1"}

    play(scenario)

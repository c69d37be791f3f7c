"""A connection that is cut after each octet of an exchange, on either side of the router, in either direction."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.adversity.exchanges import EXCHANGES, Instance, Recorder, Request, judge
from tests.support.between import DOWN, UP, Between, Cut
from tests.support.origins import Origin
from tests.support.plane import MakeOrigin, MakeRouter, Router, until
from tests.support.wire import Message

MakeBetween = Callable[[int], Between]


class Chain:
    """client - near - router - far - instance; a second instance stands by, behind a proxy of its own."""

    def __init__(self, router: MakeRouter, origin: MakeOrigin, between: MakeBetween, **settings: object) -> None:
        self.instance = Instance()
        self.front: Router = router(max_attempts=3, retry_idempotent=True, **settings)
        self.apps: list[Origin] = [origin(self.instance) for _ in range(2)]
        self.fars = [between(app.port) for app in self.apps]
        for far in self.fars:
            self.front.add(far.port)
        self.near = between(self.front.port)
        self.seen: Counter[str] = Counter()
        self.turn = 0
        self.connects = 0

    def arm(self, near: Cut | None = None, far: Cut | None = None) -> None:
        """far: of whichever instance is taken first."""
        self.near.arm(near)
        for one in self.fars:
            one.arm(far)

    def run(self, requests: list[Request]) -> list[str]:
        """The whole exchange from the client's side, and the end of everything that belongs to it."""
        self.turn += 1
        self.connects += 1
        with Recorder.connect(self.near.port) as client:
            # cut already: what came back is judged all the same
            with contextlib.suppress(ConnectionError):
                client.send(b"".join(request.sent(self.turn) for request in requests))
            seen = judge(client, requests)
        self.quiet()
        if any(request.method == "POST" for request in requests):
            assert len(self.whole(requests)) <= 1, "a POST reached instances twice"
            assert sum(far.reached for far in self.fars) <= 1, "a part of a POST reached a second instance"
        self.seen.update(seen)
        return seen

    def whole(self, requests: list[Request]) -> list[Message]:
        """Requests of the last exchange that came whole to instances."""
        targets = {request.target(self.turn) for request in requests}
        return [message for message in self.instance.whole if message.target in targets]

    def quiet(self) -> None:
        """Waits until the router has seen every client and has none any more."""
        end = time.monotonic() + 20
        while True:
            counters = self.front.plane.counters()
            left = {name: counters[name] for name in ("requests_active", "connections_open") if counters[name]}
            if counters["connections"] != self.connects:
                left["connections"] = counters["connections"]
            if not left:
                return
            assert time.monotonic() < end, left
            time.sleep(0.0005)

    def lengths(self, requests: list[Request]) -> dict[tuple[str, int], int]:
        """Octets of the exchange on each leg and in each direction."""
        for _ in range(2):  # the second one on kept connections
            self.arm()
            assert self.run(requests) == ["whole"] * len(requests)
        return {
            ("near", UP): self.near.passed[UP],
            ("near", DOWN): self.near.passed[DOWN],
            ("far", UP): max(far.passed[UP] for far in self.fars),
            ("far", DOWN): max(far.passed[DOWN] for far in self.fars),
        }


def ways(leg: str, direction: int) -> list[str]:
    """How cuts are made."""
    return ["end", "reset"] + (["half"] if leg == "near" and direction == UP else [])


@pytest.mark.parametrize("direction", [UP, DOWN], ids=["up", "down"])
@pytest.mark.parametrize("leg", ["near", "far"])
@pytest.mark.parametrize("name", EXCHANGES)
def test_cut_at_every_octet(
    router: MakeRouter, origin: MakeOrigin, between: MakeBetween, name: str, leg: str, direction: int
) -> None:
    requests = EXCHANGES[name]
    chain = Chain(router, origin, between)
    length = chain.lengths(requests)[leg, direction]
    chain.seen.clear()
    assert length > 30
    for at in range(length + 1):
        for how in ways(leg, direction):
            cut = Cut(direction, at, how)
            chain.arm(near=cut if leg == "near" else None, far=cut if leg == "far" else None)
            try:
                seen = chain.run(requests)
            except AssertionError as error:
                raise AssertionError(f"cut {how} after {at} of {length} octets: {error}") from error
            until(lambda: any(one.was_cut for one in (chain.near, *chain.fars)), f"{how} after {at}")
            assert len(seen) == len(requests) or seen[-1] not in ("whole", "200"), (at, how, seen)
    chain.arm()
    assert chain.run(requests) == ["whole"] * len(requests)
    if leg == "near":
        assert chain.seen["cut"] > length // 3, chain.seen
    elif direction == DOWN:
        # cut within the answer's head: tried again, or 502; behind it: cut
        assert chain.seen["cut"] and (chain.seen["502"] or chain.seen["whole"]), chain.seen


@pytest.mark.parametrize("how", ["end", "reset"])
def test_what_may_be_repeated_is_answered_by_the_other_instance(
    router: MakeRouter, origin: MakeOrigin, between: MakeBetween, how: str
) -> None:
    chain = Chain(router, origin, between, cool_down_ms=0)
    lengths = chain.lengths(EXCHANGES["get"])
    cuts = [Cut(UP, at, how) for at in range(0, lengths["far", UP] + 1, 5)] + [Cut(DOWN, 0, how)]
    for cut in cuts:
        retries = chain.front.counter("retries")
        for name in ("get", "chunked-answer"):
            chain.arm()
            chain.fars[0].arm(cut)
            chain.fars[1].arm()
            for _ in range(2):  # one of two in turn goes to the first
                assert chain.run(EXCHANGES[name]) == ["whole"], cut
            assert chain.fars[0].was_cut, cut
        assert chain.front.counter("retries") >= retries + 2, cut


def test_a_post_whose_instance_is_cut_off_is_not_repeated(
    router: MakeRouter, origin: MakeOrigin, between: MakeBetween
) -> None:
    chain = Chain(router, origin, between, cool_down_ms=0)
    lengths = chain.lengths(EXCHANGES["post"])
    for at in range(0, lengths["far", UP] + 1, 5):
        chain.arm()
        chain.fars[0].arm(Cut(UP, at, "reset" if at % 2 else "end"))
        for _ in range(2):
            seen = chain.run(EXCHANGES["post"])
            assert seen == (["502"] if chain.fars[0].was_cut else ["whole"]), at
            if seen == ["502"]:
                break
            chain.fars[1].arm()
        else:
            raise AssertionError("two turns went to one of two instances")
    assert chain.front.counter("retries") == 0


def test_every_connection_to_instances_is_cut_in_the_head(
    router: MakeRouter, origin: MakeOrigin, between: MakeBetween
) -> None:
    """Repetitions are cut too: one answer comes all the same."""
    chain = Chain(router, origin, between)
    chain.lengths(EXCHANGES["get"])
    for name in ("get", "post"):
        for at in range(0, 40, 3):
            chain.arm()
            for far in chain.fars:
                far.arm(Cut(DOWN, at, "reset" if at % 2 else "end"), again=True)
            assert chain.run(EXCHANGES[name]) == ["502"]

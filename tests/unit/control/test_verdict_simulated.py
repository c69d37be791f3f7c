"""The sequential test of the canary on simulated rollouts: how often it is wrong, how soon it is right, and the traps
that live in the statistics (docs/canary.md lists all of them). Seeded: a run gives the same numbers each time."""

import math
import random
import statistics
from collections.abc import Iterator

import pytest

from gorouter_py.control.verdict import DEGRADED_MIN, Seen, Verdict

ALPHA = 0.01
WEYL = 40503


def begun(share: float, *metrics: str) -> Verdict:
    judge = Verdict(ALPHA, metrics or ("errors", "latency"))
    judge.exposed(share, 0.0)
    return judge


def coordinates(draw: random.Random) -> Iterator[int]:
    """Coordinates of new clients as a router deals them out."""
    u = draw.randrange(65536)
    while True:
        yield u
        u = u + WEYL & 65535


def bursty_rollout(seed: int) -> Verdict:
    """Equal versions over four steps. Users come in bursts of unequal length, some fail nearly always and most hardly
    ever; for a tenth of the time something that all depend on is down and a third of the requests fail."""
    draw = random.Random(seed)
    judge = begun(0.01)
    spread = coordinates(draw)
    failed: set[int] = set()
    users: list[tuple[int, float]] = []  # coordinate, its own error rate
    for share in (0.01, 0.05, 0.25, 0.5):
        judge.exposed(share, 0.0)
        border = (1 - share) * 65536
        for _ in range(120):
            users.append((next(spread), 0.9 if draw.random() < 0.05 else 0.01))
            number = draw.randrange(len(users))  # somebody of before or just now
            u, rate = users[number]
            if draw.random() < 0.1:
                rate = max(rate, 0.33)
            burst = 1 + int(draw.expovariate(0.15))
            if number not in failed and draw.random() < 1 - (1 - rate) ** burst:
                failed.add(number)
                judge.outcome("errors" if draw.random() < 0.8 else "latency", u >= border, 0.0)
    return judge


def test_equal_versions_are_hardly_ever_rolled_back() -> None:
    rollouts = 1000
    judges = [bursty_rollout(seed) for seed in range(rollouts)]
    assert statistics.median(sum(m["canary"] + m["stable"] for m in judge.metrics.values()) for judge in judges) > 40
    wrong = sum(judge.state == "worse" for judge in judges)
    assert wrong <= rollouts * ALPHA + 3 * math.sqrt(rollouts * ALPHA * (1 - ALPHA))


def users_until_rollback(seed: int, share: float, stable: float, canary: float, requests_max: int = 9) -> int:
    """Canary users that came until the test was sure. A user makes 1 to requests_max requests, each fails with that
    rate."""
    draw = random.Random(seed)
    judge = begun(share)
    border = (1 - share) * 65536
    came = 0
    for u in coordinates(draw):
        is_canary = u >= border
        came += is_canary
        rate = canary if is_canary else stable
        if draw.random() < 1 - (1 - rate) ** draw.randint(1, requests_max):
            judge.outcome("errors", is_canary, 0.0)
            if judge.state == "worse":
                return came
    raise AssertionError("coordinates never end")


@pytest.mark.parametrize("requests_max", [1, 9])
def test_ten_times_the_errors_are_seen_within_150_users(requests_max: int) -> None:
    users = [users_until_rollback(seed, 0.05, 0.005, 0.05, requests_max) for seed in range(100)]
    assert statistics.median(users) <= 150


@pytest.mark.parametrize(("share", "at_most"), [(0.01, 5), (0.05, 5), (0.1, 5), (0.5, 10)])
def test_a_dead_canary_among_few_stable_failures(share: float, at_most: int) -> None:
    assert statistics.median(users_until_rollback(seed, share, 0.001, 1.0) for seed in range(40)) <= at_most


# -- traps -------------------------------------------------------------------------------------------------


def chronic_users(seed: int, per_user: bool) -> bool:
    """Equal versions, 1 % of the users always fail, 20 requests each, share 5 %. Whether it rolled back."""
    draw = random.Random(seed)
    judge = begun(0.05, "errors")
    for _ in range(60):  # users that always fail; the others never show up here
        is_canary = draw.random() < 0.05
        for _ in range(1 if per_user else 20):
            judge.outcome("errors", is_canary, 0.0)
    return judge.state == "worse"


def test_trap_a_a_user_counts_once() -> None:
    runs = 200
    assert sum(chronic_users(seed, per_user=False) for seed in range(runs)) > runs / 4  # what must not be done
    assert sum(chronic_users(seed, per_user=True) for seed in range(runs)) <= runs * ALPHA + 3 * math.sqrt(runs * ALPHA)


def test_trap_a_a_full_bitmap_is_said() -> None:
    judge = begun(0.5)
    judge.seen(1.0, Seen(9000, 0, 900), Seen(9000, 0, 900), fill=0.2)
    assert judge.state == "fine"
    judge.seen(2.0, Seen(9000, 0, 900), Seen(9000, 0, 900), fill=0.35)
    assert judge.state == "undecided" and "35% of all users have failed already" in judge.reason


def test_trap_e_memory_is_bounded() -> None:
    judge = begun(0.05)
    sizes = set()
    for n in range(5000):
        judge.exposed(0.05 + n % 97 / 200, float(n))
        judge.outcome("errors", n % 3 == 0, float(n))
        judge.seen(float(n), Seen(n * 20, n, n), Seen(n, n, n))
        judge.merge({"other": {"errors": -1.0}})
        if n > 100:
            sizes.add(len(judge._window) // 2)
            assert len(judge.to_state()["metrics"]["errors"]["likelihood"]) == 109
    assert max(sizes) <= 6


def outage(*, canary_is_worse: bool) -> list[str]:
    """The states of each second of 60 quiet ones, 60 in which a database both depend on is ill, and 60 quiet ones."""
    draw = random.Random(4)
    judge = begun(0.1)
    stable, canary = Seen(), Seen()
    states = []
    for second in range(180):
        rate = 0.3 if 60 <= second < 120 else 0.001
        for _ in range(100):
            is_canary = draw.random() < 0.1
            failed = draw.random() < (min(1.0, rate * 3) if is_canary and canary_is_worse else rate)
            if failed:
                judge.outcome("errors", is_canary, float(second))
            mine = canary if is_canary else stable
            mine = Seen(mine.requests + 1, mine.failures + failed, mine.users + 1)
            stable, canary = (stable, mine) if is_canary else (mine, canary)
        judge.seen(float(second), stable, canary)
        states.append(judge.state)
    return states


def test_trap_f_a_shared_outage_freezes_and_does_not_abort() -> None:
    states = outage(canary_is_worse=False)
    assert "worse" not in states
    assert states[59] == "fine" and set(states[65:120]) == {"frozen"} and states[-1] == "fine"


def test_trap_f_a_difference_aborts_all_the_same() -> None:
    states = outage(canary_is_worse=True)
    assert "worse" not in states[:60] and states[-1] == "worse"


def test_trap_f_a_few_failures_are_no_outage() -> None:
    judge = begun(0.1)
    judge.seen(0.0, Seen(5000, 0, 900), Seen(500, 0, 90))
    judge.seen(10.0, Seen(5100, DEGRADED_MIN - 1, 900), Seen(510, 0, 90))
    assert judge.state == "fine"
    judge.seen(20.0, Seen(5200, DEGRADED_MIN, 900), Seen(520, 0, 90))
    assert judge.state == "frozen"


def test_trap_g_one_huge_tenant_is_one_user_and_is_told_of() -> None:
    """A tenant with half of all requests landed in the canary by its hash; both versions fail equally often."""
    wrong = 0
    for seed in range(200):
        draw = random.Random(seed)
        judge = begun(0.05)
        has_failed: set[int] = set()
        for _ in range(3000):
            user = -1 if draw.random() < 0.5 else draw.randrange(2000)
            if draw.random() < 0.02 and user not in has_failed:
                has_failed.add(user)
                judge.outcome("errors", user < 100, 0.0)  # -1 and 5 % of the others
        wrong += judge.state == "worse"
    assert wrong <= 200 * ALPHA + 3 * math.sqrt(200 * ALPHA)
    judge.seen(1.0, Seen(1425, 28, 1000), Seen(1575, 31, 54))
    assert "a canary user makes 20 times as many requests" in judge.mix()
    judge.seen(2.0, Seen(1425, 28, 1000), Seen(75, 1, 54))
    assert judge.mix() == ""


def test_trap_h_evidence_of_routers_adds_up() -> None:
    here, there = begun(0.1), begun(0.1)
    for judge in (here, there):
        for _ in range(3):
            judge.outcome("errors", True, 0.0)
    assert here.state != "worse"
    here.merge({"there": there.own()})
    assert here.metrics["errors"]["log_e"] == pytest.approx(here.own()["errors"] + there.own()["errors"])
    assert here.state == "worse"


def test_trap_h_evidence_against_evidence() -> None:
    judge = begun(0.1)
    for _ in range(3):
        judge.outcome("errors", True, 0.0)
    alone = judge.log_e
    judge.merge({"b": {"errors": -2.0, "other": 7.0}, "c": {}})
    assert judge.log_e < alone
    judge.merge({})  # they are gone, and with them what they saw
    assert judge.log_e == pytest.approx(alone)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_trap_i_without_a_control_the_test_is_off(share: float) -> None:
    judge = begun(share)
    for _ in range(1000):
        judge.outcome("errors", share == 1.0, 0.0)
    assert (
        judge.state == "disabled"
        and "thresholds alone" in judge.reason
        and judge.own() == {"errors": 0.0, "latency": 0.0}
    )
    judge.exposed(0.1, 1.0)
    for _ in range(5):
        judge.outcome("errors", True, 1.0)
    assert judge.state == "worse"


def test_trap_j_a_second_stream_for_refusals() -> None:
    judge = begun(0.05, "errors", "latency", "client_errors")
    count = 0
    while judge.state != "worse":
        judge.outcome("client_errors", True, 0.0)
        count += 1
    assert count <= 6 and judge.reason.startswith("client_errors:")

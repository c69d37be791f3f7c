"""Who owns which coordinates: exact shares, the fewest moves, nobody back."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorouter_py.control import intervals
from gorouter_py.control.intervals import SLOTS, Plan

STABLE, CANARY = 0, 1


def weights_of(cuts: Sequence[int]) -> dict[int, int]:
    """Weights of len(cuts) + 1 versions from any cuts of the whole."""
    borders = [0, *sorted(cuts), SLOTS]
    return {version: upper - lower for version, (lower, upper) in enumerate(itertools.pairwise(borders))}


def check(plan: Plan, weights: dict[int, int]) -> None:
    assert plan[-1][0] == SLOTS
    assert all(lower < upper for (lower, _), (upper, _) in itertools.pairwise(plan)) and plan[0][0] > 0
    assert all(one != other for (_, one), (_, other) in itertools.pairwise(plan))
    assert intervals.owned(plan) == {version: weight for version, weight in weights.items() if weight}


cut = st.integers(0, SLOTS)


@given(st.floats(0, 100, allow_nan=False))
def test_a_weight_is_met_to_a_slot(percent: float) -> None:
    count = intervals.slots(percent)
    assert abs(count - percent * SLOTS / 100) <= 1
    assert (count == 0) == (percent == 0) and (count == SLOTS) == (percent == 100)


@pytest.mark.parametrize("percent", [-1, 101, float("nan")])
def test_what_is_no_weight_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="valid: 0 to 100"):
        intervals.slots(percent)


@given(st.lists(cut, min_size=1, max_size=1), st.lists(cut, min_size=1, max_size=1))
def test_two_versions_move_one_border(one: list[int], other: list[int]) -> None:
    before, after = weights_of(one), weights_of(other)
    plans = [intervals.change([], weights, STABLE, CANARY) for weights in (before, after)]
    for plan, weights in zip(plans, (before, after), strict=True):
        check(plan, weights)
    moves = intervals.moved(*plans)
    assert sum(moves.values()) == abs(before[CANARY] - after[CANARY])
    assert len(moves) <= 1


@given(st.lists(cut, min_size=2, max_size=2), st.data())
def test_of_three_versions_the_third_loses_nobody_when_the_canary_grows(cuts: list[int], data: st.DataObject) -> None:
    before = weights_of(cuts)
    grown = data.draw(st.integers(0, before[STABLE]))
    after = {STABLE: before[STABLE] - grown, CANARY: before[CANARY] + grown, 2: before[2]}
    plan = intervals.change([], before, STABLE, CANARY)
    later = intervals.change(plan, after, STABLE, CANARY)
    check(later, after)
    assert intervals.moved(plan, later) == ({(STABLE, CANARY): grown} if grown else {})


def test_the_example_of_three() -> None:
    def weights(*percents: float) -> dict[int, int]:
        counts = [intervals.slots(percent) for percent in percents]
        return {STABLE: SLOTS - sum(counts[1:]), CANARY: counts[1], 2: counts[2]}

    before = intervals.change([], weights(85, 5, 10), STABLE, CANARY)
    after = intervals.change(before, weights(75, 15, 10), STABLE, CANARY)
    moves = intervals.moved(before, after)
    assert sum(moves.values()) / SLOTS == pytest.approx(0.10, abs=1e-4)
    assert all(origin != 2 for origin, _ in moves)


@given(st.integers(4, 8).flatmap(lambda size: st.lists(
    st.lists(cut, min_size=size - 1, max_size=size - 1), min_size=2, max_size=6)))  # fmt: skip
def test_many_versions_move_the_fewest_and_nobody_back(history: list[list[int]]) -> None:
    plan: Plan = []
    before: dict[int, int] = {}
    for cuts in history:
        weights = weights_of(cuts)
        later = intervals.change(plan, weights, STABLE, CANARY)
        check(later, weights)
        if plan:
            gains = {version: weight - before[version] for version, weight in weights.items()}
            moves = intervals.moved(plan, later)
            assert sum(moves.values()) == sum(gain for gain in gains.values() if gain > 0)
            for version, gain in gains.items():
                lost = sum(count for (origin, _), count in moves.items() if origin == version)
                assert lost == max(-gain, 0)
        plan, before = later, weights


def test_a_plan_never_falls_to_pieces() -> None:
    plan: Plan = []
    for number in range(3000):
        cuts = [(number * step * 7919) % SLOTS for step in (1, 3, 5, 11, 17, 23, 29)]
        weights = weights_of(cuts)
        plan = intervals.change(plan, weights, STABLE, CANARY)
        check(plan, weights)
        assert len(plan) <= intervals.PIECES_MAX


def test_a_user_of_a_growing_ramp_never_goes_back() -> None:
    plan: Plan = []
    seen: dict[int, int] = {}
    for percent in (1, 5, 25, 50, 100):
        count = intervals.slots(percent)
        plan = intervals.change(plan, {STABLE: SLOTS - count, CANARY: count}, STABLE, CANARY)
        for slot in range(0, SLOTS, 97):
            owner = intervals.owner(plan, slot)
            assert not (seen.get(slot) == CANARY and owner == STABLE)
            seen[slot] = owner
    assert set(seen.values()) == {CANARY}


def test_weights_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="add up"):
        intervals.ends({STABLE: 1, CANARY: 1}, STABLE, CANARY)

"""The timer wheel against a model: every armed timer fires once, on its tick, whatever was done in between."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests import _probe as probe

TICK_MS = 4
TIMERS = 24

# near, on the edges of a slot of the second level, of the third, and beyond the wheel
DELAYS = st.one_of(
    st.integers(1, 1100),
    st.integers(1000, 1100).map(lambda ms: ms * 2),
    st.sampled_from([1024, 1020, 2044, 2048, 262_140, 262_144, 262_148, 524_288]),
    st.integers(1, 20_000_000),
)
STEPS = st.one_of(st.integers(1, 300), st.sampled_from([255, 256, 65_535, 65_536, 65_537]), st.integers(1, 200_000))
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, TIMERS - 1), DELAYS),
        st.tuples(st.just("off"), st.integers(0, TIMERS - 1), st.just(0)),
        st.tuples(st.just("cancel"), st.integers(0, TIMERS - 1), st.just(0)),
        st.tuples(st.just("go"), st.just(0), STEPS),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(st.integers(0, 2**40), ACTIONS)
def test_against_a_model(start: int, actions: list[tuple[str, int, int]]) -> None:
    wheel, due, now = probe.TimerWheel(TIMERS, start), dict[int, int](), start
    for action, timer, value in actions:
        if action == "set":
            due[timer] = wheel.set_ms(timer, value)
            assert due[timer] == now + -(-value // TICK_MS) + 1
        elif action == "go":
            now += value
            expected = sorted((at, each) for each, at in due.items() if at <= now)
            fired = wheel.advance(now)
            assert sorted(fired) == sorted(each for _, each in expected)
            assert [due[each] for each in fired] == [at for at, _ in expected]
            for _, each in expected:
                del due[each]
        else:
            wheel.set_ms(timer, 0) if action == "off" else wheel.cancel(timer)
            due.pop(timer, None)


def test_every_tick_of_two_slots() -> None:
    wheel = probe.TimerWheel(4096, 1_000_000)
    due = {timer: wheel.set_ms(timer, (256 + timer) * TICK_MS) for timer in range(1024)}
    for tick in range(1_000_001, 1_000_000 + 1400):
        assert [due[timer] for timer in wheel.advance(tick)] == [tick] * sum(at == tick for at in due.values())
    assert wheel.linked == 0


def test_a_worker_never_sleeps_past_a_timer() -> None:
    rng = random.Random(7)
    wheel, now = probe.TimerWheel(64, 77), 77
    due: dict[int, int] = {}
    for _ in range(3000):
        timer = rng.randrange(64)
        due[timer] = wheel.set_ms(timer, rng.choice((rng.randrange(1, 900), rng.randrange(1, 90_000))))
        ms = wheel.sleep_ms(1000)
        assert 0 <= ms <= max(TICK_MS, (min(due.values()) - now) * TICK_MS)
        now += max(1, ms // TICK_MS)
        for fired in wheel.advance(now):
            assert due.pop(fired) <= now

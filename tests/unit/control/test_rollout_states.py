"""The life of a rollout as a table: which action fits which state, what undo goes back to, what is kept."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorouter_py.control import intervals, rollout_states
from gorouter_py.control.rollout_spec import Spec, body
from gorouter_py.control.rollout_states import CANARY, STABLE, Impossible, Record

SPEC = Spec("v2", "v1", "version", steps=(5.0, 25.0, 100.0), pause_at=(25.0,))
KEY = "00" * 16


def begun(spec: Spec = SPEC, before: Record | None = None, salt: int = 7) -> Record:
    return rollout_states.start("a.test", spec, before, 100.0, "ada", "", salt, KEY)


ACTIONS: dict[str, Callable[[Record], Record]] = {
    "promote": lambda it: rollout_states.promote(it, SPEC, 200.0, "ada", "go"),
    "pause": lambda it: rollout_states.pause(it, SPEC, 200.0, "ada", "wait"),
    "resume": lambda it: rollout_states.resume(it, SPEC, 200.0, "ada", "on"),
    "abort": lambda it: rollout_states.abort(it, SPEC, 200.0, "ada", "bad"),
    "undo": lambda it: rollout_states.undo(it, SPEC, 200.0, "ada", "oops"),
    "set": lambda it: rollout_states.set_weight(it, SPEC, 200.0, "ada", "more", 50.0),
}


def reach(*actions: str) -> Record:
    record = begun()
    for action in actions:
        record = rollout_states.settled(ACTIONS[action](record))
    return record


@pytest.mark.parametrize(
    ("way", "state", "weight", "paused_by"),
    [
        ((), "ramping", 5, ""),
        (("promote",), "paused", 25, "step"),
        (("promote", "resume"), "ramping", 25, ""),
        (("promote", "promote"), "ramping", 100, ""),
        (("promote", "promote", "promote"), "done", 100, ""),
        (("pause",), "paused", 5, "operator"),
        (("pause", "resume"), "ramping", 5, ""),
        (("pause", "promote"), "paused", 25, "step"),
        (("set",), "paused", 50, "set"),
        (("set", "promote"), "ramping", 100, ""),
        (("set", "resume"), "ramping", 50, ""),
        (("abort",), "aborted", 0, ""),
        (("promote", "undo"), "ramping", 5, ""),
        (("promote", "resume", "abort", "undo"), "ramping", 25, ""),
        (("promote", "abort", "undo"), "paused", 25, "step"),
        (("promote", "promote", "promote", "undo"), "ramping", 100, ""),
        (("promote", "promote", "promote", "undo", "undo"), "paused", 25, "step"),
    ],
)
def test_the_way_of_a_rollout(way: tuple[str, ...], state: str, weight: float, paused_by: str) -> None:
    record = reach(*way)
    assert (record.state, record.weight, record.paused_by) == (state, weight, paused_by)
    assert record.epoch == len(way) + 1 and len(record.history) == len(way) + 1
    assert record.history[-1].state == state
    owned = intervals.owned(record.plan)
    assert owned.get(CANARY, 0) == intervals.slots(weight) and sum(owned.values()) == intervals.SLOTS
    assert rollout_states.decode(rollout_states.encode(record)) == (record, SPEC)


@pytest.mark.parametrize(
    ("way", "action"),
    [
        ((), "resume"), ((), "undo"), (("pause",), "pause"), (("abort",), "abort"), (("abort",), "promote"),
        (("abort",), "pause"), (("abort",), "resume"), (("abort",), "set"), (("set", "undo"), "undo"),
        (("promote", "promote", "promote"), "promote"), (("promote", "promote", "promote"), "abort"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_a_reason(way: tuple[str, ...], action: str) -> None:
    record = reach(*way)
    with pytest.raises(Impossible) as caught:
        ACTIONS[action](record)
    assert len(str(caught.value)) > 10


def test_every_state_is_reached_by_moves_alone() -> None:
    reached = {state for moves in rollout_states.MOVES.values() for state in moves}
    assert reached | {"idle"} == set(rollout_states.MOVES)
    assert set(rollout_states.SETTLED) == {state for state in reached if state.endswith("ing")} - {"ramping"}


def test_moves_that_are_not_in_the_table_do_not_happen() -> None:
    for state, target in itertools.product(rollout_states.MOVES, rollout_states.MOVES):
        record = Record(**{**dict(fields(begun())), "state": state})
        if target not in rollout_states.MOVES[state]:
            with pytest.raises(Impossible):
                rollout_states._move(record, SPEC, target, 0.0, 1.0, "ada", "")


def fields(record: Record) -> list[tuple[str, Any]]:
    return [(name, getattr(record, name)) for name in record.__struct_fields__]


def test_an_abort_tells_what_it_rests_on_and_undo_counts_anew() -> None:
    evidence = [{"request_id": f"r{number}"} for number in range(100)]
    ended = rollout_states.settled(rollout_states.abort(begun(), SPEC, 200.0, "verdict", "worse", evidence))
    last = ended.history[-1]
    assert (last.state, last.who, last.why) == ("aborted", "verdict", "worse")
    assert last.evidence == evidence[-rollout_states.EVIDENCE_MAX :]
    again = ACTIONS["undo"](ended)
    assert again.id == ended.id + 1 and again.since == 200.0


def test_the_next_rollout_of_a_route() -> None:
    with pytest.raises(Impossible, match="promote or abort it first"):
        begun(before=begun())
    first = reach("abort")
    second = begun(before=first, salt=9)
    assert (second.id, second.epoch, second.salt) == (first.id + 1, first.epoch + 1, 9)
    assert second.before == [] and second.history[:2] == first.history
    kept = Spec("v2", "v1", "version", salt="keep")
    assert begun(kept, first, 9).salt == 7 and begun(Spec("v2", "v1", "version", salt=11), first, 9).salt == 11


def test_extra_versions_keep_their_share() -> None:
    spec = Spec("v2", "v1", "version", steps=(5.0, 100.0), extras={"v3": 10.0})
    record = begun(spec)
    assert rollout_states.weights(record, spec) == {STABLE: 55705, CANARY: 3277, 2: 6554}
    last = rollout_states.promote(record, spec, 2.0, "ada", "")
    assert last.weight == 90.0 and rollout_states.weights(last, spec) == {STABLE: 0, CANARY: 58982, 2: 6554}
    over = rollout_states.settled(rollout_states.promote(last, spec, 3.0, "ada", ""))
    assert over.state == "done" and intervals.owned(over.plan) == {CANARY: 58982, 2: 6554}


def test_history_is_bounded() -> None:
    record = begun()
    for _ in range(rollout_states.HISTORY_MAX):
        record = ACTIONS["resume"](ACTIONS["pause"](record))
    assert len(record.history) == rollout_states.HISTORY_MAX
    assert len(record.before) == rollout_states.BEFORE_MAX


@given(st.lists(st.sampled_from([*ACTIONS, "promote"]), max_size=30), st.booleans())
def test_whatever_is_done_a_record_stays_one(actions: list[str], extra: bool) -> None:
    spec = Spec("v2", "v1", "version", SPEC.steps, pause_at=SPEC.pause_at, extras={"v3": 10.0} if extra else {})
    record = begun(spec)
    for action in actions:
        try:
            moved = getattr(rollout_states, {"set": "set_weight"}.get(action, action))(
                record, spec, record.since + 1, "ada", "", *([37.5] if action == "set" else [])
            )
        except Impossible:
            continue
        assert moved.state in rollout_states.MOVES[record.state] and moved.epoch == record.epoch + 1
        moves = intervals.moved(record.plan, moved.plan)
        assert len(moves) <= 1  # one border moves, and nobody of a third version
        assert all(2 not in pair for pair in moves)
        record = rollout_states.settled(moved)
        assert rollout_states.decode(rollout_states.encode(record)) == (record, spec)
        assert record.state in {"ramping", "paused", "done", "aborted"}


def test_old_evidence_is_let_go() -> None:
    record = begun()
    for number in range(10):
        record = rollout_states.settled(rollout_states.abort(record, SPEC, 1.0, "ada", "", [{"number": number}]))
        record = rollout_states.undo(record, SPEC, 1.0, "ada", "")
    kept = [event.evidence[0]["number"] for event in record.history if event.evidence]
    assert kept == list(range(10))[-rollout_states.EVIDENT_MAX :] and len(record.history) == 21


@pytest.mark.parametrize(
    "change",
    [
        {"state": "resting"}, {"weight": 101}, {"weight": "5"}, {"id": 0}, {"epoch": 0}, {"salt": 70000},
        {"key": "00"}, {"key": "xy" * 16}, {"plan": [[65536, 0]]}, {"plan": []}, {"body": {}}, {"more": 1},
        {"body": {**body(SPEC), "from": None}}, {"history": [{}]},
    ],
)  # fmt: skip
def test_a_record_that_is_none_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        rollout_states.decode({**rollout_states.encode(begun()), **change})
    with pytest.raises(ValueError):
        rollout_states.decode(None)

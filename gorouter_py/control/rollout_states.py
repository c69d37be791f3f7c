"""The life of a rollout: what is kept of it, which moves there are, and who made them and why.

    idle -> ramping <-> paused;  ramping | paused -> promoting -> done,  or -> aborting -> aborted;  undo leads back

A Record is everything that routers must agree on. Each function makes the next one, with an epoch one higher; the
highest epoch of a route is the one in force. `promoting` and `aborting` say that the split is in force here and not
yet kept; `settled` is what is kept then. `_move` alone writes the state and refuses what MOVES does not have.
Pure: the time (wall clock, seconds) and everything drawn by lot is passed in.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from gorouter_py.control import intervals, rollout_spec
from gorouter_py.control.rollout_spec import Spec, percent

STABLE: Final = 0  # numbers of versions within a rollout; the extra ones follow
CANARY: Final = 1
HISTORY_MAX: Final = 200
BEFORE_MAX: Final = 50
EVIDENCE_MAX: Final = 20  # failing requests kept with one decision
EVIDENT_MAX: Final = 5  # latest decisions that keep theirs: a record must fit a message of the bus, 1 MiB

MOVES: Final[Mapping[str, frozenset[str]]] = {
    "idle": frozenset({"ramping", "paused"}),  # waits for its route and versions
    "ramping": frozenset({"ramping", "paused", "promoting", "aborting"}),  # holds a step, goes on by itself
    "paused": frozenset({"ramping", "paused", "promoting", "aborting"}),  # holds until somebody says so
    "promoting": frozenset({"done", "aborting"}),  # everybody has the canary; not kept yet
    "done": frozenset({"ramping", "paused"}),
    "aborting": frozenset({"aborted"}),  # nobody has the canary; not kept yet
    "aborted": frozenset({"ramping", "paused"}),
}
ACTIVE: Final = frozenset({"ramping", "paused"})
ENDED: Final = frozenset({"done", "aborted", "promoting", "aborting"})
SETTLED: Final[Mapping[str, str]] = {"promoting": "done", "aborting": "aborted"}
ACTIONS: Final = ("promote", "pause", "resume", "abort", "undo", "set")


class Impossible(ValueError):
    """The action does not fit the state; str() says why and what would."""


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a rollout was: what undo goes back to."""

    state: str
    weight: float
    paused_by: str = ""


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One transition. at: wall clock seconds; weight: percent of the canary from then on."""

    at: float
    state: str
    weight: float
    who: str
    why: str
    evidence: list[dict[str, Any]] = []


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See the head of the file. weight: percent of the canary; since: when it became that, or the hold began anew;
    body: as rollout_spec.body gives it; key: of signed cookies, in hex; plan: who owns which coordinates;
    origin: "" or the digest of the entry of the configuration file that it came from."""

    route: str
    id: int
    epoch: int
    state: str
    weight: float
    since: float
    began: float
    body: dict[str, Any]
    salt: int
    key: str
    plan: list[tuple[int, int]]
    paused_by: str = ""
    before: list[Position] = []
    history: list[Event] = []
    origin: str = ""

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE


def encode(record: Record) -> dict[str, Any]:
    """JSON's types."""
    found: dict[str, Any] = msgspec.to_builtins(record)
    return found


def to_event(event: Event) -> dict[str, Any]:
    """JSON's types."""
    found: dict[str, Any] = msgspec.to_builtins(event)
    return found


def decode(value: Any) -> tuple[Record, Spec]:
    """What `encode` made, checked, and its Spec. ValueError names the place."""
    try:
        record = msgspec.convert(value, Record)
        spec = rollout_spec.read(record.body)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    except rollout_spec.Unfit as error:
        raise ValueError(f"body: {error}") from None
    if record.state not in MOVES or not spec.from_ or not spec.by:
        raise ValueError(f"state {record.state!r}, from {spec.from_!r} and by {spec.by!r} are no rollout")
    if not 0 <= record.weight <= 100 or not 0 <= record.salt < intervals.SLOTS or len(bytes.fromhex(record.key)) != 16:
        raise ValueError("weight, salt or key is out of range")
    if record.id < 1 or record.epoch < 1:
        raise ValueError("id and epoch begin with 1")
    if intervals.owned(record.plan) != {version: count for version, count in weights(record, spec).items() if count}:
        raise ValueError("plan does not fit the weights")
    return record, spec


def start(
    route: str, spec: Spec, before: Record | None, now: float, who: str, why: str, salt: int, key: str, origin: str = ""
) -> Record:
    """The first step of a new rollout. before: the latest one of the route. Impossible while that one runs."""
    if before is not None and before.state not in ENDED:
        raise Impossible(f"a rollout to {before.body['to']!r} is {before.state}; promote or abort it first")
    if spec.salt == "keep" and before is not None:
        salt = before.salt
    elif isinstance(spec.salt, int):
        salt = spec.salt
    record = Record(
        route=route,
        id=before.id + 1 if before is not None else 1,
        epoch=before.epoch if before is not None else 0,
        state="idle",
        weight=0.0,
        since=now,
        began=now,
        body=rollout_spec.body(spec),
        salt=salt,
        key=key,
        plan=[],
        history=before.history if before is not None else [],
        origin=origin,
    )
    return _at_step(record, spec, spec.steps[0], now, who, why or f"rollout to {spec.to}", undoable=False)


def promote(record: Record, spec: Spec, now: float, who: str, why: str) -> Record:
    """The next step, or everybody after the last one."""
    if not record.is_active:
        raise Impossible(_over(record))
    following = next_step(record, spec)
    if following is None:
        return _move(record, spec, "promoting", spec.top, now, who, why)
    return _at_step(record, spec, following, now, who, why)


def pause(record: Record, spec: Spec, now: float, who: str, why: str, by: str = "operator") -> Record:
    if record.state != "ramping":
        raise Impossible("it is paused already" if record.state == "paused" else _over(record))
    return _move(record, spec, "paused", record.weight, now, who, why, paused_by=by)


def resume(record: Record, spec: Spec, now: float, who: str, why: str) -> Record:
    """The hold of the present weight begins anew."""
    if record.state != "paused":
        raise Impossible("it is not paused" if record.is_active else _over(record))
    return _move(record, spec, "ramping", record.weight, now, who, why)


def abort(
    record: Record, spec: Spec, now: float, who: str, why: str, evidence: Sequence[dict[str, Any]] = ()
) -> Record:
    if not record.is_active and record.state != "promoting":
        raise Impossible(_over(record))
    return _move(record, spec, "aborting", 0.0, now, who, why, evidence=evidence)


def undo(record: Record, spec: Spec, now: float, who: str, why: str) -> Record:
    """Back to where it was before the last move; one that had ended counts anew, by another id."""
    if not record.before:
        raise Impossible("there is nothing to undo; abort it to go back to the version before")
    last = record.before[-1]
    if last.state not in ACTIVE:  # it was being promoted: nobody knows whether that was to be
        last = Position("paused", last.weight, "undo")
    back = msgspec.structs.replace(record, before=record.before[:-1])
    if record.state in ENDED:
        back = msgspec.structs.replace(back, id=record.id + 1)
    why = why or f"back to {last.state} at {percent(last.weight)}"
    return _move(back, spec, last.state, last.weight, now, who, why, paused_by=last.paused_by, undoable=False)


def set_weight(record: Record, spec: Spec, now: float, who: str, why: str, weight: float) -> Record:
    """Stays at a weight until somebody says otherwise."""
    if not record.is_active:
        raise Impossible(_over(record))
    return _move(record, spec, "paused", min(weight, spec.top), now, who, why, paused_by="set")


def settled(record: Record) -> Record:
    """The record once it is kept: promoting is done then, aborting is aborted."""
    state = SETTLED.get(record.state)
    if state is None:
        return record
    assert state in MOVES[record.state]
    last = msgspec.structs.replace(record.history[-1], state=state)
    return msgspec.structs.replace(record, state=state, history=[*record.history[:-1], last])


def next_step(record: Record, spec: Spec) -> float | None:
    """The weight of the next step; None after the last one."""
    return next((step for step in (min(step, spec.top) for step in spec.steps) if step > record.weight), None)


def step_number(record: Record, spec: Spec) -> int:
    """Index of the step whose weight has been reached; 0 below the first."""
    return max(sum(min(step, spec.top) <= record.weight for step in spec.steps) - 1, 0)


def weights(record: Record, spec: Spec) -> dict[int, int]:
    """Slots by number of the version."""
    found = {CANARY + 1 + number: intervals.slots(share) for number, share in enumerate(spec.extras.values())}
    rest = intervals.SLOTS - sum(found.values())
    canary = rest if record.weight >= spec.top else min(intervals.slots(record.weight), rest)
    return {STABLE: rest - canary, CANARY: canary, **found}


def _at_step(
    record: Record, spec: Spec, step: float, now: float, who: str, why: str, *, undoable: bool = True
) -> Record:
    waits = any(min(each, spec.top) == step for each in spec.pause_at)
    state, by = ("paused", "step") if waits else ("ramping", "")
    return _move(record, spec, state, min(step, spec.top), now, who, why, paused_by=by, undoable=undoable)


def _move(
    record: Record,
    spec: Spec,
    state: str,
    weight: float,
    now: float,
    who: str,
    why: str,
    *,
    paused_by: str = "",
    evidence: Sequence[dict[str, Any]] = (),
    undoable: bool = True,
) -> Record:
    if state not in MOVES[record.state]:
        raise Impossible(f"there is no way from {record.state} to {state}")
    event = Event(now, state, weight, who, why, list(evidence)[-EVIDENCE_MAX:])
    before = record.before
    if undoable:
        before = [*before, Position(record.state, record.weight, record.paused_by)][-BEFORE_MAX:]
    moved = msgspec.structs.replace(
        record,
        epoch=record.epoch + 1,
        state=state,
        weight=weight,
        since=now,
        paused_by=paused_by,
        before=before,
        history=_kept([*record.history, event]),
    )
    plan = intervals.change(record.plan, weights(moved, spec), STABLE, CANARY)
    return msgspec.structs.replace(moved, plan=plan)


def _kept(history: list[Event]) -> list[Event]:
    """What is kept of a history: the latest events, and of those the latest evidence."""
    found: list[Event] = []
    evident = 0
    for event in reversed(history[-HISTORY_MAX:]):
        evident += bool(event.evidence)
        found.append(event if evident <= EVIDENT_MAX else msgspec.structs.replace(event, evidence=[]))
    return found[::-1]


def _over(record: Record) -> str:
    return f"it is {record.state}; undo that, or start another rollout"

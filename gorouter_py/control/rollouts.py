"""The rollouts of this router: what is in force on each route, who changes it, and when it goes on by itself.

A record per route (control/rollout_states.py) lives in the store, the one with the highest epoch is in force. Whoever
changes it writes the next one by compare and set and then puts it into force; routers that share the store hear of it
and do the same. Ending is the other way round: an abort is in force here with one call of set_rollout, and kept
afterwards, as often as it takes. Any router may be told to change a rollout; by itself only the holder of the lease
does, and where nobody renews that (the bus is away, perhaps) each takes back what it sees fail.

A rollout never makes a route unreachable: what cannot be put into force is told and left out, and what cannot be read
is told and not there. While a rollout runs, first failures are taken every FAST_S, everything else happens each second.
Control loop; nothing blocks; bounded by ROLLOUTS_MAX.
"""

import asyncio
import contextlib
import dataclasses
import os
import time
import traceback
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from gorouter_py.control import rollout_plane, rollout_spec, rollout_states, rollout_view, versions
from gorouter_py.control.admin_api import Refusal
from gorouter_py.control.intervals import SLOTS
from gorouter_py.control.lease import Lease
from gorouter_py.control.messages import Registration
from gorouter_py.control.rollout_checks import Checks
from gorouter_py.control.rollout_judge import Judge
from gorouter_py.control.rollout_spec import Spec
from gorouter_py.control.rollout_states import Impossible, Record
from gorouter_py.control.store import Conflict, Entry, Store, Unavailable

if TYPE_CHECKING:
    from gorouter_py._fastpath import Explanation, Outcome, RolloutNumbers, RolloutSpec

PREFIX: Final = "rollout."  # + route: a Record
VERDICTS: Final = "verdict."  # + route + "@" + node: what a router has seen of a rollout
FAST_S: Final = 0.01  # a canary that is dead must not get more users than it takes to see that
IDLE_S: Final = 0.1
TICK_S: Final = 1.0
TOLD_S: Final = 0.2  # new evidence reaches other routers within this,
KEPT_S: Final = 2.0  # and a disk that is ours alone within this
SEEN_S: Final = 10.0  # numbers alone
OUTCOMES_STEP: Final = 1024
ROLLOUTS_MAX: Final = 1000
STEP: Final = 5  # rollouts looked at between two turns of the loop: 1 ms
RETRIES: Final = 10
SECRET_BYTES_MIN: Final = 16
WHO_MAX: Final = 200
Make = Callable[[Record, Spec], Record]


class Plane(Protocol):
    """What is needed of the data plane."""

    def set_rollout(self, uri: str, spec: "RolloutSpec | None", members: Mapping[int, int] = ...) -> None: ...
    def set_slow(self, uri: str, ns: int) -> None: ...
    def rollouts(self) -> "list[RolloutNumbers]": ...
    def outcomes(self, limit: int = ...) -> "list[Outcome]": ...
    def clients(self, uri: str) -> list[list[tuple[int, str]]]: ...
    def explain(self, head: bytes, address: str) -> "Explanation": ...


class Routes(Protocol):
    """What is needed of the registry."""

    on_split_route: Callable[[str], None]

    def set_split(self, key: str, version: Callable[[Registration], int] | None) -> dict[int, int]: ...
    def spelling(self, key: str) -> str | None: ...
    def facts(self, keys: Iterable[str]) -> Iterator[tuple[str, Registration]]: ...


class Log(Protocol):
    def info(self, message: str, /, **data: object) -> None: ...
    def warn(self, message: str, /, **data: object) -> None: ...
    def error(self, message: str, /, **data: object) -> None: ...


@dataclass(frozen=True)
class Wiring:
    """What Rollouts works with. node: name of this router among its peers, the same after a restart; publish: tells
    the bus; changed: something that is shown has changed; route_key: the registry's key of a uri."""

    plane: Plane
    routes: Routes
    store: Store
    log: Log
    node: str
    bounds_ns: "tuple[int, ...]"
    route_key: Callable[[str], str]
    publish: Callable[[str, bytes], Coroutine[Any, Any, object]]
    changed: Callable[[], None]
    wall: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic


@dataclass(eq=False)
class _Live:
    """One route's rollout. record is in force, stored in the store; they differ while `pending` is not kept yet."""

    record: Record
    spec: Spec
    stored: Record
    revision: int
    number: int  # in the data plane
    judge: Judge
    checks: Checks
    unfit: str = ""
    waits: str = ""
    pending: Make | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    told: tuple[dict[str, float], list[Any]] = field(default_factory=lambda: ({}, []))  # evidence, numbers
    told_at: float = 0.0
    is_telling: bool = False
    is_frozen: bool = False
    overrides: dict[str, str] = field(default_factory=dict)
    reading: rollout_view.Reading | None = None


@dataclass(frozen=True)
class Wish:
    """A rollout of the configuration file; it begins when its route and versions are there. digest: of the entry."""

    route: str
    spec: Spec
    digest: str
    why: str = ""


class Rollouts:
    """See the head of the file."""

    def __init__(self, wiring: Wiring) -> None:
        self._it = wiring
        self._log = wiring.log
        self._store = wiring.store
        self.lease = Lease(wiring.store, wiring.node, wiring.clock)
        self._lives: dict[str, _Live] = {}
        self._numbers: dict[int, _Live] = {}
        self._next_number = 1
        self._wishes: dict[str, Wish] = {}
        self._told_wishes: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.decisions = dict.fromkeys(("start", *rollout_states.ACTIONS), 0)
        wiring.routes.on_split_route = self._route_is_back

    # -- life ----------------------------------------------------------------------------------------------

    async def start(self, wishes: Iterable[Wish] = ()) -> None:
        """Puts into force what the store has, and keeps at it."""
        self._wishes = {wish.route: wish for wish in wishes}
        await self._store.start()
        for key, entry in self._store.entries(PREFIX).items():
            self._heard(key, entry)
        self._store.watch(PREFIX, self._heard)
        self._store.watch(VERDICTS, self._heard_evidence)
        await self.lease.tick()
        self._spawn(self._run())

    async def stop(self) -> None:
        """Keeps what there is to keep, and lets others decide."""
        self._stopping = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for live in tuple(self._lives.values()):
            if live.record.is_active:
                await self._tell(live)
        await self.lease.release()

    async def _run(self) -> None:
        due = self._it.clock()
        while not self._stopping:
            try:
                self.poll()
                now = self._it.clock()
                if now >= due:
                    due = now + TICK_S
                    await self.tick()
            except Exception:
                self._log.error("rollouts-failed", error=traceback.format_exc())
            is_active = any(live.record.is_active for live in self._lives.values())
            await asyncio.sleep(FAST_S if is_active else IDLE_S)

    def poll(self) -> None:
        """Takes first failures, and ends a rollout whose verdict they make."""
        now = self._it.wall()
        for event in self._it.plane.outcomes(OUTCOMES_STEP):
            live = self._numbers.get(event["rollout"])
            if live is None or not live.record.is_active:
                continue
            live.judge.outcome(event, now)
            self._abort_if_worse(live)
        clock, period = self._it.clock(), TOLD_S if self._store.shared else KEPT_S
        for live in self._lives.values():
            verdict = live.judge.verdict
            if verdict is None or not live.record.is_active or live.is_telling or clock - live.told_at < period:
                continue
            if verdict.own() != live.told[0]:
                live.is_telling = True
                self._spawn(self._tell(live))

    async def tick(self) -> None:
        """What happens each second."""
        await self.lease.tick()
        by_number = {numbers["id"]: numbers for numbers in self._it.plane.rollouts()}
        for count, live in enumerate(tuple(self._lives.values()), 1):
            numbers = by_number.get(live.number)
            if live.unfit:
                self._apply(live)
            if live.pending is not None and not live.lock.locked():
                self._spawn(self._settle(live))
            if live.record.is_active:
                self._judge(live, numbers)
            elif numbers is not None:
                live.judge.numbers = numbers
            live.reading = rollout_view.reading(self.shown(live))
            if count % STEP == 0:
                await asyncio.sleep(0)
        self._begin_wishes()
        self._it.changed()

    def _judge(self, live: _Live, numbers: "RolloutNumbers | None") -> None:
        judge, record, now = live.judge, live.record, self._it.wall()
        if numbers is not None:
            judge.read(numbers, now)
            threshold = judge.slower_than(now)
            uri = self._it.routes.spelling(record.route)
            if threshold is not None and uri is not None and not live.unfit:
                try:
                    self._it.plane.set_slow(uri, threshold)
                except LookupError:
                    live.unfit = "the data plane has no such rollout"
        if judge.verdict is not None:
            judge.verdict.merge(self._others(live))
            self._tell_outage(live, judge.verdict.state == "frozen", judge.verdict.reason)
        due = self._it.clock() - live.told_at >= SEEN_S and not live.is_telling
        if due and [list(each) for each in judge.seen()] != live.told[1]:
            live.is_telling = True
            self._spawn(self._tell(live))
        if not self.lease.held:
            self._abort_if_worse(live)
            return
        live.checks.ask(now, lambda: self.document(live))
        decision = judge.decide(record, now, live.checks.worse, live.checks.waits)
        live.waits = "" if decision.action else decision.why
        if decision.action == "abort":
            self._abort_by_itself(live)
        elif decision.action and not live.lock.locked():
            self._spawn(self._by_itself(live, decision.action, decision.who, decision.why, record.epoch))

    def _tell_outage(self, live: _Live, is_frozen: bool, reason: str) -> None:
        """Both versions fail: nobody is rolled back for that, so somebody has to hear of it."""
        if is_frozen != live.is_frozen:
            live.is_frozen = is_frozen
            if is_frozen:
                self._log.warn("rollout-frozen", route=live.record.route, id=live.record.id, reason=reason)
            else:
                self._log.info("rollout-frozen-no-more", route=live.record.route, id=live.record.id, reason=reason)

    async def _by_itself(self, live: _Live, action: str, who: str, why: str, epoch: int) -> None:
        def make(record: Record, spec: Spec) -> Record:
            if record.epoch != epoch:
                raise Impossible("somebody was faster")
            now = self._it.wall()
            if action == "pause":
                return rollout_states.pause(record, spec, now, who, why, "policy")
            return rollout_states.promote(record, spec, now, who, why)

        try:
            await self._change(live, action, make)
        except (Impossible, Refusal) as error:
            self._log.info("rollout-not-changed", route=live.record.route, action=action, error=str(error))

    def _abort_if_worse(self, live: _Live) -> None:
        verdict = live.judge.verdict
        if verdict is not None and verdict.state == "worse" and (self.lease.held or self.lease.is_silent):
            self._abort_by_itself(live)

    def _abort_by_itself(self, live: _Live) -> None:
        decision = live.judge.decide(live.record, self._it.wall(), live.checks.worse)
        if decision.action != "abort" or not live.record.is_active:
            return
        evidence = list(live.judge.evidence)
        now, who, why = self._it.wall(), decision.who, decision.why
        self._end(live, "abort", lambda record, spec: rollout_states.abort(record, spec, now, who, why, evidence))
        self._spawn(self._settle(live))

    # -- what is in force ----------------------------------------------------------------------------------

    def _heard(self, key: str, entry: Entry | None) -> None:
        """The store has another record than this router knows."""
        route = key.removeprefix(PREFIX)
        live = self._lives.get(route)
        if entry is None:
            if live is not None and live.pending is None:
                self._forget(live)
            return
        try:
            record, spec = rollout_states.decode(entry.value)
            if record.route != route:
                raise ValueError(f"it is of the route {record.route!r}")
        except ValueError as error:
            mend = "the route is served without it; start the rollout anew, or mend the entry and restart"
            self._log.error("rollout-unfit", key=key, error=str(error), mend=mend)
            return
        if live is not None and (record.id, record.epoch) <= (live.stored.id, live.stored.epoch):
            live.revision = entry.revision  # of another bucket, perhaps
            return
        if live is not None and live.pending is not None:
            if record.id == live.record.id:
                live.stored, live.revision = record, entry.revision  # _settle goes on from there
                return
            live.pending = None  # another rollout has taken the place of the one that ends here
        self._take(record, spec, entry.revision)

    def _take(self, record: Record, spec: Spec, revision: int) -> _Live:
        """Puts a record of the store into force."""
        live = self._lives.get(record.route)
        if live is not None and live.pending is None and live.record == record:
            live.revision = revision  # the store told it before it answered
            return live
        if live is None or live.record.id != record.id:
            live = self._make(live, record, spec, revision)
        else:
            moved = live.record.weight != record.weight
            live.record, live.spec, live.stored, live.revision = record, spec, record, revision
            if moved:
                live.judge.exposed(record, self._it.wall())
                live.checks.anew()
        live.waits = ""
        self._apply(live)
        self._it.changed()
        return live

    def _make(self, before: _Live | None, record: Record, spec: Spec, revision: int) -> _Live:
        number = self._next_number
        self._next_number += 1
        judge = self._make_judge(record, spec)
        judge.exposed(record, self._it.wall())
        live = _Live(record, spec, record, revision, number, judge, Checks(spec.checks, self._spawn))
        if before is not None:
            live.lock = before.lock
            self._numbers.pop(before.number, None)
        self._lives[record.route] = self._numbers[number] = live
        return live

    def _make_judge(self, record: Record, spec: Spec) -> Judge:
        entry = self._store.get(self._verdict_key(record.route))
        saved = entry.value if entry is not None and isinstance(entry.value, dict) else {}
        if saved.get("id") == record.id:
            try:
                return Judge(spec, self._it.bounds_ns, saved["state"])
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self._log.error("rollout-verdict-unfit", route=record.route, error=str(error), mend="it counts anew")
        return Judge(spec, self._it.bounds_ns, {})

    def _apply(self, live: _Live) -> None:
        """Has the data plane split as the record says. Never raises: what cannot be is `unfit`, told, tried again."""
        record, spec = live.record, live.spec
        had, live.unfit = live.unfit, ""
        members = self._it.routes.set_split(record.route, rollout_plane.label(record, spec))
        uri = self._it.routes.spelling(record.route)
        if uri is None:
            live.unfit = "the route has no instance here"
            return
        try:
            secret = self._secret(spec)
        except ValueError as error:
            secret = os.urandom(SECRET_BYTES_MIN)  # nobody can choose then
            if str(error) not in had:
                self._log.error("rollout-secret-unfit", route=record.route, error=str(error))
        live.overrides = rollout_plane.overrides(record, spec, secret)
        try:
            self._it.plane.set_rollout(uri, rollout_plane.split(record, spec, live.number, secret), members)
            if live.judge.slow_ns:
                self._it.plane.set_slow(uri, live.judge.slow_ns)
        except (LookupError, ValueError, BlockingIOError) as error:
            live.unfit = str(error) or type(error).__name__
            if live.unfit != had:
                self._log.error("rollout-not-in-force", route=record.route, error=live.unfit)

    def _secret(self, spec: Spec) -> bytes:
        """ValueError if the file is no use."""
        if not spec.secret_file:
            return b""
        try:
            secret = Path(spec.secret_file).read_bytes().strip()
        except (OSError, ValueError) as error:
            raise ValueError(f"override.secret_file: {error}") from None
        if len(secret) < SECRET_BYTES_MIN:
            raise ValueError(f"override.secret_file: {spec.secret_file} has less than {SECRET_BYTES_MIN} bytes")
        return secret

    def _route_is_back(self, key: str) -> None:
        live = self._lives.get(key)
        if live is not None:
            self._apply(live)

    def _forget(self, live: _Live) -> None:
        del self._lives[live.record.route]
        self._numbers.pop(live.number, None)
        self._unsplit(live.record.route)
        self._it.changed()

    def _unsplit(self, route: str) -> None:
        """The route as it is without a rollout."""
        self._it.routes.set_split(route, None)
        uri = self._it.routes.spelling(route)
        if uri is not None:
            try:
                self._it.plane.set_rollout(uri, None)
            except (LookupError, ValueError, BlockingIOError) as error:
                self._log.error("rollout-not-removed", route=route, error=str(error))

    # -- changes -------------------------------------------------------------------------------------------

    async def _change(self, live: _Live, action: str, make: Make) -> _Live:
        """Keeps the next record and puts it into force. Impossible; Refusal if it cannot be kept."""
        probe = make(live.record, live.spec)
        if probe.state in rollout_states.SETTLED:
            self._end(live, action, make)
            await self._settle(live)
            return live
        async with live.lock:
            live = self._lives.get(live.record.route, live)
            for _ in range(RETRIES):
                record = make(live.record, live.spec)
                try:
                    revision = await self._put(record, live.revision)
                except Conflict:
                    self._reload(live)
                    live = self._lives.get(record.route, live)
                    continue
                if live.pending is not None:  # aborted meanwhile: that goes on from here
                    live.stored, live.revision = record, revision
                    return live
                live = self._take(record, live.spec, revision)
                self._tell_transition(action, record)
                return live
        raise Refusal(409, "conflict", "others keep changing this rollout; look at it and try again")

    def _end(self, live: _Live, action: str, make: Make) -> None:
        """Puts an end into force at once. Impossible."""
        record = make(live.record, live.spec)
        live.pending, live.record = make, record
        self._apply(live)
        live.judge.exposed(record, self._it.wall())
        self.decisions[action] += 1
        self._it.changed()

    async def _settle(self, live: _Live) -> None:
        """Keeps an end that is in force; what others wrote meanwhile is gone on from. Tried again each second."""
        async with live.lock:
            for _ in range(RETRIES):
                if live.pending is None:
                    return
                try:
                    record = rollout_states.settled(live.pending(live.stored, live.spec))
                except Impossible:  # it has ended otherwise meanwhile
                    live.pending = None
                    self._take(live.stored, live.spec, live.revision)
                    return
                try:
                    revision = await self._put(record, live.revision)
                except Conflict:
                    entry = self._store.get(PREFIX + record.route)
                    if entry is None:
                        live.revision = 0
                    else:
                        self._heard(PREFIX + record.route, entry)
                    continue
                except Refusal as refusal:
                    self._log.error("rollout-not-kept-yet", route=record.route, error=refusal.reason)
                    return
                live.pending = None
                self._take(record, live.spec, revision)
                self._tell_transition("", record)
                return

    async def _put(self, record: Record, revision: int) -> int:
        try:
            return await self._store.put(PREFIX + record.route, rollout_states.encode(record), revision)
        except Unavailable as error:
            raise Refusal(503, "not_kept", f"nothing has changed, since it could not be kept: {error}") from None

    def _reload(self, live: _Live) -> None:
        entry = self._store.get(PREFIX + live.record.route)
        if entry is None:
            live.revision = 0
        else:
            self._heard(PREFIX + live.record.route, entry)
            live.revision = entry.revision

    def _tell_transition(self, action: str, record: Record) -> None:
        if action:
            self.decisions[action] += 1
        last = record.history[-1]
        self._log.info(
            f"rollout-{last.state}", route=record.route, id=record.id, epoch=record.epoch, weight=record.weight,
            version=record.body["to"], who=last.who, why=last.why,
        )  # fmt: skip
        body = {
            "route": record.route,
            "id": record.id,
            "epoch": record.epoch,
            "router": self._it.node,
            **rollout_states.to_event(last),
        }
        self._spawn(self._publish(subject(record.route), msgspec.json.encode(body)))

    async def _publish(self, to: str, payload: bytes) -> None:
        await self._it.publish(to, payload)

    # -- evidence of several routers -----------------------------------------------------------------------

    def _verdict_key(self, route: str) -> str:
        return f"{VERDICTS}{route}@{self._it.node}"

    async def _tell(self, live: _Live) -> None:
        """Keeps what this router has seen, for itself after a restart and for the others."""
        judge, record = live.judge, live.record
        own = judge.verdict.own() if judge.verdict is not None else {}
        seen = [list(each) for each in judge.seen()]
        value = {"id": record.id, "node": self._it.node, "log_e": own, "state": judge.to_state()}
        live.told_at = self._it.clock()
        try:
            await self._store.put(self._verdict_key(record.route), value)
            live.told = (own, seen)
        except (Unavailable, Conflict) as error:
            self._log.warn("rollout-evidence-not-kept", route=record.route, error=str(error))
        finally:
            live.is_telling = False

    def _heard_evidence(self, key: str, _entry: Entry | None) -> None:
        live = self._lives.get(key.removeprefix(VERDICTS).rpartition("@")[0])
        if live is not None and live.record.is_active and live.judge.verdict is not None:
            live.judge.verdict.merge(self._others(live))
            self._abort_if_worse(live)

    def _others(self, live: _Live) -> dict[str, dict[str, float]]:
        found = {}
        if not self._store.shared:
            return {}
        mine = self._verdict_key(live.record.route)
        for key, entry in self._store.entries(f"{VERDICTS}{live.record.route}@").items():
            value = entry.value
            if key != mine and isinstance(value, dict) and value.get("id") == live.record.id:
                said = value.get("log_e")
                if isinstance(said, dict):
                    found[key] = {str(name): float(it) for name, it in said.items() if isinstance(it, int | float)}
        return found

    # -- wishes of the configuration file ------------------------------------------------------------------

    def _begin_wishes(self) -> None:
        if not self.lease.held:
            return
        for wish in tuple(self._wishes.values()):
            live = self._lives.get(wish.route)
            if live is not None and live.stored.origin == wish.digest:
                del self._wishes[wish.route]  # it has begun, now or before a restart
                continue
            self._spawn(self._begin_wish(wish))

    async def _begin_wish(self, wish: Wish) -> None:
        try:
            await self.begin(wish.route, wish.spec, "config", wish.why, wish.digest)
        except Refusal as refusal:
            if self._told_wishes.get(wish.route) != refusal.reason:
                self._told_wishes[wish.route] = refusal.reason
                self._log.info("rollout-waits", route=wish.route, reason=refusal.reason)

    # -- what is asked -------------------------------------------------------------------------------------

    async def begin(self, route: str, spec: Spec, who: str, why: str, origin: str = "") -> dict[str, Any]:
        """Starts a rollout and gives its object. Refusal."""
        key = self._it.route_key(route)
        spec = self._resolved(key, spec)
        if key not in self._lives and len(self._lives) >= ROLLOUTS_MAX:
            raise Refusal(409, "too_many", f"there are {ROLLOUTS_MAX} rollouts; DELETE some that have ended")
        live = self._lives.get(key)
        lock = live.lock if live is not None else asyncio.Lock()
        async with lock:
            live = self._lives.get(key)
            if live is not None and live.pending is not None:
                raise Refusal(409, "not_kept", f"the one before is {live.record.state} and not kept yet; try again")
            before = live.record if live is not None else None
            salt, cookie_key = int.from_bytes(os.urandom(2), "big") % SLOTS, os.urandom(16).hex()
            try:
                record = rollout_states.start(
                    key, spec, before, self._it.wall(), who, why, salt, cookie_key, origin
                )  # fmt: skip
            except Impossible as error:
                raise Refusal(409, "runs_already", str(error)) from None
            self._try(record, spec)
            unfit = self._store.get(PREFIX + key)  # without a Live it could not be read: this one takes its place
            known = live.revision if live is not None else (unfit.revision if unfit is not None else 0)
            try:
                revision = await self._put(record, known)
            except (Conflict, Refusal) as error:
                self._try_back(key)
                if isinstance(error, Refusal):
                    raise
                entry = self._store.get(PREFIX + key)
                if entry is not None:
                    self._heard(PREFIX + key, entry)
                raise Refusal(409, "conflict", "somebody else has just started one; look at it") from None
            self._take(record, spec, revision)
            self._tell_transition("start", record)
        return self.document(self._lives[key])

    def _resolved(self, key: str, spec: Spec) -> Spec:
        """The Spec with its versions named. Refusal if the route does not have them."""
        facts = [each for _, each in self._it.routes.facts([key])]
        if not facts:
            raise Refusal(404, "unknown_route", f"there is no route {key!r} here, or it has no instance yet")
        by = spec.by or versions.guess(facts)
        found = versions.count(by, facts)
        there = ", ".join(f"{name} ({count})" for name, count in sorted(found.items()))
        for path, name in (("to", spec.to), ("from", spec.from_), *(("extra_versions", each) for each in spec.extras)):
            if name and name not in found:
                reason = f"{path}: no instance of {key} is of version {name!r} by {by}; there are: {there}"
                raise Refusal(422, "unknown_version", reason)
        others = [name for name in found if name != spec.to and name not in spec.extras]
        if not spec.from_ and len(others) != 1:
            reason = f"from: it is not clear which version {spec.to!r} replaces; there are, by {by}: {there}"
            raise Refusal(422, "unknown_version", reason)
        resolved = {**rollout_spec.body(spec), "by": by, "from": spec.from_ or others[0]}
        try:
            self._secret(spec)
            return rollout_spec.read(resolved)
        except ValueError as error:
            raise Refusal(422, "unfit", str(error)) from None

    def _try(self, record: Record, spec: Spec) -> None:
        """Has the data plane refuse what it cannot do, before anything is kept. Refusal."""
        uri = self._it.routes.spelling(record.route)
        if uri is None:
            raise Refusal(404, "unknown_route", f"the route {record.route!r} has gone")
        number = self._next_number
        self._next_number += 1
        members = self._it.routes.set_split(record.route, rollout_plane.label(record, spec))
        try:
            split = rollout_plane.split(record, spec, number, self._secret(spec))
            # Nobody is sent anywhere yet: all of it stays with stable until it is kept.
            split["intervals"] = [(SLOTS, rollout_states.STABLE)]
            self._it.plane.set_rollout(uri, split, members)
        except (ValueError, LookupError, BlockingIOError) as error:
            self._try_back(record.route)
            if isinstance(error, ValueError):
                raise Refusal(422, "unfit", str(error)) from None
            raise Refusal(503, "not_in_force", f"the route cannot be split just now: {error}") from None

    def _try_back(self, key: str) -> None:
        live = self._lives.get(key)
        if live is not None:
            self._apply(live)
            return
        self._unsplit(key)

    async def act(self, route: str, action: str, who: str, why: str, weight: float | None = None) -> dict[str, Any]:
        """Does what an operator says and gives the rollout object. Refusal."""
        live = self._find(route)
        now = self._it.wall()

        def make(record: Record, spec: Spec) -> Record:
            if action == "set":
                assert weight is not None
                return rollout_states.set_weight(record, spec, now, who, why, weight)
            if action == "abort":
                return rollout_states.abort(record, spec, now, who, why, list(live.judge.evidence))
            act = {"promote": rollout_states.promote, "pause": rollout_states.pause,
                   "resume": rollout_states.resume, "undo": rollout_states.undo}[action]  # fmt: skip
            return act(record, spec, now, who, why)

        try:
            await self._change(live, action, make)
        except Impossible as error:
            raise Refusal(409, "does_not_fit", f"{action}: {error}") from None
        return self.document(self._find(route))

    async def forget(self, route: str) -> dict[str, Any]:
        """Takes a rollout that has ended, and whose loser has no instance any more, out of the list. Refusal."""
        live = self._find(route)
        shown, record = self.document(live), live.record
        if record.state not in ("done", "aborted"):
            raise Refusal(409, "does_not_fit", f"it is {record.state}; promote or abort it first")
        loser = live.spec.from_ if record.state == "done" else live.spec.to
        count = versions.count(live.spec.by, (each for _, each in self._it.routes.facts([record.route])))[loser]
        if count:
            reason = f"{loser!r} still has {count} instances, which would get users again; stop them first"
            raise Refusal(409, "does_not_fit", reason)
        async with live.lock:
            try:
                await self._store.delete(PREFIX + record.route, live.revision)
                for key in self._store.entries(f"{VERDICTS}{record.route}@"):
                    await self._store.delete(key)
            except Unavailable as error:
                raise Refusal(503, "not_kept", f"it could not be forgotten: {error}") from None
            except Conflict:
                raise Refusal(409, "conflict", "somebody else has just changed it; look at it") from None
            if self._lives.get(record.route) is live:
                self._forget(live)
        return shown

    def _find(self, route: str) -> _Live:
        key = self._it.route_key(route)
        live = self._lives.get(key)
        if live is None:
            known = ", ".join(sorted(self._lives)[:10]) or "none"
            raise Refusal(404, "no_rollout", f"the route {key!r} has no rollout; there are: {known}")
        return live

    # -- what is shown -------------------------------------------------------------------------------------

    def shown(self, live: _Live) -> rollout_view.Shown:
        facts = [each for _, each in self._it.routes.facts([live.record.route])]
        return rollout_view.Shown(
            record=live.record,
            spec=live.spec,
            now=self._it.wall(),
            bounds_ns=self._it.bounds_ns,
            decider=self.lease.held,
            numbers=live.judge.numbers,
            endpoints=versions.count(live.spec.by, facts),
            verdict=live.judge.verdict,
            slo=live.judge.slo,
            checks=live.checks.documents(),
            evidence=list(live.judge.evidence),
            overrides=live.overrides,
            unfit=live.unfit,
            waits=live.waits,
        )

    def document(self, live: _Live) -> dict[str, Any]:
        return rollout_view.document(self.shown(live))

    async def documents(self) -> list[dict[str, Any]]:
        """All rollout objects, in portions; those of the file that wait come first."""
        found = [self._idle(wish) for wish in self._wishes.values() if wish.route not in self._lives]
        for count, route in enumerate(sorted(self._lives), 1):
            if route in self._lives:
                found.append(self.document(self._lives[route]))
            if count % STEP == 0:
                await asyncio.sleep(0)
        return found

    def of(self, route: str) -> dict[str, Any]:
        """The rollout object of a route. Refusal."""
        wish = self._wishes.get(self._it.route_key(route))
        if wish is not None and wish.route not in self._lives:
            return self._idle(wish)
        return self.document(self._find(route))

    def _idle(self, wish: Wish) -> dict[str, Any]:
        """The object of a rollout that waits for its route and versions."""
        now, body = self._it.wall(), rollout_spec.body(wish.spec)
        record = Record(wish.route, 1, 0, "idle", 0.0, now, now, body, 0, "", [(SLOTS, rollout_states.STABLE)])
        waits = self._told_wishes.get(wish.route, "")
        shown = rollout_view.Shown(
            record, wish.spec, now, self._it.bounds_ns, self.lease.held, unfit="it has not begun", waits=waits
        )
        return rollout_view.document(shown)

    def why(self, route: str) -> dict[str, Any]:
        live = self._find(route)
        uri = self._it.routes.spelling(live.record.route)
        clients: list[list[tuple[int, str]]] = []
        if uri is not None and not live.unfit:
            with contextlib.suppress(LookupError):  # the route went just now
                clients = self._it.plane.clients(uri)
        return rollout_view.why(dataclasses.replace(self.shown(live), clients=clients))

    def explain(self, route: str, headers: Mapping[str, str], cookie: str, address: str) -> dict[str, Any]:
        """Where a request would go. Refusal."""
        live = self._find(route)
        host, _, path = live.record.route.partition("/")
        lines = [f"GET /{path} HTTP/1.1", f"Host: {host.replace('*', 'any', 1)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if cookie:
            lines.append(f"Cookie: {cookie}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        try:
            found: dict[str, Any] = dict(self._it.plane.explain(head, address or "127.0.0.1"))
        except ValueError as error:
            raise Refusal(422, "no_request", f"this makes no request: {error}") from None
        except LookupError:
            raise Refusal(404, "unknown_route", f"the route {live.record.route!r} has no instance here") from None
        return {**found, "route": live.record.route}

    def readings(self) -> list[rollout_view.Reading]:
        """For /metrics, as of the last second."""
        return [live.reading for live in self._lives.values() if live.reading is not None]

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("rollouts-failed", error="".join(traceback.format_exception(error)))


def subject(route: str) -> str:
    """Where transitions of a route are published; the words of the requests (start, action) are no route there."""
    text = "".join(
        each if (each.isalnum() and each.isascii()) or each in "-_." else f"={ord(each):02X}" for each in route
    )
    if text in ("start", "action"):
        text = f"={ord(text[0]):02X}{text[1:]}"
    return f"gorouter.rollout.{text}"

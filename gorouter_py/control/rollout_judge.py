"""What becomes of a rollout next: the verdict fed with first failures, thresholds, checks and time made one decision.

A Judge belongs to one rollout and lives as long as its id. Numbers of the data plane begin anew with the process, so
what they were before a restart is added (`saved`). The threshold of "slow" is the stable version's own p95 or p99 so
far; it is set before the requests it judges, so comparing with it stays fair. Pure: time is passed in (wall clock).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gorouter_py.control import rollout_states, rollout_view
from gorouter_py.control.rollout_spec import Spec
from gorouter_py.control.rollout_states import CANARY, STABLE, Record
from gorouter_py.control.verdict import Numbers, Seen, Verdict, evaluate_slo

if TYPE_CHECKING:
    from gorouter_py._fastpath import Outcome, RolloutNumbers, VersionNumbers

EVIDENCE_MAX: Final = 50
SLOW_REQUESTS_MIN: Final = 100  # of stable, before there is a threshold
SLOW_PERIOD_S: Final = 10.0
SLOW_CHANGE: Final = 0.1
# Slower than stable's quantile by so much, or by so many ns: less is noise that no user feels.
SLOW_FACTOR: Final = 1.2
SLOW_MARGIN_NS: Final = 5_000_000
# After a change of the weight nothing is slow: the canary's new users still open its connections, stable's have theirs.
WARM_UP_S: Final = 10.0
QUANTILES: Final = {"p95": 0.95, "p99": 0.99}


class Decision(NamedTuple):
    """action: one of rollout_states.ACTIONS, or "" for none; then `why` is what the next step waits for."""

    action: str
    why: str
    who: str = ""


class Judge:
    """See the head of the file. saved: what `to_state` gave before a restart, {} for none.

    ValueError, KeyError or TypeError if saved is not that."""

    def __init__(self, spec: Spec, bounds_ns: Sequence[int], saved: Mapping[str, Any]) -> None:
        self._spec = spec
        self._bounds_ns = bounds_ns
        self.verdict: Verdict | None = None
        if spec.metrics:
            held = saved.get("verdict")
            self.verdict = Verdict.from_state(held) if held else Verdict(spec.alpha, spec.metrics)
        self.evidence: deque[dict[str, Any]] = deque(saved.get("evidence", ()), EVIDENCE_MAX)
        self._base = [Seen(*each) for each in saved.get("seen", ((0, 0, 0), (0, 0, 0)))]
        self._now = [Seen(), Seen()]
        self.numbers: RolloutNumbers | None = None
        self._at_step: list[VersionNumbers] = []  # numbers when the weight became what it is
        self._slow_set = -SLOW_PERIOD_S
        self._slots: dict[int, int] = {}
        self._changed = -WARM_UP_S  # when the slots became what they are
        self.slow_ns = 0
        self.slo: tuple[str, str] | None = None
        if spec.slo is not None:
            self.slo = ("undecided", "nothing has been measured yet")

    # -- what happens --------------------------------------------------------------------------------------

    def exposed(self, record: Record, now: float) -> None:
        """The weight is another one, or in force for the first time."""
        slots = rollout_states.weights(record, self._spec)
        both = slots[CANARY] + slots[STABLE]
        if slots != self._slots:
            self._slots, self._changed = slots, now
        if self.verdict is not None and record.is_active:  # of one that has ended it stays what it was
            self.verdict.exposed(slots[CANARY] / both if both else 1.0, now)
        self._at_step = list(self.numbers["versions"]) if self.numbers is not None else []
        if self.slo is not None:
            self.slo = ("undecided", "nothing has been measured at this weight yet")

    def outcome(self, event: "Outcome", now: float) -> None:
        """A first failure of a user."""
        number = event["version"]
        metric = rollout_view.METRICS.get(event["metric"], "")
        if metric == "latency" and self._is_warming_up(now):
            return  # the data plane has not heard of it yet
        if number == CANARY:
            self.evidence.append(rollout_view.outcome(event, self._spec.names))
        if self.verdict is not None and metric in self._spec.metrics and number in (STABLE, CANARY):
            self.verdict.outcome(metric, number == CANARY, now)

    def read(self, numbers: "RolloutNumbers", now: float) -> None:
        """The numbers of this moment; call it each second."""
        self.numbers = numbers
        self._now = [_seen(numbers["versions"][number]) for number in (STABLE, CANARY)]
        if self.verdict is not None:
            fill = max(numbers["bitmap_fill"].values(), default=0.0)
            stable, canary = self.seen()
            self.verdict.seen(now, stable, canary, fill)
        if self._spec.slo is not None:
            self.slo = evaluate_slo(self._spec.slo, self._since_step(CANARY), self._since_step(STABLE))

    def slower_than(self, now: float) -> int | None:
        """The threshold of "slow" in ns if it is to be another one now."""
        if self._is_warming_up(now):
            was, self.slow_ns, self._slow_set = self.slow_ns, 0, now - SLOW_PERIOD_S
            return 0 if was else None
        share = QUANTILES.get(self._spec.latency)
        if share is None or self.numbers is None or now - self._slow_set < SLOW_PERIOD_S:
            return None
        stable = self.numbers["versions"][STABLE]["buckets"]
        found = rollout_view.quantile_ms(stable, self._bounds_ns, share)
        if found is None or sum(stable) < SLOW_REQUESTS_MIN:
            return None
        wanted = int(max(found * 1e6 * SLOW_FACTOR, found * 1e6 + SLOW_MARGIN_NS))
        if abs(wanted - self.slow_ns) <= SLOW_CHANGE * self.slow_ns:
            return None
        self.slow_ns, self._slow_set = wanted, now
        return wanted

    def _is_warming_up(self, now: float) -> bool:
        return 0 <= now - self._changed < WARM_UP_S

    # -- what it says --------------------------------------------------------------------------------------

    def seen(self) -> list[Seen]:
        """Of stable and canary, since the rollout began."""
        return [
            Seen(*(sum(pair) for pair in zip(base, now, strict=True)))
            for base, now in zip(self._base, self._now, strict=True)
        ]

    def worse(self, checks_worse: str = "") -> Decision | None:
        """The decision to abort, if there is one."""
        if self.verdict is not None and self.verdict.state == "worse":
            return Decision("abort", self.verdict.reason, "verdict")
        if self.slo is not None and self.slo[0] == "worse":
            return Decision("abort", self.slo[1], "slo")
        return Decision("abort", checks_worse, "checks") if checks_worse else None

    def decide(self, record: Record, now: float, checks_worse: str = "", checks_wait: str = "") -> Decision:
        """What to do with a rollout that runs."""
        if (worse := self.worse(checks_worse)) is not None:
            return worse
        if record.state != "ramping":
            return Decision("", "")
        spec = self._spec
        held = now - record.since
        state, waits = self._ready(checks_wait)
        if held < spec.hold_s:
            return Decision("", waits)
        if state == "fine":
            return Decision("promote", f"held for {spec.hold_s:g} s; {waits or 'nothing speaks against it'}", "timer")
        if state == "undecided" and held >= max(spec.max_hold_s, spec.hold_s) and spec.on_undecided != "wait":
            return Decision(spec.on_undecided, f"undecided for {held:.0f} s (on_undecided): {waits}", "policy")
        return Decision("", waits)

    def _ready(self, checks_wait: str) -> tuple[str, str]:
        """(fine | undecided | frozen, what is waited for)."""
        said = [(self.verdict.state, self.verdict.reason)] if self.verdict is not None else []
        if self.slo is not None:
            said.append(self.slo)
        if checks_wait:
            said.append(("undecided", checks_wait))
        for wanted in ("frozen", "undecided"):
            for state, reason in said:
                if state == wanted:
                    return wanted, reason
        return "fine", ""

    # -- over a restart ------------------------------------------------------------------------------------

    def to_state(self) -> dict[str, Any]:
        """JSON's types."""
        return {
            "verdict": self.verdict.to_state() if self.verdict is not None else None,
            "seen": [list(each) for each in self.seen()],
            "evidence": list(self.evidence),
        }

    def _since_step(self, number: int) -> Numbers:
        assert self.numbers is not None
        now = self.numbers["versions"][number]
        before = self._at_step[number] if number < len(self._at_step) else None
        buckets = list(now["buckets"])
        requests, failures = now["requests"], rollout_view.failures(now)
        if before is not None:
            buckets = [late - early for late, early in zip(buckets, before["buckets"], strict=True)]
            requests, failures = requests - before["requests"], failures - rollout_view.failures(before)
        p95, p99 = (rollout_view.quantile_ms(buckets, self._bounds_ns, share) or 0.0 for share in (0.95, 0.99))
        return Numbers(requests, failures, p95, p99)


def _seen(numbers: "VersionNumbers") -> Seen:
    return Seen(numbers["requests"], rollout_view.failures(numbers), numbers["users"])

"""A rollout for people and programs: the object of the admin API, and the numbers for /metrics.

`Shown` is everything that is looked at, read at one moment on the control loop. Weights are percent, times seconds
(wall clock), latencies milliseconds. Pure.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gorouter_py.control import rollout_states
from gorouter_py.control.intervals import SLOTS, owned
from gorouter_py.control.rollout_spec import Spec
from gorouter_py.control.rollout_states import CANARY, STABLE, Record
from gorouter_py.control.verdict import Verdict

if TYPE_CHECKING:
    from gorouter_py._fastpath import Outcome, RolloutNumbers, VersionNumbers

HISTORY_SHOWN: Final = 50
CLIENT_SAMPLES_MIN: Final = 20  # of a version, before its busiest client is named
ONE_ADDRESS_MIN: Final = 5  # failing users of one address, and half of all: that is said
METRICS: Final = {"failure": "errors", "slow": "latency", "client_error": "client_errors"}
# What a version has had before the data plane has counted anything: rows have the same keys from the first moment on.
NOTHING: "Final[VersionNumbers]" = {
    "requests": 0, "by_class": (0,) * 6, "failures": {}, "users": 0, "drawn": 0, "failovers": 0,
    "retries_on_stable": 0, "kept": 0, "forced": 0, "excluded": 0, "mirrored": 0, "mirror_failures": 0,
    "mirror_skipped": 0, "buckets": (), "sum_ns": 0, "endpoints": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """numbers: None before the data plane has any. slo: state and reason, None without thresholds. unfit: why the
    split is not in force here. waits: what the next step waits for."""

    record: Record
    spec: Spec
    now: float
    bounds_ns: Sequence[int]
    decider: bool
    numbers: "RolloutNumbers | None" = None
    endpoints: Mapping[str, int] = field(default_factory=dict)
    verdict: Verdict | None = None
    slo: tuple[str, str] | None = None
    checks: Sequence[Mapping[str, Any]] = ()
    evidence: Sequence[Mapping[str, Any]] = ()
    overrides: Mapping[str, str] = field(default_factory=dict)
    clients: Sequence[Sequence[tuple[int, str]]] = ()  # by version, as the data plane samples them
    unfit: str = ""
    waits: str = ""


def document(shown: Shown) -> dict[str, Any]:
    """The rollout object."""
    record, spec = shown.record, shown.spec
    left = None
    if record.state == "ramping":
        left = max(record.since + spec.hold_s - shown.now, 0.0)
    return {
        "route": record.route,
        "id": record.id,
        "epoch": record.epoch,
        "state": record.state,
        "by": spec.by,
        "stable": spec.from_,
        "canary": spec.to,
        "step": rollout_states.step_number(record, spec),
        "steps": [min(step, spec.top) for step in spec.steps],
        "weight": record.weight,
        "began": record.began,
        "since": record.since,
        "hold_s": spec.hold_s,
        "next_step_in_s": left,
        "waits_for": shown.waits,
        "paused_by": record.paused_by or None,
        "decider": shown.decider,
        "unfit": shown.unfit or None,
        "versions": versions(shown),
        "verdict": verdict(shown),
        "notes": notes(shown),
        "slo": None if shown.slo is None else {"state": shown.slo[0], "reason": shown.slo[1]},
        "checks": list(shown.checks),
        "evidence": list(shown.evidence),
        "history": history(record)[-HISTORY_SHOWN:],
        "overrides": dict(shown.overrides),
        "undo": bool(record.before),
        "spec": record.body,
    }


def why(shown: Shown) -> dict[str, Any]:
    """The verdict, and what it rests on."""
    return {
        "route": shown.record.route,
        "state": shown.record.state,
        "verdict": verdict(shown),
        "notes": notes(shown),
        "clients": [row for number in range(len(shown.clients)) if (row := busiest(shown, number))],
        "evidence": list(shown.evidence),
        "history": history(shown.record),
    }


def notes(shown: Shown) -> list[str]:
    """What may make the comparison unfair, or blind: each a sentence, none if there is nothing to say."""
    spec, found = shown.spec, []
    if shown.verdict is not None and (mix := shown.verdict.mix()):
        found.append(mix)
    addresses = Counter(str(each.get("address", "")) for each in shown.evidence)
    for address, count in addresses.most_common(1):
        if count >= ONE_ADDRESS_MIN and 2 * count >= addresses.total():
            found.append(
                f"{count} of the last {addresses.total()} failing users of {spec.to} have the address {address}"
            )
    counted = sum(each["canary"] + each["stable"] for each in shown.verdict.metrics.values()) if shown.verdict else 0
    passed_over = sum(each["excluded"] for each in shown.numbers["versions"]) if shown.numbers is not None else 0
    if passed_over and 0 < spec.address_cap <= counted:
        balanced = "" if spec.forwarded_for else "; behind a load balancer that is everybody's, without forwarded_for"
        found.append(
            f"{passed_over} failures did not count: those of bots, of who chose a version, and more than "
            f"{spec.address_cap} of one client address{balanced}"
        )
    return found


def busiest(shown: Shown, number: int) -> dict[str, Any] | None:
    """Who makes most of a version's latest requests; None if too few of them were sampled. share: percent."""
    sampled = shown.clients[number]
    if len(sampled) < CLIENT_SAMPLES_MIN or number >= len(shown.spec.names):
        return None
    ((client, count),) = Counter(name for _, name in sampled).most_common(1)
    users = len({unit for unit, name in sampled if name == client})
    return {
        "version": shown.spec.names[number],
        "client": client,
        "share": count * 100 / len(sampled),
        "users": users,
        "sampled": len(sampled),
    }


def history(record: Record) -> list[dict[str, Any]]:
    return [rollout_states.to_event(event) for event in record.history]


def verdict(shown: Shown) -> dict[str, Any]:
    it = shown.verdict
    if it is None:
        reason = "nothing is compared (abort_if); thresholds and checks alone decide"
        return {"state": "disabled", "reason": reason, "log_e": 0.0, "limit": 0.0, "metrics": {}}
    return {
        "state": it.state,
        "reason": it.reason,
        "log_e": it.log_e,
        "limit": it.limit,
        "alpha": it.alpha,
        "metrics": it.metrics,
        "ratio_at_most": it.safe(),
    }


def versions(shown: Shown) -> list[dict[str, Any]]:
    """A row for each version; its numbers are 0, and its latencies None, until the data plane has counted."""
    record, spec = shown.record, shown.spec
    slots = owned(record.plan)
    seen = shown.numbers["versions"] if shown.numbers is not None else []
    drawn = sum(each["drawn"] for each in seen)
    asked = sum(each["requests"] for each in seen)
    found = []
    for number, name in enumerate(spec.names):
        wanted = slots.get(number, 0) * 100 / SLOTS
        role = {STABLE: "stable", CANARY: "canary"}.get(number, "extra")
        mine = seen[number] if number < len(seen) else NOTHING
        of_clients = spec.mode == "cookie" and drawn
        actual = mine["drawn"] / drawn if of_clients else (mine["requests"] / asked if asked else None)
        row: dict[str, Any] = {
            "name": name,
            "role": role,
            "weight": record.weight if number == CANARY else wanted,
            "share_wanted": wanted,
            "share_actual": None if actual is None else actual * 100,
            "endpoints": shown.endpoints.get(name, 0),
            **counted(mine, shown.bounds_ns),
        }
        found.append(row)
    return found


def counted(numbers: "VersionNumbers", bounds_ns: Sequence[int]) -> dict[str, Any]:
    """Of one version: what it has had since the rollout's id is what it is."""
    buckets = numbers["buckets"]
    return {
        "requests": numbers["requests"],
        "users": numbers["users"],
        "failures": failures(numbers),
        "failure_causes": {cause: count for cause, count in numbers["failures"].items() if count},
        "by_class": list(numbers["by_class"]),
        "p50_ms": quantile_ms(buckets, bounds_ns, 0.50),
        "p95_ms": quantile_ms(buckets, bounds_ns, 0.95),
        "p99_ms": quantile_ms(buckets, bounds_ns, 0.99),
        **{
            name: numbers[name]
            for name in ("drawn", "failovers", "retries_on_stable", "kept", "forced", "excluded", "mirrored",
                         "mirror_failures")
        },
    }  # fmt: skip


def failures(numbers: "VersionNumbers") -> int:
    return sum(numbers["failures"].values())


@dataclass(frozen=True)
class VersionReading:
    """weight, share: percent (share: nan before there is any); buckets as bounds_ns has them."""

    name: str
    weight: float
    share: float
    requests: int
    failures: Mapping[str, int]
    buckets: Sequence[int]
    sum_ns: int


@dataclass(frozen=True)
class Reading:
    """What /metrics shows of a rollout. log_e: None without a verdict."""

    route: str
    log_e: float | None
    versions: Sequence[VersionReading]


def reading(shown: Shown) -> Reading:
    rows = versions(shown)
    seen = shown.numbers["versions"] if shown.numbers is not None else []
    found = []
    for row, numbers in zip(rows, seen, strict=False):
        share = row["share_actual"]
        found.append(
            VersionReading(
                row["name"],
                row["weight"],
                float("nan") if share is None else share,
                numbers["requests"],
                dict(numbers["failures"]),
                tuple(numbers["buckets"]),
                numbers["sum_ns"],
            )
        )
    return Reading(shown.record.route, shown.verdict.log_e if shown.verdict is not None else None, found)


def quantile_ms(buckets: Sequence[int], bounds_ns: Sequence[int], share: float) -> float | None:
    """The latency below which this share of the requests was, within its bucket by proportion; None without any."""
    total = sum(buckets)
    if not total:
        return None
    wanted, before = share * total, 0
    for number, count in enumerate(buckets):
        if count and before + count >= wanted:
            low = bounds_ns[number - 1] if number else 0
            high = bounds_ns[number] if number < len(bounds_ns) else bounds_ns[-1]
            return (low + (high - low) * (wanted - before) / count) / 1e6
        before += count
    return bounds_ns[-1] / 1e6


def outcome(event: "Outcome", names: Sequence[str]) -> dict[str, Any]:
    """A first failure as evidence."""
    number = event["version"]
    return {
        "at": event["at_ns"] / 1e9,
        "version": names[number] if number < len(names) else None,
        "metric": METRICS.get(event["metric"], event["metric"]),
        "cause": event["cause"],
        "status": event["status"],
        "method": event["method"],
        "path": event["path"],
        "request_id": event["request_id"],
        "address": event["address"],
        "latency_ms": event["latency_ns"] / 1e6,
        "u": event["u"],
    }

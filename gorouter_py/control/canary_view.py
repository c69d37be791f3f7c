"""A rollout as text: the lines that `gorouter-py canary` prints. Takes the objects of the admin API, as decoded JSON.

Pure: no terminal, no clock but for `at` of histories. What the router did not send is left out, so an older or newer
router is shown as far as it goes. Weights and shares are in percent, as the API has them.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

Rollout = dict[str, Any]

BAR_WIDTH: Final = 30
EVIDENCE_SHOWN: Final = 12
HISTORY_SHOWN: Final = 6
ENDED: Final = ("done", "aborted")


def columns(rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Rows in columns two blanks apart; the columns in `right` are flush right."""
    rows = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    flush = set(right)
    return [
        "  ".join(
            cell.rjust(width) if number in flush else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def percent(value: object) -> str:
    """7.5 is "7.5%"; "-" for nothing."""
    return f"{value:.4g}%" if isinstance(value, int | float) else "-"


def milliseconds(value: object) -> str:
    if not isinstance(value, int | float):
        return "-"
    return f"{value / 1000:.3g}s" if value >= 1000 else f"{value:.3g}ms"


def moment(at: object) -> str:
    """Unix seconds as local time."""
    return time.strftime("%m-%d %H:%M:%S", time.localtime(at)) if isinstance(at, int | float) else str(at or "-")


def log_e_of(verdict: dict[str, Any]) -> tuple[float, float]:
    """log E, which is 0 rather than -0.0, and its limit."""
    return round(float(verdict.get("log_e") or 0.0), 2) + 0.0, float(verdict.get("limit") or 0.0)


def bar(value: float, limit: float, width: int = BAR_WIDTH) -> str:
    """Evidence from 0 to its limit: "[#####.....]"."""
    filled = round(width * min(1.0, max(0.0, value / limit))) if limit > 0 else 0
    return "[" + "#" * filled + "." * (width - filled) + "]"


def overview(rollouts: Sequence[Rollout]) -> list[str]:
    """One line per rollout."""
    rows = [("ROUTE", "STATE", "FROM", "TO", "WEIGHT", "STEP", "EVIDENCE", "VERDICT")]
    for each in rollouts:
        verdict = each.get("verdict") or {}
        log_e, limit = log_e_of(verdict)
        rows.append(
            (
                str(each.get("route")),
                str(each.get("state")),
                str(each.get("stable")),
                str(each.get("canary")),
                percent(each.get("weight")),
                _step(each),
                f"{log_e:.1f}/{limit:.1f}",
                str(verdict.get("state", "-")),
            )
        )
    return columns(rows, (4, 6))


def _step(rollout: Rollout) -> str:
    steps = rollout.get("steps") or []
    return f"{int(rollout.get('step') or 0) + 1}/{len(steps)}" if steps else "-"


def headline(rollout: Rollout) -> str:
    """One line that says where a rollout is; also what `status -w` prints without a terminal."""
    verdict = rollout.get("verdict") or {}
    parts = [
        f"{rollout.get('route')}: {rollout.get('state')}",
        f"{rollout.get('stable')} -> {rollout.get('canary')}",
        f"weight {percent(rollout.get('weight'))}, step {_step(rollout)}",
    ]
    if rollout.get("paused_by"):
        parts.append(f"paused by {rollout['paused_by']}")
    elif rollout.get("next_step_in_s") is not None:
        parts.append(f"next step in {rollout['next_step_in_s']:.0f}s")
    log_e, limit = log_e_of(verdict)
    parts.append(f"{verdict.get('state', 'no verdict')} {log_e:.1f}/{limit:.1f}")
    return "; ".join(parts)


def versions(rollout: Rollout) -> list[str]:
    rows = [
        ("VERSION", "ROLE", "WEIGHT", "SHARE", "INSTANCES", "REQUESTS", "USERS", "ERRORS", "P50", "P99"),
    ]
    for each in rollout.get("versions") or []:
        requests, failures = each.get("requests") or 0, each.get("failures") or 0
        rate = f"{failures} ({100 * failures / requests:.2g}%)" if requests else str(failures)
        rows.append(
            (
                str(each.get("name")),
                str(each.get("role", "-")),
                percent(each.get("weight")),
                percent(each.get("share_actual")),
                str(each.get("endpoints", "-")),
                str(requests),
                str(each.get("users", "-")),
                rate,
                milliseconds(each.get("p50_ms")),
                milliseconds(each.get("p99_ms")),
            )
        )
    return columns(rows, range(2, 10))


def cautions(rollout: Rollout) -> list[str]:
    """What is good to know as a rollout begins."""
    spec = rollout.get("spec") or {}
    if not spec.get("address_cap") or spec.get("forwarded_for"):
        return []
    return [
        f"of one client address {spec['address_cap']} first failures count; behind a load balancer, which is one "
        "address, start it with --forwarded-for"
    ]


def status(rollout: Rollout) -> list[str]:
    """Everything about a rollout that fits a terminal."""
    verdict = rollout.get("verdict") or {}
    log_e, limit = log_e_of(verdict)
    lines = [headline(rollout)]
    steps = rollout.get("steps") or []
    if steps:
        now = int(rollout.get("step") or 0)
        marks = [f"[{percent(each)}]" if index == now else percent(each) for index, each in enumerate(steps)]
        lines.append("steps     " + "  ".join(marks))
    lines += ["", *versions(rollout), ""]
    lines.append(f"evidence  {bar(log_e, limit)} {log_e:.1f} of {limit:.1f}: {verdict.get('state', '-')}")
    if verdict.get("reason"):
        lines.append(f"          {verdict['reason']}")
    for name, metric in (verdict.get("metrics") or {}).items():
        counts = f"first failures: canary {metric.get('canary', 0)}, stable {metric.get('stable', 0)}"
        lines.append(f"          {name}: {log_e_of(metric)[0]:.1f} ({counts})")
    lines += [f"note      {note}" for note in rollout.get("notes") or []]
    if history := rollout.get("history"):
        lines += ["", "history", *_history(history)]
    return lines


def _history(history: Sequence[dict[str, Any]]) -> list[str]:
    rows = []
    for each in history[-HISTORY_SHOWN:]:
        why = str(each.get("why") or "")
        rows.append((f"  {moment(each.get('at'))}", str(each.get("state")), str(each.get("who") or "-"), why))
    return columns(rows)


def why(answer: dict[str, Any]) -> list[str]:
    """The verdict, and beside it the failing requests that led to it, newest last."""
    verdict = answer.get("verdict") or {}
    log_e, limit = log_e_of(verdict)
    lines = [
        f"{answer.get('route')}: {answer.get('state')}, verdict {verdict.get('state', '-')}",
        f"evidence {bar(log_e, limit)} {log_e:.1f} of {limit:.1f}",
    ]
    if verdict.get("reason"):
        lines.append(str(verdict["reason"]))
    lines += [f"note: {note}" for note in answer.get("notes") or []]
    for each in answer.get("clients") or []:
        part = f"{percent(each.get('share'))} of its latest requests"
        lines.append(f"busiest client of {each.get('version')}: {each.get('client')}, {part}")
    if history := answer.get("history"):
        lines += ["", "last decisions", *_history(history)]
    evidence = answer.get("evidence") or []
    if not evidence:
        return [*lines, "", "no failing request of the canary so far"]
    rows = [("  TIME", "METRIC", "CAUSE", "STATUS", "REQUEST", "TOOK", "CLIENT", "REQUEST ID")]
    for each in evidence[-EVIDENCE_SHOWN:]:
        rows.append(
            (
                f"  {moment(each.get('at'))}",
                str(each.get("metric", "-")),
                str(each.get("cause", "-")),
                str(each.get("status", "-")),
                f"{each.get('method', '-')} {each.get('path', '-')}",
                milliseconds(each.get("latency_ms")),
                str(each.get("address") or "-"),
                str(each.get("request_id", "-")),
            )
        )
    hidden = len(evidence) - EVIDENCE_SHOWN
    title = "failing requests of the canary" + (
        f" (the last {EVIDENCE_SHOWN} of {len(evidence)})" if hidden > 0 else ""
    )
    return [*lines, "", title, *columns(rows)]


REASONS: Final = {
    "override": "an override header or cookie asks for it",
    "cookie": "its cohort cookie",
    "identity": "its identity",
    "sticky": "its session stays where it is",
    "draw": "a new client: the next coordinate is drawn",
    "new-sessions-only": "its session began before the rollout",
    "instance": "an instance header names the instance",
}


def explain(answer: dict[str, Any]) -> list[str]:
    """Which version, and why."""
    reason = str(answer.get("reason", "-"))
    lines = [f"{answer.get('route')}: {answer.get('version_name')}, because of {reason}"]
    if reason in REASONS:
        lines[0] = f"{answer.get('route')}: {answer.get('version_name')}; {REASONS[reason]}"
    if isinstance(answer.get("u"), int) and answer["u"] >= 0:
        slot = answer.get("slot", "-")
        lines.append(f"coordinate {answer['u']} of 65536, place {slot} in this rollout's table")
    if answer.get("fallback"):
        lines.append("that version has no living instance: stable serves it meanwhile")
    return lines

"""Tables of a measurement: on the terminal, as Markdown, and everything as JSON under bench/results/."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.load import stats
from bench.load.measure import Result, by_peer
from bench.load.procs import REPO

RESULTS = REPO / "bench" / "results"
BASE, OURS, PLAIN = "haproxy", "gorouter-py", "plain-python"
HEADINGS = (
    *("peer", "CPU us/request", "+- rounds", "user us", "kernel us", "requests/s", "p50 us", "p99 us"),
    *("/ haproxy", "log %", "others %", "errors"),
)


def number(value: float, digits: int = 2) -> str:
    """A figure for a table; "-" if there is none."""
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"


def rows(results: Sequence[Result], case: str) -> list[list[str]]:
    """One row per peer of a case, the medians of its rounds."""
    found = by_peer(results, case)
    base = found[BASE].median(lambda s: s.cpu_us) if BASE in found else math.nan
    table = []
    for peer, result in found.items():
        cpu = result.median(lambda s: s.cpu_us)
        logged = result.median(lambda s: 100 * s.log_lines / s.load.requests)
        table.append(
            [
                peer,
                number(cpu),
                number(100 * result.spread(lambda s: s.cpu_us), 0) + " %",
                number(result.median(lambda s: s.cpu_us * s.user_share)),
                number(result.median(lambda s: s.cpu_us * (1 - s.user_share))),
                number(result.median(lambda s: s.load.rate), 0),
                number(result.median(lambda s: s.load.p50_us), 0),
                number(result.median(lambda s: s.load.p99_us), 0),
                number(stats.ratio(cpu, base)),
                number(logged, 1),
                number(result.median(lambda s: 100 * s.others), 1),
                str(sum(sample.load.errors for sample in result.samples)),
            ]
        )
    return table


def text_table(headings: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Columns as wide as needed, the first one to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (headings, *body)) for i in range(len(headings))]
    lines = []
    for row in (headings, *body):
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells[1:]]).rstrip())
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def markdown_table(headings: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """The same in Markdown."""
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" + "---:|" * (len(headings) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in body])


def facts_list(facts: Mapping[str, Any]) -> str:
    """A Markdown list of facts."""
    return "\n".join(f"- {key}: {value}" for key, value in facts.items())


def thread_rows(results: Sequence[Result]) -> list[list[str]]:
    """CPU per request by thread name, for peers that have several threads or helpers."""
    table = []
    for result in results:
        names = sorted({name for sample in result.samples for name in sample.cpu_ns})
        helped = result.median(lambda s: s.helper_ns / 1000 / s.load.requests)
        if len(names) < 2 and helped == 0:
            continue
        for name in names:
            spent = stats.median(sample.thread_us(name) for sample in result.samples)
            table.append([result.case.name, result.peer, name, number(spent, 3)])
        if helped:
            table.append([result.case.name, result.peer, "helpers, not charged", number(helped, 3)])
    return table


def findings(results: Sequence[Result]) -> list[str]:
    """The figures that the project watches, in words."""
    lines = []
    small = by_peer(results, "small")
    cpu = {peer: result.median(lambda s: s.cpu_us) for peer, result in small.items()}
    if OURS in cpu and BASE in cpu:
        lines.append(f"small keep-alive: {cpu[OURS] / cpu[BASE]:.2f} x the CPU of HAProxy")
    for peer in (PLAIN, "aiohttp"):
        if peer in cpu and OURS in cpu:
            own = {name: small[name].median(lambda s: s.cpu_us * s.user_share) for name in (peer, OURS)}
            lines.append(
                f"{peer} needs {cpu[peer] / cpu[OURS]:.1f} x the router's CPU per request, "
                f"{stats.ratio(own[peer], own[OURS]):.1f} x in user space"
            )
    few, many = by_peer(results, "routes-10"), by_peer(results, "routes-10000")
    for peer in few.keys() & many.keys():
        growth = stats.ratio(many[peer].median(lambda s: s.cpu_us), few[peer].median(lambda s: s.cpu_us))
        lines.append(f"{peer}: 10,000 routes cost {100 * (growth - 1):+.1f} % CPU per request against 10")
    return lines


def render(results: Sequence[Result], facts: dict[str, Any], markdown: bool) -> str:
    """The whole report."""
    table = markdown_table if markdown else text_table
    parts = []
    if markdown:
        parts.append(f"# Load measurement, {facts['date']}\n")
        parts.append(facts_list({**facts["host"], **facts["peers"]}))
        parts.append(f"`{facts['command']}`")
    for name in dict.fromkeys(result.case.name for result in results):
        case = next(result.case for result in results if result.case.name == name)
        parts.append(f"{'## ' if markdown else ''}{name}: {case.title}\n\n{table(HEADINGS, rows(results, name))}")
    threads = thread_rows(results)
    if threads:
        headings = ("case", "peer", "thread", "us/request")
        parts.append(f"{'## ' if markdown else ''}CPU by thread\n\n{table(headings, threads)}")
    found = findings(results)
    if found:
        parts.append("\n".join(f"- {line}" if markdown else line for line in found))
    return "\n\n".join(parts) + "\n"


def as_json(results: Sequence[Result], facts: dict[str, Any]) -> str:
    """Every sample of every round."""
    body = [
        {"case": r.case.name, "peer": r.peer, "samples": [sample.as_dict() for sample in r.samples]} for r in results
    ]
    return json.dumps({**facts, "results": body}, indent=1) + "\n"


def save(stem: str, markdown: str, data: str, when: datetime, folder: Path = RESULTS) -> Path:
    """Writes DATE-STEM.md and .json, never over older ones; returns the Markdown file."""
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / f"{when:%Y-%m-%d-%H%M%S}-{stem}"
    base.with_suffix(".json").write_text(data)
    path = base.with_suffix(".md")
    path.write_text(markdown)
    return path

"""What a rollout promises, measured: `python -m bench.canary`.

Whole routers, real instances, thousands of people over real sockets (tests/system has the same as tests, with fewer
rounds), the statistics of the verdict over many simulated rollouts, and what the split costs. Each line says what was
wanted and what came out; the exit code is 1 if something was missed.
"""

import argparse
import asyncio
import itertools
import json
import math
import shlex
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench.load import host, report
from bench.load.peers import PEERS
from bench.load.procs import raise_file_limit
from bench.micro import build
from bench.micro.test_heads import ANSWER
from bench.micro.test_rollouts import HEADS
from gorouter_py._fastpath import DataPlane
from tests.system.canary import Steering
from tests.system.crowd import Instance, Lines, Person, people, visit
from tests.system.harness import NatsServer, Router, until
from tests.system.held import beside_a_rollout
from tests.system.rollouts import HOST, Rig, share
from tests.unit.control.test_verdict_simulated import ALPHA, bursty_rollout, users_until_rollback

HEADINGS = ("check", "wanted", "measured", "kept")
LOOP = 10_000  # requests in one go
ERRORS = {"errors": True, "latency": False, "alpha": ALPHA}


class Line(NamedTuple):
    """One row of the result; figures: what the row was made of."""

    check: str
    wanted: str
    measured: str
    kept: bool
    figures: Any = None


def flips(crowd: list[Person], version: str) -> int:
    """People whom a version has lost again."""
    pairs = itertools.chain.from_iterable(itertools.pairwise(person.versions) for person in crowd)
    return sum(before == version != after for before, after in pairs)


def climb(options: argparse.Namespace) -> Iterator[Line]:
    """Check 1: shares and flip-backs."""
    steps = (1, 5, 25, 50, 100)
    with Rig({"v1": 0.0, "v2": 0.0}) as rig:
        rig.start(steps=[f"{step}%" for step in steps])
        crowd = people(options.people)
        off = {}
        for number, step in enumerate(steps):
            if number:
                rig.act("promote")
            visit(rig.port, HOST, crowd)
            off[step] = abs(share(crowd, "v2") - step)
    title = f"{options.people:,} people, {', '.join(f'{step}%' for step in steps)}"
    worst = max(off.values())
    yield Line(f"{title}: share of users off by", "0.1 points", f"{worst:.3f} points", worst <= 0.1, off)
    yield Line(f"{title}: flip-backs", "0", str(flips(crowd, "v2")), flips(crowd, "v2") == 0)
    with Rig({"v1": 0.0, "v2": 0.0}) as rig:
        rig.start(steps=["5%"], cohort={"mode": "identity", "identity": "header:x-tenant"})
        crowd = [Person(number, headers=f"X-Tenant: tenant-{number}\r\n") for number in range(options.people)]
        visit(rig.port, HOST, crowd)
    most = 300 * math.sqrt(0.05 * 0.95 / len(crowd))
    hashed = abs(share(crowd, "v2") - 5)
    title = f"{options.people:,} hashed identities at 5%: share of users off by"
    yield Line(title, f"{most:.2f} points (3 sigma)", f"{hashed:.3f} points", hashed <= most)
    with Rig({"v1": 0.0, "v2": 0.0, "v3": 0.0}) as rig:
        rig.start(**{"from": "v1"}, steps=["5%", "15%", "50%"], extra_versions={"v3": "10%"})
        crowd = people(options.people // 4)
        for number in range(3):
            if number:
                rig.act("promote")
            visit(rig.port, HOST, crowd)
    lost = flips(crowd, "v3")
    yield Line("v2 grows 5%, 15%, 50% beside v3 at 10%: users that v3 loses", "0", str(lost), lost == 0)


def few_sessions(options: argparse.Namespace) -> Iterator[Line]:
    """Check 2: 40 new sessions at 5%."""
    for workers in (1, 2, 4):
        with Rig({"v1": 0.0, "v2": 0.0}, workers=workers) as rig:
            rig.start(steps=["5%"])
            counts = Counter[int]()
            for block in range(options.blocks):
                crowd = people(40, 40 * block)
                visit(rig.port, HOST, crowd, connections=4)
                counts[sum(person.versions[0] == "v2" for person in crowd)] += 1
        said = ", ".join(f"{number}: {count} times" for number, count in sorted(counts.items()))
        title = f"40 sessions at 5%, {options.blocks} starts, {workers} workers: canary sessions"
        yield Line(title, "1 to 3", said, set(counts) <= {1, 2, 3}, dict(counts))


def dead_canary(_: argparse.Namespace) -> Iterator[Line]:
    """Check 3: the canary is killed and stays registered."""
    for weight, most in ((1, 5), (5, 5), (10, 5), (50, 10)):
        with Rig({"v1": 0.0, "v2": 0.0}) as rig:
            rig.start(steps=[f"{weight}%", "100%"], abort_if=ERRORS)
            rig.instances["v2"].kill()
            crowd: list[Person] = []
            began = time.monotonic()
            while rig.rollout()["state"] not in ("aborting", "aborted") and len(crowd) < 20_000:
                more = people(20, len(crowd))
                visit(rig.port, HOST, more, connections=1)
                crowd += more
            took = time.monotonic() - began
            units = rig.rollout()["verdict"]["metrics"]["errors"]["canary"]
        failed = sum(status != 200 for person in crowd for status in person.statuses)
        title = f"dead canary at {weight}%"
        said = f"{units}, in {took:.1f} s and {len(crowd)} requests"
        yield Line(f"{title}: canary users until the rollback", f"at most {most}", said, units <= most, took)
        yield Line(f"{title}: errors that users saw", "0", str(failed), failed == 0)


def swap(options: argparse.Namespace) -> Iterator[Line]:
    """Check 3: how soon everybody goes by another table."""
    plane = DataPlane({"workers": 4})
    try:
        members = {plane.add(HOST, "127.0.0.1", 9 + number, version=number): number for number in range(2)}
        spec: dict[str, Any] = {"id": 1, "versions": ["v1", "v2"], "stable": 0}
        took = []
        for number in range(1000):
            spec["intervals"] = [(65536, number % 2)]
            began = time.perf_counter()
            plane.set_rollout(HOST, spec, members)  # type: ignore[arg-type]
            took.append((time.perf_counter() - began) * 1e3)
    finally:
        plane.stop()
    took.sort()
    said = f"median {statistics.median(took):.3f} ms, p99 {took[989]:.3f} ms"
    yield Line("a swap, from the call to the pointer that all workers read", "1 ms", said, took[989] <= 1)
    with Rig({"v1": 0.0, "v2": 0.0}, workers=4) as rig:
        rig.start(steps=["100%"])
        late = 0
        with Lines(rig.port, 64) as lines:
            lines.ask()
            for _ in range(options.swaps):
                rig.act("abort")
                late += lines.ask()["v2"]
                rig.act("undo")
                late += lines.ask()["v1"]
    title = f"requests that went by the old table after a swap ({128 * options.swaps:,} requests, 4 workers)"
    yield Line(title, "0", str(late), late == 0)
    yield second_router(options)


def second_router(options: argparse.Namespace) -> Line:
    """How long after an abort at one router the other has it, over NATS."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-canary-")))
        server = stack.enter_context(NatsServer(arguments=("-js", "-sd", str(folder / "js"))))
        routers, steerings = [], []
        for name in ("one", "two"):
            (folder / f"{name}.yml").write_text(json.dumps({"gorouter_py": {"state_bucket": "bench", "node": name}}))
            routers.append(
                stack.enter_context(
                    Router(
                        *("--nats", f"nats://127.0.0.1:{server.port}", "--admin-socket", str(folder / f"{name}.sock")),
                        *("--state-file", str(folder / f"{name}.json"), "--config", str(folder / f"{name}.yml")),
                    )
                )
            )
            routers[-1].saw("subscriber-started")
            routers[-1].saw("state-bucket-followed")
            steerings.append(Steering(folder / f"{name}.sock", HOST))
        for version in ("v1", "v2"):
            instance = stack.enter_context(Instance(version))
            server.register(HOST, instance.port, options={"version": version})
        for router in routers:
            until(lambda router=router: len(router.routes().get(HOST, ())) == 2)  # type: ignore[misc]
        steerings[0].start(steps=["100%"], hold="1h")
        lines = stack.enter_context(Lines(routers[1].port, 1))
        took = []
        for _ in range(options.swaps):
            until(lambda: lines.ask()["v2"] == 1)
            began = time.monotonic()
            steerings[0].act("abort")
            while lines.ask()["v1"] == 0:
                pass
            took.append((time.monotonic() - began) * 1e3)
            steerings[0].act("undo")
    took.sort()
    said = f"median {statistics.median(took):.1f} ms, slowest {took[-1]:.1f} ms of {len(took)}"
    title = "a second router has an abort, over NATS, from the order at the first one on"
    return Line(title, "50 ms", said, statistics.median(took) <= 50, took)


def chance(options: argparse.Namespace) -> Iterator[Line]:
    """Checks 4 and 5: the verdict over many rollouts, simulated and seeded."""
    wrong = sum(bursty_rollout(seed).state == "worse" for seed in range(options.rollouts))
    most = options.rollouts * ALPHA + 3 * math.sqrt(options.rollouts * ALPHA * (1 - ALPHA))
    title = f"equal versions, bursty users, {options.rollouts:,} rollouts: false rollbacks at alpha {ALPHA:.0%}"
    yield Line(title, f"at most {most:.0f}", str(wrong), wrong <= most)
    for most_requests, said in ((1, "one request"), (9, "1 to 9 requests")):
        users = sorted(users_until_rollback(seed, 0.05, 0.005, 0.05, most_requests) for seed in range(100))
        median = statistics.median(users)
        title = f"ten times the errors (5% against 0.5%) at 5%, users of {said}: canary users until the rollback"
        yield Line(title, "median of at most 150", f"median {median:.0f}, p90 {users[89]}", median <= 150, users)


def churn(options: argparse.Namespace) -> Iterator[Line]:
    """Check 9: connections that last beside registrations."""
    with Rig({}, workers=2) as rig:
        kept = asyncio.run(beside_a_rollout(rig, options.websockets, options.uploads, 3000, options.registrations))
    title = (
        f"{kept.websockets:,} WebSockets and {kept.uploads:,} uploads through {kept.actions} actions beside "
        f"{kept.registrations:,} registrations ({kept.rate:,.0f} a second while it steps): dropped"
    )
    yield Line(title, "0", str(kept.dropped), kept.dropped == 0)
    title = f"{kept.short} short requests meanwhile: failed"
    yield Line(title, "0", str(kept.failed), kept.failed == 0)


def cost(_: argparse.Namespace) -> Iterator[Line]:
    """What a rollout adds to a request that brings its coordinate: loops of compiled code in turns.

    Judged is the quietest tenth of the rounds: what runs beside on the same core, another guest of the host too, makes
    such a loop up to twice as slow. The medians are told with it.
    """
    splitting = build.micro().Splitting(HEADS["browser"], ANSWER)
    loops: dict[str, Callable[[int], object]] = {
        "plain": splitting.plain,
        "decide": splitting.decide,
        "split": partial(splitting.whole, False),
        "all": partial(splitting.whole, True),
    }
    took: dict[str, list[float]] = {name: [] for name in loops}
    for _round in range(500):
        time.sleep(0.02)  # a neighbour's burst shall not meet all of them
        loops["all"](LOOP)  # after which caches and the clock are as under load
        for name, loop in loops.items():
            began = time.thread_time_ns()
            loop(LOOP)
            took[name].append((time.thread_time_ns() - began) / LOOP)
    quiet = {name: statistics.quantiles(each, n=10)[0] for name, each in took.items()}
    median = {name: statistics.median(each) for name, each in took.items()}

    def said(more: str, less: str | None = None) -> str:
        tenth, middle = (each[more] - (each[less] if less else 0) for each in (quiet, median))
        return f"{tenth:.1f} ns (median {middle:.1f})"

    title = "the split's cost per request: version and instance, against an instance of a route without a rollout"
    kept = quiet["split"] - quiet["plain"] <= 20
    yield Line(title, "20 ns", said("split", "plain"), kept, {"quiet": quiet, "median": median})
    yield Line("of it, from the cookie to the version", "", said("decide"), True)
    yield Line("counting the outcome", "", said("all", "split"), True)


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Line]]] = {
    "climb": climb, "sessions": few_sessions, "dead": dead_canary, "swap": swap, "chance": chance, "churn": churn,
    "cost": cost,
}  # fmt: skip


def rows(lines: list[Line]) -> list[list[str]]:
    """The result's table."""
    return [[line.check, line.wanted, line.measured, "yes" if line.kept else "no"] for line in lines]


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 if something that is wanted was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.canary", description="What a rollout promises, measured.")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; repeatable (default: all)")
    parser.add_argument("--people", type=int, default=20_000, help="who climb the steps (default: %(default)s)")
    parser.add_argument("--blocks", type=int, default=100, help="starts of 40 sessions (default: %(default)s)")
    parser.add_argument("--swaps", type=int, default=30, help="aborts that are timed (default: %(default)s)")
    parser.add_argument("--rollouts", type=int, default=1000, help="of equal versions (default: %(default)s)")
    parser.add_argument("--websockets", type=int, default=8000, help="held open (default: %(default)s)")
    parser.add_argument("--uploads", type=int, default=200, help="held open (default: %(default)s)")
    parser.add_argument("--registrations", type=int, default=5000, help="between two actions (default: %(default)s)")
    parser.add_argument("--no-save", action="store_true", help="write nothing to bench/results/")
    options = parser.parse_args(argv)
    if min(options.people, options.blocks, options.swaps, options.rollouts, options.registrations) < 1:
        parser.error("counts must be at least 1")
    raise_file_limit()
    now = datetime.now().astimezone()
    facts = {
        "date": now.isoformat(timespec="seconds"),
        "command": "python -m bench.canary " + shlex.join(sys.argv[1:] if argv is None else argv),
        **host.facts(),
        "gorouter-py": PEERS["gorouter-py"].version(),
    }
    lines = []
    for name in options.only or PARTS:
        for line in PARTS[name](options):
            lines.append(line)
            print(f"{line.check}: {line.measured} (wanted: {line.wanted})", flush=True)
    print("\n" + report.text_table(HEADINGS, rows(lines)))
    if not options.no_save:
        text = f"# What a rollout promises, {facts['date']}\n\n{report.facts_list(facts)}\n\n"
        text += report.markdown_table(HEADINGS, rows(lines)) + "\n"
        data = json.dumps({**facts, "lines": [line._asdict() for line in lines]}, indent=1)
        print(f"written to {report.save('canary', text, data, now)}")
    return 0 if all(line.kept for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Interleaved rounds: every peer once, then every peer again, so that what disturbs the machine disturbs all of them.

The CPU of a request is what the threads of a peer spent between two readings of schedstat, the load in between,
divided by the requests that the load generator counted. Loopback work of the kernel (softirq) is charged to the
thread that sends, so the sums of proxy, origin and client are what the machine spent.
"""

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.load import features, stats, wrk
from bench.load.cases import Case, make_table
from bench.load.peers import PEERS, Running, Settings
from bench.load.procs import BenchError, Fleet, compile_native, cpus, wait_for_port
from bench.load.wrk import Load

WARM_UP_S = 1.0
LOG_SETTLE_S = 3.0
OTHERS_MAX = 0.10


@dataclass
class Sample:
    """One round of one peer in one case."""

    load: Load
    cpu_ns: dict[str, int]
    helper_ns: int
    others: float  # part of the time that other processes, or the host, had the peer's CPU
    user_share: float
    log_lines: int

    @property
    def cpu_us(self) -> float:
        """CPU of all the peer's threads per request, in microseconds."""
        return sum(self.cpu_ns.values()) / 1000 / self.load.requests if self.load.requests else math.nan

    def thread_us(self, name: str) -> float:
        return self.cpu_ns.get(name, 0) / 1000 / self.load.requests if self.load.requests else math.nan

    def as_dict(self) -> dict[str, Any]:
        return {
            "load": self.load.as_dict(),
            "cpu_ns": self.cpu_ns,
            "cpu_us_per_request": self.cpu_us,
            "helper_ns": self.helper_ns,
            "others": self.others,
            "user_share": self.user_share,
            "log_lines": self.log_lines,
        }


@dataclass
class Result:
    """All rounds of one peer in one case."""

    case: Case
    peer: str
    samples: list[Sample] = field(default_factory=list)

    def median(self, figure: Callable[[Sample], float]) -> float:
        return stats.median(figure(sample) for sample in self.samples)

    def spread(self, figure: Callable[[Sample], float]) -> float:
        return stats.spread([figure(sample) for sample in self.samples])


@dataclass(frozen=True)
class Plan:
    """What is measured and how long."""

    groups: tuple[tuple[Case, ...], ...]
    peers: tuple[str, ...]
    rounds: int
    seconds: float
    log: bool
    origins: int
    directory: Path | None
    patience: int = 2  # how often a round is repeated in which others had more than OTHERS_MAX of the CPU
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # peers that take part in some cases only

    def peers_of(self, group: tuple[Case, ...]) -> list[str]:
        """The peers that are measured in a group."""
        names = {case.name for case in group}
        return [peer for peer in self.peers if peer not in self.only or names & set(self.only[peer])]


def measure(plan: Plan, say: Callable[[str], None], results: list[Result]) -> None:
    """Starts everything, checks that the peers are equal, measures, stops everything. BenchError if that cannot be.

    The results of each group are appended when it is done, so that an interrupted run has something to show.
    """
    proxy_cpu, load_cpu = cpus()
    os.sched_setaffinity(0, [load_cpu])
    with Fleet(base=plan.directory) as fleet:
        ports = fleet.ports(plan.origins)
        argv = [str(compile_native("origin"))]
        for port in ports:
            argv += ["-p", str(port)]
        origin = fleet.start("origin", argv, load_cpu)
        wait_for_port(ports[0], origin)
        with features.EchoOrigins(fleet.ports(2)) as echo:
            targets: dict[tuple[int, str], Running] = {}
            for routes in sorted({case.routes for group in plan.groups for case in group}):
                table = make_table(routes, ports, {features.HOST: echo.instances})
                groups = [group for group in plan.groups if any(case.routes == routes for case in group)]
                for name in [peer for peer in plan.peers if any(peer in plan.peers_of(group) for group in groups)]:
                    say(f"starting {name} with {routes:,} routes")
                    log = fleet.directory / f"{name}-{routes}.access.log" if plan.log else None
                    running = PEERS[name].start(fleet, Settings(table, log, proxy_cpu, load_cpu))
                    features.check(name, running.port, log)
                    targets[routes, name] = running
            say("all peers forward, identify, stick and log alike")
        for group in plan.groups:
            results += _measure_group(fleet, plan, group, targets, load_cpu, say)
            fleet.check()


def _measure_group(
    fleet: Fleet,
    plan: Plan,
    group: tuple[Case, ...],
    targets: dict[tuple[int, str], Running],
    load_cpu: int,
    say: Callable[[str], None],
) -> list[Result]:
    scripts = {case.name: wrk.write_script(case, fleet.directory / f"{case.name}.lua") for case in group}
    peers = plan.peers_of(group)
    results = {(case.name, peer): Result(case, peer) for case in group for peer in peers}
    for turn in range(-1, plan.rounds):  # round -1 warms connections, caches and the clock, and is thrown away
        for case in group:
            for peer in peers:
                running = targets[case.routes, peer]
                seconds = plan.seconds if turn >= 0 else WARM_UP_S
                patience = plan.patience if turn >= 0 else 0
                sample = take(case, running, seconds, scripts[case.name], load_cpu)
                while sample.others > OTHERS_MAX and patience:
                    patience -= 1
                    say(f"{case.name} {peer}: others had {100 * sample.others:.0f} % of the CPU, once more")
                    again = take(case, running, seconds, scripts[case.name], load_cpu)
                    sample = min(sample, again, key=lambda s: s.others)
                fleet.check()
                if turn < 0:
                    continue
                results[case.name, peer].samples.append(sample)
                say(
                    f"{case.name} round {turn + 1}/{plan.rounds} {peer}: {sample.cpu_us:.2f} us CPU per request, "
                    f"{sample.load.rate:,.0f}/s, p99 {sample.load.p99_us:,.0f} us"
                    + (f", {sample.load.errors} ERRORS" if sample.load.errors else "")
                )
    return list(results.values())


def take(case: Case, running: Running, seconds: float, script: Path, load_cpu: int) -> Sample:
    """One round: reads the CPU, runs the load, reads the CPU, counts the log lines and empties the log."""
    log = running.settings.access_log
    helpers = [helper.pid for helper in running.helpers]
    before, helped, started = stats.read_cpu(running.pids), stats.read_cpu(helpers), time.monotonic()
    busy = stats.parse_busy_ticks(Path("/proc/stat").read_text(), running.settings.cpu)
    load = wrk.run(case, running.port, seconds, script, load_cpu)
    busy = stats.parse_busy_ticks(Path("/proc/stat").read_text(), running.settings.cpu) - busy
    loaded, elapsed = stats.cpu_between(before, stats.read_cpu(running.pids)), time.monotonic() - started
    lines = _drain_log(log, load.requests) if log else 0
    after, helped_after = stats.read_cpu(running.pids), stats.read_cpu(helpers)
    if load.requests == 0:
        raise BenchError(f"{running.peer} answered nothing in case {case.name}")
    return Sample(
        load,
        stats.cpu_between(before, after),
        sum(stats.cpu_between(helped, helped_after).values()),
        stats.others_share(busy, sum(loaded.values()), elapsed),
        stats.user_share(before, after),
        lines,
    )


def _drain_log(log: Path, wanted: int) -> int:
    """Counts the lines of the log until there are as many as wanted, or time is up; then empties it (peers append).

    nginx and the plain router flush once a second, so the last lines of a round may be late.
    """
    deadline = time.monotonic() + LOG_SETTLE_S
    lines = 0
    with log.open("rb") as file:
        while True:
            while block := file.read(1 << 20):
                lines += block.count(b"\n")
            if lines >= wanted or time.monotonic() > deadline:
                break
            time.sleep(0.05)
    os.truncate(log, 0)
    return lines


def by_peer(results: Iterable[Result], case: str) -> dict[str, Result]:
    """The results of one case."""
    return {result.peer: result for result in results if result.case.name == case}

"""Two tiers of HAProxy before the router against a mapped port of the router alone: `python -m bench.load.chain`.

Both ways lead through the same router to the same origins, in turns. What is charged to a way is the CPU of all
proxies on it: both tiers and the router, or the router alone; they share one CPU. The tiers are those that
`python -m haproxy render` writes (with one thread each, as they have one CPU), without a log of their own; the router
writes its access log on both ways. Latency is that of a steady rate far below what either can do, from the time a
request was due.
"""

import argparse
import asyncio
import json
import math
import shlex
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import nats

from bench.load import features, host, measure, report, stats, steady, wrk
from bench.load.cases import HOST, Case, make_table
from bench.load.peers import PEERS, Running, Settings
from bench.load.peers.base import own_directory
from bench.load.procs import (
    BenchError,
    Fleet,
    Process,
    compile_native,
    cpus,
    raise_file_limit,
    wait_for_port,
)
from haproxy import render, tables
from haproxy.binds import Address

CHAIN, ALONE = "chain", "router alone"
CASES = (
    Case("small", "small keep-alive GETs"),
    Case("body-64k", "64 KiB responses", target="/64k"),
    Case("close", "a new connection per request", close=True),
)
HEADINGS = ("case", "way", "CPU us/request", "/ chain", "tier 1", "tier 2", "router", "requests/s", "p50 us", "p99 us",
            "steady p50", "steady p99", "others %", "errors")  # fmt: skip


@dataclass
class Way:
    """One way from a client to the origins, and what was seen on it."""

    name: str
    running: Running
    samples: dict[str, list[measure.Sample]] = field(default_factory=dict)
    split: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    calm: list[steady.Seen] = field(default_factory=list)

    def cpu_us(self, case: str) -> float:
        """Median over the rounds: CPU of all its proxies per request."""
        return stats.median(sample.cpu_us for sample in self.samples[case])

    def part_us(self, case: str, part: str) -> float:
        return stats.median(split.get(part, math.nan) for split in self.split[case])


def map_port(nats_port: int, listen: str, app: str) -> None:
    """Maps a port of the router over the bus. BenchError if it refuses."""

    async def ask() -> Any:
        client = await nats.connect(f"nats://127.0.0.1:{nats_port}")
        try:
            body = json.dumps({"listen": listen, "host": app}).encode()
            return json.loads((await client.request("router.ports.add", body, timeout=20)).data)
        finally:
            await client.close()

    answer = asyncio.run(ask())
    if not answer.get("open"):
        raise BenchError(f"the router does not map {listen}: {answer}")


def start_tier(fleet: Fleet, file: Path, port: int, cpu: int) -> Process:
    """A HAProxy with that configuration; returns when it listens."""
    process = fleet.start(file.stem, ["haproxy", "-db", "-f", file], cpu)
    wait_for_port(port, process)
    return process


def start(fleet: Fleet, log: bool) -> list[Way]:
    """Everything, and both ways leading to an origin."""
    proxy_cpu, load_cpu = cpus()
    origins = fleet.ports(3)
    argv: list[str | Path] = [compile_native("origin")]
    for port in origins:
        argv += ["-p", str(port)]
    wait_for_port(origins[0], fleet.start("origin", argv, load_cpu))
    settings = Settings(make_table(10, origins), fleet.directory / "access.log" if log else None, proxy_cpu, load_cpu)
    router = PEERS["gorouter-py"].start(fleet, settings)
    mapped, first, second = fleet.ports(3)
    map_port(router.nats_port, f"127.0.0.1:{mapped}", HOST)
    folder = own_directory(fleet, CHAIN)
    files = render.render(
        tables.Ports({Address("127.0.0.1", first): HOST}), [f"127.0.0.1:{router.port}"], f"127.0.0.1:{second}", folder
    )
    for name, content in files.items():
        (folder / name).write_text(content)
    tiers = [start_tier(fleet, folder / "tier2.cfg", second, proxy_cpu)]
    tiers.insert(0, start_tier(fleet, folder / "tier1.cfg", first, proxy_cpu))
    ways = [
        Way(CHAIN, Running(CHAIN, first, settings, [*tiers, *router.processes], router.helpers)),
        Way(ALONE, Running(ALONE, mapped, settings, router.processes, router.helpers)),
    ]
    for way in ways:
        wait_until_served(way)
    return ways


def wait_until_served(way: Way, timeout_s: float = 30.0) -> None:
    """The tiers have to find each other, and the router healthy, first."""
    deadline = time.monotonic() + timeout_s
    while " 200 " not in features.ask(way.running.port, host="public.bench").head.split("\r\n")[0]:
        if time.monotonic() > deadline:
            raise BenchError(f"{way.name} does not lead to an origin after {timeout_s:.0f} s")
        time.sleep(0.1)


def take(way: Way, case: Case, seconds: float, script: Path) -> measure.Sample:
    """One round, with the CPU of each program apart."""
    parts = {"tier1": "tier 1", "tier2": "tier 2", "gorouter-py": "router"}
    before = {process.name: stats.read_cpu([process.pid]) for process in way.running.processes}
    sample = measure.take(case, way.running, seconds, script, way.running.settings.load_cpu)
    split = {}
    for process in way.running.processes:
        spent = stats.cpu_between(before[process.name], stats.read_cpu([process.pid]))
        split[parts[process.name]] = sum(spent.values()) / 1000 / sample.load.requests
    way.split.setdefault(case.name, []).append(split)
    way.samples.setdefault(case.name, []).append(sample)
    return sample


def run(options: argparse.Namespace) -> list[Way]:
    """The whole measurement."""
    with Fleet() as fleet:
        ways = start(fleet, not options.no_log)
        scripts = {case.name: wrk.write_script(case, fleet.directory / f"{case.name}.lua") for case in CASES}
        for turn in range(-1, options.rounds):  # round -1 warms everything up and is thrown away
            for case in CASES:
                for way in ways:
                    sample = take(way, case, options.seconds if turn >= 0 else 1.0, scripts[case.name])
                    fleet.check()
                    print(f"{case.name} round {turn + 1}/{options.rounds} {way.name}: {sample.cpu_us:.2f} us CPU "
                          f"per request, others {100 * sample.others:.0f} % of the CPU", flush=True)  # fmt: skip
            for way in ways if turn >= 0 else ():
                client = steady.start(fleet, way.running.port, way.running.settings.load_cpu, options.rate,
                                      options.seconds, host="public.bench", connections=16)  # fmt: skip
                way.calm.append(steady.finish(fleet, client, options.seconds + 60))
            if turn < 0:
                for way in ways:
                    way.samples.clear()
                    way.split.clear()
        return ways


def rows(ways: list[Way]) -> list[list[str]]:
    """Lines of the result's table."""
    found = []
    for case in CASES:
        base = ways[0].cpu_us(case.name)
        for way in ways:
            samples = way.samples[case.name]
            calm = case.name == "small"
            found.append([
                case.name,
                way.name,
                report.number(way.cpu_us(case.name)),
                report.number(stats.ratio(way.cpu_us(case.name), base)),
                *(report.number(way.part_us(case.name, part)) for part in ("tier 1", "tier 2", "router")),
                f"{stats.median(sample.load.rate for sample in samples):,.0f}",
                f"{stats.median(sample.load.p50_us for sample in samples):,.0f}",
                f"{stats.median(sample.load.p99_us for sample in samples):,.0f}",
                f"{stats.median(seen.p50_us for seen in way.calm):,.0f}" if calm else "",
                f"{stats.median(seen.p99_us for seen in way.calm):,.0f}" if calm else "",
                report.number(stats.median(100 * sample.others for sample in samples), 0),
                str(sum(sample.load.errors for sample in samples) + calm * sum(seen.failed for seen in way.calm)),
            ])  # fmt: skip
    return found


def main(argv: list[str] | None = None) -> int:
    """Command line; 0, or 1 with a message if it could not be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.load.chain", description="CPU and latency of two tiers of HAProxy against a mapped port."
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="length of a round (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=1000, help="GETs a second of the steady client")
    parser.add_argument("--no-log", action="store_true", help="without the router's access log")
    parser.add_argument("--no-save", action="store_true", help="write nothing to bench/results/")
    options = parser.parse_args(argv)
    if options.rounds < 1 or not 1 <= options.seconds <= 60 or not 1 <= options.rate <= 20_000:
        parser.error("--rounds must be at least 1, --seconds 1 to 60, --rate 1 to 20000")
    raise_file_limit()
    now = datetime.now().astimezone()
    try:
        facts = {
            "date": now.isoformat(timespec="seconds"),
            "command": "python -m bench.load.chain " + shlex.join(sys.argv[1:] if argv is None else argv),
            **host.facts(),
            **{name: PEERS[name].version() for name in ("haproxy", "gorouter-py")},
            "load": f"{wrk.version()}, -t1, 32 connections; steady: {options.rate} GETs/s, 16 connections",
        }
        ways = run(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    body = rows(ways)
    print("\n" + report.text_table(HEADINGS, body))
    if not options.no_save:
        text = f"# Two tiers of HAProxy against a mapped port, {facts['date']}\n\n{report.facts_list(facts)}\n\n"
        text += f"{report.markdown_table(HEADINGS, body)}\n\n"
        text += f"Medians of {options.rounds} rounds. others %: of the CPU for other programs.\n"
        found = {
            way.name: {
                "cases": {name: [sample.as_dict() for sample in samples] for name, samples in way.samples.items()},
                "split_us": way.split,
                "steady": [vars(seen) for seen in way.calm],
            }
            for way in ways
        }
        data = json.dumps({**facts, "ways": found}, indent=1)
        print(f"written to {report.save('chain', text, data, now)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

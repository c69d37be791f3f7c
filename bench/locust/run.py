"""Plays the users of locustfile.py against the router and HAProxy in turns: `python -m bench.locust.run`.

Three instances, each a process with a name of its own; each router pinned to one CPU, locust and the instances to the
other. Bounded users and time; the latencies are those of a Python client, so they compare routers and say little about
either by itself.
"""

import argparse
import importlib.util
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.load import host, report, stats
from bench.load.peers import PEERS, Running, Settings
from bench.load.procs import BenchError, Fleet, compile_native, cpus, raise_file_limit, wait_for_port
from bench.load.table import Instance

HOST = "shop.bench"
FILE = Path(__file__).with_name("locustfile.py")
HEADINGS = ("peer", "requests", "failed", "by kind", "p50 ms", "p95 ms", "p99 ms", "max ms")


def play(fleet: Fleet, running: Running, options: argparse.Namespace) -> dict[str, Any]:
    """One round of users against one peer."""
    path = fleet.directory / "latencies.json"
    path.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "locust", "-f", str(FILE), "--headless", "--only-summary", "--stop-timeout", "5"]
    argv += ["-u", str(options.users), "-r", str(options.users), "-t", f"{options.seconds}s"]
    argv += ["--host", f"http://127.0.0.1:{running.port}", "--exit-code-on-error", "0"]
    env = {"BENCH_HOST": HOST, "BENCH_LATENCIES": str(path)}
    locust = fleet.start("locust", argv, running.settings.load_cpu, env)
    code = locust.popen.wait(options.seconds + 60)
    if code or not path.exists():
        raise BenchError(f"locust ended with {code}:\n{locust.last_words()}")
    fleet.stop(locust)
    fleet.check()
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def measure(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """All rounds, by peer."""
    proxy_cpu, load_cpu = cpus()
    names = options.peers.split(",")
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with Fleet() as fleet:
        instances = [Instance(port, f"i{number}") for number, port in enumerate(fleet.ports(3))]
        for instance in instances:
            argv = [str(compile_native("origin")), "-p", str(instance.port), "-n", f"instance {instance.id}"]
            wait_for_port(instance.port, fleet.start("instance", argv, load_cpu))
        started = {}
        for name in names:
            settings = Settings({HOST: instances}, fleet.directory / f"{name}.log", proxy_cpu, load_cpu)
            started[name] = PEERS[name].start(fleet, settings)
        for turn in range(options.rounds):
            for name in names:
                rounds[name].append(play(fleet, started[name], options))
                seen = rounds[name][-1]
                print(
                    f"round {turn + 1}/{options.rounds} {name}: {seen['requests']} requests, {seen['failed']} failed",
                    flush=True,
                )
    return rounds


def table_rows(rounds: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    """One row per peer: sums, and medians of the rounds' percentiles."""
    rows = []
    for name, found in rounds.items():
        kinds: dict[str, int] = {}
        for one in found:
            for text, count in one["failures"].items():
                kinds[text] = kinds.get(text, 0) + count
        rows.append(
            [
                name,
                f"{sum(one['requests'] for one in found):,}",
                str(sum(one["failed"] for one in found)),
                ", ".join(f"{count} {text}" for text, count in kinds.items()) or "-",
                *(
                    report.number(stats.median(stats.percentile(one["latencies_ms"], share) for one in found), 2)
                    for share in (0.50, 0.95, 0.99, 1)
                ),
            ]
        )
    return rows


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 if a session moved or a request failed at the router."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.locust.run", description="Sticky users against router and HAProxy."
    )
    parser.add_argument("--peers", default="gorouter-py,haproxy", help="default: %(default)s")
    parser.add_argument("--users", type=int, default=30)
    parser.add_argument("--seconds", type=int, default=10, help="length of a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args(argv)
    if unknown := set(options.peers.split(",")) - PEERS.keys():
        parser.error(f"unknown peers {', '.join(sorted(unknown))}; there are: {', '.join(PEERS)}")
    if not (1 <= options.users <= 500 and 1 <= options.seconds <= 120 and options.rounds >= 1):
        parser.error("--users 1 to 500, --seconds 1 to 120, --rounds at least 1")
    if importlib.util.find_spec("locust") is None:
        parser.error("locust is not installed here: .venv/bin/python -m pip install -e '.[test,bench]', or make bench")
    raise_file_limit()
    now = datetime.now().astimezone()
    try:
        versions = {name: PEERS[name].version() for name in options.peers.split(",")}
        rounds = measure(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    rows = table_rows(rounds)
    print("\n" + report.text_table(HEADINGS, rows))
    if not options.no_save:
        listed = report.facts_list(
            {"date": now.isoformat(timespec="seconds"), **host.facts(), **versions, **vars(options)}
        )
        text = f"# Users with sticky sessions (locust)\n\n{listed}\n\n{report.markdown_table(HEADINGS, rows)}\n"
        short = {
            name: [
                {
                    **one,
                    "latencies_ms": {
                        str(s): stats.percentile(one["latencies_ms"], s) for s in (0.5, 0.9, 0.95, 0.99, 1)
                    },
                }
                for one in found
            ]
            for name, found in rounds.items()
        }
        data = json.dumps({"date": now.isoformat(), "host": host.facts(), "peers": versions, "rounds": short}, indent=1)
        print(f"written to {report.save('locust', text, data, now)}")
    return 1 if any(one["failed"] for found in rounds.values() for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())

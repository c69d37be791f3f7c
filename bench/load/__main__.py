"""The load measurement: `python -m bench.load`; `python -m bench.load --help` lists what can be chosen."""

import argparse
import shlex
import sys
from datetime import datetime
from pathlib import Path

from bench.load import host, measure, report, wrk
from bench.load.cases import CASES, GROUPS
from bench.load.peers import PEERS
from bench.load.procs import BenchError, raise_file_limit

# So much slower than the others that once is enough.
ONLY = {"aiohttp": ("small",)}

EPILOG = """examples:
  python -m bench.load                                     everything, about ten minutes
  python -m bench.load --quick                             two short rounds of each case
  python -m bench.load --cases small,close --peers haproxy,gorouter-py
"""


def parse(argv: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.load",
        description="CPU per request, rate and latency of the router and its peers, with equal features on one CPU.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peers", help=f"default: {','.join(PEERS)}, of which {', '.join(ONLY)} in few cases only")
    parser.add_argument("--cases", default=",".join(CASES), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="length of a round (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 2 seconds")
    parser.add_argument("--no-log", action="store_true", help="measure without access logs")
    parser.add_argument("--origins", type=int, default=3, help="instances of each route (default: %(default)s)")
    parser.add_argument("--directory", type=Path, help="where logs and configurations go while it runs")
    parser.add_argument(
        "--patience",
        type=int,
        default=2,
        help="how often to repeat a round in which other programs had over 10 %% of the CPU (default: %(default)s)",
    )
    parser.add_argument("--no-save", action="store_true", help="write nothing to bench/results/")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds, options.seconds = 2, 2
    options.only = {} if options.peers else ONLY
    options.peers = options.peers or ",".join(PEERS)
    for kind, known, chosen in (("peer", PEERS, options.peers), ("case", CASES, options.cases)):
        for name in chosen.split(","):
            if name not in known:
                parser.error(f"unknown {kind} {name!r}; there are: {', '.join(known)}")
    if options.rounds < 1 or options.origins < 2 or not 1 <= options.seconds <= 60:
        parser.error("--rounds must be at least 1, --seconds 1 to 60, --origins at least 2")
    return options


def main(argv: list[str] | None = None) -> int:
    """Runs the measurement; 0, or 1 with a message if it could not be made."""
    options = parse(sys.argv[1:] if argv is None else argv)
    chosen = options.cases.split(",")
    groups = tuple(tuple(case for case in group if case.name in chosen) for group in GROUPS)
    peers = tuple(options.peers.split(","))
    plan = measure.Plan(
        tuple(group for group in groups if group),
        peers,
        options.rounds,
        options.seconds,
        not options.no_log,
        options.origins,
        options.directory,
        max(0, options.patience),
        options.only,
    )
    now = datetime.now().astimezone()
    raise_file_limit()
    results: list[measure.Result] = []
    try:
        facts = {
            "date": now.isoformat(timespec="seconds"),
            "command": "python -m bench.load " + shlex.join(sys.argv[1:] if argv is None else argv),
            "host": host.facts(),
            "peers": {name: f"{PEERS[name].version()}; {PEERS[name].describe()}" for name in peers},
            "load": f"{wrk.version()}, -t1, connections and requests by case; {plan.origins} origins (native/origin.c)",
        }
        measure.measure(plan, lambda line: print(line, flush=True), results)
    except (KeyboardInterrupt, SystemExit):
        if results:
            print("\ninterrupted; what was complete:\n\n" + report.render(results, facts, markdown=False))
        raise
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print("\n" + report.render(results, facts, markdown=False))
    if not options.no_save:
        path = report.save("load", report.render(results, facts, markdown=True), report.as_json(results, facts), now)
        print(f"written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

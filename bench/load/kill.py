"""kill -9 of one of three instances under load, ten times: `python -m bench.load.kill`.

Each instance is a process of its own that answers after a few milliseconds, so that requests are on it when it dies.
A strict client (it repeats nothing) asks at a steady rate; its failed GETs are counted. After each kill the instance is
started again on the same port, as a platform would, but it is never unregistered: the router has to find out by itself.
"""

import argparse
import json
import os
import signal
import sys
import time
from datetime import datetime
from typing import Any

from bench.load import host, report, steady
from bench.load.cases import HOST, make_table
from bench.load.peers import PEERS, Settings
from bench.load.procs import BenchError, Fleet, Process, compile_native, cpus, raise_file_limit, wait_for_port

HEADINGS = ("peer", "kills", "GETs", "failed", "by kind", "p99 us", "max us")


def start_instance(fleet: Fleet, port: int, delay_ms: int, cpu: int) -> Process:
    """One instance on the port; returns when it accepts."""
    process = fleet.start("instance", [compile_native("origin"), "-p", str(port), "-d", str(delay_ms)], cpu)
    wait_for_port(port, process)
    return process


def kill_and_restart(fleet: Fleet, victim: Process, port: int, down_s: float, delay_ms: int, cpu: int) -> Process:
    """SIGKILL, a pause, the same port again."""
    os.kill(victim.pid, signal.SIGKILL)
    victim.popen.wait()
    fleet.processes.remove(victim)
    time.sleep(down_s)
    return start_instance(fleet, port, delay_ms, cpu)


def run_peer(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The whole series for one peer."""
    proxy_cpu, load_cpu = cpus()
    with Fleet() as fleet:
        ports = fleet.ports(3)
        instances = [start_instance(fleet, port, options.delay_ms, load_cpu) for port in ports]
        log = fleet.directory / "access.log"
        settings = Settings(make_table(1, ports), log, proxy_cpu, load_cpu, retry_idempotent=True)
        running = PEERS[name].start(fleet, settings)
        seconds = 2 + options.kills * (options.down + options.up)
        client = steady.start(
            fleet, running.port, load_cpu, options.rate, seconds, host=HOST, body="hello world", connections=64
        )
        time.sleep(1)
        for number in range(options.kills):
            victim = number % 3
            instances[victim] = kill_and_restart(
                fleet, instances[victim], ports[victim], options.down, options.delay_ms, load_cpu
            )
            time.sleep(options.up)
        seen = steady.finish(fleet, client, seconds + 60)
        fleet.check()
    return {"peer": name, "kills": options.kills, **vars(seen)}


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.load.kill", description="Failed GETs while instances are killed."
    )
    parser.add_argument("--peers", default="gorouter-py,haproxy,nginx", help="default: %(default)s")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--rate", type=int, default=2_000, help="GETs a second (default: %(default)s)")
    parser.add_argument(
        "--delay-ms", type=int, default=3, help="time an instance takes to answer (default: %(default)s)"
    )
    parser.add_argument("--down", type=float, default=1.0, help="seconds an instance stays away (default: %(default)s)")
    parser.add_argument("--up", type=float, default=1.0, help="seconds between a return and the next kill")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args(argv)
    if unknown := set(options.peers.split(",")) - PEERS.keys():
        parser.error(f"unknown peers {', '.join(sorted(unknown))}; there are: {', '.join(PEERS)}")
    raise_file_limit()
    now = datetime.now().astimezone()
    results = []
    try:
        facts = {"date": now.isoformat(timespec="seconds"), "host": host.facts(), "settings": vars(options)}
        versions = {name: PEERS[name].version() for name in options.peers.split(",")}
        for name in versions:
            results.append(run_peer(name, options))
            print(json.dumps(results[-1]), flush=True)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    rows = [
        [
            r["peer"],
            str(r["kills"]),
            f"{r['scheduled']:,}",
            str(r["failed"]),
            ", ".join(f"{n} {kind}" for kind, n in r["failures"].items() if n) or "-",
            f"{r['p99_us']:,}",
            f"{r['max_us']:,}",
        ]
        for r in results
    ]
    print("\n" + report.text_table(HEADINGS, rows))
    if not options.no_save:
        title = f"# kill -9 of one of three instances, {facts['date']}"
        listed = report.facts_list({**host.facts(), **vars(options), **versions})
        text = f"{title}\n\n{listed}\n\n{report.markdown_table(HEADINGS, rows)}\n"
        data = json.dumps({**facts, "peers": versions, "results": results}, indent=1)
        print(f"written to {report.save('kill', text, data, now)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

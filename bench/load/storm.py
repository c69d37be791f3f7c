"""A storm of registrations beside a steady load: `python -m bench.load.storm`.

A client asks 2,000 times a second, open loop, each request timed from when it was due, in four kinds of rounds that
take turns: quiet (no messages), elsewhere (10,000 messages a second to a subject that the router has not subscribed to:
what the publisher and the NATS server take from the shared CPUs), refresh (10,000 registrations a second that change
nothing) and new (each of the 10,000 a second is a host never seen before). The router alone is on its CPU, with all its
threads; client, origins, publisher and NATS server share the other one. At the end the router must list all routes.
"""

import argparse
import base64
import json
import sys
import time
import urllib.request
from datetime import datetime
from typing import Any

from bench.load import host, report, stats, steady
from bench.load.cases import HOST, make_table
from bench.load.peers import PEERS, Running, Settings
from bench.load.procs import BenchError, Fleet, compile_native, cpus, raise_file_limit, wait_for_port

MODES = ("quiet", "elsewhere", "refresh", "new")
HEADINGS = (
    "round",
    "p50 us",
    "p99 us",
    "p99.9 us",
    "max us",
    "failed",
    "messages",
    "worker us/request",
    "control % of CPU",
)


def run_round(
    fleet: Fleet, running: Running, mode: str, options: argparse.Namespace, origins: list[int], start: int
) -> dict[str, Any]:
    """One round of a mode; the figures of the client and the CPU of the router's threads."""
    load_cpu = running.settings.load_cpu
    publisher = None
    if mode != "quiet":
        argv = [sys.executable, "-m", "bench.load.registrations", "--nats", str(running.nats_port), "--mode", mode]
        argv += ["--rate", str(options.rate), "--seconds", str(options.seconds + 0.5), "--start", str(start)]
        argv += ["--origins", ",".join(map(str, origins))]
        publisher = fleet.start("publisher", argv, load_cpu)
        deadline = time.monotonic() + 60
        while "ready" not in publisher.last_words() and time.monotonic() < deadline:
            time.sleep(0.02)
    before = stats.read_cpu(running.pids)
    client = steady.start(
        fleet, running.port, load_cpu, options.requests, options.seconds, host=HOST, body="hello world", connections=32
    )
    seen = steady.finish(fleet, client, options.seconds + 30)
    spent = stats.cpu_between(before, stats.read_cpu(running.pids))
    sent: dict[str, Any] = {"sent": 0, "latest_tick_ms": 0.0}
    if publisher is not None:
        if publisher.popen.wait(60):
            raise BenchError(f"the publisher failed:\n{publisher.last_words()}")
        sent = json.loads(publisher.last_words().splitlines()[-1])
        fleet.stop(publisher)
    fleet.check()
    return {"mode": mode, **vars(seen), **sent, "cpu_ns": spent}


def count_routes(admin_port: int, user: str, password: str) -> int:
    """How many routes the router lists."""
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    url = f"http://127.0.0.1:{admin_port}/routes"
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return len(json.load(answer))


def wait_for_count(running: Running, wanted: int, timeout_s: float = 60.0) -> int:
    """Polls the router's list until it holds `wanted` routes; returns what it holds at last."""
    deadline = time.monotonic() + timeout_s
    found = -1
    while time.monotonic() < deadline and found < wanted:
        found = count_routes(running.admin_port, "bench", "bench")
        if found < wanted:
            time.sleep(0.5)
    return found


def table_rows(rounds: list[dict[str, Any]], seconds: float) -> list[list[str]]:
    """One row per mode: medians of its rounds."""
    rows = []
    for mode in MODES:
        found = [r for r in rounds if r["mode"] == mode]
        if not found:
            continue
        worker = [sum(ns for name, ns in r["cpu_ns"].items() if name.startswith("worker")) for r in found]
        control = [r["cpu_ns"].get("python", 0) + r["cpu_ns"].get("control", 0) for r in found]
        rows.append(
            [
                mode,
                *(
                    report.number(stats.median(r[key] for r in found), 0)
                    for key in ("p50_us", "p99_us", "p999_us", "max_us")
                ),
                str(sum(r["failed"] for r in found)),
                f"{sum(r['sent'] for r in found):,}",
                report.number(stats.median(w / 1000 / r["scheduled"] for w, r in zip(worker, found, strict=True))),
                report.number(stats.median(c / 1e7 / seconds for c in control), 1),
            ]
        )
    return rows


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rounds; the facts and figures as they go into the results."""
    proxy_cpu, load_cpu = cpus()
    rounds: list[dict[str, Any]] = []
    with Fleet() as fleet:
        origins = fleet.ports(3)
        argv = [str(compile_native("origin")), *(word for port in origins for word in ("-p", str(port)))]
        wait_for_port(origins[0], fleet.start("origin", argv, load_cpu))
        log = fleet.directory / "access.log"
        running = PEERS["gorouter-py"].start(fleet, Settings(make_table(10, origins), log, proxy_cpu, load_cpu))
        base, new_hosts = count_routes(running.admin_port, "bench", "bench"), 0
        steady.finish(fleet, steady.start(fleet, running.port, load_cpu, options.requests, 1, host=HOST), 30)
        for turn in range(options.rounds):
            for mode in options.modes.split(","):
                figures = run_round(fleet, running, mode, options, origins, 1_000_000 + new_hosts)
                rounds.append(figures)
                new_hosts += figures["sent"] if mode == "new" else 0
                print(
                    f"round {turn + 1}/{options.rounds} {mode}: "
                    f"p99 {figures['p99_us']} us, max {figures['max_us']} us, "
                    f"{figures['failed']} failed, {figures['sent']:,} messages, "
                    f"latest tick of the publisher {figures['latest_tick_ms']} ms",
                    flush=True,
                )
                time.sleep(1)
        refreshed = 10_000 if "refresh" in options.modes else 0
        wanted = base + new_hosts + refreshed
        listed = wait_for_count(running, wanted)
    return {"rounds": rounds, "routes_registered": wanted, "routes_listed": listed}


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.load.storm", description="p99 beside a storm of registrations."
    )
    parser.add_argument("--rate", type=int, default=10_000, help="registrations a second (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=2_000, help="requests a second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="length of a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--modes", default=",".join(MODES), help="default: %(default)s")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args(argv)
    if unknown := set(options.modes.split(",")) - set(MODES):
        parser.error(f"unknown modes {', '.join(sorted(unknown))}; there are: {', '.join(MODES)}")
    raise_file_limit()
    now = datetime.now().astimezone()
    try:
        facts = {
            "date": now.isoformat(timespec="seconds"),
            "settings": {key: value for key, value in vars(options).items() if key != "no_save"},
            "router": PEERS["gorouter-py"].version(),
        }
        found = measure(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    rows = table_rows(found["rounds"], options.seconds)
    verdict = f"{found['routes_listed']:,} routes listed of {found['routes_registered']:,} registered"
    print(f"\n{report.text_table(HEADINGS, rows)}\n\n{verdict}")
    if not options.no_save:
        listed = report.facts_list({**host.facts(), **facts})
        text = f"# Registration storm\n\n{listed}\n\n{report.markdown_table(HEADINGS, rows)}\n\n{verdict}\n"
        data = json.dumps({**facts, "host": host.facts(), **found}, indent=1)
        print(f"written to {report.save('storm', text, data, now)}")
    return 0 if found["routes_listed"] == found["routes_registered"] else 1


if __name__ == "__main__":
    sys.exit(main())

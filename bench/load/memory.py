"""Resident memory: with 10,000 idle client connections, and with 100,000 routes: `python -m bench.load.memory`.

Idle connections have had one request each and are kept alive; what is shown is the growth of RSS over the same process
before them. Routes have one instance each, all different hosts. The router gets its own over NATS; the peers, for
comparison, are started with a smaller table (--other-routes), since HAProxy and nginx take gigabytes beyond.
"""

import argparse
import json
import socket
import sys
import time
from datetime import datetime
from typing import Any

from bench.load import host, report, stats
from bench.load.cases import HOST, make_table
from bench.load.peers import PEERS, Running, Settings
from bench.load.procs import BenchError, Fleet, compile_native, cpus, raise_file_limit, wait_for_port
from bench.load.registrations import register
from bench.load.storm import wait_for_count

HEADINGS = ("peer", "what", "count", "RSS before MiB", "RSS after MiB", "bytes each")
REQUEST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: memory\r\n\r\n".encode()


def settled_rss(running: Running) -> int:
    """RSS in KiB once it has stopped growing for a second; at most 20 s."""
    last, same = -1, 0
    for _ in range(80):
        now = stats.rss_kib(running.pids)
        same = same + 1 if now <= last else 0
        last = now
        if same >= 4:
            break
        time.sleep(0.25)
    return last


def open_idle(port: int, count: int) -> list[socket.socket]:
    """Keep-alive connections with one answered request each."""
    held: list[socket.socket] = []
    try:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", port), 10)
            held.append(connection)
            connection.sendall(REQUEST)
            data = b""
            while b"hello world" not in data:
                chunk = connection.recv(4096)
                if not chunk:
                    raise BenchError(f"connection {len(held)} was closed: {data!r}")
                data += chunk
    except OSError as error:
        raise BenchError(f"after {len(held)} idle connections: {error}") from error
    return held


def start(fleet: Fleet, name: str, routes: int) -> tuple[Running, list[int]]:
    """The peer with a table of `routes` hosts with one instance each."""
    proxy_cpu, load_cpu = cpus()
    ports = fleet.ports(1)
    wait_for_port(ports[0], fleet.start("origin", [compile_native("origin"), "-p", str(ports[0])], load_cpu))
    log = fleet.directory / "access.log"
    return PEERS[name].start(fleet, Settings(make_table(routes, ports), log, proxy_cpu, load_cpu)), ports


def idle_connections(name: str, count: int) -> dict[str, Any]:
    """RSS with `count` idle client connections."""
    with Fleet() as fleet:
        running, _ = start(fleet, name, 10)
        for connection in open_idle(running.port, 10):
            connection.close()
        time.sleep(1)
        before = settled_rss(running)
        held = open_idle(running.port, count)
        after = settled_rss(running)
        alive = sum(1 for connection in held if not _is_closed(connection))
        for connection in held:
            connection.close()
        if alive != count:
            raise BenchError(f"{name}: only {alive} of {count} idle connections are still open")
    return {"peer": name, "what": "idle client connections", "count": count, "before_kib": before, "after_kib": after}


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False


def routes_router(count: int) -> dict[str, Any]:
    """RSS of the router with `count` more routes, registered over NATS."""
    with Fleet() as fleet:
        running, ports = start(fleet, "gorouter-py", 10)
        wait_for_count(running, 10)
        before = settled_rss(running)
        register(running.nats_port, {f"m{number}.bench": make_table(1, ports)[HOST] for number in range(count)})
        # The list is read after the memory, since making it needs memory too: until then, wait for a silent CPU.
        _wait_until_quiet(running)
        after = settled_rss(running)
        listed = wait_for_count(running, count + 10)
        if listed != count + 10:
            raise BenchError(f"gorouter-py lists {listed:,} routes of {count + 10:,}")
    return {"peer": "gorouter-py", "what": "routes", "count": count, "before_kib": before, "after_kib": after}


def _wait_until_quiet(running: Running, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        before = stats.read_cpu(running.pids)
        time.sleep(1)
        if sum(stats.cpu_between(before, stats.read_cpu(running.pids)).values()) < 50_000_000:
            return
    raise BenchError(f"{running.peer} is still busy after {timeout_s:.0f} s")


def routes_other(name: str, count: int) -> dict[str, Any]:
    """RSS of a peer with `count` routes against itself with ten, each in its own process."""
    sizes = []
    for routes in (10, count):
        with Fleet() as fleet:
            running, _ = start(fleet, name, routes)
            sizes.append(settled_rss(running))
    return {"peer": name, "what": "routes", "count": count, "before_kib": sizes[0], "after_kib": sizes[1]}


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.load.memory", description="Resident memory of the peers.")
    parser.add_argument("--peers", default="gorouter-py,haproxy,nginx,plain-python", help="default: %(default)s")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--routes", type=int, default=100_000)
    parser.add_argument("--other-routes", type=int, default=20_000, help="routes of the peers (default: %(default)s)")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args(argv)
    if unknown := set(options.peers.split(",")) - PEERS.keys():
        parser.error(f"unknown peers {', '.join(sorted(unknown))}; there are: {', '.join(PEERS)}")
    limit = raise_file_limit()
    if limit < options.connections + 200:
        parser.error(f"only {limit} descriptors are allowed here: lower --connections or raise ulimit -n")
    now = datetime.now().astimezone()
    results = []
    try:
        versions = {name: PEERS[name].version() for name in options.peers.split(",")}
        for name in versions:
            results.append(idle_connections(name, options.connections))
            print(json.dumps(results[-1]), flush=True)
        for name in versions:
            ours = name == "gorouter-py"
            results.append(routes_router(options.routes) if ours else routes_other(name, options.other_routes))
            print(json.dumps(results[-1]), flush=True)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    rows = [
        [
            r["peer"],
            r["what"],
            f"{r['count']:,}",
            report.number(r["before_kib"] / 1024, 1),
            report.number(r["after_kib"] / 1024, 1),
            report.number((r["after_kib"] - r["before_kib"]) * 1024 / r["count"], 0),
        ]
        for r in results
    ]
    print("\n" + report.text_table(HEADINGS, rows))
    if not options.no_save:
        listed = report.facts_list({**host.facts(), **versions})
        title = f"# Resident memory, {now.isoformat(timespec='seconds')}"
        text = f"{title}\n\n{listed}\n\n{report.markdown_table(HEADINGS, rows)}\n"
        data = json.dumps(
            {"date": now.isoformat(), "host": host.facts(), "peers": versions, "results": results}, indent=1
        )
        print(f"written to {report.save('memory', text, data, now)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Runs the steady, strict client (native/steady.c) and reads what it saw."""

import json
from dataclasses import dataclass
from typing import Any

from bench.load.procs import BenchError, Fleet, Process, compile_native


@dataclass(frozen=True)
class Seen:
    """Result of one run: latencies from the scheduled time in microseconds, failures by kind, answers by status."""

    scheduled: int
    good: int
    failed: int
    failures: dict[str, int]
    statuses: dict[str, int]
    p50_us: int
    p90_us: int
    p99_us: int
    p999_us: int
    max_us: int


def start(fleet: Fleet, port: int, cpu: int, rate: float, seconds: float, **options: Any) -> Process:
    """Starts it; options: host, path, body (expected start of the answer), connections, timeout_ms."""
    argv = [str(compile_native("steady")), "-p", str(port), "-r", str(rate), "-t", str(seconds)]
    flags = {"host": "-H", "path": "-u", "body": "-b", "connections": "-c", "timeout_ms": "-T"}
    for name, value in options.items():
        argv += [flags[name], str(value)]
    return fleet.start("steady", argv, cpu)


def finish(fleet: Fleet, process: Process, timeout_s: float) -> Seen:
    """Waits for its end and reads its line."""
    try:
        code = process.popen.wait(timeout_s)
    except Exception as error:
        raise BenchError(f"the steady client did not end in {timeout_s:.0f} s") from error
    fleet.stop(process)
    if code:
        raise BenchError(f"the steady client ended with {code}:\n{process.last_words()}")
    return Seen(**json.loads(process.last_words(4000)))

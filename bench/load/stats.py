"""Arithmetic of the harness: CPU time of threads, medians, percentiles, ratios. No process is started here."""

import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICK_HZ = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cpu:
    """CPU time that the threads of some processes have used so far, in ns, by thread id and name."""

    threads: Mapping[tuple[int, str], int]
    user_ticks: int
    system_ticks: int


def parse_schedstat(text: str) -> int:
    """Time on a CPU in ns, the first number of /proc/PID/task/TID/schedstat. ValueError if it is none."""
    fields = text.split()
    if len(fields) != 3:
        raise ValueError(f"not a schedstat line: {text!r}")
    return int(fields[0])


def parse_stat_ticks(text: str) -> tuple[int, int]:
    """(utime, stime) of a /proc/PID/stat line, in clock ticks; the name in it may hold blanks and brackets."""
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[11]), int(fields[12])


def read_cpu(pids: Iterable[int], proc: Path = Path("/proc")) -> Cpu:
    """Reads all threads of the processes. A thread that ends meanwhile is left out; a dead process is an error."""
    threads: dict[tuple[int, str], int] = {}
    user = system = 0
    for pid in pids:
        ticks = parse_stat_ticks((proc / str(pid) / "stat").read_text())
        user, system = user + ticks[0], system + ticks[1]
        for task in (proc / str(pid) / "task").iterdir():
            try:
                spent = parse_schedstat((task / "schedstat").read_text())
                threads[int(task.name), (task / "comm").read_text().strip()] = spent
            except (FileNotFoundError, ProcessLookupError):
                continue
    return Cpu(threads, user, system)


def cpu_between(before: Cpu, after: Cpu) -> dict[str, int]:
    """ns used between two readings, summed by thread name. A thread that is new counts from zero."""
    spent: dict[str, int] = {}
    for key, now in after.threads.items():
        spent[key[1]] = spent.get(key[1], 0) + now - before.threads.get(key, 0)
    return spent


def user_share(before: Cpu, after: Cpu) -> float:
    """Part of the time between two readings that was spent outside the kernel, 0 to 1; nan if no tick fell in it.

    The kernel samples this at its tick, so it is a statistic: good for seconds of a busy process, not for less.
    """
    user, system = after.user_ticks - before.user_ticks, after.system_ticks - before.system_ticks
    return user / (user + system) if user + system else math.nan


def parse_busy_ticks(text: str, cpu: int) -> int:
    """Ticks that a CPU was not idle so far, the host's theft (steal) included, of the text of /proc/stat."""
    for line in text.splitlines():
        name, *fields = line.split()
        if name == f"cpu{cpu}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            return user + nice + system + irq + softirq + steal
    raise ValueError(f"no CPU {cpu} in /proc/stat")


def others_share(busy_ticks: int, own_ns: int, elapsed_s: float) -> float:
    """Part of the time, 0 to 1, that a CPU worked for somebody else than the processes that used own_ns of it."""
    return max(0.0, busy_ticks / TICK_HZ - own_ns / 1e9) / elapsed_s if elapsed_s > 0 else math.nan


def median(values: Iterable[float]) -> float:
    """Median; nan for no values."""
    found = [value for value in values if not math.isnan(value)]
    return statistics.median(found) if found else math.nan


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed (nearest rank); nan for none."""
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie between 0 and 1, not {share}")
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Sequence[float]) -> float:
    """(largest - smallest) / median: how far the rounds of one figure lie apart; nan for fewer than two values."""
    found = [value for value in values if not math.isnan(value)]
    middle = median(found)
    return (max(found) - min(found)) / middle if len(found) > 1 and middle else math.nan


def ratio(value: float, base: float) -> float:
    """value / base; nan if the base is zero or unknown."""
    return value / base if base and not math.isnan(base) else math.nan


def rss_kib(pids: Iterable[int], proc: Path = Path("/proc")) -> int:
    """Resident memory of the processes in KiB (VmRSS; pages they share are counted in each)."""
    total = 0
    for pid in pids:
        for line in (proc / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1])
    return total

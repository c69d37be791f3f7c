"""Facts about the machine that belong beside every figure."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from bench.load.procs import REPO


def facts() -> dict[str, Any]:
    """CPU, kernel, memory, load by others at this moment, and the commit that was measured."""
    return {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "distribution": _os_name(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average": round(os.getloadavg()[0], 2),
        "commit": commit(),
    }


def commit() -> str:
    """Short id of the commit in the work tree, with + if the package's files differ from it; "" outside a clone."""
    try:
        done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPO, capture_output=True, text=True)
        changed = subprocess.run(["git", "status", "--porcelain", "-uno", "gorouter_py"], cwd=REPO, capture_output=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _os_name() -> str:
    path = Path("/etc/os-release")
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return ""

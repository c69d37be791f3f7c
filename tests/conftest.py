"""What holds for every test: which build runs, nothing is left behind, and no skip goes unnoticed.

- GOROUTER_LIB=build/MODE/lib (see bin/_site) selects a build mode; a unit of another mode stops the run.
- In builds with assertions the live-object counters are zero after a test that uses a DataPlane in this process.
- At the end no child process of the test process is alive.
- With CI=true a skip fails the run unless tests/support/skips.py accepts its reason.
- Where pytest-xdist spreads the run over processes, each checks itself and the first one hears of it.
"""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support import ports, skips

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile(
    "sanitizer", deadline=None, print_blob=True, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)


def wanted_mode() -> str:
    """The build mode this run asks for: release, or the one GOROUTER_LIB names."""
    lib = os.environ.get("GOROUTER_LIB", "")
    return Path(lib).parent.name if lib else "release"


def pytest_configure(config: pytest.Config) -> None:
    mode = wanted_mode()
    settings.load_profile("default" if mode == "release" else "sanitizer")
    if examples := os.environ.get("GOROUTER_FUZZ"):
        settings.register_profile("fuzz", settings.get_profile("sanitizer"), max_examples=int(examples))
        settings.load_profile("fuzz")
    try:
        from gorouter_py import _fastpath
    except ImportError as error:
        # Not built: the tests that need it say so one by one, the others run.
        print(f"no compiled unit: {error}", file=sys.stderr)
        return
    if mode != _fastpath.BUILD:
        raise pytest.UsageError(f"this run wants the {mode} build, but {_fastpath.__file__} is {_fastpath.BUILD}")


def pytest_report_header() -> str:
    return f"build mode: {wanted_mode()}"


# -- nothing is left behind -----------------------------------------------------------------------------------


def alive_objects() -> dict[str, int]:
    """Types of which objects are alive, with their numbers; empty in release builds and while nothing is loaded."""
    unit = sys.modules.get("gorouter_py._fastpath")
    if unit is None:
        return {}
    return {kind: count for kind, count in unit.live_objects().items() if count}


@pytest.fixture(autouse=True)
def no_object_left() -> Iterator[None]:
    before = alive_objects()
    yield
    if before or not alive_objects():
        return  # a module's shared DataPlane holds objects: the end of the session checks those
    gc.collect()
    left = alive_objects()
    assert not left, f"objects of the data plane alive after the test: {left}"


def children_alive() -> list[str]:
    """Command lines of this process's children that are not zombies."""
    found = []
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # ended while we looked
            if state != "Z":
                found.append(f"{pid}: {command[:200]}")
    return found


# -- skips ----------------------------------------------------------------------------------------------------

_unaccepted: list[str] = []


def note_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not skips.accepted(reason, root=os.geteuid() == 0):
        _unaccepted.append(f"{report.nodeid}: {reason}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    note_skip(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    note_skip(report)


_complaints: list[str] = []


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    left = alive_objects()
    if left:
        _complaints.append(f"objects of the data plane alive at the end: {left}")
    _complaints.extend(f"a child process is still alive: {child}" for child in children_alive())
    output = getattr(session.config, "workeroutput", None)
    if output is not None:  # one of several processes: the first one reports
        output["complaints"] = list(_complaints)
        return
    if os.environ.get("CI") == "true":
        _complaints.extend(f"skipped without an accepted reason: {skip}" for skip in _unaccepted)
    if _complaints and exitstatus == 0:
        session.exitstatus = 1


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """One of the run's processes has ended."""
    _complaints.extend(getattr(node, "workeroutput", {}).get("complaints", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _complaints:
        terminalreporter.section("the run as a whole failed", red=True)
        for complaint in _complaints:
            terminalreporter.line(complaint)


# -- shared fixtures ------------------------------------------------------------------------------------------


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Call it for a TCP port nobody listens on; no two calls in one run give the same. Prefer port 0 where possible."""
    return ports.take

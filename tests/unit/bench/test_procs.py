"""Processes of a measurement end with it, whatever happens."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.load.procs import BenchError, Fleet, cpus, wait_for_port

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_gone(pid: int) -> bool:
    """Waits for an end that somebody else reaps."""
    deadline = time.monotonic() + 20
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def wait_up(words: "object", timeout_s: float = 20) -> None:
    """Waits until the child has printed that it is up."""
    deadline = time.monotonic() + timeout_s
    while "up" not in words.last_words() and time.monotonic() < deadline:  # type: ignore[attr-defined]
        time.sleep(0.02)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_everything_ends_with_the_fleet(error: type[BaseException]) -> None:
    with pytest.raises(error), Fleet() as fleet:
        pids = [fleet.start("sleeper", SLEEP, cpus()[1]).pid for _ in range(2)]
        directory = fleet.directory
        raise error
    assert not any(alive(pid) for pid in pids)
    assert not directory.exists()


def test_what_ignores_term_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    with Fleet() as fleet:
        process = fleet.start("stubborn", STUBBORN, cpus()[1])
        wait_up(process)
        fleet.stop(process, grace_s=0.2)
        assert not alive(process.pid)
    assert "did not stop" in capsys.readouterr().err


def test_children_die_with_a_killed_harness() -> None:
    program = (
        "from bench.load.procs import Fleet\nimport sys, time\n"
        f"fleet = Fleet(); fleet.__enter__(); print(fleet.start('s', {SLEEP!r}, 0).pid, fleet.directory, flush=True)\n"
        "time.sleep(600)\n"
    )
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen([sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout is not None
        child, directory = harness.stdout.readline().split()
        os.kill(harness.pid, signal.SIGKILL)
    assert wait_gone(int(child))
    for file in Path(directory).iterdir():
        file.unlink()
    Path(directory).rmdir()


def test_the_last_words_of_a_failed_start_are_shown() -> None:
    with Fleet() as fleet:
        process = fleet.start(
            "broken", [sys.executable, "-c", "print('no such table'); raise SystemExit(3)"], cpus()[1]
        )
        with pytest.raises(BenchError, match=r"broken ended with 3:\nno such table"):
            wait_for_port(fleet.ports(1)[0], process)
        with pytest.raises(BenchError, match="is not installed"):
            fleet.start("nothing", ["/nonexistent/program"], cpus()[1])


def test_processes_are_pinned_and_ports_are_given_out_once() -> None:
    with Fleet() as fleet:
        process = fleet.start("sleeper", SLEEP, cpus()[0])
        wait_up(process)
        assert os.sched_getaffinity(process.pid) == {cpus()[0]}
        assert len(set(fleet.ports(3) + fleet.ports(3))) == 6

"""No skip goes unnoticed: which reasons the run as a whole accepts, and that a missing program is none of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import containers, netns, skips
from tests.system.harness import ROOT

# A file of tests that one of ours stands for: the same conftest judges it.
FILE = """import pytest

def test_skipped():
    pytest.skip({reason!r})
"""


@pytest.mark.parametrize(
    ("reason", "as_user", "as_root"),
    [
        ("needs root", True, False),
        ("needs root and runc", False, False),
        ("needs runc", False, False),
        ("needs a kernel with overlay", True, True),
        ("needs a kernel with ", False, False),
        ("needs IPv6", True, True),
        ("needs IPv6 and wrk", False, False),
        ("", False, False),
        ("flaky", False, False),
    ],
)
def test_reasons(reason: str, as_user: bool, as_root: bool) -> None:
    assert (skips.accepted(reason, root=False), skips.accepted(reason, root=True)) == (as_user, as_root)


@pytest.mark.parametrize(("reason", "status"), [("needs IPv6", 0), ("needs root and runc", 1)])
def test_a_run_with_a_skip(tmp_path: Path, reason: str, status: int) -> None:
    (tmp_path / "test_it.py").write_text(FILE.format(reason=reason))
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "CI": "true", "PYTEST_ADDOPTS": ""}
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert (f"::test_skipped: {reason}" in done.stdout.partition("skipped without an accepted reason: ")[2]) == bool(
        status
    )


def test_a_missing_program_is_no_skip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As root on a kernel that has all, whatever is not installed."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    if "overlay" in Path("/proc/filesystems").read_text().split():
        containers.need_root()
    with pytest.raises(FileNotFoundError):
        netns.missing()

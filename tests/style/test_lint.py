"""ruff and mypy, as `make check` calls them."""

import subprocess
import sys

from tests.style.sources import ROOT


def run(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff() -> None:
    run("ruff", "check", "--quiet", ".")


def test_mypy() -> None:
    run("mypy")

"""One writer against several readers of the route table, under the thread sanitizer.

The routing layer is compiled alone (tests/stress/_unit.pyx), so that an uninstrumented Python can load it with the
sanitizer's run-time preloaded. Two builds have a mistake planted in the readers: the sanitizer must report them, else a
clean run would mean nothing.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import _probe as probe

BUILD = Path(__file__).with_name("build_unit.py")
STRESS = """
import sys
sys.path.insert(0, sys.argv[1])
import _unit
got = _unit.route_stress(readers=3, rounds=20000, seed=int(sys.argv[2]), lookups=50000)
live = _unit.route_live()
print(got, live)
sys.exit(0 if got["wrong"] == 0 and got["waiting"] == 0 and live == (0, 0, 0, 0) else 3)
"""


def thread_sanitizer() -> str:
    """The run-time library that must be loaded before everything else."""
    answer = subprocess.run(["gcc", "-print-file-name=libtsan.so"], capture_output=True, text=True, check=True)
    return str(Path(answer.stdout.strip()).resolve())


def run(out: Path, *defines: str, seed: int = 1) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key not in ("LD_PRELOAD", "PYTHONPATH")}
    built = subprocess.run(
        [sys.executable, str(BUILD), str(out), "tsan", *defines], env=clean, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    # The sanitizer maps fixed regions: without a fixed layout it may find them taken.
    return subprocess.run(
        ["setarch", "-R", sys.executable, "-c", STRESS, str(out), str(seed)],
        env={**clean, "LD_PRELOAD": thread_sanitizer(), "TSAN_OPTIONS": "exitcode=66 halt_on_error=1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("seed", range(1, 4))
def test_readers_never_see_a_wrong_or_missing_route(seed: int) -> None:
    before = probe.route_live()
    got = probe.route_stress(readers=3, rounds=20000, seed=seed, lookups=50000)
    assert got["wrong"] == 0 and got["waiting"] == 0
    assert got["served"] > 1000 and got["changes"] >= 20000 and got["draws"] > 100
    assert probe.route_live() == before


@pytest.mark.race
@pytest.mark.release_only
@pytest.mark.parametrize("defines", [(), ("DP_POISON",)], ids=["cells", "malloc"])
def test_no_race(tmp_path: Path, defines: tuple[str, ...]) -> None:
    done = run(tmp_path, *defines)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert "ThreadSanitizer" not in done.stderr


@pytest.mark.race
@pytest.mark.release_only
@pytest.mark.parametrize("mistake", ["ROUTE_PLANT_SILENT", "ROUTE_PLANT_KEPT"])
def test_a_planted_race_is_found(tmp_path: Path, mistake: str) -> None:
    done = run(tmp_path, "DP_POISON", mistake)
    assert done.returncode == 66, (done.returncode, done.stdout, done.stderr[-4000:])
    # The mistake is a use of what was freed: the sanitizer reports it, or falls over it itself.
    assert "ThreadSanitizer:DEADLYSIGNAL" in done.stderr or (
        "WARNING: ThreadSanitizer" in done.stderr and "route" in done.stderr
    )

"""The arithmetic of the load harness."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.load import stats


def test_schedstat_first_number_is_the_time_on_a_cpu() -> None:
    assert stats.parse_schedstat("1234567890 98765 42\n") == 1234567890


@pytest.mark.parametrize("text", ["", "12\n", "12 13\n", "12 13 14 15\n"])
def test_schedstat_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a schedstat line"):
        stats.parse_schedstat(text)


def test_stat_ticks_survive_a_name_with_blanks_and_brackets() -> None:
    line = "77 (my (odd) name) S 1 77 77 0 -1 4194560 5 6 7 8 1500 2500 0 0 20 0 3 0 100 0 0"
    assert stats.parse_stat_ticks(line) == (1500, 2500)


def test_busy_ticks_leave_idle_out_and_take_steal_in() -> None:
    text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 10 200 5000 300 20 30 40 0 0\ncpu1 1 1 1 1 1 1 1 1 0 0\n"
    assert stats.parse_busy_ticks(text, 0) == 100 + 10 + 200 + 20 + 30 + 40
    with pytest.raises(ValueError, match="no CPU 2"):
        stats.parse_busy_ticks(text, 2)


def test_others_share() -> None:
    second = stats.TICK_HZ
    assert stats.others_share(4 * second, 3_000_000_000, 4.0) == pytest.approx(0.25)
    assert stats.others_share(3 * second, 3_100_000_000, 4.0) == 0.0  # ticks are coarser than schedstat
    assert math.isnan(stats.others_share(1, 1, 0))


def fake_proc(root: Path, pid: int, ticks: tuple[int, int], threads: dict[int, tuple[str, int]]) -> None:
    (root / str(pid)).mkdir(exist_ok=True)
    fields = " ".join(["0"] * 10)
    (root / str(pid) / "stat").write_text(f"{pid} (x) S {fields} {ticks[0]} {ticks[1]} 0 0")
    for tid, (name, spent) in threads.items():
        task = root / str(pid) / "task" / str(tid)
        task.mkdir(parents=True, exist_ok=True)
        (task / "schedstat").write_text(f"{spent} 5 6\n")
        (task / "comm").write_text(name + "\n")


def test_cpu_between_sums_by_name_and_counts_new_threads_from_zero(tmp_path: Path) -> None:
    fake_proc(tmp_path, 7, (100, 300), {7: ("main", 1000), 8: ("worker", 5000), 9: ("worker", 0)})
    before = stats.read_cpu([7], tmp_path)
    fake_proc(tmp_path, 7, (130, 370), {7: ("main", 1500), 8: ("worker", 9000), 9: ("worker", 2000), 10: ("late", 70)})
    after = stats.read_cpu([7], tmp_path)
    assert stats.cpu_between(before, after) == {"main": 500, "worker": 6000, "late": 70}
    assert stats.user_share(before, after) == pytest.approx(0.3)
    assert math.isnan(stats.user_share(after, after))


def test_read_cpu_sums_several_processes_and_refuses_a_dead_one(tmp_path: Path) -> None:
    fake_proc(tmp_path, 7, (1, 2), {7: ("a", 10)})
    fake_proc(tmp_path, 17, (3, 4), {17: ("a", 32)})
    both = stats.read_cpu([7, 17], tmp_path)
    assert sum(both.threads.values()) == 42
    assert (both.user_ticks, both.system_ticks) == (4, 6)
    with pytest.raises(FileNotFoundError):
        stats.read_cpu([99], tmp_path)


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel has no schedstat")
def test_read_cpu_sees_work_of_a_real_process() -> None:
    before = stats.read_cpu([os.getpid()])
    sum(i * i for i in range(2_000_000))
    spent = stats.cpu_between(before, stats.read_cpu([os.getpid()]))
    assert sum(spent.values()) > 1_000_000  # two million turns of Python cannot be had for a millisecond


def test_rss_of_a_real_process_grows_with_what_it_holds() -> None:
    program = "import sys; held = b'x' * int(sys.argv[1]); print('ready', flush=True); sys.stdin.read()"
    sizes = []
    for held in (0, 64 << 20):
        argv = [sys.executable, "-c", program, str(held)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None and child.stdin is not None
            child.stdout.readline()
            sizes.append(stats.rss_kib([child.pid]))
            child.stdin.close()
    assert sizes[1] - sizes[0] > 60 << 10


@pytest.mark.parametrize(("share", "wanted"), [(0, 1), (0.1, 1), (0.11, 2), (0.5, 5), (0.9, 9), (0.99, 10), (1, 10)])
def test_percentile_is_the_nearest_rank(share: float, wanted: float) -> None:
    assert stats.percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], share) == wanted


def test_percentile_of_nothing_and_beyond_one() -> None:
    assert math.isnan(stats.percentile([], 0.5))
    with pytest.raises(ValueError, match="between 0 and 1"):
        stats.percentile([1], 99)


def test_median_spread_and_ratio_pass_over_missing_values() -> None:
    assert stats.median([3, math.nan, 1, 2]) == 2
    assert math.isnan(stats.median([]))
    assert stats.spread([9, 10, 12]) == pytest.approx(0.3)
    assert math.isnan(stats.spread([5]))
    assert stats.ratio(3, 4) == 0.75
    assert math.isnan(stats.ratio(3, 0))
    assert math.isnan(stats.ratio(3, math.nan))

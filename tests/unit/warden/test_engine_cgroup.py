"""Cgroups: which layout a machine has, and v2 against a tree of plain files (the kernel here may have v1 only)."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from warden.engine import cgroup, kernel
from warden.engine.api import CpuStat


def mount(target: Path, kind: str, *options: str) -> kernel.Mount:
    return kernel.Mount(target, kind, "cgroup", options)


@pytest.fixture
def v2(tmp_path: Path) -> cgroup.V2:
    """A container "one" with some processes' worth of numbers."""
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    folder = tmp_path / "parent" / "one"
    folder.mkdir(parents=True)
    for name, text in {
        "cgroup.procs": "",
        "memory.max": "max\n",
        "memory.swap.max": "max\n",
        "memory.swap.current": "4096\n",
        "memory.events": "low 0\nhigh 0\nmax 12\noom 0\noom_kill 0\n",
        "memory.stat": "anon 100\nfile 200\nfile_mapped 50\npgfault 7\nkernel 3\nunevictable 0\nactive_file 120\n",
        "cpu.weight": "100\n",
        "cpu.stat": "usage_usec 2500000\nuser_usec 1500000\nsystem_usec 990000\nnr_periods 0\n",
    }.items():
        (folder / name).write_text(text)
    return cgroup.V2("parent", tmp_path)


def test_layouts(tmp_path: Path) -> None:
    v1 = [mount(tmp_path / name, "cgroup", "rw", name) for name in ("cpu", "cpuacct", "memory", "pids")]
    assert isinstance(cgroup.find("p", v1), cgroup.V1)
    (tmp_path / "cgroup.controllers").write_text("\n")
    beside = mount(tmp_path, "cgroup2", "rw")
    found = cgroup.find("p", [*v1, beside])
    assert isinstance(found, cgroup.V1), "where v1 has the controllers it is the one that limits"
    assert found.controllers() == {"cpu", "cpuacct", "memory", "pids"}
    with pytest.raises(OSError, match="no cgroup hierarchy with a memory controller"):
        cgroup.find("p", [beside])
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    assert isinstance(cgroup.find("p", [beside]), cgroup.V2)
    assert cgroup.find("p", [beside]).controllers() == {"cpu", "memory", "pids"}
    with pytest.raises(OSError, match="no cgroup hierarchy"):
        cgroup.find("p", [])


def test_v1_in_one_mount_and_beside_v2(tmp_path: Path) -> None:
    both, memory, unified = tmp_path / "cpu,cpuacct", tmp_path / "memory", tmp_path / "unified"
    (unified / "p" / "only-there").mkdir(parents=True)
    (unified / "cgroup.controllers").write_text("\n")
    (both / "p" / "one").mkdir(parents=True)
    (memory / "p" / "one" / "inner").mkdir(parents=True)
    mounts = [
        mount(both, "cgroup", "rw", "cpu", "cpuacct"),
        mount(memory, "cgroup", "rw", "memory"),
        mount(unified, "cgroup2", "rw"),
    ]
    groups = cgroup.find("p", mounts)
    assert groups.ids() == {"one", "only-there"}
    groups.remove("only-there")
    groups.remove_parent()
    assert groups.ids() == {"one"}
    groups.remove("one")
    groups.remove("one")
    groups.remove_parent()
    assert not [path for path in tmp_path.glob("*/p")]
    for _ in range(2):
        groups.make_parent()
    assert sorted(path.parent for path in tmp_path.glob("*/p")) == sorted([both, memory, unified])


def test_v2_parent(tmp_path: Path) -> None:
    groups = cgroup.V2("parent", tmp_path)
    for _ in range(2):
        groups.make_parent()
    assert groups.ids() == set()
    (tmp_path / "parent" / "one").mkdir()
    groups.remove_parent()
    assert groups.ids() == {"one"}, "it stays while a container is there"
    groups.remove("one")
    groups.remove_parent()
    assert not (tmp_path / "parent").exists()


def test_v2_memory(v2: cgroup.V2, tmp_path: Path) -> None:
    assert v2.memory_limit("one") is None
    v2.limit_memory("one", 64 << 20)
    folder = tmp_path / "parent" / "one"
    assert (folder / "memory.max").read_text() == str(64 << 20)
    assert (folder / "memory.swap.max").read_text() == "0", "the limit is of memory and swap together"
    assert v2.memory_limit("one") == 64 << 20
    assert v2.memory_stat("one") == {
        "rss": 100, "cache": 200, "mapped_file": 50, "pgfault": 7, "unevictable": 0, "active_file": 120, "swap": 4096,
        "hierarchical_memory_limit": 64 << 20,
    }  # fmt: skip


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1, 1), (1024, 39), (262144, 10000), (1 << 40, 10000)])
def test_v2_shares_are_weights(v2: cgroup.V2, tmp_path: Path, shares: int, weight: int) -> None:
    v2.limit_cpu("one", shares)
    assert (tmp_path / "parent" / "one" / "cpu.weight").read_text() == str(weight)
    back = v2.cpu_shares("one")
    assert back is not None
    v2.limit_cpu("one", back)
    assert v2.cpu_shares("one") == back, "what is read can be set again"
    assert (tmp_path / "parent" / "one" / "cpu.weight").read_text() == str(weight)


def test_v2_cpu_statistics(v2: cgroup.V2) -> None:
    assert v2.cpu_stat("one") == CpuStat(usage=2_500_000_000, user=150, system=99)


def test_v2_out_of_memory(v2: cgroup.V2, tmp_path: Path) -> None:
    """A watcher wakes when the kernel writes the events, and tells a kill from other events."""
    events = tmp_path / "parent" / "one" / "memory.events"

    async def play() -> list[bool]:
        descriptor, look = v2.watch_memory("one")
        loop, seen = asyncio.get_running_loop(), asyncio.Queue[bool]()
        loop.add_reader(descriptor, lambda: seen.put_nowait(look()))
        found = []
        for kills in (0, 1):
            with events.open("r+") as stream:  # of the same length, so that at no moment a part is missing
                stream.write(f"low 0\nhigh 0\nmax 13\noom 1\noom_kill {kills}\n")
            found.append(await asyncio.wait_for(seen.get(), 10))
            while not seen.empty():
                seen.get_nowait()
        loop.remove_reader(descriptor)
        os.close(descriptor)
        return found

    assert asyncio.run(play()) == [False, True]


def test_v2_kill(v2: cgroup.V2, tmp_path: Path) -> None:
    folder = tmp_path / "parent" / "one"
    sleepers = [subprocess.Popen(["sleep", "100"]) for _ in range(2)]
    (folder / "cgroup.procs").write_text("".join(f"{one.pid}\n" for one in sleepers))
    assert v2.pids("one") == [one.pid for one in sleepers]
    v2.kill("one", spared=sleepers[0].pid)
    assert sleepers[1].wait() == -9
    assert sleepers[0].poll() is None
    (folder / "cgroup.kill").write_text("")
    v2.kill("one")
    assert (folder / "cgroup.kill").read_text() == "1", "the kernel ends all at once"
    sleepers[0].kill()
    sleepers[0].wait()


def test_a_group_that_is_gone_is_empty(v2: cgroup.V2) -> None:
    assert v2.pids("two") == []
    assert v2.ids() == {"one"}
    assert cgroup.empty(v2, "two")
    v2.remove("two")


def test_processes_that_do_not_end_are_said_so(v2: cgroup.V2, tmp_path: Path) -> None:
    (tmp_path / "parent" / "one" / "cgroup.procs").write_text(f"{2**22 + 1}\n")  # above every pid
    assert not cgroup.empty(v2, "one", timeout_s=0.05)

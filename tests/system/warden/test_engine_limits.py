"""Every limit of a container, as the kernel enforces it. No time is asserted: rates are compared with each other."""

import os
import socket
import time
from pathlib import Path

import pytest

from tests.support.containers import Box, Host, eventually, need_root, running
from warden.engine import disk
from warden.engine.api import BindMount, EngineError

MIB = 1 << 20


# -- memory -------------------------------------------------------------------------------------------------------

EAT = "perl -e '$x = \"x\" x ({} << 20); print length($x) >> 20'"  # MiB


def test_memory(host: Host, box: Box) -> None:
    told: list[str] = []
    host.do(_watch(host, box, told))
    box.do("limit_memory", 64 * MIB)
    assert box.do("read_limits").memory == 64 * MIB
    assert box.says(EAT.format(10)) == "10"
    assert not told
    assert box.run(EAT.format(200))[0] == 137
    host.until(lambda: told, "nobody was told that memory is out")
    assert told == ["out of memory"], "once"


async def _watch(host: Host, box: Box, told: list[str]) -> None:
    host.engine.on_out_of_memory(box.spec, lambda: told.append("out of memory"))


def test_a_shell_that_runs_out_of_memory_itself_is_killed(box: Box) -> None:
    box.do("limit_memory", 32 * MIB)
    assert box.run("exec " + EAT.format(200))[0] == 255


def test_memory_limit_up_and_down(box: Box) -> None:
    for limit in (64, 300, 32, 128):
        box.do("limit_memory", limit * MIB)
        assert box.do("read_limits").memory == limit * MIB
        stat = box.do("info").memory_stat
        assert stat["hierarchical_memory_limit"] == limit * MIB
        assert stat.get("hierarchical_memsw_limit", limit * MIB) == limit * MIB
    box.do("limit_memory", 64 * MIB)
    assert box.run(EAT.format(100))[0] == 137
    box.do("limit_memory", 300 * MIB)
    assert box.says(EAT.format(100)) == "100"


def test_a_destroyed_container_is_not_out_of_memory(host: Host) -> None:
    """The removal of its cgroup wakes the watcher too."""
    told: list[str] = []
    with host.box() as box:
        host.do(_watch(host, box, told))
        box.do("limit_memory", 64 * MIB)
    with host.box() as box:
        host.do(host.engine.info(box.spec))
    assert not told


def test_a_limit_below_what_is_used_is_refused_or_reached(box: Box) -> None:
    job = box.start('perl -e \'$x = "x" x (50 << 20); print "ready\\n"; close STDOUT; sleep 100\'')
    assert job.stdout is not None
    job.stdout.readline()
    with pytest.raises(EngineError, match="EBUSY"):
        box.do("limit_memory", 4 * MIB)
    box.do("stop", True)
    job.communicate()


# -- CPU ----------------------------------------------------------------------------------------------------------

BURN = "taskset -c {} perl -e '1 while 1'"
CPU = min(os.sched_getaffinity(0))


def burnt_ns(box: Box) -> int:
    return int(box.do("info").cpu_stat.usage)


def test_cpu_shares(host: Host, box: Box) -> None:
    """Of two that want the same processor, the one with eight times the shares gets more; and the other way round."""
    with host.box() as other:
        jobs = [one.start(BURN.format(CPU)) for one in (box, other)]
        for few, many in ((box, other), (other, box)):
            few.do("limit_cpu", 128)
            many.do("limit_cpu", 1024)
            assert few.do("read_limits").cpu_shares == 128
            before = burnt_ns(few), burnt_ns(many)
            eventually(lambda many=many, before=before: burnt_ns(many) - before[1] > 400_000_000)
            assert (burnt_ns(many) - before[1]) > 2 * (burnt_ns(few) - before[0])
        for one, job in zip((box, other), jobs, strict=True):
            one.do("stop", True)
            job.communicate()


def test_cpu_quota(tmp_path: Path) -> None:
    """A tenth of a core is what it gets, however long it wants more."""
    with running(tmp_path / "quota", cpu_quota_percent=10) as host, host.box() as box:
        job = box.start(BURN.format(CPU))
        eventually(lambda: burnt_ns(box) > 150_000_000)
        began, before = time.monotonic_ns(), burnt_ns(box)
        eventually(lambda: burnt_ns(box) - before > 200_000_000)
        share = (burnt_ns(box) - before) / (time.monotonic_ns() - began)
        assert share < 0.2
        box.do("stop", True)
        job.communicate()


def test_cpu_statistics_grow(box: Box) -> None:
    before = box.do("info").cpu_stat
    box.says("perl -e '$i++ while $i < 3e6'")
    after = box.do("info").cpu_stat
    assert after.usage > before.usage
    assert after.user >= before.user


# -- processes, devices -------------------------------------------------------------------------------------------


def test_process_count(tmp_path: Path) -> None:
    """Of the container as a whole; a container that is full of processes still goes."""
    with running(tmp_path / "pids", pids_limit=20) as host, host.box() as box:
        child = "close STDOUT; close STDERR; sleep 100; exit"
        script = f"perl -e 'for (1 .. 40) {{ my $pid = fork; defined $pid or die $!; if (!$pid) {{ {child} }} }}'"
        assert "Resource temporarily unavailable" in box.run(script)[1]
        assert len(host.engine._cgroups.pids(box.id)) <= 20
        assert host.do(host.engine.stop(box.spec, True)) is None


def test_a_fork_bomb_is_put_down(box: Box) -> None:
    job = box.start("bomb() { bomb | bomb & }; bomb; echo lit; sleep 100 2>&1")
    eventually(lambda: len(box.host.engine._cgroups.pids(box.id)) > 100)
    box.do("stop", True)
    assert len(box.host.engine._cgroups.pids(box.id)) == 1
    job.communicate()


def test_devices(host: Host, tmp_path: Path) -> None:
    """Only those of the list; not even root opens another one that lies in the container."""
    node = tmp_path / "nodes"
    node.mkdir()
    os.mknod(node / "kmsg", 0o20666, os.makedev(1, 11))
    os.mknod(node / "zero", 0o20666, os.makedev(1, 5))
    os.mknod(node / "full", 0o20666, os.makedev(1, 7))
    with host.box() as box:
        out = box.says("for d in null zero random urandom; do head -c 0 /dev/$d && echo x >/dev/$d; done; echo done")
        assert out == "done"
        assert "Operation not permitted" in box.run("head -c 1 /dev/full", "root")[1]
    groups = host.engine._cgroups
    with host.box(BindMount(str(node), "/mnt/nodes", False)) as box:
        # Bound without nodev they would be devices; the cgroup's list still forbids them.
        allowed = Path("/sys/fs/cgroup/devices") / groups.parent / box.id / "devices.list"
        assert sorted(allowed.read_text().split("\n")) == sorted(
            ["", "c 1:3 rw", "c 1:5 rw", "c 1:8 rw", "c 1:9 rw", "c 5:0 rw", "c 5:2 rw", "c 136:* rw", "c 10:229 rw"]
        )
        for name in ("kmsg", "zero"):
            assert box.run(f"head -c 1 /mnt/nodes/{name}", "root")[0] != 0


# -- disk ---------------------------------------------------------------------------------------------------------

FILL = "head -c {} /dev/zero >{}"


@pytest.fixture
def btrfs() -> None:
    need_root()
    if lacks := [one for one in disk.lacking() if "(package " not in one]:  # a program is no reason to skip
        pytest.skip(f"needs a kernel with btrfs and loop devices: {lacks}")


def test_disk(btrfs: None, box: Box) -> None:
    """In force at once, for root as for vcap, up and down; usage is exact."""
    for user in ("vcap", "root"):
        box.do("limit_disk", 8 * MIB, None)
        assert box.do("read_limits").disk_bytes == 8 * MIB
        box.says(FILL.format(4 * MIB, "/tmp/a"), user)
        status, out = box.run(FILL.format(6 * MIB, "/tmp/b"), user)
        assert status != 0
        assert "quota" in out
        box.do("limit_disk", 16 * MIB, None)
        box.says(FILL.format(6 * MIB, "/tmp/b"), user)
        used = box.do("info").disk_stat.bytes_used
        assert 10 * MIB <= used < 10 * MIB + 200_000
        box.do("limit_disk", 1 * MIB, None)
        assert "quota" in box.run(FILL.format(MIB, "/tmp/c"), user)[1]
        box.do("limit_disk", 0, None)
        assert box.do("read_limits").disk_bytes is None
        box.says(FILL.format(9 * MIB, "/tmp/c"), user)
        box.says("rm /tmp/a /tmp/b /tmp/c", user)
        assert box.do("info").disk_stat.bytes_used < MIB


def test_one_containers_disk_is_not_the_others(btrfs: None, host: Host, box: Box) -> None:
    with host.box() as other:
        box.do("limit_disk", 2 * MIB, None)
        other.says(FILL.format(5 * MIB, "/tmp/a"))
        assert "quota" in box.run(FILL.format(5 * MIB, "/tmp/a"))[1]
        assert other.do("read_limits").disk_bytes is None


def test_inodes_on_btrfs_are_said_not_to_be_limited(btrfs: None, host: Host, box: Box) -> None:
    host.lines.clear()
    box.do("limit_disk", None, 100)
    assert box.do("read_limits").disk_inodes is None
    assert any("inodes are not limited on btrfs" in line for line in host.lines)


def test_without_btrfs_layers_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "lacking", lambda: ["a kernel with btrfs"])
    with running(tmp_path / "tmpfs") as host, host.box() as box:
        assert box.do("info").remarks == ("disk layer in memory (tmpfs)",)
        box.do("limit_disk", 4 * MIB, 200)
        limits = box.do("read_limits")
        assert (limits.disk_bytes, limits.disk_inodes) == (4 * MIB, 200)
        box.says(FILL.format(2 * MIB, "/tmp/a"))
        assert "No space left" in box.run(FILL.format(4 * MIB, "/tmp/b"))[1]
        assert "No space left" in box.run("rm /tmp/b; for i in $(seq 300); do >/tmp/$i || exit 1; done")[1]
        stat = box.do("info").disk_stat
        assert 2 * MIB <= stat.bytes_used <= 4 * MIB
        assert 150 < stat.inodes_used <= 200
        box.do("limit_disk", 0, 0)
        limits = box.do("read_limits")
        assert (limits.disk_bytes, limits.disk_inodes) == (None, None)
        box.says(FILL.format(8 * MIB, "/tmp/b"))
        assert box.do("info").disk_stat.bytes_used >= 10 * MIB


# -- bandwidth ----------------------------------------------------------------------------------------------------

SERVE = """exec perl -MIO::Socket -e '
my $server = IO::Socket::INET->new(Listen => 9, LocalPort => 7777, ReuseAddr => 1) or die;
while (my $peer = $server->accept) {
    sysread $peer, my $way, 1;
    if ($way eq "d") { print $peer "x" x 65536 for 1 .. 24 }
    else { my $sum = 0; while (my $got = sysread $peer, my $data, 65536) { $sum += $got } print $peer $sum }
    close $peer;
}'"""
SIZE = 24 << 16


def transfer_s(box: Box, way: bytes) -> float:
    """Time for SIZE bytes to the container ("u") or from it ("d")."""

    def connect() -> socket.socket | None:
        try:
            return socket.create_connection((box.ip, 7777), 30)
        except OSError:
            return None

    with eventually(connect, what="the container does not listen") as peer:  # type: ignore[union-attr]
        began = time.monotonic()
        peer.sendall(way)
        if way == b"u":
            peer.sendall(b"x" * SIZE)
            peer.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: peer.recv(1 << 16), b""))
        took = time.monotonic() - began
    assert (answer if way == b"u" else len(answer)) == (b"%d" % SIZE if way == b"u" else SIZE)
    return took


def test_bandwidth_both_ways(box: Box) -> None:
    job = box.start(SERVE)
    ways = (b"u", b"d")
    free = {way: min(transfer_s(box, way) for _ in range(2)) for way in ways}
    assert box.do("info").bandwidth_stat.in_rate == 0xFFFFFFFF
    box.do("limit_bandwidth", 3 * MIB, 1 << 16)
    limits = box.do("read_limits")
    assert (limits.bandwidth_rate, limits.bandwidth_burst) == (3 * MIB, 1 << 16)
    for way in ways:
        assert transfer_s(box, way) > 2 * free[way]
    box.do("limit_bandwidth", 1 * MIB, 1 << 14)  # a change is in force at once
    slow = {way: transfer_s(box, way) for way in ways}
    box.do("limit_bandwidth", 3 * MIB, 1 << 16)
    for way in ways:
        assert transfer_s(box, way) < 0.7 * slow[way]
    assert box.do("info").bandwidth_stat.out_rate == 3 * MIB
    box.do("limit_bandwidth", 0, 0)
    assert box.do("read_limits").bandwidth_rate is None
    for way in ways:
        assert min(transfer_s(box, way) for _ in range(2)) < 0.3 * slow[way]
    assert not [name for name in box.host.left()["links"] if name.endswith("-2")]
    box.do("stop", True)
    job.communicate()


def test_odd_rates_are_taken(box: Box) -> None:
    """Where the kernel's fields are too small for what is asked, the nearest is set."""
    for rate, burst in ((1, 1 << 40), (0xFFFFFFFE, 1), (100, 0)):
        box.do("limit_bandwidth", rate, burst)
        assert box.do("read_limits").bandwidth_rate == rate

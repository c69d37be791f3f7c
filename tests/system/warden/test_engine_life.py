"""Containers of the real engine: what a job finds inside, files in and out, stop, destroy, restart, what is left."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import Box, Host, eventually, need_root, running
from warden.engine import kernel, rootfs
from warden.engine.api import BindMount, EngineError, Flow, Spec


@pytest.fixture(scope="module")
def box(host: Host) -> Iterator[Box]:
    """For tests that change nothing in it that others see."""
    with host.box() as box:
        yield box


# -- inside -------------------------------------------------------------------------------------------------------


def test_a_job_is_vcap_with_its_own_environment(box: Box) -> None:
    out = box.says("id -u; id -un; id -G; pwd; hostname; env -i /bin/true; tr '\\0' '\\n' </proc/$$/environ | sort")
    uid, name, groups, folder, host_name, *environment = out.splitlines()
    assert (uid, name, groups) == (str(box.spec.uid), "vcap", str(box.spec.uid))
    assert folder == str(Path("/home", "vcap"))
    assert host_name == box.id
    language = os.environ.get("LANG", "en_US.UTF-8")
    assert environment == [f"HOME={folder}", f"LANG={language}", "PATH=/bin:/usr/bin", "USER=vcap"]


def test_a_privileged_job_is_root(box: Box) -> None:
    out = box.says("id -u; pwd; tr '\\0' '\\n' </proc/$$/environ | grep -v LANG | sort", "root")
    home = str(Path("/", "root"))
    assert out.splitlines() == ["0", home, f"HOME={home}", "PATH=/sbin:/bin:/usr/sbin:/usr/bin", "USER=root"]


@pytest.mark.parametrize(
    ("script", "status"),
    [("true", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 255), ("bash -c 'kill -9 $$'; exit $?", 137)],
)
def test_exit_status(box: Box, script: str, status: int) -> None:
    assert box.run(script)[0] == status


def test_a_session_of_its_own_with_default_signals(box: Box) -> None:
    out = box.says("ps -o sid= -p $$; echo $$; grep SigIgn /proc/$$/status")
    session, pid, ignored = (line.split()[-1] for line in out.splitlines())
    assert session == pid
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1):
        assert not int(ignored, 16) >> number - 1 & 1


def test_built_in_resource_limits(box: Box) -> None:
    out = box.says("for name in c n u s l q i e r; do ulimit -H$name; ulimit -S$name; done")
    values = out.split()
    assert values[::2] == values[1::2], "soft and hard are the same"
    assert values[::2] == ["0", "1024", "1024", "8192", "64", "819200", "1024", "0", "0"]


def test_resource_limits_of_a_request(box: Box) -> None:
    assert box.run("ulimit -n; ulimit -v", nofile=77, **{"as": 1 << 30})[1].split() == ["77", str(1 << 20)]
    # less than what starts the job needs itself
    small = box.run("ulimit -v; ulimit -d; ulimit -H -v", **{"as": 64 << 20, "data": 32 << 20})[1].split()
    assert small == [str(64 << 10), str(32 << 10), str(64 << 10)]
    with pytest.raises(EngineError, match=r"unknown resource limit 'files'; valid: as, core, "):
        box.run("true", files=3)


def test_no_way_to_more_rights(box: Box) -> None:
    for user, bounding in (("vcap", 0), ("root", 1)):
        lines = box.says("cat /proc/self/status", user).splitlines()
        status = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert bool(int(status["CapBnd"], 16)) == bounding
        assert status["CapEff"] == (status["CapBnd"] if user == "root" else "0" * 16)
        for forbidden in (12, 16, 17, 19, 21, 22, 23, 24, 25, 27):  # net_admin, modules, ptrace, sys_admin, mknod ...
            assert not int(status["CapBnd"], 16) >> forbidden & 1


@pytest.mark.parametrize(
    "program",
    [
        "unshare --user true",
        "unshare --mount true",
        "mount -t tmpfs none /tmp",
        "hostname other",
        "mknod /tmp/node c 1 3",
        "perl -e 'exit(syscall(250, 0, -3, 0) < 0 ? 1 : 0)'",  # keyctl
        "echo 1 >/proc/sys/kernel/panic",
        "echo b >/proc/sysrq-trigger",
        "dmesg",
    ],
)
def test_what_not_even_root_may(box: Box, program: str) -> None:
    assert box.run(program, "root")[0] != 0


def test_the_filter_lets_ordinary_programs_run(box: Box) -> None:
    script = """
        set -e
        perl -e 'if (fork == 0) { exit 3 } wait; exit($? >> 8 != 3)'
        perl -MIO::Socket -e 'IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1") or die'
        sleep 0.01 & wait
        mkdir a; echo text >a/b; ln -s b a/c; cp -a a d; mv d e; chmod 700 e; rm -r e a
        sort <<<"b
a" | head -1
    """
    assert box.says(script) == "a"


def test_nothing_of_the_host_is_seen(box: Box) -> None:
    assert len(box.says("ls -d /proc/[0-9]*", "root").split()) < 10, "processes of the container alone"
    assert box.says("cat /proc/keys /proc/timer_list /proc/kcore 2>/dev/null | head -c 1 | wc -c", "root") == "0"
    assert box.says("ls /sys/firmware", "root") == ""
    assert box.says("cut -d: -f3 /proc/self/cgroup | sort -u") == "/"
    assert str(box.host.base) not in box.says("ls /", "root")
    assert box.run("echo x >/usr/warden-was-here", "root")[0] != 0
    assert box.run("kill -9 1; kill -0 1")[0] != 0, "vcap may not signal the init"


def test_writes_stay_in_the_container(box: Box) -> None:
    box.says("echo mine >/etc/mine; echo mine >/tmp/mine", "root")
    assert (rootfs.merged(box.spec) / "etc" / "mine").read_text() == "mine\n"
    assert not (box.host.root / "etc" / "mine").exists()
    with box.host.box() as other:
        assert other.run("cat /etc/mine /tmp/mine")[0] != 0


def test_orphans_are_reaped(box: Box) -> None:
    box.says("for i in 1 2 3; do (true &) ; done")
    eventually(lambda: box.says("ps -eo stat= | grep -c '^Z' || true"), lambda count: count == "0")


def test_bind_mounts(host: Host, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for name in ("open", "closed"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
        (tmp_path / name / "file").write_text(name)
    binds = (
        BindMount(str(tmp_path / "open"), "/mnt/deep/open", False),
        BindMount(str(tmp_path / "closed"), "/mnt/closed", True),
    )
    with host.box(*binds) as box:
        assert box.says("cat /mnt/deep/open/file /mnt/closed/file; echo new >/mnt/deep/open/new") == "openclosed"
        assert (tmp_path / "open" / "new").read_text() == "new\n"
        assert "Read-only" in box.run("echo new >/mnt/closed/new")[1]


# -- copies -------------------------------------------------------------------------------------------------------


def test_copy_in_as_rsync_does(box: Box, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "run").write_text("text")
    (source / "run").chmod(0o750)
    (source / "inner" / "link").symlink_to("../run")
    os.mkfifo(source / "pipe")
    home = Path("/home", "vcap")
    box.do("copy_in", f"{source}/", f"{home}/content")
    box.do("copy_in", str(source), f"{home}/whole/")
    box.do("copy_in", f"{source}/run", f"{home}/renamed")
    box.do("copy_in", f"{source}/run", f"{home}/whole")
    out = box.says("find content whole renamed -printf '%p %M %u %l\\n' | sort")
    assert [line.split()[:3] for line in out.splitlines()] == [
        ["content", "drwxr-xr-x", "vcap"],
        ["content/inner", "drwxr-xr-x", "vcap"],
        ["content/inner/link", "lrwxrwxrwx", "vcap"],
        ["content/run", "-rwxr-x---", "vcap"],
        ["renamed", "-rwxr-x---", "vcap"],
        ["whole", "drwxr-xr-x", "vcap"],
        ["whole/run", "-rwxr-x---", "vcap"],
        ["whole/source", "drwxr-xr-x", "vcap"],
        ["whole/source/inner", "drwxr-xr-x", "vcap"],
        ["whole/source/inner/link", "lrwxrwxrwx", "vcap"],
        ["whole/source/run", "-rwxr-x---", "vcap"],
    ]
    assert box.says("readlink content/inner/link; cat content/inner/link; echo; rm -r content whole renamed") != ""


def test_copy_out(box: Box, tmp_path: Path) -> None:
    box.says("mkdir -p out/inner; echo text >out/inner/file; chmod 4755 out/inner/file; ln -s /etc out/link")
    home = Path("/home", "vcap")
    box.do("copy_out", f"{home}/out/", str(tmp_path / "content"), None)
    file = tmp_path / "content" / "inner" / "file"
    assert file.read_text() == "text\n"
    assert file.stat().st_mode & 0o7777 == 0o755, "root does not own a set-user-id program of a container"
    assert (tmp_path / "content" / "link").readlink() == Path("/etc")
    box.do("copy_out", f"{home}/out/inner/file", str(tmp_path / "file"), "1234:4321")
    assert (tmp_path / "file").stat().st_uid == 1234
    assert (tmp_path / "file").stat().st_gid == 4321


def test_links_of_a_container_lead_nowhere_on_the_host(box: Box, tmp_path: Path) -> None:
    (tmp_path / "payload").write_text("from outside")
    secret = tmp_path / "secret"
    secret.mkdir()
    box.says(f"ln -s {secret} trap; ln -s {tmp_path}/payload leak")
    home = Path("/home", "vcap")
    with pytest.raises(EngineError):
        box.do("copy_in", str(tmp_path / "payload"), f"{home}/trap/")
    assert not list(secret.iterdir())
    box.do("copy_out", f"{home}/leak", str(tmp_path / "leak"), None)
    assert (tmp_path / "leak").is_symlink(), "the link itself, not what it names on the host"
    box.says("rm trap leak")


def test_a_missing_source_is_an_error(box: Box, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"copying /nowhere/x to /tmp: .*No such file or directory"):
        box.do("copy_in", "/nowhere/x", "/tmp")
    with pytest.raises(EngineError, match="No such file or directory"):
        box.do("copy_out", "/nowhere/x", str(tmp_path), None)


# -- stop, destroy, restart ---------------------------------------------------------------------------------------


def test_figures_of_one_that_is_gone(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with host.box() as box:
        for name, what in (("memory_stat", "memory usage"), ("cpu_stat", "cpu stats")):
            with monkeypatch.context() as patch:
                patch.setattr(host.engine._cgroups, name, lambda _: Path("/no/such/file").read_text())
                with pytest.raises(EngineError, match=f"^Failed getting {what}: /no/such/file: No such file"):
                    box.do("info")
    with pytest.raises(EngineError, match=r"^Failed getting memory usage: .*memory.stat: No such file or directory$"):
        box.do("info")


def test_stop_ends_all_but_the_init(host: Host) -> None:
    with host.box() as box:
        job = box.start("trap 'echo told; exit 3' TERM; echo ready; (sleep 1000 &); while :; do sleep 0.05; done")
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
        box.do("stop", False)
        assert "told\n" in job.communicate()[0]
        assert job.returncode == 3
        assert len(host.engine._cgroups.pids(box.id)) == 1
        box.do("copy_out", "/etc/hostname", str(host.base / "name"), None)
        assert (host.base / "name").read_text().strip() == box.id


def test_kill_asks_nobody(host: Host) -> None:
    with host.box() as box:
        job = box.start("trap '' TERM; echo ready; while :; do sleep 0.05; done")
        assert job.stdout is not None
        job.stdout.readline()
        box.do("stop", True)
        job.communicate()
        assert job.returncode == 255


def test_destroy_leaves_nothing(host: Host) -> None:
    before = host.left()
    box = host.create()
    box.do("limit_bandwidth", 1 << 20, 1 << 16)
    box.do("net_in", 61234, 8080)
    box.do("net_out", Flow("10.0.0.0/8", (80, 90), "tcp", log=True))
    box.says("mkdir -p /tmp/a; echo x >/tmp/a/b; (setsid sleep 1000 >/dev/null 2>&1 &)")
    assert host.left() != before
    assert box.id in host.do(host.engine.leftovers())
    box.do("destroy")
    assert host.left() == before
    assert not box.spec.path.exists()
    box.do("destroy")
    assert host.left() == before


@pytest.mark.parametrize("fault", ["rootfs", "bind", "shell", "address"])
def test_half_a_container_is_cleaned_up(host: Host, tmp_path: Path, fault: str) -> None:
    before = host.left()
    spec = host.spec(*([BindMount(str(tmp_path / "missing"), "/mnt/x", False)] if fault == "bind" else []))
    if fault == "rootfs":
        spec = Spec(**{**vars(spec), "rootfs": tmp_path / "missing"})
    if fault == "shell":  # runc refuses to make /dev in a file
        broken = tmp_path / "broken"
        broken.mkdir()
        (broken / "proc").write_text("no folder")
        spec = Spec(**{**vars(spec), "rootfs": broken})
    if fault == "address":
        spec = Spec(**{**vars(spec), "container_ip": "300.0.0.1"})
    with pytest.raises(EngineError) as error:
        host.do(host.engine.create(spec))
    assert str(error.value)
    assert spec.path.exists(), "the folder is the server's until destroy"
    host.do(host.engine.destroy(spec))
    assert host.left() == before


def test_what_an_earlier_server_left_half_made_goes(host: Host) -> None:
    """Each part alone, as after kill -9 in the middle of create."""
    before = host.left()
    engine = host.engine

    def network(spec: Spec) -> None:
        os.close(engine._network.create(spec))

    def group(spec: Spec) -> None:
        for mount in engine._cgroups._hierarchies if hasattr(engine._cgroups, "_hierarchies") else []:
            (mount / engine._cgroups.parent / spec.container_id).mkdir(parents=True)

    steps = [network, group, engine._prepare, lambda spec: host.do(engine._firewall.add(spec))]
    for step in steps:
        spec = host.spec()
        step(spec)
        later = host.new_engine()
        host.do(later.setup())
        unknown = Spec(spec.container_id, spec.container_id, spec.path, spec.rootfs, 0, "", "", 30)
        assert not host.do(later.restore(unknown, (), ()))
        host.do(later.destroy(unknown))
        assert host.left() == before, step
        host.engine = engine
    host.engine = engine
    host.do(engine._firewall.setup())


def test_containers_outlive_the_server(host: Host) -> None:
    old = host.engine
    with host.box() as box, host.box() as dead:
        box.says("echo kept >/tmp/kept")
        box.do("net_in", 61235, 8080)
        os.kill(host.engine._init_pid(dead.spec), signal.SIGKILL)
        eventually(lambda: host.engine._cgroups.pids(dead.id), lambda pids: not pids)
        host.engine = host.new_engine()
        host.do(host.engine.setup())
        assert host.do(host.engine.leftovers()) >= {box.id, dead.id}
        assert host.do(host.engine.restore(box.spec, [Flow(None, None, "udp")], [(61235, 8080)]))
        assert not host.do(host.engine.restore(dead.spec, (), ()))
        assert box.says("cat /tmp/kept") == "kept"
        rules = "\n".join(host.left()["rules"])
        assert rules.count(f"61235 : {box.ip} . 8080") == 1
        assert "meta l4proto udp accept" in rules
    assert old is not host.engine


def test_two_servers_on_one_machine(host: Host, tmp_path: Path) -> None:
    with running(tmp_path / "other-depot-of-another-server") as other:
        with host.box() as one, other.box() as two:
            assert one.id not in other.do(other.engine.leftovers())
            assert two.id not in host.do(host.engine.leftovers())
            two.destroy()
            assert one.says("echo alive") == "alive"


def test_a_depot_behind_a_link(tmp_path: Path) -> None:
    """The mount table knows the real name; a second setup mounts nothing twice."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    def mounted() -> list[Path]:
        return [mount.target for mount in kernel.mounts() if mount.target.is_relative_to(tmp_path / "real")]

    with running(tmp_path / "link") as host, host.box() as box:
        before = mounted()
        assert before
        host.engine = host.new_engine()
        host.do(host.engine.setup())
        assert mounted() == before
        assert box.id in host.do(host.engine.leftovers())
        assert box.says("echo here") == "here"


def test_a_pool_that_is_somebody_elses_is_refused(host: Host, tmp_path: Path) -> None:
    with host.box():
        other = Host(tmp_path, pool_network=host.settings.pool_network)
        with pytest.raises(EngineError, match=r"overlaps .* of w-.*; choose another one"):
            other.do(other.engine.setup())
        assert not (other.settings.depot / ".engine").exists(), "nothing was begun"
        other.loop.close()


def test_folders_instead_of_an_image(tmp_path: Path) -> None:
    with running(tmp_path / "plain", disk_limits=False) as host:
        with host.box() as box:
            box.says("echo x >/tmp/x")
            assert host.do(host.engine.info(box.spec)).disk_stat is None
            with pytest.raises(EngineError, match="switched off"):
                box.do("limit_disk", 1 << 20, None)


def test_vcap_of_the_rootfs_becomes_the_containers(host: Host, tmp_path: Path) -> None:
    """And a link in it that leads out is not followed."""
    root = tmp_path / "rootfs"
    rootfs.build(root, minimal=True)
    home = root / "home" / "vcap"
    home.mkdir(mode=0o750)
    (home / "app").write_text("app")
    os.chown(home, 1000, 1000)
    os.chown(home / "app", 1000, 1000)
    with (root / "etc" / "passwd").open("a") as passwd:
        passwd.write("vcap:x:1000:1000::/nowhere:/bin/sh\n")
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    (root / "etc" / "hosts").symlink_to(outside)
    spec = Spec(**{**vars(host.spec()), "rootfs": root})
    host.do(host.engine.create(spec))
    box = Box(host, spec)
    assert box.says("stat -c '%U %a' . app; grep -c vcap /etc/passwd; id -u; cat app").splitlines() == [
        "vcap 750", "vcap 644", "1", str(spec.uid), "app",
    ]  # fmt: skip
    assert "127.0.0.1 localhost" in box.says("cat /etc/hosts")
    assert outside.read_text() == "untouched"
    box.destroy()


def test_mounts_go_even_when_they_are_stacked(tmp_path: Path) -> None:
    need_root()
    target = tmp_path / "a b"
    target.mkdir()
    for _ in range(2):
        kernel.mount("tmpfs", target, "tmpfs")
    assert [mount.kind for mount in kernel.mounts() if mount.target == target] == ["tmpfs", "tmpfs"]
    kernel.unmount(target)
    assert not [mount for mount in kernel.mounts() if mount.target == target]
    kernel.unmount(target)


def test_create_can_be_abandoned(host: Host) -> None:
    before = host.left()
    spec = host.spec()

    async def abandon() -> None:
        task = asyncio.create_task(host.engine.create(spec))
        await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await host.engine.destroy(spec)

    host.do(abandon())
    assert host.left() == before

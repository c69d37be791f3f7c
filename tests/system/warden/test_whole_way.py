"""The server with the real engine, as root: the demo, jobs and a restart in containers that are some."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import free_network, need_root
from tests.system.harness import ROOT, until
from tests.system.warden.servers import WardenServer, build_minimal, create, info, refused, run, spawn
from warden.protocol import pb

NAME = f"wway{os.getpid()}"


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_root()
    path = tmp_path_factory.mktemp("warden") / "rootfs"
    build_minimal(path)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, rootfs: Path) -> Iterator[WardenServer]:
    settings = {
        "server": {"name": NAME, "container_rootfs_path": str(rootfs)},
        "port": {"pool_start_port": 61000, "pool_size": 1000},
        "network": {"pool_network": str(free_network())},
    }
    with WardenServer(tmp_path_factory.mktemp("warden"), settings, "runc") as running:
        yield running


@pytest.mark.parametrize("made", [True, False], ids=["its-own-rootfs", "the-configured-one"])
def test_demo(rootfs: Path, tmp_path: Path, made: bool) -> None:
    config = tmp_path / "demo.yml"
    configured = tmp_path / "none" if made else rootfs
    config.write_text(
        json.dumps(
            {"server": {"container_rootfs_path": str(configured)}, "network": {"pool_network": str(free_network())},
             "port": {"pool_start_port": 61000, "pool_size": 1000}}
        )
    )  # fmt: skip
    words = ["-s", f"{tmp_path}/none", "demo", "-c", str(config)]
    told = subprocess.run([sys.executable, "-m", "warden", *words], capture_output=True, text=True, cwd=ROOT)
    assert told.returncode == 0, told.stdout + told.stderr
    assert ("root file system: a minimal one" in told.stdout) == made
    assert "exit status 137" in told.stdout
    assert "info: state stopped, events out of memory" in told.stdout
    assert "destroy: gone" in told.stdout


def test_jobs(server: WardenServer) -> None:
    with server.client() as client:
        handle = create(client)
        reply = run(client, handle, "id -un; echo $HOME; cut -d' ' -f6 /proc/$$/stat; echo $$")
        name, home, session, pid = reply.stdout.split()
        assert (name, home, session) == (b"vcap", os.fsencode(Path("/home", "vcap")), pid)
        assert run(client, handle, "id -un", privileged=True).stdout == b"root\n"
        assert run(client, handle, "kill -9 $$").exit_status == 255
        assert run(client, handle, "bash -c 'kill -9 $$'; exit $?").exit_status == 137
        assert run(client, handle, "ulimit -n", rlimits=pb.ResourceLimits(nofile=77)).stdout == b"77\n"
        stubborn = spawn(client, handle, "trap '' TERM; while :; do sleep 0.05; done")
        client.call(pb.StopRequest(handle=handle, kill=True))
        assert client.call(pb.LinkRequest(handle=handle, job_id=stubborn)).exit_status == 255
        client.call(pb.DestroyRequest(handle=handle))


def test_output_over_the_limit(server: WardenServer) -> None:
    with server.client() as client:
        handle = create(client)
        reply = run(client, handle, "yes")
        assert (reply.exit_status, len(reply.stdout)) == (255, 10 << 20)
        assert list(reply.info.events) == ["command exceeded maximum output"]
        # Nothing of it runs on: its own list of processes is the init and the job that asks.
        assert run(client, handle, "set -- /proc/[0-9]*; echo $#").stdout == b"2\n"
        client.call(pb.DestroyRequest(handle=handle))


def test_limits_that_cannot_be_set(server: WardenServer) -> None:
    with server.client() as client:
        handle = create(client)
        job = spawn(client, handle, 'exec perl -e \'$x = "x" x (50 << 20); $| = 1; print "ready"; sleep 1000\'')
        with server.client() as other:
            assert next(iter(other.stream(handle, job))).data == b"ready"
        with refused("Failed setting memory limit: EBUSY Device or resource busy"):
            client.call(pb.LimitMemoryRequest(handle=handle, limit_in_bytes=4 << 20))
        assert info(client, handle).state == "active"
        client.call(pb.DestroyRequest(handle=handle))


def test_no_root_file_system(server: WardenServer, tmp_path: Path) -> None:
    with server.client() as client, refused(f"rootfs {tmp_path}/none not found"):
        create(client, rootfs=f"{tmp_path}/none")
    words = ["-s", server.socket, "create", "--rootfs", f"{tmp_path}/none"]
    told = subprocess.run([sys.executable, "-m", "warden", *words], capture_output=True, text=True, cwd=ROOT)
    assert told.returncode == 1 and f"warden rootfs build {tmp_path}/none" in told.stderr
    settings = {
        "server": {"name": f"{NAME}n", "container_rootfs_path": f"{tmp_path}/none"},
        "network": {"pool_network": str(free_network())},
    }
    with WardenServer(tmp_path, settings, "runc") as running:
        assert [line["data"]["path"] for line in running.lines("no-rootfs")] == [f"{tmp_path}/none"]
    assert not server.lines("no-rootfs")


def test_a_crash_of_the_server_is_none_of_the_containers(server: WardenServer) -> None:
    with server.client() as client:
        handle = create(client, grace_time=3600)
        client.call(pb.LimitMemoryRequest(handle=handle, limit_in_bytes=64 << 20))
        job = spawn(client, handle, "echo before; until [ -e go ]; do sleep 0.05; done; echo after; exit 6")
        port = client.call(pb.NetInRequest(handle=handle, container_port=8080)).host_port
        with server.client() as other:
            assert next(iter(other.stream(handle, job))).data == b"before\n"
    server.end(signal.SIGKILL)
    server.start()
    with server.client() as client:
        assert info(client, handle).state == "active"
        assert client.call(pb.LimitMemoryRequest(handle=handle)).limit_in_bytes == 64 << 20
        assert client.call(pb.NetInRequest(handle=handle)).host_port != port
        run(client, handle, "touch go")
        reply = client.call(pb.LinkRequest(handle=handle, job_id=job))
        assert (reply.exit_status, reply.stdout) == (6, b"before\nafter\n")
        # The watch for memory is there again.
        hungry = "bash -c 'a=$(head -c 200000000 /dev/zero | tr \"\\0\" x)'; exit $?"
        assert run(client, handle, hungry).exit_status == 137
        until(lambda: info(client, handle).state == "stopped", "it is not stopped")
        assert list(info(client, handle).events) == ["out of memory"]
        client.call(pb.DestroyRequest(handle=handle))

"""The server goes and comes: drain, plain end, kill; containers and jobs stay."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Gate, alive
from tests.system.harness import until
from tests.system.warden.servers import WardenServer, asked, create, info, refused, run, spawn, supervisors
from warden.protocol import pb


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WardenServer]:
    with WardenServer(tmp_path, {"port": {"pool_start_port": 61000, "pool_size": 1000}}) as running:
        yield running


ENDS = pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)


@ENDS
def test_containers_stay(server: WardenServer, number: signal.Signals) -> None:
    with server.client() as client:
        handle = create(client, handle="kept", grace_time=3600)
        client.call(pb.LimitMemoryRequest(handle=handle, limit_in_bytes=1 << 30))
        client.call(pb.LimitDiskRequest(handle=handle, byte=4096))
        port = client.call(pb.NetInRequest(handle=handle)).host_port
        client.call(pb.NetOutRequest(handle=handle, network="10.0.0.0/8", port_range="1:9", log=True))
        stopped = create(client, grace_time=3600)
        client.call(pb.StopRequest(handle=stopped))
        before = info(client, handle)
    server.end(number)
    server.start()
    with server.client() as client:
        assert sorted(client.call(pb.ListRequest()).handles) == sorted([handle, stopped])
        after = info(client, handle)
        assert (after.state, after.host_ip, after.container_path) == ("active", before.host_ip, before.container_path)
        assert info(client, stopped).state == "stopped"
        assert client.call(pb.LimitMemoryRequest(handle=handle)).limit_in_bytes == 1 << 30
        assert client.call(pb.LimitDiskRequest(handle=handle)).byte == 4096
        with refused(f"Could not acquire network: {before.host_ip[:-1]}{int(before.host_ip[-1]) - 1}"):
            create(client, network=f"{before.host_ip[:-1]}{int(before.host_ip[-1]) - 1}")
        assert client.call(pb.NetInRequest(handle=handle)).host_port != port
        assert run(client, handle, "echo hello").stdout == b"hello\n"


@ENDS
def test_jobs_go_on(server: WardenServer, number: signal.Signals) -> None:
    with server.client() as client:
        handle = create(client, grace_time=3600)
        home = server.depot / handle / "root"
        gate = Gate(home / "go")
        job = spawn(client, handle, "echo before; read < go; echo after; exit 6")
        ended = spawn(client, handle, "echo lost; exit 5")
        with server.client() as other:
            assert next(iter(other.stream(handle, job))).data == b"before\n"
        until(lambda: not (home.parent / "jobs" / str(ended) / "job.sock").exists() or _status(home, ended), "")
        until(lambda: _recorded(home.parent, ended), "the end of the job is not written down")
    server.end(number)
    server.start()
    with server.client() as client:
        assert list(info(client, handle).job_ids) == [job, ended]
        assert spawn(client, handle, "true") == ended + 1
        gate.open()
        reply = client.call(pb.LinkRequest(handle=handle, job_id=job))
        # What was read before a drain is not read again; after a kill nobody knows, and all there is comes.
        before = b"before\n" if number is signal.SIGKILL else b""
        assert (reply.exit_status, reply.stdout) == (6, before + b"after\n")
        old = client.call(pb.LinkRequest(handle=handle, job_id=ended))
        assert (old.exit_status, old.stdout) == (5, b"")
        with refused("no such job"):
            client.call(pb.LinkRequest(handle=handle, job_id=job))


def _status(home: Path, job: int) -> bool:
    return (home.parent / "jobs" / str(job) / "status").exists()


def _recorded(folder: Path, job: int) -> bool:
    return (
        f'"{job}":' in (folder / "snapshot.json").read_text() and '"status":5' in (folder / "snapshot.json").read_text()
    )


def test_a_job_that_ends_while_no_server_is_there(server: WardenServer) -> None:
    with server.client() as client:
        handle = create(client, grace_time=3600)
        home = server.depot / handle / "root"
        gate = Gate(home / "go")
        job = spawn(client, handle, "read < go; head -c 100000 /dev/zero | tr '\\0' x; echo -n end; exit 7")
    server.end(signal.SIGKILL)
    gate.open()
    until(lambda: _status(home, job), "the job does not end")
    server.start()
    with server.client() as client:
        reply = client.call(pb.LinkRequest(handle=handle, job_id=job))
    # The last 64 KiB.
    assert (reply.exit_status, len(reply.stdout), reply.stdout[-5:]) == (7, 65536, b"xxend")
    until(lambda: supervisors(server.depot) == [], "a supervisor is left")


def test_a_supervisor_that_is_killed(server: WardenServer) -> None:
    with server.client() as client:
        handle = create(client)
        job = spawn(client, handle, "while :; do sleep 0.1; done")
        (pid,) = supervisors(server.depot)
        os.kill(pid, signal.SIGKILL)
        assert client.call(pb.LinkRequest(handle=handle, job_id=job)).exit_status == 255


def test_no_snapshot_no_container(server: WardenServer) -> None:
    with server.client() as client:
        handle = create(client, grace_time=3600)
        job = run(client, handle, "sleep 1000 & echo $!")
        pid = int(job.stdout)
        spawn(client, handle, "while :; do sleep 0.1; done")
    server.end(signal.SIGKILL)
    (server.depot / handle / "snapshot.json").unlink()
    server.start()
    with server.client() as client:
        assert list(client.call(pb.ListRequest()).handles) == []
    assert not (server.depot / handle).exists()
    assert not alive(pid)
    until(lambda: supervisors(server.depot) == [], "a supervisor is left")


def test_processes_without_a_folder(server: WardenServer) -> None:
    with server.client() as client:
        handle = create(client, grace_time=3600)
        pid = int(run(client, handle, "sleep 1000 & echo $!").stdout)
    server.end(signal.SIGKILL)
    shutil.rmtree(server.depot / handle)
    server.start()
    assert not alive(pid)


def test_a_broken_snapshot(server: WardenServer) -> None:
    with server.client() as client:
        handle = create(client, grace_time=3600)
    server.end(signal.SIGTERM)
    (server.depot / handle / "snapshot.json").write_text('{"state": ')
    server.start()
    with server.client() as client:
        assert list(client.call(pb.ListRequest()).handles) == []


def test_grace_time_runs_after_a_restart(server: WardenServer) -> None:
    with server.client() as client:
        handle = create(client, grace_time=1)
        assert server.end(signal.SIGUSR2) == 0  # the connection is open until then
    server.start()
    until(lambda: not (server.depot / handle).exists(), "the grace time does not end")


def test_drain_interrupts_who_waits_and_lets_others_finish(server: WardenServer) -> None:
    with server.client() as client:
        handle = create(client, grace_time=3600)
        slow = create(client, grace_time=3600)
        home = server.depot / slow / "root"
        gate = Gate(home / "go")
        job = spawn(client, handle, "while :; do sleep 0.1; done")
        other = spawn(client, slow, "trap 'read < go; exit' TERM; echo ready; while :; do sleep 0.05; done")
        with server.client() as reader:
            assert next(iter(reader.stream(slow, other))).data == b"ready\n"
        with (
            asked(server, pb.LinkRequest(handle=handle, job_id=job)) as linker,
            asked(server, pb.StreamRequest(handle=handle, job_id=job)) as streamer,
            asked(server, pb.RunRequest(handle=handle, script=b"while :; do sleep 0.1; done")) as runner,
            asked(server, pb.StopRequest(handle=slow)) as stopper,
        ):
            until(lambda: len(info(client, handle).job_ids) == 2, "the run does not start")
            assert server.process is not None
            server.process.send_signal(signal.SIGUSR2)
            for connection in (linker, streamer, runner, client):
                with pytest.raises(ConnectionError):
                    connection.receive()
            with pytest.raises(OSError):
                server.client()
            gate.open()
            assert stopper.receive() == pb.StopResponse()
        assert server.process.wait(60) == 0
    server.start()
    with server.client() as client:
        assert info(client, slow).state == "stopped"
        assert len(info(client, handle).job_ids) == 2
        client.call(pb.StopRequest(handle=handle, kill=True))


def test_the_next_server_waits_for_the_last(server: WardenServer) -> None:
    with server.client() as client:
        handle = create(client, grace_time=3600)
        home = server.depot / handle / "root"
        gate = Gate(home / "go")
        job = spawn(client, handle, "trap 'read < go; exit' TERM; echo ready; while :; do sleep 0.05; done")
        with server.client() as reader:
            next(iter(reader.stream(handle, job)))
        with asked(server, pb.StopRequest(handle=handle)):
            first = server.process
            assert first is not None
            first.send_signal(signal.SIGUSR2)
            with open(server.log, "ab") as log:
                server.process = subprocess.Popen(server.program, stdout=log, stderr=log)
            until(lambda: server.lines("waiting for the server before to end"), "the second does not wait")
            gate.open()
            assert first.wait(60) == 0
    until(server._answers, "the second does not listen")
    with server.client() as client:
        assert info(client, handle).state == "stopped"


def test_pid_file(server: WardenServer) -> None:
    assert server.process is not None
    assert (server.folder / "pid").read_text() == f"{server.process.pid}\n"
    assert server.end(signal.SIGTERM) == 0
    assert not (server.folder / "pid").exists()
    assert not Path(server.socket).exists()

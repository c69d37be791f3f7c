"""Scripts in a container: output, status, limits, and how they are asked for."""

import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Gate, alive
from tests.system.harness import until
from tests.system.warden.servers import WardenServer, asked, create, info, refused, run, spawn, supervisors
from warden.client import BlockingClient
from warden.protocol import pb

LIMIT = 100_000


@pytest.fixture(scope="module")
def log() -> Iterator[socket.socket]:
    """The system's log."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"{folder}/log")
        receiver.settimeout(60)
        yield receiver


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, log: socket.socket) -> Iterator[WardenServer]:
    settings = {
        "server": {
            "job_output_limit": LIMIT, "container_rlimits": {"nofile": 512, "core": 1024},
            "syslog_socket": log.getsockname(),
        }
    }  # fmt: skip
    with WardenServer(tmp_path_factory.mktemp("warden"), settings) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: WardenServer) -> Iterator[BlockingClient]:
    with server.client() as connected:
        yield connected


@pytest.fixture
def handle(client: BlockingClient) -> Iterator[str]:
    made = create(client)
    yield made
    client.call(pb.DestroyRequest(handle=made))


def gate(server: WardenServer, handle: str) -> Gate:
    """The pipe "go" in a container's home."""
    return Gate(server.depot / handle / "root" / "go")


def ahead(server: WardenServer) -> list[int]:
    """Supervisors that the server has in waiting: its children, which a supervisor with a job is not."""
    assert server.process is not None
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"supervisor.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_supervisor_waits_for_the_next_job(server: WardenServer, client: BlockingClient, handle: str) -> None:
    until(lambda: ahead(server), "none is started")
    (before,) = ahead(server)
    assert run(client, handle, "cat /proc/$PPID/cmdline | tr '\\0' ' '").stdout.endswith(b"supervisor.py child ")
    until(lambda: ahead(server) not in ([], [before]), "the next is not started")
    os.kill(ahead(server)[0], signal.SIGKILL)
    until(lambda: not ahead(server), "it is not dead")
    assert run(client, handle, "echo without").stdout == b"without\n"


def test_run(client: BlockingClient, handle: str) -> None:
    reply = run(client, handle, "echo out; echo err >&2; printf '\\xff\\x00'; exit 7")
    assert (reply.exit_status, reply.stdout, reply.stderr) == (7, b"out\n\xff\x00", b"err\n")
    assert reply.info.state == "active"
    assert list(info(client, handle).job_ids) == []


@pytest.mark.parametrize(
    ("script", "status"),
    [("true", 0), ("exit 255", 255), ("kill -9 $$", 255), ("bash -c 'kill -9 $$'", 137), ("no-such-program", 127)],
)
def test_exit_status(client: BlockingClient, handle: str, script: str, status: int) -> None:
    assert run(client, handle, script).exit_status == status


def test_environment(client: BlockingClient, handle: str) -> None:
    names = run(client, handle, "cat /proc/$$/environ | tr '\\0' '\\n' | cut -d= -f1 | sort").stdout.split()
    assert names == [b"HOME", b"LANG", b"PATH", b"USER"]
    assert run(client, handle, "echo $PATH; [ $PWD = $HOME ]").stdout == b"/bin:/usr/bin\n"
    assert run(client, handle, "echo $PATH", privileged=True).stdout == b"/sbin:/bin:/usr/sbin:/usr/bin\n"
    own, pid = run(client, handle, "cut -d' ' -f6 /proc/$$/stat; echo $$").stdout.split()
    assert own == pid  # a session of its own


def test_rlimits(client: BlockingClient, handle: str) -> None:
    script = "ulimit -n; ulimit -c; ulimit -Hs"
    assert run(client, handle, script).stdout.split() == [b"512", b"1", b"8192"]
    reply = run(client, handle, script, rlimits=pb.ResourceLimits(nofile=100, core=0))
    assert reply.stdout.split() == [b"100", b"0", b"8192"]
    assert run(client, handle, script).stdout.split() == [b"512", b"1", b"8192"]


def test_big_script_and_input(client: BlockingClient, handle: str) -> None:
    script = ": " + "x" * 300_000 + "\nread line\nfrom the script\necho $line"
    assert run(client, handle, script).stdout == b"from the script\n"


def test_spawn_and_link(server: WardenServer, client: BlockingClient, handle: str) -> None:
    go = gate(server, handle)
    first = spawn(client, handle, "echo 1; read < go; echo 2; exit 3")
    second = spawn(client, handle, "true")
    assert second == first + 1
    with contextlib.ExitStack() as stack:
        linkers = [stack.enter_context(asked(server, pb.LinkRequest(handle=handle, job_id=first))) for _ in range(3)]
        assert first in info(client, handle).job_ids
        go.open()
        answers = [linker.receive() for linker in linkers]
    assert [(reply.exit_status, reply.stdout) for reply in answers] == [(3, b"1\n2\n")] * 3
    with refused("no such job"):
        client.call(pb.LinkRequest(handle=handle, job_id=first))
    client.call(pb.LinkRequest(handle=handle, job_id=second))
    until(lambda: supervisors(server.depot) == [], "a supervisor is left")


def test_stream(client: BlockingClient, handle: str) -> None:
    job = spawn(client, handle, "echo a; sleep 0.05; echo b >&2; sleep 0.05; echo c; exit 9")
    *pieces, last = client.stream(handle, job)
    assert [(piece.name, piece.data) for piece in pieces] == [
        ("stdout", b"a\n"),
        ("stderr", b"b\n"),
        ("stdout", b"c\n"),
    ]
    assert (last.HasField("name"), last.exit_status, last.info.state) == (False, 9, "active")
    with refused("no such job"):
        list(client.stream(handle, job))


def test_a_streamer_that_goes_leaves_the_job(server: WardenServer, client: BlockingClient, handle: str) -> None:
    go = gate(server, handle)
    job = spawn(client, handle, "echo a; read < go; echo b")
    with server.client() as other:
        assert next(iter(other.stream(handle, job))).data == b"a\n"
    go.open()
    *pieces, last = client.stream(handle, job)
    assert b"".join(piece.data for piece in pieces) == b"a\nb\n"
    assert last.exit_status == 0


def test_output_over_the_limit(client: BlockingClient, handle: str) -> None:
    reply = run(client, handle, f"head -c {LIMIT} /dev/zero")
    assert (reply.exit_status, len(reply.stdout)) == (0, LIMIT)
    reply = run(client, handle, "while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done")
    assert (reply.exit_status, len(reply.stdout)) == (255, LIMIT)
    assert list(reply.info.events) == ["command exceeded maximum output"]


def test_discarded_output(client: BlockingClient, handle: str) -> None:
    reply = run(client, handle, f"head -c {3 * LIMIT} /dev/zero; exit 4", discard_output=True)
    assert (reply.exit_status, reply.stdout, list(reply.info.events)) == (4, b"", [])
    job = spawn(client, handle, "echo hello", discard_output=True)
    (only,) = client.stream(handle, job)
    assert only.exit_status == 0


def test_output_in_the_systems_log(client: BlockingClient, handle: str, log: socket.socket) -> None:
    run(client, handle, "echo one; echo -n two; echo three >&2", log_tag="app")
    lines = sorted(log.recv(1000).decode() for _ in range(3))
    assert [line.partition(">")[0] for line in lines] == ["<11", "<14", "<14"]
    assert [line.partition("warden.app: ")[2] for line in lines[:1]] == ["three"]
    assert {line.partition("warden.app: ")[2] for line in lines[1:]} == {"one", "two"}


def test_what_is_left_in_the_background(client: BlockingClient, handle: str) -> None:
    # It holds the output open and is not waited for; the stop of the container ends it.
    reply = run(client, handle, "sleep 1000 & echo $!")
    assert reply.exit_status == 0
    pid = int(reply.stdout)
    assert alive(pid)
    client.call(pb.StopRequest(handle=handle))
    until(lambda: not alive(pid), "the process is still there")


def ready(server: WardenServer, handle: str, job: int) -> None:
    """Waits for the first word of a job."""
    with server.client() as other:
        assert next(iter(other.stream(handle, job))).data == b"ready\n"


def test_stop_ends_jobs(server: WardenServer, client: BlockingClient, handle: str) -> None:
    polite = spawn(client, handle, "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    ready(server, handle, polite)
    client.call(pb.StopRequest(handle=handle))
    reply = client.call(pb.LinkRequest(handle=handle, job_id=polite))
    assert (reply.exit_status, reply.stdout, reply.info.state) == (3, b"ready\nbye\n", "stopped")


def test_kill_does_not_ask(server: WardenServer, client: BlockingClient, handle: str) -> None:
    stubborn = spawn(client, handle, "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    ready(server, handle, stubborn)
    client.call(pb.StopRequest(handle=handle, kill=True))
    assert client.call(pb.LinkRequest(handle=handle, job_id=stubborn)).exit_status == 255


def test_stop_in_the_background(server: WardenServer, client: BlockingClient, handle: str) -> None:
    go = gate(server, handle)
    job = spawn(client, handle, "trap 'read < go; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    ready(server, handle, job)
    client.call(pb.StopRequest(handle=handle, background=True))
    until(lambda: info(client, handle).state == "stopped", "it does not stop")
    assert job in info(client, handle).job_ids  # answered before it was done
    go.open()
    assert client.call(pb.LinkRequest(handle=handle, job_id=job)).exit_status == 5


def test_a_link_that_outlives_the_container_has_info(server: WardenServer, client: BlockingClient) -> None:
    doomed = create(client)
    job = spawn(client, doomed, "while :; do sleep 0.05; done")
    with asked(server, pb.LinkRequest(handle=doomed, job_id=job)) as linker:
        client.call(pb.DestroyRequest(handle=doomed))
        reply = linker.receive()
    assert reply.exit_status == 255
    assert reply.info.container_path == str(server.depot / doomed)
    assert reply.info.HasField("cpu_stat")


def test_a_program_that_cannot_start(client: BlockingClient, handle: str, server: WardenServer) -> None:
    # Its folder cannot be made: the number is taken.
    taken = spawn(client, handle, "true") + 1
    (server.depot / handle / "jobs" / str(taken)).mkdir()
    with refused("iomux-spawn failed"):
        run(client, handle, "true")
    assert run(client, handle, "true").exit_status == 0

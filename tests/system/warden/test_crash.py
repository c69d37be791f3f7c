"""kill -9 of the server in the middle of create and destroy: the next server leaves nothing of it.

Some steps of each action, spread over all of them; WARDEN_CRASH_POINTS=all takes each one (minutes).
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import ROOT, until
from tests.system.warden.servers import WardenServer, create, spawn, supervisors
from warden.protocol import pb

POINTS = {"insecure": 2, "runc": 3}  # of each action, spread over its steps
NAME = f"wtest{os.getpid()}"

ENGINES = [
    "insecure",
    pytest.param(
        "runc",
        marks=pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("runc"), reason="needs root and runc"),
    ),
]


@pytest.fixture(params=ENGINES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WardenServer]:
    settings = {
        "server": {"name": NAME, "container_rootfs_path": str(tmp_path / "rootfs")},
        "port": {"pool_start_port": 61000, "pool_size": 1000},
        "network": {"pool_network": "10.253.7.0/28"},
    }
    if request.param == "runc":
        subprocess.run(
            [sys.executable, "-m", "warden", "rootfs", "build", "--minimal", str(tmp_path / "rootfs")],
            check=True, cwd=ROOT, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    running = WardenServer(tmp_path, settings, request.param)
    yield running
    running.abandon()


def footprint(server: WardenServer, ids: set[str]) -> set[str]:
    """What there is on the machine of a server and of containers: mounts, loop devices, links, rules, cgroups."""
    depot = str(server.depot)
    found = {
        f"mount {line.split()[4]}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if depot in line
    }
    found |= {f"link {name}" for name in os.listdir("/sys/class/net") if any(each in name for each in ids)}
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if depot in backing.read_text():
                found.add(f"loop device of {backing.read_text().strip()}")
        except OSError:
            continue  # gone meanwhile
    if shutil.which("nft") and os.geteuid() == 0:
        rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
        table = ""
        for line in rules.splitlines():
            table = line if line.startswith("table") else table
            if NAME in table or any(each in line for each in ids):
                found.add(f"rule {line.strip()}")
    for group in Path("/sys/fs/cgroup").glob("**/"):
        if NAME in group.name or group.name in ids:
            found.add(f"cgroup {group}")
    return found


def ids(server: WardenServer) -> set[str]:
    return {path.name for path in server.depot.iterdir() if len(path.name) == 11}


def act(server: WardenServer, action: str, step: int) -> int:
    """Starts a server that dies at a step and does the action; the number of steps if it was not reached, else 0."""
    out = server.folder / "steps"
    out.unlink(missing_ok=True)
    program = [sys.executable, "-m", "tests.system.warden.dying", str(server.config)]
    server.program = [*program, action, str(step), str(out)]
    server.start()
    assert ids(server) == set()
    with server.client() as client:
        try:
            handle = create(client, grace_time=3600)
            spawn(client, handle, "while :; do sleep 0.1; done")
            client.call(pb.DestroyRequest(handle=handle))
        except ConnectionError:
            assert server.process is not None
            assert server.process.wait(60) == -signal.SIGKILL
            return 0
    return int(out.read_text())


@pytest.mark.parametrize("action", ["create", "destroy"])
def test_nothing_is_left(server: WardenServer, action: str) -> None:
    steps = act(server, action, 0)
    idle = footprint(server, set())
    server.end(signal.SIGTERM)
    seen: set[str] = set()
    points = steps if os.environ.get("WARDEN_CRASH_POINTS") == "all" else POINTS[server.engine]
    for step in (1 + point * steps // points for point in range(points)):
        assert act(server, action, step) == 0, "the step was not reached"
        made = ids(server)
        seen |= made
        server.program = [sys.executable, "-m", "warden", "serve", "-c", str(server.config)]
        server.start()
        with server.client() as client:  # killed before its first change, a container is whole, and there again
            for handle in client.call(pb.ListRequest()).handles:
                assert client.call(pb.InfoRequest(handle=handle)).state == "active"
                client.call(pb.DestroyRequest(handle=handle))
        assert ids(server) == set()
        assert footprint(server, seen) <= idle, f"step {step} of {steps}"
        until(lambda: supervisors(server.depot) == [], "a supervisor is left")
        server.end(signal.SIGTERM)
    assert seen, "no server was killed while a container was there"
    assert footprint(server, seen) == set(), server.log.read_text()[-3000:]

"""kill -9 of the server in the middle of create and destroy: the next server leaves nothing of it.

Some steps of each action, spread over all of them; WARDEN_CRASH_POINTS=all takes each one (minutes). Each server takes
up what the one before left, and dies in turn.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import free_network, need_root
from tests.system.harness import until
from tests.system.warden.dying import ACTIONS
from tests.system.warden.servers import WardenServer, build_minimal, create, info, refused, spawn, supervisors
from warden.protocol import pb

POINTS = {"insecure": 2, "runc": 3}  # of each action, spread over its steps
NAME = f"wtest{os.getpid()}"
# What the next server finds, in the order of the steps at which the one before was killed: a letter each, of "active",
# "stopped" and "gone". A container is whole until its first change and gone from then on, but between stop and removal.
FOUND = {"create": r"g+a*", "destroy": r"a*g*s*g*"}


@pytest.fixture(params=list(POINTS))
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WardenServer]:
    settings = {
        "server": {"name": NAME, "container_rootfs_path": str(tmp_path / "rootfs")},
        "port": {"pool_start_port": 61000, "pool_size": 1000},
        "network": {"pool_network": str(free_network())},
    }
    if request.param == "runc":
        need_root()
        build_minimal(tmp_path / "rootfs")
    running = WardenServer(tmp_path, settings, request.param)
    whole = running.program
    yield running
    running.program = whole
    running.leave_nothing()  # also of a test that failed half way


def footprint(server: WardenServer, ids: set[str]) -> set[str]:
    """What there is of a server and of containers: mounts, loop devices, layers, links, rules, cgroups."""
    depot = str(server.depot)
    found = {
        f"mount {line.split()[4]}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if depot in line
    }
    found |= {f"layer or note {path}" for path in (server.depot / ".engine").glob("*/*") if path.name in ids}
    found |= {f"image {path}" for path in (server.depot / ".engine").glob("*.img*")}
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


def act(server: WardenServer, handle: str) -> int:
    """A whole life: create, a job, destroy. The job's id."""
    with server.client() as client:
        create(client, handle=handle, grace_time=3600)
        job = spawn(client, handle, "exec sleep 1000")  # one process: its end takes the same steps each time
        client.call(pb.DestroyRequest(handle=handle))
    return job


def die(server: WardenServer, action: str, step: int) -> bool:
    """Has the server do it, and be killed at a step; False if the action has ended before."""
    try:
        act(server, f"{action}-{step}")
    except ConnectionError:
        assert server.process is not None
        assert server.process.wait(60) == -signal.SIGKILL
        return True
    return False


def take_up(server: WardenServer) -> str:
    """What the next server finds of the container; that is destroyed."""
    with server.client() as client:
        handles = list(client.call(pb.ListRequest()).handles)
        if not handles:
            return "gone"
        (handle,) = handles
        seen = info(client, handle)
        if seen.state == "stopped":  # its job has ended, no other can begin
            for job in seen.job_ids:
                assert client.call(pb.LinkRequest(handle=handle, job_id=job)).exit_status == 255
            with refused("Container state must be one of 'active', current state is 'stopped'"):
                spawn(client, handle, "true")
        client.call(pb.DestroyRequest(handle=handle))
        return str(seen.state)


def test_nothing_is_left(server: WardenServer) -> None:
    counts = server.folder / "steps"
    server.program = [sys.executable, "-m", "tests.system.warden.dying", str(server.config), str(counts)]
    server.start()
    act(server, "whole")
    steps = {action: int(number) for action, number in map(str.split, counts.read_text().splitlines())}
    assert set(steps) == set(ACTIONS)
    idle = footprint(server, set())
    seen: set[str] = set()
    for action in ACTIONS:
        points = steps[action] if os.environ.get("WARDEN_CRASH_POINTS") == "all" else POINTS[server.engine]
        found = []
        for step in (1 + point * steps[action] // points for point in range(points)):
            if not die(server, action, step):
                # Some wait for others, in more steps or fewer.
                assert step > steps[action] * 3 // 4, f"step {step} of {steps} of {action} was not reached"
                break
            seen |= ids(server)
            server.start()
            found.append(take_up(server))
            assert ids(server) == set()
            assert footprint(server, seen) <= idle, f"killed at step {step} of {steps[action]} of {action}"
            until(lambda: supervisors(server.depot) == [], "a supervisor is left")
        assert re.fullmatch(FOUND[action], "".join(state[0] for state in found)), f"{action}: {found}"
    assert seen, "no server was killed while a container was there"
    server.end(signal.SIGTERM)
    assert footprint(server, seen) == set(), server.log.read_text()[-3000:]

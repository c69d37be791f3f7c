"""Containers of the real engine for tests: each test process has a depot, networks and uids of its own.

Needs root, runc, nftables, btrfs-progs and catatonit; `bin/test` installs the programs. What happens inside is bash and
perl, which every Debian has, over a root file system that borrows the host's /usr.
"""

import asyncio
import contextlib
import ipaddress
import itertools
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gorouter_py.component import Logger, Sink
from tests.support import entry
from warden.engine import kernel, rootfs
from warden.engine.api import BindMount, Settings, Spec
from warden.engine.disk import loop_devices
from warden.engine.network import index_of, netlink
from warden.engine.runc import RuncEngine, tag

DEADLINE_S = 30.0
T = TypeVar("T")
_ids = itertools.count(random.getrandbits(50))
_DIGITS = "0123456789abcdefghijklmnopqrstuv"


def need_root() -> None:
    """Skips where no container can be made: not root, or a kernel without namespaces' and overlay's support."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if "overlay" not in Path("/proc/filesystems").read_text().split():
        pytest.skip("needs a kernel with overlay")


def new_id() -> str:
    """11 characters that no other test, run or server has."""
    number = next(_ids)
    return "".join(_DIGITS[number >> shift & 31] for shift in range(50, -5, -5))


def free_network() -> ipaddress.IPv4Network:
    """A /24 that no link of this machine has an address in; another run draws another one."""
    with netlink() as links:
        taken = [ipaddress.IPv4Address(item.get_attr("IFA_ADDRESS")) for item in links.get_addr(family=socket.AF_INET)]
    while True:
        found = ipaddress.IPv4Network((0x0A000000 | random.randrange(64, 250) << 16 | random.randrange(256) << 8, 24))
        if not any(address in found for address in taken):
            return found


def run_bash(argv: list[str], script: str, cwd: Path) -> subprocess.Popen[str]:
    """A job as its supervisor starts it, with its two outputs as one."""
    (cwd / "script").write_text(script)
    argv = [sys.executable, "-I", "-S", entry.__file__, str(cwd / "pid"), *argv]
    with (cwd / "script").open() as stdin:
        return subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd)


class Box:
    """A container."""

    def __init__(self, host: "Host", spec: Spec) -> None:
        self.host = host
        self.spec = spec
        self.id = spec.container_id
        self.ip = spec.container_ip
        self._jobs = itertools.count()

    def start(self, script: str, user: str = "vcap", **rlimits: int) -> subprocess.Popen[str]:
        """Starts a job and does not wait for it."""
        folder = self.spec.path / f"job{next(self._jobs)}"
        folder.mkdir()
        argv = self.host.engine.job_argv(self.spec, user, rlimits, folder / "pid")
        return run_bash(argv, script, folder)

    def run(self, script: str, user: str = "vcap", **rlimits: int) -> tuple[int, str]:
        """Exit status and output of a job."""
        job = self.start(script, user, **rlimits)
        out, _ = job.communicate(timeout=DEADLINE_S * 2)
        return job.returncode, out

    def says(self, script: str, user: str = "vcap") -> str:
        """Output of a job that must succeed."""
        status, out = self.run(script, user)
        assert status == 0, f"status {status}: {out}"
        return out.strip()

    def do(self, name: str, *arguments: Any) -> Any:
        """A method of the engine for this container."""
        return self.host.do(getattr(self.host.engine, name)(self.spec, *arguments))

    def destroy(self) -> None:
        self.do("stop", True)
        self.do("destroy")


class Host:
    """One engine with its depot, on an event loop that runs while something is asked of it."""

    def __init__(self, base: Path, **settings: Any) -> None:
        self.base = base
        self.root = base / "rootfs"
        if not self.root.exists():
            rootfs.build(self.root, minimal=True)
        depot = base / "depot"
        depot.mkdir(exist_ok=True)
        settings.setdefault("pool_network", str(free_network()))
        settings.setdefault("disk_image_size", 1 << 30)
        self.settings = Settings(depot=depot, rootfs=self.root, **settings)
        self._networks = ipaddress.IPv4Network(self.settings.pool_network).subnets(new_prefix=30)
        self._uids = itertools.count(random.randrange(1 << 20, 1 << 30))
        self.loop = asyncio.new_event_loop()
        self.lines: list[str] = []
        self.engine = self.new_engine()

    def new_engine(self) -> RuncEngine:
        """As after a restart of the server: knows nothing but the settings."""
        return RuncEngine(self.settings, Logger(_Lines(self.lines), "test"))

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, DEADLINE_S * 2))

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Lets the event loop run until something is so."""

        async def wait() -> None:
            while not condition():
                await asyncio.sleep(0.01)

        try:
            self.loop.run_until_complete(asyncio.wait_for(wait(), DEADLINE_S))
        except TimeoutError:
            raise TimeoutError(what) from None

    def spec(self, *binds: BindMount) -> Spec:
        """A container that is not made yet; its folder is."""
        network = next(self._networks)
        container_id = new_id()
        path = self.settings.depot / container_id
        path.mkdir()
        host_ip, container_ip = (str(address) for address in network.hosts())
        return Spec(container_id, container_id, path, self.root, next(self._uids), host_ip, container_ip, 30, binds)

    def create(self, *binds: BindMount) -> Box:
        box = Box(self, self.spec(*binds))
        self.do(self.engine.create(box.spec))
        return box

    @contextlib.contextmanager
    def box(self, *binds: BindMount) -> Iterator[Box]:
        box = self.create(*binds)
        try:
            yield box
        finally:
            box.destroy()

    def left(self) -> dict[str, list[str]]:
        """All that is of this engine on the machine, but the folders of the depot."""
        name = tag(self.settings)
        depot = Path(os.path.realpath(self.settings.depot))
        groups = Path("/sys/fs/cgroup")
        tables = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
        table = tables.partition(f"table inet {name} {{")[2].partition("\n}\n")[0]
        with netlink() as links:
            named = [item.get_attr("IFLA_IFNAME") for item in links.get_links()]
        ids = {path.name for path in depot.iterdir()} | self.do(self.engine.leftovers())
        return {
            "mounts": sorted(str(mount.target) for mount in kernel.mounts() if mount.target.is_relative_to(depot)),
            "links": sorted(link for link in named if link[2:13] in ids),
            "groups": sorted(str(path) for path in groups.glob(f"**/{name}/**") if path.is_dir()),
            "rules": table.splitlines(),
            "loops": loop_devices(self.settings.depot / ".engine" / "disk.img"),
            "state": sorted(path.name for path in (depot / ".engine" / "runc").glob("*")),
        }

    def close(self) -> None:
        """Takes down the engine and checks that the machine is as it was before it."""
        try:
            self.do(self.engine.teardown())
            name = tag(self.settings)
            tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
            assert name not in tables
            depot = os.path.realpath(self.settings.depot)
            assert not [mount for mount in kernel.mounts() if mount.target.is_relative_to(depot)]
            assert not list(Path("/sys/fs/cgroup").glob(f"**/{name}"))
            assert not loop_devices(Path(depot, ".engine", "disk.img"))
            assert not (self.settings.depot / ".engine").exists()
        finally:
            self.loop.close()
            shutil.rmtree(self.base, ignore_errors=True)


@contextlib.contextmanager
def running(base: Path, **settings: Any) -> Iterator[Host]:
    """An engine that is set up, and torn down after."""
    need_root()
    host = Host(base, **settings)
    try:
        host.do(host.engine.setup())
        yield host
    finally:
        for path in host.settings.depot.iterdir():
            if len(path.name) == 11:  # a test failed half way
                box = Box(host, Spec(path.name, path.name, path, host.root, 0, "", "", 30))
                box.destroy()
        host.close()


class _Lines(Sink):
    """Keeps the lines of a log."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.kept = lines

    def write(self, line: bytes) -> None:
        self.kept.append(line.decode())


class Outside:
    """Another machine: a network namespace that a pair of links joins to ours."""

    def __init__(self) -> None:
        network = free_network()
        self.host_ip, self.ip = str(network[1]), str(network[2])
        self.link = f"t-{new_id()}-0"
        self._process = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "echo ready; exec sleep 600"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()
        peer = {"ifname": "eth0", "net_ns_pid": self._process.pid}
        with netlink() as links:
            links.link("add", ifname=self.link, kind="veth", peer=peer)
            index = links.link_lookup(ifname=self.link)[0]
            links.addr("add", index=index, address=self.host_ip, prefixlen=24)
            links.link("set", index=index, state="up")
        self.sh(f"ip link set lo up; ip addr add {self.ip}/24 dev eth0; ip link set eth0 up")
        self.sh(f"ip route add default via {self.host_ip}")

    def command(self, script: str) -> list[str]:
        return ["nsenter", "-t", str(self._process.pid), "-n", "sh", "-c", script]

    def sh(self, script: str) -> str:
        return subprocess.run(self.command(script), capture_output=True, text=True, check=True).stdout

    def start(self, script: str) -> subprocess.Popen[str]:
        return subprocess.Popen(self.command(script), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def close(self) -> None:
        with netlink() as links:  # before the namespace goes, and the link with it, at a time of the kernel's choice
            links.link("del", index=index_of(links, self.link))
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def eventually(function: Callable[[], T], accepted: Callable[[T], bool] = bool, what: str = "") -> T:
    """Calls until the result is as wanted; what it was last goes into the error."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        value = function()
        if accepted(value):
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what or 'it did not become so'}: {value!r}")
        time.sleep(0.05)

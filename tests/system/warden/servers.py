"""A warden server as a process of its own, for system tests."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from tests.system.harness import ROOT, until
from warden.client import BlockingClient, WardenError
from warden.protocol import pb

Tree = dict[str, dict[str, Any]]


class WardenServer:
    """`warden serve` with a depot below `folder`; start() again after an end finds what the last one left."""

    def __init__(self, folder: Path, settings: Tree | None = None, engine: str = "insecure") -> None:
        self.folder = folder
        self.engine = engine
        # Not in `folder`: the name of a socket holds 107 bytes.
        self._sockets = tempfile.TemporaryDirectory(prefix="warden-")
        self.socket = f"{self._sockets.name}/w.sock"
        self.depot = folder / "depot"
        tree: Tree = {
            "server": {
                "unix_domain_path": self.socket, "container_depot_path": str(self.depot), "engine": engine,
                "pidfile": str(folder / "pid"),
            },
            "health_check_server": {"port": 0},
            "network": {"release_delay": 0},
        }  # fmt: skip
        for section, values in (settings or {}).items():
            tree.setdefault(section, {}).update(values)
        self.config = folder / "warden.yml"
        self.config.write_text(json.dumps(tree))
        self.log = folder / "log"
        self.program = [sys.executable, "-m", "warden", "serve", "-c", str(self.config)]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave_nothing()

    def leave_nothing(self) -> None:
        """Destroys all containers, with a new server where there is none, and ends the server."""
        try:
            if self.process is None or self.process.poll() is not None:
                self.start()
            with self.client() as client:
                for handle in client.call(pb.ListRequest()).handles:
                    try:
                        client.call(pb.DestroyRequest(handle=handle))
                    except WardenError as error:
                        if str(error) != "unknown handle":  # its grace time has ended since it was listed
                            raise
            self.end(signal.SIGTERM)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Ends the process, however it is, and nothing else."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._sockets.cleanup()

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.program, stdout=log, stderr=log, cwd=ROOT)
        until(self._answers, "the server does not listen")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            with self.client() as client:
                # A connection says little: a child of a server that was killed may hold its socket until it execs.
                client.call(pb.PingRequest())
        except OSError:
            return False
        return True

    def client(self) -> BlockingClient:
        return BlockingClient.connect(self.socket, timeout=60)

    def end(self, number: signal.Signals) -> int:
        """Sends a signal and waits for the process's end; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def lines(self, message: str) -> list[dict[str, Any]]:
        """Lines of the log with one message."""
        parsed = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in parsed if line["message"] == message]


def build_minimal(path: Path) -> None:
    """A root file system of the host's own /usr, as the program makes it."""
    subprocess.run([sys.executable, "-m", "warden", "rootfs", "build", "--minimal", str(path)], check=True, cwd=ROOT)


@contextmanager
def refused(text: str) -> Iterator[None]:
    """The server refuses what is asked inside, with exactly this text."""
    with pytest.raises(WardenError) as caught:
        yield
    assert str(caught.value) == text


def run(client: BlockingClient, handle: str, script: str, **fields: Any) -> Any:
    return client.call(pb.RunRequest(handle=handle, script=script.encode(), **fields))


def spawn(client: BlockingClient, handle: str, script: str, **fields: Any) -> int:
    return int(client.call(pb.SpawnRequest(handle=handle, script=script.encode(), **fields)).job_id)


def create(client: BlockingClient, **fields: Any) -> str:
    return str(client.call(pb.CreateRequest(**fields)).handle)


def info(client: BlockingClient, handle: str) -> Any:
    return client.call(pb.InfoRequest(handle=handle))


def supervisors(depot: Path) -> list[int]:
    """Pids of the supervisors of jobs in a depot."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                command = Path(f"/proc/{name}/cmdline").read_bytes()
                folder = os.readlink(f"/proc/{name}/cwd")
            except OSError:
                continue
            if b"supervisor.py" in command and folder.startswith(os.path.realpath(depot)):
                found.append(int(name))
    return found


@contextmanager
def asked(server: WardenServer, request: Any) -> Iterator[BlockingClient]:
    """A connection whose request the server is at; `receive` gives the reply."""
    with server.client() as waiting, server.client() as other:
        waiting.call(pb.PingRequest())
        waiting.send(request)
        for _ in range(10):  # it has read everything that was sent before
            other.call(pb.PingRequest())
        yield waiting

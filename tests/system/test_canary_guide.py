"""docs/canary.md does what it says: its ten commands, typed one after the other into one shell."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.system.harness import DEADLINE_S, ROOT, free_ports

pytestmark = [pytest.mark.slow, pytest.mark.release_only]

GUIDE = (ROOT / "docs" / "canary.md").read_text()
PORTS = ("4222", "8081", "8080", "8082", "9001", "9002")


def commands(folder: Path) -> list[str]:
    """Those of the first block, with ports that are free here and a socket of our own."""
    block = re.search(r"^```sh\n(.*?)^```", GUIDE, re.M | re.S)
    assert block is not None
    found = block[1].replace("/tmp/gorouter-admin.sock", str(folder / "admin.sock"))
    for port, free in zip(PORTS, free_ports(len(PORTS)), strict=True):
        assert re.search(rf"\b{port}\b", found), f"the guide has no port {port}"
        found = re.sub(rf"\b{port}\b", str(free), found)
    return found.splitlines()


class Shell:
    """A bash that is typed into; what it starts ends with it."""

    def __init__(self, folder: Path) -> None:
        self._output = folder / "output"
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with self._output.open("wb") as out:
            self._process = subprocess.Popen(
                ["bash", "--noprofile", "--norc"], stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT,
                cwd=ROOT, env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}, start_new_session=True,
            )  # fmt: skip
        self._typed = 0

    def type(self, command: str) -> tuple[int, str]:
        """Exit code and output of a command; of one in the background, what came until the next prompt."""
        begin = len(self._output.read_text(errors="replace"))
        self._typed += 1
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\necho ready-{self._typed}:$?\n".encode())
        self._process.stdin.flush()
        deadline = time.monotonic() + 2 * DEADLINE_S
        while True:
            said = self._output.read_text(errors="replace")[begin:]
            if match := re.search(rf"ready-{self._typed}:(\d+)\n", said):
                return int(match[1]), said[: match.start()]
            assert self._process.poll() is None and time.monotonic() < deadline, f"{command}: {said[-2000:]}"
            time.sleep(0.02)

    def until(self, command: str, words: str) -> str:
        """Types a command until its output has these words."""
        deadline = time.monotonic() + DEADLINE_S
        while words not in (said := self.type(command)[1]):
            assert time.monotonic() < deadline, said[-2000:]
            time.sleep(0.1)
        return said

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        finally:
            os.killpg(self._process.pid, signal.SIGKILL) if alive(self._process.pid) else None
            deadline = time.monotonic() + 10
            while alive(self._process.pid) and time.monotonic() < deadline:
                time.sleep(0.02)


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_ten_commands_to_an_automatic_rollback(tmp_path: Path) -> None:
    ten = commands(tmp_path)
    assert len(ten) == 10
    router_ports = re.search(r"--admin-port (\d+)", "\n".join(ten))
    assert router_ports is not None
    shell = Shell(tmp_path)
    try:
        for command in ten[:5]:
            assert shell.type(command)[0] == 0
        shell.until(f"gorouter-py routes --port {router_ports[1]}", "2 instances")
        code, said = shell.type(ten[5])
        assert code == 0 and "shop.localhost: ramping; v1 -> v2; weight 10%" in said
        assert shell.type(ten[6])[0] == 0
        code, said = shell.type(ten[7])
        assert code == 4 and "shop.localhost: aborted" in said
        code, said = shell.type(ten[8])
        assert code == 0 and "verdict worse" in said and "GET /cart" in said and "500" in said
        code, said = shell.type(ten[9])
        assert code == 0 and "shop v1: /" in said
    finally:
        shell.close()


def test_tests_that_the_guide_names_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", GUIDE))
    assert len(named) > 8
    source = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert {name for name in named if f"def {name}(" not in source} == set()

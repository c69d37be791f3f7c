"""The program: each request as a command, and its complaints."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tests.system.harness import ROOT
from tests.system.warden.servers import WardenServer
from warden.cli import main
from warden.protocol import TYPES


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WardenServer]:
    settings = {"port": {"pool_start_port": 61000, "pool_size": 1000}}
    with WardenServer(tmp_path_factory.mktemp("warden"), settings) as running:
        yield running


def warden(server: WardenServer, *words: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, ["-s", server.socket, *words], input=stdin)


def said(server: WardenServer, *words: str) -> str:
    result = warden(server, *words)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_life_by_commands(server: WardenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(server, "ping") == "pong\n"
    assert said(server, "echo", "hi ☃") == "hi ☃\n"
    assert said(server, "create", "--handle", "a", "--grace-time", "600", "--bind-mount", "/etc:/mnt/etc:ro") == "a\n"
    assert said(server, "list") == "a\n"
    assert "state: active\n" in said(server, "info", "a")
    ran = warden(server, "run", "a", "echo out; echo err >&2; exit 4")
    assert (ran.exit_code, ran.stdout, ran.stderr) == (4, "out\n", "err\n")
    assert warden(server, "run", "a", "-", stdin="echo from stdin").output == "from stdin\n"
    assert said(server, "run", "a", "--rlimit", "nofile=99", "--privileged", "ulimit -n") == "99\n"
    assert said(server, "run", "a", "--", "echo", "-n", "x") == "x"
    job = said(server, "spawn", "a", "echo one; exit 3").strip()
    linked = warden(server, "link", "a", job)
    assert (linked.exit_code, linked.output) == (3, "one\n")
    job = said(server, "spawn", "a", "echo two >&2; exit 5").strip()
    streamed = warden(server, "stream", "a", job)
    assert (streamed.exit_code, streamed.stderr) == (5, "two\n")
    assert said(server, "net-in", "a", "--host-port", "5001", "--container-port", "80") == "5001 5001\n"
    said(server, "net-out", "a", "--network", "10.0.0.0/8", "--port-range", "1:2", "--protocol", "udp", "--log")
    assert said(server, "limit-memory", "a", "1048576") == "1048576\n"
    assert said(server, "limit-memory", "a") == "1048576\n"
    assert said(server, "limit-cpu", "a", "99") == "99\n"
    assert said(server, "limit-bandwidth", "a", "1000", "2000") == "1000 2000\n"
    assert "byte: 4096\n" in said(server, "limit-disk", "a", "--byte", "4096")
    (tmp_path / "file").write_text("x")
    said(server, "copy-in", "a", str(tmp_path / "file"), "copy")
    said(server, "copy-out", "a", "copy", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "x"
    monkeypatch.chdir(tmp_path)  # not the server's
    said(server, "copy-in", "a", "./file", "again")
    said(server, "copy-out", "a", "again", "there")
    assert (tmp_path / "there").read_text() == "x"
    said(server, "stop", "a", "--kill", "--background")
    said(server, "destroy", "a")
    assert said(server, "list") == ""


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["info", "no"], "Error: unknown handle\n"),
        (["create", "--bind-mount", "/a:/b:rx"], "'/a:/b:rx' is no bind mount; valid: SRC[:DST[:ro|rw]]"),
        (
            ["run", "a", "--rlimit", "files=3", "true"],
            "'files=3' is no limit; valid: NAME=NUMBER with NAME of",
        ),
        (["net-in", "a", "--host-port", "70000"], "70000 is not in the range"),
    ],
)
def test_complaints(server: WardenServer, words: list[str], complaint: str) -> None:
    result = warden(server, *words)
    assert result.exit_code in (1, 2)
    assert complaint in result.stderr


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


@pytest.mark.parametrize(("path", "command"), [pytest.param(*each, id=" ".join(each[0])) for each in commands(main)])
def test_help_has_examples_that_are_right(path: tuple[str, ...], command: click.Command) -> None:
    shown = CliRunner().invoke(main, [*path, "--help"]).output
    lines = [line.strip() for line in shown.partition("Example")[2].splitlines()[1:]]
    assert lines
    for line in lines:
        program, *words = shlex.split(line.partition(" <")[0])
        assert (program, *words[: len(path)]) == ("warden", *path)
        command.make_context(path[-1], words[len(path) :])  # what it does not take is an error


def test_every_request_is_a_command() -> None:
    names = {re.sub(r"(?<!^)([A-Z])", r"-\1", name).lower() for name, _, _ in TYPES.values()}
    assert len(names) == 19
    assert names | {"serve", "doctor", "demo", "rootfs", "shell"} == set(main.commands)


def test_shell(server: WardenServer) -> None:
    lines = "create --handle s --grace-time 0\n\nlist\nrun s 'echo hello; exit 3'\ninfo no\n'\nquit\nlist\n"
    result = warden(server, "shell", stdin=lines)
    assert result.stdout == "s\ns\nhello\n"
    assert result.stderr == "Error: unknown handle\nError: No closing quotation\n"
    said(server, "create", "--handle", "t")
    result = warden(server, "shell", "t", stdin="echo one\ncd /; pwd\n")
    assert result.stdout == "one\n/\n"
    said(server, "destroy", "t")


def program(*words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "warden", *words], capture_output=True, text=True, cwd=ROOT, timeout=120
    )  # fmt: skip


def test_no_server_there(tmp_path: Path) -> None:
    result = program("-s", f"{tmp_path}/none", "list")
    assert result.returncode == 1
    assert (
        result.stderr
        == f"Error: {tmp_path}/none: [Errno 2] No such file or directory; does `warden serve` run there?\n"
    )


def test_a_configuration_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("server:\n  engine: none\n")
    result = program("serve", "-c", str(tmp_path / "c.yml"))
    assert result.returncode == 1
    wanted = f"Error: {tmp_path}/c.yml:2:11: server.engine: 'none' is unknown; valid: runc, insecure\n"
    assert result.stderr == wanted
    assert program("serve", "-c", str(tmp_path / "missing.yml")).stderr.endswith("No such file or directory\n")


def test_what_keeps_the_server_from_starting(tmp_path: Path) -> None:
    def start(**sections: object) -> str:
        server = {
            "engine": "insecure",
            "container_depot_path": f"{tmp_path}/depot",
            "unix_domain_path": f"{tmp_path}/s",
        }
        tree = {"server": server, "health_check_server": {"port": 0}, **sections}
        (tmp_path / "c.yml").write_text(json.dumps(tree))
        result = program("serve", "-c", str(tmp_path / "c.yml"))
        assert result.returncode == 1
        return result.stderr

    assert "a pool of 10 ports from 61000 on is too small" in start(port={"pool_start_port": 61000, "pool_size": 10})
    assert "uid 0 of the pool 0 to 63 belongs to root" in start(user={"pool_start_uid": 0})
    (tmp_path / "s").write_text("a file")
    assert f"{tmp_path}/s is no socket" in start()


def test_demo_without_isolation() -> None:
    result = program("-s", "/nowhere", "demo", "--engine", "insecure")
    assert result.returncode == 1
    assert "engine enforces no limit on memory" in result.stdout
    assert "destroy: gone" in result.stdout

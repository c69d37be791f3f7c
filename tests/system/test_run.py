"""bin/run itself: what it prints works, it stops cleanly however it is ended, and it never leaves a process behind."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gorouter_py.control.cli import serve
from gorouter_py.control.config import serve_config
from tests.support import ports
from tests.system.demo import ROOT, Demo, gone, running

pytestmark = [pytest.mark.slow, pytest.mark.release_only]


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    with running(ports.take) as up:
        yield up


def curl(*arguments: str) -> str:
    command = ["curl", "-sS", "--fail-with-body", "--max-time", "20", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_every_printed_curl_line_works(demo: Demo, tmp_path: Path) -> None:
    commands = re.findall(r"^.*?\b(curl (?:-\S+ (?:'[^']*' |jar )?)*http://\S+)", demo.output, re.M)
    assert len(commands) >= 8, demo.output
    for command in commands:
        words = [str(tmp_path / "jar") if word == "jar" else word for word in shlex.split(command)[1:]]
        curl(*words)


def test_both_instances_answer_in_turn(demo: Demo) -> None:
    answers = [json.loads(curl(f"http://hello.localhost:{demo.port}/headers"))["instance"] for _ in range(6)]
    assert sorted(answers) == ["0", "0", "0", "1", "1", "1"]


def test_a_session_stays_where_it_began(demo: Demo, tmp_path: Path) -> None:
    url = f"http://hello.localhost:{demo.port}"
    jar = ["-c", str(tmp_path / "jar"), "-b", str(tmp_path / "jar")]
    began = curl(*jar, f"{url}/login").strip()[-1]
    stayed = {json.loads(curl(*jar, f"{url}/headers"))["instance"] for _ in range(5)}
    assert stayed == {began}


def test_the_instance_gets_the_identity_of_the_request(demo: Demo) -> None:
    got = dict(json.loads(curl(f"http://hello.localhost:{demo.port}/headers"))["headers"])
    assert {"x-forwarded-for", "x-forwarded-proto", "x-request-start", "x-vcap-request-id"} <= got.keys()
    assert got["x-forwarded-for"] == "127.0.0.1"


def test_the_access_log_is_where_it_says(demo: Demo) -> None:
    found = demo.wait_for(r"tail -f (\S+)")[1]
    log = Path(found) if found.startswith("/") else ROOT / found
    marker = f"/?marker={os.getpid()}"
    curl(f"http://hello.localhost:{demo.port}{marker}")
    for _ in range(100):
        if marker in log.read_text():
            return
        subprocess.run(["sleep", "0.1"], check=True)
    raise AssertionError(f"{marker} is not in {log}")


def test_the_routes_are_listed(demo: Demo) -> None:
    url = demo.wait_for(r"curl (http://127\.0\.0\.1:\d+/routes)")[1]
    assert len(json.loads(curl(url))["hello.localhost"]) == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)], ids=["INT", "TERM"])
def test_stops_cleanly(free_port: Callable[[], int], number: signal.Signals, code: int) -> None:
    with running(free_port) as demo:
        children = demo.children()
        assert len(children) == 6, children
        assert demo.end(number) == code, demo.output
        assert "killed" not in demo.output
        assert gone(children), demo.output


def test_stops_cleanly_while_starting(free_port: Callable[[], int]) -> None:
    demo = Demo("--port", str(free_port()), "--status-port", str(free_port()), "--routes-port", str(free_port()))
    try:
        demo.wait_for("Starting the router")
        children = demo.children()
        assert demo.end(signal.SIGINT) == 130, demo.output
        assert gone(children), demo.output
    finally:
        demo.close()


@pytest.mark.parametrize(
    ("command", "called"), [("nats-server", "nats"), ("gorouter-py", "router"), ("uvicorn", "hello")]
)
def test_a_part_that_ends_is_named_and_ends_the_rest(free_port: Callable[[], int], command: str, called: str) -> None:
    with running(free_port) as demo:
        children = demo.children()
        victim = next(pid for pid, line in children.items() if command in line)
        os.kill(victim, signal.SIGKILL)
        assert demo.process.wait(timeout=60) == 1
        assert demo.wait_for(rf"error: {called}\S* ended \(signal 9\)")
        assert gone(children), demo.output


def test_leaves_nothing_behind_when_killed_outright(free_port: Callable[[], int]) -> None:
    with running(free_port) as demo:
        children = demo.children()
        demo.process.kill()
        demo.process.wait()
        assert gone(children, patience_s=30), children


def test_takes_another_port_when_one_is_taken(free_port: Callable[[], int]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        demo = Demo(
            *("--port", str(port), "--status-port", str(free_port()), "--routes-port", str(free_port()), "--once")
        )
        try:
            other = int(demo.wait_for(rf"Port {port} is taken .* listens on (\d+) instead")[1])
            assert demo.port == other != port
            assert demo.process.wait(timeout=60) == 0, demo.output
        finally:
            demo.close()


def readme_line() -> str:
    lines = (ROOT / "README.md").read_text().splitlines()
    return next(line for line in lines if line.startswith(".venv/bin/gorouter-py serve"))


def test_the_readmes_app_has_its_port_to_itself() -> None:
    words = shlex.split(readme_line())[2:]
    given = serve.make_context("serve", words).params
    config = serve_config(None, {"port": given["port"]}).config
    taken = {int(config.port), int(config.status.port), int(config.status.routes.port)}
    assert len(taken) == 3 and not taken & {route.port for route in given["routes"]}


def test_the_one_line_front_door_of_the_readme(demo: Demo, free_port: Callable[[], int]) -> None:
    """The README's command with its three addresses replaced by ones that are free here."""
    line = readme_line()
    front, app = free_port(), demo.port
    command = line.replace("8081", str(front)).replace("127.0.0.1:8080", f"127.0.0.1:{app}")
    command += f" --status-port {free_port()} --routes-port {free_port()}"
    router = subprocess.Popen(shlex.split(command), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        # The app behind it is the sample system's router, which knows no app.example.com: its own 404 proves the way.
        for _ in range(100):
            done = subprocess.run(
                ["curl", "-s", "-i", "-H", "Host: app.example.com", f"http://127.0.0.1:{front}/"],
                capture_output=True,
                text=True,
            )
            if done.returncode == 0:
                break
            subprocess.run(["sleep", "0.1"], check=True)
        assert re.match(r"HTTP/1\.1 404 .*X-Cf-RouterError: unknown_route", done.stdout, re.S | re.I), done.stdout
    finally:
        router.terminate()
        assert router.wait(timeout=30) == 0

"""`gorouter-py canary` and the page against a router process: start, watch, steer, explain."""

import http.server
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.chromium import browser
from tests.system.crowd import people, visit
from tests.system.harness import DEADLINE_S, Served, free_ports, until
from tests.system.rollouts import HOST, Rig, share

pytestmark = [pytest.mark.slow, pytest.mark.release_only]


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig({"v1": 0.0, "v2": 0.0}) as running:
        yield running


def canary(rig: Rig, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gorouter_py", "canary", *arguments, "--socket", str(rig.socket)]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def done(rig: Rig, *arguments: str) -> str:
    result = canary(rig, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_from_start_to_end(rig: Rig) -> None:
    assert canary(rig, "status", HOST).returncode == 3
    said = done(
        rig, "start", HOST, "--to", "v2", "--steps", "10%,50%,100%", "--hold", "1h", "--who", "kim", "--why", "new",
        "--abort-if", "errors>stable",
    )  # fmt: skip
    assert f"{HOST}: ramping; v1 -> v2; weight 10%, step 1/3" in said
    crowd = people(400)
    visit(rig.port, HOST, crowd)
    assert share(crowd, "v2") == pytest.approx(10, abs=0.5)

    until(lambda: re.search(r"v2 +canary +10% +\d", done(rig, "status")))  # numbers are those of the last second
    assert "kim" in done(rig, "status") and "new" in done(rig, "status")
    assert json.loads(done(rig, "status", HOST, "--json"))["weight"] == 10.0
    mine = next(person for person in crowd if person.versions[0] == "v2")
    assert done(rig, "explain", mine.cookie).startswith(f"{HOST}: v2; its cohort cookie\ncoordinate ")
    assert f"{HOST}: v1" in done(rig, "explain", HOST, "--cookie", f"gr_c={crowd[0].cookie}") or crowd[0] is mine

    assert "paused" in done(rig, "pause", "--why", "lunch")
    assert "weight 20%" in done(rig, "set", "20%")
    visit(rig.port, HOST, crowd)
    assert share(crowd, "v2") == pytest.approx(20, abs=0.5), done(rig, "why")
    assert "ramping" in done(rig, "resume")
    assert "no failing request" in done(rig, "why")

    watching = subprocess.Popen(
        [sys.executable, "-m", "gorouter_py", "canary", "status", "-w", "--socket", str(rig.socket)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watching.stdout is not None
    assert "ramping" in watching.stdout.readline()
    while json.loads(done(rig, "status", HOST, "--json"))["state"] not in ("done", "promoting"):
        done(rig, "promote")
    lines, _ = watching.communicate(timeout=DEADLINE_S)
    assert watching.returncode == 0 and f"{HOST}: done" in lines.splitlines()[-1]
    visit(rig.port, HOST, crowd)
    assert share(crowd, "v2") == 100


def test_an_abort(rig: Rig) -> None:
    done(rig, "start", HOST, "--to", "v2", "--hold", "1h")
    assert re.search("abort", done(rig, "abort", "--who", "kim", "--why", "no"))
    result = canary(rig, "status", "-w")
    assert result.returncode == 4 and "aborted" in result.stdout
    assert "kim" in done(rig, "why")


def test_refusals_are_the_routers(rig: Rig) -> None:
    result = canary(rig, "promote", "nobody.test")
    assert result.returncode == 3 and "nobody.test" in result.stderr
    result = canary(rig, "start", HOST, "--to", "v2", "--by", "colour")
    assert result.returncode == 1 and "colour" in result.stderr


class Monitoring(Served):
    """A Prometheus whose every query has one value, and beside it a webhook that agrees; `asked`: what came."""

    def __init__(self) -> None:
        super().__init__(_Monitored)
        self.value = 5.0
        self.asked: list[tuple[str, bytes]] = []


class _Monitored(http.server.BaseHTTPRequestHandler):
    server: Monitoring

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.asked.append((self.path, body))
        result = [{"metric": {}, "value": [1, str(self.server.value)]}]
        said = json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def test_external_checks_let_it_go_on_and_take_it_back(rig: Rig) -> None:
    with Monitoring() as monitoring:
        base = f"http://127.0.0.1:{monitoring.port}"
        done(
            rig, "start", HOST, "--to", "v2", "--steps", "10%,50%,100%", "--hold", "1s", "--pause-at", "50%",
            "--abort-if", "never", "--webhook", f"{base}/may-it", "--prometheus", f"{base} sum(lag) <= 10",
            "--check-interval", "200ms", "--check-failures", "2",
        )  # fmt: skip
        assert rig.wait_for_state("paused")["weight"] == 50.0
        assert {path for path, _ in monitoring.asked} == {"/may-it", "/api/v1/query?query=sum%28lag%29"}
        told = next(json.loads(body) for path, body in monitoring.asked if path == "/may-it")
        assert (told["route"], told["canary"]) == (HOST, "v2")
        monitoring.value = 50.0
        rig.wait_for_state("aborted")
    assert re.search(r"checks +prometheus .* failed 2 times in a row: 50 is above 10", done(rig, "why"))


@pytest.mark.foreign
def test_the_page_of_a_router(tmp_path: Path) -> None:
    """Before a real admin port: token, list, rollout, its events, and an action."""
    (port,) = free_ports(1)
    token = tmp_path / "token"
    token.write_text("secret-of-the-admin-port\n")
    token.chmod(0o600)
    config = tmp_path / "serve.yml"
    config.write_text(json.dumps({"gorouter_py": {"admin": {"port": port, "token_file": str(token)}}}))
    with Rig({"v1": 0.0, "v2": 50.0}, "--config", str(config)) as rig, browser(tmp_path) as page:
        rig.start(steps=["10%", "100%"], abort_if={"errors": True, "latency": False})
        page.open(f"http://127.0.0.1:{port}/")
        page.until("document.getElementById('login').hidden === false")
        page.complaints()  # the 401 that asked for the token
        page.type("#token", "secret-of-the-admin-port")
        page.click("#login button")
        page.until("document.querySelector('#rollouts tbody a')")
        page.click("#rollouts tbody a")
        page.until("document.getElementById('state').innerText === 'ramping'")
        page.click("[data-action=pause]")
        page.type("#who", "kim")
        page.click("#confirm-yes")
        page.until("document.getElementById('state').innerText === 'paused'")
        assert rig.rollout()["history"][-1]["who"] == "kim"
        for start in range(0, 2000, 50):
            visit(rig.port, HOST, people(50, start))
            if rig.rollout()["state"] != "paused":
                break
        rig.wait_for_state("aborted")
        page.until("document.getElementById('state').innerText === 'aborted'")
        page.until("document.getElementById('evidence').dataset.state === 'worse'")
        assert page.script("return document.querySelectorAll('#failing tbody tr').length") > 0
        until(lambda: "kim" in page.script("return document.getElementById('history').innerText"))
        assert page.complaints() == []

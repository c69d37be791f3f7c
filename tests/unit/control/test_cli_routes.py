"""`gorouter-py routes`: the search, and asking routers that answer well, badly or not at all."""

import base64
import http.server
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gorouter_py.control import cli, messages, routes_cmd, snapshot

A = {"address": "10.0.0.1:80", "protocol": "http1", "tls": False, "ttl": 120, "private_instance_id": "inst-a"}
B = {"address": "10.0.0.2:443", "protocol": "http2", "tls": True, "ttl": 0}
TABLE = {"app.example.com": [A, B], "app.example.com/api": [A], "other.test": []}


class Router:
    """A /routes endpoint that answers as told; `seen` are the Authorization headers."""

    def __init__(self) -> None:
        self.status, self.body = 200, json.dumps(TABLE)
        self.seen: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.seen.append(self.headers["Authorization"] if self.path == "/routes" else self.path)
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(outer.body.encode())

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()


@pytest.fixture
def router() -> Iterator[Router]:
    running = Router()
    yield running
    running.server.shutdown()
    running.thread.join()
    running.server.server_close()


def routes(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner(env=env).invoke(cli.main, ["routes", *arguments])


# -- asking a router ---------------------------------------------------------------------------------------


def test_table(router: Router) -> None:
    result = routes("--port", str(router.port))
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["ROUTE", "ADDRESS", "PROTOCOL", "TTL", "INSTANCE"],
        ["app.example.com", "10.0.0.1:80", "http1", "120s", "inst-a"],
        ["app.example.com", "10.0.0.2:443", "http2+tls", "-", "-"],
        ["app.example.com/api", "10.0.0.1:80", "http1", "120s", "inst-a"],
        ["other.test", "(no", "instance)", "http1", "-", "-"],
    ]
    assert result.stderr == "3 routes, 3 instances\n"


def test_json_as_a_program(router: Router) -> None:
    argv = [sys.executable, "-m", "gorouter_py", "routes", "--json", "--port", str(router.port)]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(result.stdout) == TABLE


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("app.example.com", {"app.example.com", "app.example.com/api"}),
        ("APP.*", {"app.example.com", "app.example.com/api"}),
        ("*.test", {"other.test"}),
        ("example.com", set()),
    ],
)
def test_host_filter(router: Router, pattern: str, found: set[str]) -> None:
    result = routes("--port", str(router.port), "--json", "--host", pattern)
    assert set(json.loads(result.stdout)) == found


def test_credentials(router: Router, tmp_path: Path) -> None:
    config = tmp_path / "c.yml"
    config.write_text(f"status: {{user: f, pass: g, routes: {{port: {router.port}}}}}\n")
    port = str(router.port)
    routes("--port", port)
    routes("--port", port, "--user", "a", "--password", "b:c")
    admin = {"GOROUTER_ADMIN_PORT": port, "GOROUTER_ADMIN_USER": "d", "GOROUTER_ADMIN_PASSWORD": "e"}
    routes(env={**admin, "GOROUTER_PORT": "1", "GOROUTER_SNAPSHOT": "/nowhere", "GOROUTER_HOST": "x"})
    routes("--config", str(config))
    routes("--config", str(config), "match", "x")
    plain = [base64.b64decode((header or "").removeprefix("Basic ")).decode() for header in router.seen]
    assert plain == [":", "a:b:c", "d:e", "f:g", "f:g"]


@pytest.mark.parametrize(
    ("status", "body", "arguments", "message"),
    [
        (401, "401 Unauthorized\n", [], "it wants a user name; give --user and --password"),
        (401, "", ["--user", "bob"], "user 'bob' is refused"),
        (404, "", [], "answered 404 Not Found; is that the routes port of a router?"),
        (200, "<html>", [], "sent no JSON"),
        (200, "[]", [], "sent a list, not a table of routes"),
    ],
)
def test_bad_answers(router: Router, status: int, body: str, arguments: list[str], message: str) -> None:
    router.status, router.body = status, body
    result = routes("--port", str(router.port), *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr


def test_nobody_there() -> None:
    with socket.socket() as bound:  # bound, not listening: refused, and nobody else takes the port
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        result = routes("--port", str(port))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"gorouter-py routes: nobody listens on 127.0.0.1:{port}")


def test_somebody_who_hangs_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        result = routes("--port", str(listener.getsockname()[1]))
        thread.join()
    assert result.exit_code == 1
    assert "no answer from 127.0.0.1" in result.stderr


# -- match -------------------------------------------------------------------------------------------------


def test_match(router: Router) -> None:
    found = routes("match", "http://APP.example.com:99/API/users?x=1#y", "--port", str(router.port))
    assert found.exit_code == 0
    assert found.stdout.splitlines()[1].split()[0] == "app.example.com/api"
    none = routes("--port", str(router.port), "match", "https://nobody.test")
    assert (none.exit_code, none.stdout) == (1, "no route matches nobody.test: 404\n")
    empty = routes("--port", str(router.port), "match", "other.test/x")
    assert (empty.exit_code, empty.stdout.partition(":")[0]) == (1, "other.test")
    said = json.loads(routes("--port", str(router.port), "match", "--json", "app.example.com").stdout)
    assert said == {"route": "app.example.com", "instances": [A, B]}


FIND = {
    "a.test": [A],
    "a.test/x": [A],
    "a.test/x/y": [],
    "only.test/x": [A],
    "*.test": [A],
    "*.b.test": [A],
    "*.deep.b.test/p": [A],
    "empty.test": [],
}


@pytest.mark.parametrize(
    ("host", "path", "key"),
    [
        ("a.test", "", "a.test"),
        ("A.TEST:80", "/", "a.test"),
        ("a.test", "/X", "a.test/x"),
        ("a.test", "/x/?q", "a.test/x"),
        ("a.test", "/xx", "a.test"),
        ("a.test", "/x/y/z", "a.test/x"),  # the deeper one has no instances
        ("a.test", "/x%2fy", "a.test"),
        ("only.test", "/x", "only.test/x"),
        ("only.test", "/z", "*.test"),  # an exact host without a match falls to the wildcard
        ("empty.test", "/", "empty.test"),  # and one with an empty match does not
        ("q.b.test", "/p", "*.b.test"),
        ("q.deep.b.test", "/p/q", "*.deep.b.test/p"),
        ("q.deep.b.test", "/r", "*.b.test"),
        ("test", "/", None),
        ("a.test.", "/", None),
        ("other", "/", None),
    ],
)
def test_find(host: str, path: str, key: str | None) -> None:
    assert routes_cmd.find(FIND, host, path) == key


# -- snapshots ---------------------------------------------------------------------------------------------


def write_snapshot(path: Path) -> None:
    facts = messages.Registration(host="10.0.0.1", port=80, app="guid", private_instance_id="inst-a")
    *_, pieces = snapshot.pack([[("app.test", time.time() + 60, facts)]], 0.0)
    assert pieces is not None
    snapshot.write(path, pieces)


def test_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "routes.snapshot"
    write_snapshot(path)
    result = routes("--snapshot", str(path), "--json")
    (instance,) = json.loads(result.stdout)["app.test"]
    assert (instance["address"], instance["private_instance_id"], instance["protocol"]) == (
        "10.0.0.1:80",
        "inst-a",
        "http1",
    )
    assert 0 < instance["ttl"] <= 60
    assert "route_service_url" not in instance
    assert routes("match", "app.test", "--snapshot", str(path)).exit_code == 0


def test_bad_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "routes.snapshot"
    write_snapshot(path)
    path.write_bytes(path.read_bytes()[:-3])
    result = routes("--snapshot", str(path))
    assert result.exit_code == 1
    assert f"{path}: not a snapshot" in result.stderr
    missing = routes("--snapshot", str(tmp_path / "none"))
    assert (missing.exit_code, missing.stderr) == (1, f"{tmp_path}/none: No such file or directory\n")

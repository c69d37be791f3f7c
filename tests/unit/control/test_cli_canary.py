"""`gorouter-py canary`: what it asks the admin API for, what it prints, and how it fails.

The API here is scripted; tests/system/test_canary_cli.py runs the same commands against a router."""

import http.server
import json
import os
import pty
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gorouter_py.control import canary_view, cli, rollout_spec
from gorouter_py.control.rollout_spec import Check
from tests.support.rollouts import ROLLOUT


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class Api:
    """An admin API that answers as told; `seen` are (method, path, body)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.status = 200
        self.answers: dict[str, Any] = {}
        self.events: list[Any] = []
        self.seen: list[tuple[str, str, Any]] = []
        self.tokens: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers["Content-Length"] or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                outer.seen.append((self.command, self.path, body))
                outer.tokens.append(self.headers["Authorization"])
                self.send_response(outer.status)
                self.end_headers()
                if self.path.endswith("/events") and outer.status == 200:
                    for event in outer.events:
                        self.wfile.write(f": hello\n\ndata: {json.dumps(event)}\n\n".encode())
                    return
                answer = outer.answers.get(self.path.rpartition("/")[2], ROLLOUT)
                self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

            do_PUT = do_POST = do_GET

            def address_string(self) -> str:
                return "unix"

            def log_message(self, *_: object) -> None: ...

        self.servers = [_UnixServer(str(path), Handler), http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)]
        self.url = f"http://127.0.0.1:{self.servers[1].server_address[1]}"
        self.threads = [
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}) for server in self.servers
        ]
        for thread in self.threads:
            thread.start()

    def close(self) -> None:
        for server, thread in zip(self.servers, self.threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    running = Api(tmp_path / "admin.sock")
    running.answers["rollouts"] = {"rollouts": [ROLLOUT]}
    yield running
    running.close()


def canary(api: Api | None, *arguments: str, **env: str) -> Result:
    where = {"GOROUTER_ADMIN_SOCKET": str(api.path)} if api else {}
    return CliRunner(env={**where, **env}).invoke(cli.main, ["canary", *arguments])


# -- start -------------------------------------------------------------------------------------------------


def test_start_says_all_of_it(api: Api, tmp_path: Path) -> None:
    base = tmp_path / "rollout.json"
    base.write_text(json.dumps({"to": "v0", "hold": "1h", "abort_if": {"alpha": 0.05, "errors": True}}))
    result = canary(
        api, "start", "shop.test/eu", "--file", str(base), "--to", "v2", "--from", "v1", "--by", "tag:stage",
        "--steps", "1,5.5%,100%", "--pause-at", "5.5%", "--max-hold", "2h", "--on-undecided", "pause",
        "--abort-if", "p99>stable", "--abort-if", "errors > 1%", "--abort-if", "p99>500ms", "--abort-if",
        "client-errors>stable", "--identity", "header:x-tenant", "--sign", "--new-sessions-only", "--keep-users",
        "--sticky", "keep", "--override-secret-file", "secret", "--rule", "header:x-beta=yes->v2", "--rule",
        "cookie:beta->v2", "--rule", "user_agent:~Fire=fox->v1", "--rule", "address:=10.0.0.0/8->v1", "--rule",
        "cohort:beta=20->v2", "--mirror", "v2=10%", "--extra", "v3=2.5", "--webhook", "http://10.0.0.1/ok", "--who",
        "kim", "--why", "because",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    method, path, body = api.seen[-1]
    assert (method, path) == ("PUT", "/v1/rollouts/shop.test%2Feu")
    assert body == {
        "to": "v2", "from": "v1", "by": "tag:stage", "steps": ["1%", "5.5%", "100%"], "hold": "1h",
        "pause_at": ["5.5%"], "max_hold": "2h", "on_undecided": "pause", "sticky": "keep",
        "abort_if": {"alpha": 0.05, "errors": False, "latency": "p99", "client_errors": True,
                     "slo": {"error_rate": "1%", "p99": "500ms"}},
        "cohort": {"mode": "identity", "identity": "header:x-tenant", "sign": "hmac", "new_sessions_only": True,
                   "salt": "keep"},
        "override": {"allow": True, "secret_file": "secret"},
        "rules": [
            {"kind": "header", "name": "x-beta", "op": "equals", "value": "yes", "version": "v2"},
            {"kind": "cookie", "name": "beta", "op": "present", "value": "", "version": "v2"},
            {"kind": "user_agent", "name": "", "op": "contains", "value": "Fire=fox", "version": "v1"},
            {"kind": "address", "name": "", "op": "equals", "value": "10.0.0.0/8", "version": "v1"},
            {"kind": "cohort", "name": "beta", "op": "equals", "value": "20", "version": "v2"},
        ],
        "mirror": {"version": "v2", "share": "10%"}, "extra_versions": {"v3": "2.5%"},
        "checks": [{"kind": "webhook", "url": "http://10.0.0.1/ok"}], "who": "kim", "why": "because",
    }  # fmt: skip
    assert result.stdout.startswith("shop.test/eu: ramping; v1 -> v2; weight 5%, step 2/4; next step in 41s; undecided")


def test_start_with_external_checks(api: Api) -> None:
    """What is sent is what the router reads, and the limit is the last comparison of the text."""
    query = 'sum(rate(errors_total{v="v2"}[1m])) / sum(rate(requests_total[1m]) > 0)'
    result = canary(
        api, "start", "shop.test", "--to", "v2", "--webhook", "https://ci.test/ok", "--prometheus",
        f"http://prom:9090/x {query} <= 1e-2", "--prometheus", "http://prom:9090 min(up)>=-1", "--check-interval",
        "1m", "--check-timeout", "2s", "--check-failures", "1",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    checks = rollout_spec.read(api.seen[-1][2]).checks
    how = {"interval_s": 60.0, "timeout_s": 2.0, "failures": 1}
    assert checks == (
        Check("webhook", "https://ci.test/ok", **how),
        Check("prometheus", "http://prom:9090/x", **how, query=query, max=0.01),
        Check("prometheus", "http://prom:9090", **how, query="min(up)", min=-1.0),
    )


def test_start_says_what_an_address_counts_for(api: Api) -> None:
    """Behind a load balancer all clients have one address, unless the rollout knows."""
    for spec, is_said in (({"address_cap": 64, "forwarded_for": False}, True), ({"address_cap": 0}, False),
                          ({"address_cap": 64, "forwarded_for": True}, False)):  # fmt: skip
        api.answers["shop.test"] = {**ROLLOUT, "spec": spec}
        result = canary(api, "start", "shop.test", "--to", "v2")
        assert ("of one client address 64 first failures count" in result.stdout) is is_said
        assert ("--forwarded-for" in result.stdout) is is_said
    canary(api, "start", "shop.test", "--to", "v2", "--forwarded-for", "--address-cap", "5")
    assert api.seen[-1][2]["forwarded_for"] is True and api.seen[-1][2]["address_cap"] == 5


def test_start_leaves_defaults_to_the_router(api: Api) -> None:
    assert canary(api, "start", "shop.test", "--to", "v2", "--who", "kim").exit_code == 0
    assert api.seen == [("PUT", "/v1/rollouts/shop.test", {"to": "v2", "who": "kim", "why": ""})]
    assert canary(api, "start", "shop.test", "--to", "v2", "--abort-if", "never").exit_code == 0
    assert api.seen[-1][2]["abort_if"] == {"errors": False, "latency": False}
    assert canary(api, "start", "shop.test", "--to", "v2", "--abort-if", "errors>stable").exit_code == 0
    assert api.seen[-1][2]["abort_if"] == {"errors": True, "latency": False}
    assert canary(api, "start", "shop.test", "--to", "v2", "--abort-if", "errors>2%").exit_code == 0
    assert api.seen[-1][2]["abort_if"] == {"slo": {"error_rate": "2%"}}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", "5%,1%"], "each step must be larger"),
        (["--steps", "5%,200%"], "'200%' is no weight; valid: 0% to 100%"),
        (["--hold", "10"], "no duration"),
        (["--hold", "-1s"], "is negative"),
        (["--abort-if", "errors<stable"], "is no condition; valid: errors>stable"),
        (["--abort-if", "errors>200%"], "is no condition"),
        (["--rule", "header:x-beta"], "is no rule; write KIND:NAME=VALUE->VERSION"),
        (["--mirror", "v2"], "write VERSION=SHARE"),
        (["--alpha", "1"], "0<x<1"),
        (["--mode", "sticky"], "'cookie', 'identity', 'request'"),
        (["--webhook", "ci.example.com/ok"], "write http://HOST[:PORT]/PATH"),
        (["--prometheus", "http://prom:9090"], "write 'URL QUERY <= LIMIT'"),
        (["--prometheus", "http://prom:9090 up > 0"], "'URL QUERY >= LIMIT'"),
        (["--prometheus", "prom:9090 up >= 1"], "for example 'http://prometheus:9090"),
        (["--prometheus", "http://prom:9090 up >= 1.2.3"], "is no check"),
        (["--check-interval", "5s"], "go with --webhook or --prometheus"),
        (["--webhook", "http://ci/ok", "--check-timeout", "5"], "no duration"),
        (["--webhook", "http://ci/ok", "--check-failures", "0"], "1<=x<=1000"),
        (["--address-cap", "65536"], "0<=x<=65535"),
        ([], "which version is the new one"),
    ],
)
def test_start_refuses(api: Api, arguments: list[str], words: str) -> None:
    result = canary(api, "start", "shop.test", *(["--to", "v2"] if arguments else []), *arguments)
    assert result.exit_code == 2 and words in result.stderr
    assert api.seen == []


@pytest.mark.parametrize(("text", "words"), [("{", "no JSON"), ("[]", "a JSON object is wanted")])
def test_start_refuses_a_file(api: Api, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "spec").write_text(text)
    result = canary(api, "start", "shop.test", "--file", str(tmp_path / "spec"))
    assert result.exit_code == 1 and words in result.stderr and api.seen == []


# -- actions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["promote", "pause", "resume", "abort", "undo"])
def test_actions(api: Api, action: str) -> None:
    result = canary(api, action, "shop.test/eu", "--who", "kim", "--why", "so")
    assert result.exit_code == 0
    assert api.seen == [("POST", f"/v1/rollouts/shop.test%2Feu/actions/{action}", {"who": "kim", "why": "so"})]
    assert result.stdout.startswith("shop.test/eu: ramping")


def test_the_only_rollout_is_meant(api: Api) -> None:
    assert canary(api, "set", "7.5%", "--who", "kim").exit_code == 0
    assert api.seen[-1][1:] == (
        "/v1/rollouts/shop.test%2Feu/actions/set",
        {"who": "kim", "why": "", "weight": 7.5},
    )
    assert canary(api, "set", "a.test", "8", "--who", "kim").exit_code == 0
    assert api.seen[-1][1] == "/v1/rollouts/a.test/actions/set" and api.seen[-1][2]["weight"] == 8.0
    api.answers["rollouts"] = {"rollouts": [ROLLOUT, {**ROLLOUT, "route": "a.test"}]}
    result = canary(api, "abort")
    assert result.exit_code == 2 and "a.test, shop.test/eu" in result.stderr
    api.answers["rollouts"] = {"rollouts": []}
    result = canary(api, "abort")
    assert result.exit_code == 3 and "there is no rollout" in result.stderr


@pytest.mark.parametrize("words", [["lots"], ["101%"], ["-1%"], ["a.test", "b.test", "1%"], []])
def test_a_bad_weight(api: Api, words: list[str]) -> None:
    result = canary(api, "set", *words)
    assert result.exit_code == 2 and api.seen == []


# -- looking -----------------------------------------------------------------------------------------------


def test_status(api: Api) -> None:
    result = canary(api, "status")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["steps", "1%", "[5%]", "25%", "100%"] in lines
    assert ["v2", "canary", "5%", "5.04%", "1", "470", "158", "12", "(2.6%)", "4.4ms", "1.2s"] in lines
    assert "evidence  [#################.............] 2.6 of 4.6: undecided" in result.stdout
    assert "errors: 2.8 (first failures: canary 7, stable 4)" in result.stdout
    assert json.loads(canary(api, "status", "shop.test/eu", "--json").stdout) == ROLLOUT
    assert json.loads(canary(api, "status", "--json").stdout) == {"rollouts": [ROLLOUT]}


def test_status_of_several(api: Api) -> None:
    api.answers["rollouts"] = {"rollouts": [ROLLOUT, {"route": "a.test", "state": "idle"}]}
    lines = [line.split() for line in canary(api, "status").stdout.splitlines()]
    assert lines[0][0] == "ROUTE" and lines[2][:2] == ["a.test", "idle"]
    assert lines[1] == ["shop.test/eu", "ramping", "v1", "v2", "5%", "2/4", "2.6/4.6", "undecided"]
    assert canary_view.headline({"verdict": {"log_e": -5e-17, "limit": 4.6}}).endswith(" 0.0/4.6")
    api.answers["rollouts"] = {"rollouts": []}
    assert canary(api, "status").stderr == "no rollouts\n"


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("aborted", 4)])
def test_watching_without_a_terminal(api: Api, state: str, code: int) -> None:
    api.events = [ROLLOUT, {**ROLLOUT, "next_step_in_s": 40.0}, {**ROLLOUT, "weight": 0.0, "state": state}]
    result = canary(api, "status", "-w")
    assert result.exit_code == code
    assert [line.partition(";")[0] for line in result.stdout.splitlines()] == [
        "shop.test/eu: ramping", f"shop.test/eu: {state}",
    ]  # fmt: skip
    assert [json.loads(line) for line in canary(api, "status", "-w", "--json").stdout.splitlines()] == api.events


def test_watching_a_router_that_ends(api: Api) -> None:
    api.events = [ROLLOUT]
    result = canary(api, "status", "-w")
    assert result.exit_code == 1 and "ended the stream" in result.stderr


def test_watching_in_a_terminal(api: Api) -> None:
    """What was drawn is drawn over, and no line is longer than the terminal is wide."""
    api.events = [ROLLOUT, {**ROLLOUT, "state": "done", "weight": 100.0}]
    command = [sys.executable, "-m", "gorouter_py", "canary", "status", "-w", "--socket", str(api.path)]
    parent, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": "60", "LINES": "40"}
    with subprocess.Popen(command, stdout=child, stdin=child, env=environment) as process:
        os.close(child)
        output = b""
        try:
            while piece := os.read(parent, 65536):
                output += piece
        except OSError:  # the other side is gone
            pass
        assert process.wait(60) == 0
    os.close(parent)
    first, _, second = output.decode().replace("\r\n", "\n").removeprefix("\x1b[J").partition("\x1b[J")
    rows = first.count("\n")
    assert first.endswith(f"\x1b[{rows}F") and "ramping" in first and "shop.test/eu: done" in second
    assert max(len(line) for line in second.splitlines()) < 60


def test_why(api: Api) -> None:
    api.answers["why"] = {key: ROLLOUT[key] for key in ("route", "state", "verdict", "notes", "evidence", "history")}
    busiest = {"version": "v2", "client": "tenant-7", "share": 61.0, "users": 1, "sampled": 100}
    api.answers["why"]["clients"] = [busiest]
    result = canary(api, "why")
    assert result.exit_code == 0 and "not enough yet" in result.stdout
    row = next(line for line in result.stdout.splitlines() if "/cart" in line)
    assert row.split()[2:] == ["errors", "status", "500", "GET", "/cart", "3ms", "192.0.2.7", "id-7"]
    assert "note: traffic differs" in result.stdout
    assert "busiest client of v2: tenant-7, 61% of its latest requests" in result.stdout
    assert "kim" in result.stdout
    assert json.loads(canary(api, "why", "--json").stdout)["evidence"] == ROLLOUT["evidence"]
    api.answers["why"] = {**api.answers["why"], "evidence": []}
    assert "no failing request of the canary so far" in canary(api, "why").stdout


EXPLAINED = {"route": "shop.test/eu", "version": 1, "version_name": "v2", "reason": "cookie", "u": 64000, "slot": 64100,
             "fallback": True}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "cohort", "body"),
    [
        (["tenant-7"], {"mode": "identity", "identity": "header:x-tenant"}, {"headers": {"x-tenant": "tenant-7"}}),
        (["shop.test/eu", "::1"], {"mode": "identity", "identity": "address"}, {"address": "::1"}),
        (["joe"], {"mode": "identity", "identity": "cookie:user"}, {"cookie": "user=joe"}),
        (["AbCdEfGhIjk"], {}, {"cookie": "gr_c=AbCdEfGhIjk"}),
        (["shop.test/eu", "AbCdEfGhIjk", "--cookie", "a=b"], {}, {"cookie": "a=b; gr_c=AbCdEfGhIjk"}),
        (["shop.test/eu", "--header", "X-Canary: v2", "--address", "192.0.2.7"], {},
         {"headers": {"X-Canary": "v2"}, "address": "192.0.2.7"}),
        ([], {}, {}),
    ],
)  # fmt: skip
def test_explain(api: Api, arguments: list[str], cohort: dict[str, str], body: dict[str, Any]) -> None:
    api.answers["explain"] = EXPLAINED
    api.answers["shop.test%2Feu"] = {**ROLLOUT, "spec": {"cohort": cohort}}
    result = canary(api, "explain", *arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "shop.test/eu: v2; its cohort cookie\ncoordinate 64000 of 65536, place 64100 in this rollout's table\n"
        "that version has no living instance: stable serves it meanwhile\n"
    )
    wanted = {"headers": {}, "cookie": "", "address": "", **body}
    assert api.seen[-1] == ("POST", "/v1/rollouts/shop.test%2Feu/explain", wanted)


def test_explain_says_which_rule() -> None:
    assert canary_view.explain({"route": "a", "version_name": "v2", "reason": "rule 3", "u": -1}) == [
        "a: v2, because of rule 3"
    ]


@pytest.mark.parametrize("value", ["X-Canary", "X Canary: v2", "X-Canary: v2\r\nHost: a"])
def test_explain_refuses_a_header(api: Api, value: str) -> None:
    result = canary(api, "explain", "--header", value)
    assert result.exit_code == 2 and "is no header" in result.stderr and api.seen == []


# -- a router that cannot be reached, or says no ----------------------------------------------------------


def test_no_router(tmp_path: Path) -> None:
    result = canary(None, "status", "--socket", str(tmp_path / "none.sock"))
    assert result.exit_code == 1 and "there is no socket" in result.stderr and "--admin-socket" in result.stderr
    closed = Api(tmp_path / "closed.sock")
    closed.close()
    for flag, value in (("--socket", str(closed.path)), ("--url", closed.url)):
        result = canary(None, "status", flag, value)
        assert result.exit_code == 1 and f"nobody listens on {value}" in result.stderr and flag in result.stderr


@pytest.mark.parametrize(
    "url", ["127.0.0.1:80", "https://127.0.0.1:80", "http://127.0.0.1", "http://a:b/", "http://a:1/x"]
)
def test_no_address(url: str) -> None:
    result = canary(None, "status", "--url", url)
    assert result.exit_code == 1 and "write http://127.0.0.1:PORT" in result.stderr


def test_a_token(api: Api, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    for arguments, env in ((["--token", "secret"], {}), (["--token-file", str(tmp_path / "token")], {}),
                           ([], {"GOROUTER_ADMIN_TOKEN": "secret"})):  # fmt: skip
        assert canary(None, "status", "--url", api.url, *arguments, **env).exit_code == 0
    assert api.tokens == ["Bearer secret"] * 3
    result = canary(None, "status", "--token-file", str(tmp_path / "none"))
    assert result.exit_code == 1 and "none" in result.stderr


@pytest.mark.parametrize(
    ("status", "answer", "code", "words"),
    [
        (404, {"error": "no-rollout", "reason": "a.test has none; start one"}, 3, "a.test has none; start one"),
        (409, {"error": "ended", "reason": "it has ended"}, 1, "it has ended"),
        (401, {"error": "token", "reason": "a token is wanted"}, 1, "give --token, --token-file"),
        (500, b"<html>", 1, "answered 500 without a reason; is that a router's admin API?"),
        (200, b"<html>", 1, "sent no JSON"),
    ],
)  # fmt: skip
def test_a_router_that_says_no(api: Api, status: int, answer: Any, code: int, words: str) -> None:
    api.status, api.answers["a.test"] = status, answer
    result = canary(api, "status", "a.test")
    assert result.exit_code == code and words in result.stderr


def test_help_of_every_command_has_examples() -> None:
    commands = ["start", "status", "set", "promote", "pause", "resume", "abort", "undo", "why", "explain"]
    for command in ([], *([each] for each in commands)):
        result = canary(None, *command, "--help")
        assert result.exit_code == 0 and "Example" in result.stdout and "gorouter-py canary" in result.stdout
        assert all(each in canary(None, "--help").stdout for each in commands)

"""The commands as programs: help, wrong flags and files, exit codes, and what they hand to the router."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gorouter_py import __version__
from gorouter_py.control import cli, keys

ROOT = Path(__file__).resolve().parents[3]
GOROUTER = "from gorouter_py.control.cli import gorouter_main; gorouter_main()"


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`gorouter-py ARGUMENTS` as a process of its own."""
    return _run([sys.executable, "-m", "gorouter_py", *arguments], env)


def gorouter(*arguments: str) -> subprocess.CompletedProcess[str]:
    return _run([sys.executable, "-c", GOROUTER, *arguments], None)


def _run(argv: list[str], env: dict[str, str] | None) -> subprocess.CompletedProcess[str]:
    kept = ("PATH", "HOME", "GOROUTER_LIB", "PYTHONPATH", "LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS")
    clean = {name: value for name, value in os.environ.items() if name in kept}
    return subprocess.run(
        argv, cwd=ROOT, env={**clean, **(env or {})}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the commands give to app.run, which is not started; it returns 7."""
    calls: list[tuple[Any, ...]] = []

    def record(*arguments: Any) -> int:
        calls.append(arguments)
        return 7

    app: Any = types.ModuleType("gorouter_py.control.app")
    app.run = record
    monkeypatch.setitem(sys.modules, app.__name__, app)
    monkeypatch.setattr("gorouter_py.control.app", app, raising=False)
    unit = types.ModuleType("gorouter_py._fastpath")
    monkeypatch.setitem(sys.modules, unit.__name__, unit)
    monkeypatch.setattr("gorouter_py._fastpath", unit, raising=False)
    return calls


def serve(*arguments: str, env: dict[str, str] | None = None) -> int:
    result = CliRunner(env=env).invoke(cli.main, ["serve", *arguments])
    assert result.exit_code == 7, result.output
    return result.exit_code


# -- help --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [[], ["serve"], ["routes"], ["routes", "match"], ["check"], ["version"]], ids=" ".join
)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_has_examples(command: list[str], flag: str) -> None:
    result = CliRunner().invoke(cli.main, [*command, flag])
    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"\n    {' '.join(['gorouter-py', *command])}" in result.output


def test_help_as_a_program_imports_nothing_slow() -> None:
    code = (
        "import sys\nfrom gorouter_py.control.cli import main\n"
        "try: main(['serve', '--help'])\nexcept SystemExit: pass\n"
        "slow = {'uvloop', 'starlette', 'uvicorn', 'nats', 'prometheus_client', 'yaml', 'asyncio', 'msgspec'}\n"
        "print('slow:', sorted(slow & set(sys.modules)))"
    )
    result = _run([sys.executable, "-c", code], None)
    assert "--route" in result.stdout
    assert result.stdout.endswith("slow: []\n")


def test_every_option_is_explained() -> None:
    for command in (cli.serve, cli.check.check, cli.routes_cmd.routes, cli.routes_cmd.match):
        for option in command.params:
            assert option.param_type_name == "argument" or option.help, f"{command.name} {option.opts}"


def test_version() -> None:
    result = run("version")
    assert result.returncode == 0
    assert result.stdout.startswith(f"gorouter-py {__version__}\n")
    assert f"Python      {sys.version.split()[0]}" in result.stdout
    assert run("--version").stdout == f"gorouter-py, version {__version__}\n"


# -- wrong flags and values --------------------------------------------------------------------------------

WRONG = [
    (["nonsense"], "No such command 'nonsense'"),
    (["serve", "--prot", "1"], "No such option '--prot'"),
    (["serve", "--port", "99999"], "99999 is not in the range 0<=x<=65535"),
    (["serve", "--port", "http"], "'http' is not a valid integer"),
    (["serve", "--route", "a.test"], "'a.test' is no route; write HOST[/PATH]=ADDRESS:PORT, for example"),
    (["serve", "--route", "a.test=1.2.3.4:0"], "'0' is no port; valid: 1 to 65535"),
    (["serve", "--route", "a.test=1.2.3.4:1", "--workers", "0"], "0 is not in the range"),
    (["serve", "--log-level", "loud"], "'loud' is not one of 'debug', 'info', 'warn', 'error'"),
    (["serve", "--idle-timeout", "5"], "'5' is no duration; write a number with a unit"),
    (["serve", "--idle-timeout", "-5s"], "'-5s' is negative"),
    (["serve", "--nats", "http://x"], "'http' is no scheme of NATS; write nats://"),
    (["serve", "--nats", "nats://a:b@x", "--nats", "nats://c:d@y"], "all servers share one user and password"),
    (["serve", "--nats", "nats://x", "--nats", "tls://y"], "nats:// and tls:// cannot be mixed"),
    (["serve"], "there is nothing to serve: give --route"),
    (["serve", "--route"], "Option '--route' requires an argument"),
    (["check"], "which FILE?"),
    (["routes", "--port", "0"], "0 is not in the range 1<=x<=65535"),
    (["routes", "match"], "Missing argument 'URL'"),
    (["routes", "match", "http:///x"], "has no host"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_wrong_flag_or_value(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert result.stderr.count("Error: ") == 1
    assert result.stdout == ""


def test_wrong_flag_as_a_program() -> None:
    result = run("serve", "--route", "a.test=nowhere")
    assert (result.returncode, result.stdout) == (2, "")
    assert "'nowhere' is no address; write HOST:PORT" in result.stderr
    assert "Traceback" not in result.stderr


def test_wrong_value_in_the_environment_is_named() -> None:
    result = run("serve", env={"GOROUTER_PORT": "x"})
    assert result.returncode == 2
    assert "--port" in result.stderr and "'x' is not a valid integer" in result.stderr


def test_wrong_file_as_a_program(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_text("port: 8081\nendpoint_timeout: 5\n")
    result = run("serve", "--config", str(path))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f'{path}:2:19: endpoint_timeout: \'5\' is no duration; write a number with a unit, such as "5s" or "5ms"\n'
    )
    missing = run("serve", "--config", f"{path}.none")
    assert (missing.returncode, missing.stderr) == (1, f"{path}.none: No such file or directory\n")


# -- serve -------------------------------------------------------------------------------------------------


def test_serve_in_one_line(launched: list[tuple[Any, ...]]) -> None:
    serve("--route", "App.Example.com=127.0.0.1:8080", "--route", "app.example.com/api=backend:81", "--port", "0")
    config, settings, routes, mode = launched[0]
    assert routes == [
        keys.StaticRoute("app.example.com", "127.0.0.1", 8080),
        keys.StaticRoute("app.example.com/api", "backend", 81),
    ]
    assert (config.port, config.nats.hosts, mode) == (0, [], "serve")
    assert settings["upstream_keep_alive"] is True


def test_serve_takes_every_flag(launched: list[tuple[Any, ...]]) -> None:
    serve(
        *("--nats", "nats://u:p%40@n1", "--nats", "n2:5000", "--nats-credentials", "/c", "--host", "127.0.0.1"),
        *("--port", "1", "--status-port", "2", "--admin-port", "3", "--admin-user", "a", "--admin-password", "b"),
        *("--workers", "4", "--access-log", "-", "--access-log", "/l", "--snapshot", "/s", "--log-level", "error"),
        *(
            "--attempts",
            "9",
            "--first-byte-timeout",
            "7s",
            "--no-keep-alive",
            "--sticky-cookie",
            "A",
            "--sticky-cookie",
            "B",
            "--request-timeout",
            "1m",
        ),
        *("--idle-timeout", "2s", "--drain-timeout", "3s"),
    )
    config, settings, routes, _ = launched[0]
    assert config.nats == keys.Nats([keys.NatsHost("n1", 4222), keys.NatsHost("n2", 5000)], "u", "p@")
    assert (config.port, config.status.port, config.status.routes.port) == (1, 2, 3)
    assert (config.status.user, config.status.pass_, config.logging.level) == ("a", "b", "error")
    own = config.gorouter_py
    assert (own.host, own.snapshot_file, own.nats_credentials_file) == ("127.0.0.1", "/s", "/c")
    assert config.drain_timeout == 3.0
    assert (settings["workers"], settings["access_log"], settings["max_attempts"]) == (4, "/l", 9)
    assert (settings["access_log_stdout"], settings["first_byte_timeout_ms"]) == (True, 7_000)
    assert (settings["request_timeout_ms"], settings["idle_timeout_ms"]) == (60_000, 2_000)
    assert settings["upstream_keep_alive"] is False
    assert settings["sticky_cookie_names"] == ("A", "B")
    assert routes == []


def test_serve_without_retry(launched: list[tuple[Any, ...]]) -> None:
    serve("--route", "a.test=h:1", "--no-retry")
    assert launched[0][1]["max_attempts"] == 1
    assert launched[0][1]["retry_idempotent"] is False


def test_serve_from_the_environment(launched: list[tuple[Any, ...]]) -> None:
    serve(
        env={
            "GOROUTER_ROUTE": "a.test=h:1 b.test=h:2",
            "GOROUTER_NATS": "nats://n1 nats://n2",
            "GOROUTER_PORT": "77",
            "GOROUTER_ACCESS_LOG": "/x",
            "GOROUTER_RETRY": "false",
        }
    )
    config, settings, routes, _ = launched[0]
    assert [route.uri for route in routes] == ["a.test", "b.test"]
    assert [host.hostname for host in config.nats.hosts] == ["n1", "n2"]
    assert (config.port, settings["access_log"], settings["retry_idempotent"]) == (77, "/x", False)


def test_serve_with_a_file_and_flags_over_it(launched: list[tuple[Any, ...]]) -> None:
    serve("--port", "5", env={"GOROUTER_HOST": "::1", "GOROUTER_CONFIG": str(ROOT / "examples/serve.yml")})
    config = launched[0][0]
    assert (config.port, config.gorouter_py.host, len(config.nats.hosts)) == (5, "::1", 2)


def test_serve_with_a_file_without_servers_has_nothing_to_serve(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_text("port: 1\n")
    result = CliRunner().invoke(cli.main, ["serve", "--config", str(path)])
    assert result.exit_code == 2
    assert f"nats.hosts in {path}" in " ".join(result.stderr.split())


def test_serve_tells_what_it_does_not_heed(
    launched: list[tuple[Any, ...]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.yml"
    path.write_text("nats: {hosts: [{hostname: x}]}\nprot: 1\npid_file: z\n")
    serve("--config", str(path))
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(line["message"], line["log_level"]) for line in lines] == [
        ("configuration-keys-without-effect", 2),
        ("configuration-keys-unknown", 2),
    ]
    assert lines[1]["data"]["keys"] == [f"{path}:2:1: prot: unknown key; did you mean port?"]


# -- gorouter ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", [["-c", "F"], ["-c=F"], ["--c", "F"], ["--c=F"], ["-c", "x", "-c", "F"], ["-c", "F", "rest"]]
)
def test_gorouter_reads_its_file(launched: list[tuple[Any, ...]], tmp_path: Path, form: list[str]) -> None:
    path = tmp_path / "c.yml"
    path.write_text("port: 4711\n")
    with pytest.raises(SystemExit) as caught:
        cli.gorouter_main([word.replace("F", str(path)) for word in form])
    assert caught.value.code == 7
    config, settings, routes, mode = launched[0]
    assert (config.port, routes, mode, settings["upstream_keep_alive"]) == (4711, [], "gorouter", False)


def test_gorouter_without_a_file(launched: list[tuple[Any, ...]]) -> None:
    with pytest.raises(SystemExit):
        cli.gorouter_main([])
    assert launched[0][0].port == 8081


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-x"], 2, "flag provided but not defined: -x\n"),
        (["--config", "F"], 2, "flag provided but not defined: -config\n"),
        (["-c"], 2, "flag needs an argument: -c\n"),
        (["-h"], 0, ""),
        (["--help"], 0, ""),
    ],
)
def test_gorouter_usage(arguments: list[str], code: int, message: str) -> None:
    result = gorouter(*arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert result.stderr.startswith(message + "Usage of ")
    assert result.stderr.endswith(":\n  -c string\n    \tConfiguration File\n")


def test_gorouter_reports_a_wrong_file_as_gorouter_does(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_text("endpoint_timeout: 5\n")
    result = gorouter("-c", str(path))
    assert (result.returncode, result.stderr) == (1, "")
    (line,) = result.stdout.splitlines()
    said = json.loads(line)
    assert list(said) == ["log_level", "timestamp", "message", "data"]
    assert (said["log_level"], said["message"]) == (3, "Error loading config:")
    assert isinstance(said["timestamp"], float)
    assert said["data"]["error"] == "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!int `5` into time.Duration"
    assert said["data"]["problems"][0].startswith(f"{path}:1:19: ")


def test_gorouter_with_a_missing_file(tmp_path: Path) -> None:
    result = gorouter("-c", f"{tmp_path}/none")
    assert result.returncode == 1
    assert json.loads(result.stdout)["data"]["error"] == f"open {tmp_path}/none: no such file or directory"


def test_gorouter_with_a_bad_level_panics(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_text("logging: {level: loud}\n")
    result = gorouter("-c", str(path))
    assert (result.returncode, result.stdout) == (2, "")
    assert "panic: unknown log level: loud" in result.stderr
    assert f"{path}:1:18" in result.stderr


# -- check -------------------------------------------------------------------------------------------------


def test_check_of_a_good_file() -> None:
    result = run("check", "examples/gorouter.yml")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "examples/gorouter.yml: 0 errors, 0 unknown keys, 0 keys without effect\n"


def test_check_lists_everything_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_text("enable_proxy: true\nprot: 1\nport: x\n")
    result = run("check", str(path))
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.splitlines() == [
        f"no effect  {path}:1:15: enable_proxy: has no effect: no PROXY protocol yet",
        f"unknown    {path}:2:1: prot: unknown key; did you mean port?",
        f"error      {path}:3:7: port: 'x' is no whole number; valid: 0 to 65535, without quotes",
        f"{path}: 1 error, 1 unknown key, 1 key without effect",
    ]


def test_check_strict_minds_unknown_keys(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_text("prot: 1\n")
    assert run("check", str(path)).returncode == 0
    assert run("check", "--strict", str(path)).returncode == 1


def test_check_effective_is_a_file_that_check_takes(tmp_path: Path) -> None:
    result = run("check", "--effective", "examples/gorouter.yml")
    assert result.returncode == 0
    assert "0 errors" in result.stderr
    assert "change-me" not in result.stdout and "(hidden)" in result.stdout
    assert "drain_wait: 20s\n" in result.stdout
    path = tmp_path / "effective.yml"
    path.write_text(result.stdout)
    again = run("check", "--effective", str(path))
    assert (again.returncode, again.stdout) == (0, result.stdout)


def test_check_as_serve_reads_it() -> None:
    plain, serving = (run("check", "--effective", *flags, "examples/serve.yml").stdout for flags in ([], ["--serve"]))
    assert "disable_keep_alives: true\n" in plain
    assert "disable_keep_alives: false\n" in serving


def test_check_as_json(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_text("prot: 1\n")
    said = json.loads(run("check", "--json", "--effective", str(path)).stdout)
    assert said["errors"] == []
    assert (said["unknown"][0]["line"], said["unknown"][0]["path"]) == (1, "prot")
    assert said["effective"]["port"] == 8081


@pytest.mark.parametrize("text", ["a: [", "port: {"])
def test_check_of_no_yaml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yml"
    path.write_text(text)
    result = run("check", "--effective", str(path))
    assert (result.returncode, result.stdout) == (1, "")
    assert f"error      {path}:1:" in result.stderr or f"error      {path}:2:" in result.stderr


def test_check_of_no_file(tmp_path: Path) -> None:
    result = run("check", str(tmp_path / "none"))
    assert result.returncode == 1
    assert f"error      {tmp_path}/none: No such file or directory\n" in result.stdout


def test_check_keys() -> None:
    result = run("check", "--keys")
    assert result.returncode == 0
    assert result.stdout == keys.markdown()


def test_missing_data_plane_is_told(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "gorouter_py._fastpath", None)
    monkeypatch.delattr("gorouter_py._fastpath", raising=False)
    result = CliRunner().invoke(cli.main, ["serve", "--route", "a.test=h:1"])
    assert result.exit_code == 1
    said = json.loads(capfd.readouterr().out)
    assert said["message"] == "data-plane-not-usable"
    assert "not compiled" in said["data"]["error"]

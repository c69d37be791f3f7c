"""The two commands: `gorouter-py` with sub-commands, and `gorouter -c FILE`, the drop-in form.

Exit codes: 2 for a wrong flag or value, 1 for a wrong file or a router that cannot be reached, else what run() gives.
What is slow to import (uvloop, the bus, the data plane, YAML) is imported by the command that needs it: help and
completion must come at once.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import click

from gorouter_py import __version__
from gorouter_py.control import canary_cmd, check, flags, ports_cmd, routes_cmd

if TYPE_CHECKING:
    from gorouter_py.control.config import Loaded, StaticRoute

# flag of `serve` -> key of the configuration
_KEYS = {
    "host": "gorouter_py.host",
    "port": "port",
    "status_port": "status.port",
    "admin_port": "status.routes.port",
    "admin_user": "status.user",
    "admin_password": "status.pass",
    "workers": "go_max_procs",
    "snapshot": "gorouter_py.snapshot_file",
    "log_level": "logging.level",
    "attempts": "backends.max_attempts",
    "request_timeout": "endpoint_timeout",
    "first_byte_timeout": "gorouter_py.first_byte_timeout",
    "idle_timeout": "frontend_idle_timeout",
    "drain_timeout": "drain_timeout",
    "nats_credentials": "gorouter_py.nats_credentials_file",
    "admin_socket": "gorouter_py.admin.socket",
    "state_file": "gorouter_py.state_file",
}


@click.group(
    context_settings=flags.PLAIN_SETTINGS,
    epilog='Completion in bash: eval "$(_GOROUTER_PY_COMPLETE=bash_source gorouter-py)"',
)
@click.version_option(__version__, prog_name="gorouter-py")
def main() -> None:
    """An HTTP front door: routes come and go over NATS, nothing is ever reloaded.

    \b
    Examples:
      gorouter-py serve --route app.example.com=127.0.0.1:8080
      gorouter-py serve --nats nats://127.0.0.1:4222
      gorouter-py routes
      gorouter-py check gorouter.yml
    """


@main.command(context_settings=flags.SETTINGS)
@click.option("--route", "routes", type=flags.ROUTE, multiple=True, envvar="GOROUTER_ROUTE", show_envvar=True,
              help="Send requests for HOST[/PATH] to ADDRESS:PORT. Repeat it for more routes, or with the same host "
              "for more instances. HOST may start with '*.'; ADDRESS may be a name.")
@click.option("--host", help="Address the front door and the health port listen on.  [default: 0.0.0.0]")
@click.option("--port", type=flags.PORT, help="Port of the front door; 0 takes a free one.  [default: 8081]")
@click.option("--workers", type=click.IntRange(1, 64), help="Worker threads.  [default: one per CPU]")
@click.option("--nats", "nats", type=flags.NATS, multiple=True, envvar="GOROUTER_NATS", show_envvar=True,
              help="NATS server that routes are registered on. Repeat it for the servers of a cluster.")
@click.option("--nats-credentials", metavar="FILE", help="NATS .creds file.")
@click.option("--status-port", type=flags.PORT, help="Port of /health.  [default: 8083]")
@click.option("--admin-port", "--routes-port", "admin_port", type=flags.PORT,
              help="Port of /routes and /metrics, on 127.0.0.1.  [default: 8082]")
@click.option("--admin-user", help="User name for /routes.")
@click.option("--admin-password", help="Password for /routes; safer in the environment than on the command line.")
@click.option("--access-log", "access_logs", multiple=True, metavar="FILE", envvar="GOROUTER_ACCESS_LOG",
              show_envvar=True,
              help="Access log, appended to; '-' is standard output. Twice for both.  [default: none]")
@click.option("--snapshot", metavar="FILE",
              help="Keep the routes in FILE and start from it while NATS is away.  [default: none]")
@click.option("--admin-socket", metavar="PATH",
              help="Unix socket of the admin API, for `gorouter-py canary` and the like.  [default: none]")
@click.option("--state-file", metavar="FILE",
              help="Keep rollouts in FILE over a restart.  [default: none]")
@click.option("--log-level", type=click.Choice(["debug", "info", "warn", "error"]), help="[default: info]")
@click.option("--config", "config_file", metavar="FILE", envvar="GOROUTER_CONFIG",
              help="gorouter's YAML; flags win over it.")
@click.option("--retry/--no-retry", "retry", default=None,
              help="Try another instance when one fails before it answered.  [default: retry]")
@click.option("--attempts", type=click.IntRange(1, 16), help="Instances tried per request.  [default: 3]")
@click.option("--keep-alive/--no-keep-alive", "keep_alive", default=None,
              help="Re-use connections to instances.  [default: keep-alive]")
@click.option("--sticky-cookie", "sticky_cookies", multiple=True, metavar="NAME",
              help="Cookie that makes a session sticky; repeatable.  [default: JSESSIONID]")
@click.option("--request-timeout", type=flags.DURATION, help="Limit of one request, bodies included.  [default: none]")
@click.option("--first-byte-timeout", type=flags.DURATION, help="Wait for an answer to begin.  [default: 60s]")
@click.option("--idle-timeout", type=flags.DURATION, help="Close idle client connections after.  [default: 15m]")
@click.option("--drain-timeout", type=flags.DURATION, help="Time requests have to end on TERM.  [default: 60s]")
def serve(
    routes: "tuple[StaticRoute, ...]",
    nats: tuple[flags.NatsServer, ...],
    config_file: str | None,
    retry: bool | None,
    keep_alive: bool | None,
    sticky_cookies: tuple[str, ...],
    access_logs: tuple[str, ...],
    **values: object,
) -> NoReturn:
    """Run the router. Without NATS and without a file, --route is all it needs.

    Every flag can come from the environment: GOROUTER_PORT, GOROUTER_ACCESS_LOG and so on; repeatable ones are
    separated by blanks. TERM or Ctrl-C let requests in progress end, a second one stops at once.

    \b
    Examples:
      gorouter-py serve --route app.example.com=127.0.0.1:8080
      gorouter-py serve --route a.test=10.0.0.1:80 --route a.test=10.0.0.2:80 --route 'a.test/api=10.0.0.3:80'
      gorouter-py serve --nats nats://user:password@10.0.0.9:4222 --access-log - --snapshot /var/tmp/routes.snapshot
      gorouter-py serve --config gorouter.yml --port 80 --workers 4
      GOROUTER_PORT=9000 gorouter-py serve --route '*.example.com=127.0.0.1:8080'
    """
    from gorouter_py.control import config as configuration

    overrides: dict[str, object] = {_KEYS[name]: value for name, value in values.items() if value is not None}
    overrides.update(_nats_overrides(nats))
    if retry is False:
        overrides.setdefault("backends.max_attempts", 1)
        overrides["gorouter_py.retry_idempotent"] = False
    if keep_alive is not None:
        overrides["disable_keep_alives"] = not keep_alive
    files = [name for name in access_logs if name != "-"]
    if len(files) > 1:
        raise click.BadParameter(f"{files[1]!r}: there can be one file, and '-' beside it.", param_hint="--access-log")
    if files:
        overrides["access_log.file"] = files[0]
    if len(files) < len(access_logs):
        overrides["gorouter_py.access_log_stdout"] = True
    if sticky_cookies:
        overrides["sticky_session_cookie_names"] = list(sticky_cookies)
    try:
        loaded = configuration.serve_config(config_file, overrides)
    except configuration.ConfigError as error:
        flags.refuse_file(error)
    if not routes and not loaded.config.nats.hosts:
        where = f", or nats.hosts in {config_file}" if config_file else ", or --config FILE with nats.hosts"
        raise click.UsageError(f"there is nothing to serve: give --route HOST=ADDRESS:PORT, or --nats URL{where}.")
    sys.exit(_run(loaded, list(routes), "serve"))


def _nats_overrides(servers: tuple[flags.NatsServer, ...]) -> dict[str, object]:
    if not servers:
        return {}
    from gorouter_py.component import Uint16
    from gorouter_py.control.keys import NatsHost

    logins = {(server.user, server.password) for server in servers if server.user}
    if len(logins) > 1:
        raise click.BadParameter("all servers share one user and password", param_hint="'--nats'")
    if len({server.tls for server in servers}) > 1:
        raise click.BadParameter("nats:// and tls:// cannot be mixed", param_hint="'--nats'")
    found: dict[str, object] = {"nats.hosts": [NatsHost(server.host, Uint16(server.port)) for server in servers]}
    if logins:
        found["nats.user"], found["nats.pass"] = logins.pop()
    if servers[0].tls:
        found["nats.tls_enabled"] = True
    return found


@main.command(context_settings=flags.PLAIN_SETTINGS)
def version() -> None:
    """Print the versions of the package, the data plane, Python and the platform.

    \b
    Example:
      gorouter-py version
    """
    import platform

    try:
        from gorouter_py import _fastpath

        build = _fastpath.BUILD
    except ImportError as error:
        build = f"not usable ({error})"
    click.echo(f"gorouter-py {__version__}")
    click.echo(f"data plane  {build}")
    click.echo(f"Python      {platform.python_version()} ({platform.python_implementation()})")
    click.echo(f"platform    {platform.platform()}")


def gorouter_main(argv: Sequence[str] | None = None) -> NoReturn:
    """`gorouter -c FILE`: flags as Go's flag package reads them, errors as gorouter reports them."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    path: str | None = None
    while arguments:
        word = arguments.pop(0)
        if word == "--" or not word.startswith("-") or word == "-":
            break  # gorouter: what comes after the flags is ignored
        name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        if name in ("h", "help"):
            _gorouter_usage("", 0)
        if name != "c":
            _gorouter_usage(f"flag provided but not defined: -{name}", 2)
        if not equals and not arguments:
            _gorouter_usage("flag needs an argument: -c", 2)
        path = value if equals else arguments.pop(0)
    sys.exit(_gorouter(path or None))


def _gorouter_usage(complaint: str, code: int) -> NoReturn:
    if complaint:
        print(complaint, file=sys.stderr)
    print(f"Usage of {sys.argv[0]}:\n  -c string\n    \tConfiguration File", file=sys.stderr)
    sys.exit(code)


def _gorouter(path: str | None) -> int:
    from gorouter_py.control import config as configuration
    from gorouter_py.control import log

    try:
        loaded = configuration.load(path)
    except configuration.ConfigError as error:
        if error.problems[0].path == "logging.level":  # gorouter: a panic
            print(f"panic: {error.problems[0].go}\n\n{error}", file=sys.stderr)
            return 2
        log.bare().fatal("Error loading config:", error=error.go, problems=[str(p) for p in error.problems])
        return 1
    return _run(loaded, [], "gorouter")


def _run(loaded: "Loaded", routes: "list[StaticRoute]", mode: str) -> int:
    from gorouter_py.control import config as configuration
    from gorouter_py.control import log

    logger = log.configure(loaded.config)
    if loaded.without_effect:
        logger.warn("configuration-keys-without-effect", keys=[str(problem) for problem in loaded.without_effect])
    if loaded.unknown and mode == "serve":
        logger.warn("configuration-keys-unknown", keys=[str(problem) for problem in loaded.unknown])
    try:
        from gorouter_py import _fastpath  # noqa: F401  (to tell this failure from any other)
    except ImportError as error:
        logger.fatal("data-plane-not-usable", error=f"not compiled for this Python: {error}")
        return 1
    from gorouter_py.control import app

    return app.run(loaded.config, configuration.data_plane_settings(loaded.config), routes, mode)


main.add_command(canary_cmd.canary)
main.add_command(ports_cmd.ports)
main.add_command(check.check)
main.add_command(routes_cmd.routes)

"""`gorouter-py routes`: the table of a running router (its /routes endpoint), or of a snapshot file, shown and asked.

A Table here is the JSON of /routes: route key -> list of instances. The search repeats what the data plane does,
for people; it is not used to route.
"""

import base64
import json
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any, NoReturn

import click

from gorouter_py.component import ConfigError, load_file
from gorouter_py.control import flags

Instance = dict[str, Any]
Table = dict[str, list[Instance]]

_TIMEOUT_S = 10.0
_COLUMNS: tuple[tuple[str, Callable[[Instance], object]], ...] = (
    ("ADDRESS", lambda instance: instance.get("address")),
    ("PROTOCOL", lambda instance: (instance.get("protocol") or "http1") + ("+tls" if instance.get("tls") else "")),
    ("TTL", lambda instance: f"{instance['ttl']}s" if instance.get("ttl") else None),
    ("INSTANCE", lambda instance: instance.get("private_instance_id")),
    ("ZONE", lambda instance: instance.get("availability_zone")),
    ("ROUTE SERVICE", lambda instance: instance.get("route_service_url")),
)


def _source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    # The variables are those of `serve`, where --port is another port and --snapshot is no source: no common prefix.
    port, prefix = click.IntRange(1, 65535), "GOROUTER_ADMIN_"
    options = (
        click.option("--port", type=port, envvar=prefix + "PORT", help="Port of /routes.  [default: 8082]"),
        click.option("--user", envvar=prefix + "USER", help="User name, if the router wants one (status.user)."),
        click.option("--password", envvar=prefix + "PASSWORD", help="Password; safer in GOROUTER_ADMIN_PASSWORD."),
        click.option("--config", "config_file", metavar="FILE", help="Take port, user and password from this file."),
        click.option("--snapshot", metavar="FILE", help="Read a snapshot file instead of asking a router."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(invoke_without_command=True, context_settings=flags.PLAIN_SETTINGS)
@_source_options
@click.option("--host", "host_pattern", metavar="PATTERN", help="Only routes of this host; * and ? as in file names.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as /routes gives it.")
@click.pass_context
def routes(ctx: click.Context, /, host_pattern: str | None, as_json: bool, **source: Any) -> None:
    """Print the route table of the router on this machine.

    \b
    Examples:
      gorouter-py routes
      gorouter-py routes --host '*.example.com' --json
      gorouter-py routes --snapshot /var/tmp/routes.snapshot
      gorouter-py routes --config gorouter.yml match http://app.example.com/api/users
    """
    ctx.obj = source
    if ctx.invoked_subcommand:
        return
    table = _table(**source)
    if host_pattern is not None:
        pattern = host_pattern.lower()
        table = {key: found for key, found in table.items() if fnmatchcase(key.partition("/")[0], pattern)}
    if as_json:
        click.echo(json.dumps(table, indent=2, ensure_ascii=False))
    else:
        _print_table(table)


@routes.command(context_settings=flags.PLAIN_SETTINGS)
@click.argument("url")
@_source_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def match(outer: dict[str, Any], /, url: str, as_json: bool, **source: Any) -> None:
    """Say which route a request for URL would take. Exit code 1 if none.

    \b
    Examples:
      gorouter-py routes match http://app.example.com/api/users
      gorouter-py routes match app.example.com/api --snapshot /var/tmp/routes.snapshot
    """
    host, path = _split(url)
    table = _table(**{name: source[name] if source[name] is not None else outer[name] for name in source})
    key = find(table, host, path)
    if as_json:
        click.echo(json.dumps({"route": key, "instances": table[key] if key is not None else []}, indent=2))
    elif key is None:
        click.echo(f"no route matches {host}{path}: 404")
    elif not table[key]:
        click.echo(f"{key}: no instance; 404, or 503 with empty_pool_response_code_503")
    else:
        _print_table({key: table[key]})
    sys.exit(0 if key is not None and table[key] else 1)


def find(table: Table, host: str, path: str) -> str | None:
    """The key of the route a request takes, None for none.

    gorouter: longest path prefix by whole segments that has instances, else the deepest without; an exact host that
    has any match ends the search, then the first labels become "*" one after the other."""
    segments = [segment for segment in path.partition("?")[0].lower().removesuffix("/").split("/")[1:]]
    for name in _names(host.lower().partition(":")[0]):
        prefixes = ["/".join([name, *segments[:count]]) for count in range(len(segments), -1, -1)]
        known = [prefix for prefix in prefixes if prefix in table]
        if known:
            return next((prefix for prefix in known if table[prefix]), known[0])
    return None


def _names(host: str) -> Iterator[str]:
    yield host
    labels = host.split(".")
    for count in range(1, len(labels)):
        yield ".".join(["*", *labels[count:]])


def _split(url: str) -> tuple[str, str]:
    rest = url.partition("://")[2] if "://" in url else url
    authority, slash, path = rest.partition("#")[0].partition("/")
    host = authority.partition("?")[0].rpartition("@")[2]
    if not host:
        raise click.BadParameter(f"{url!r} has no host; write http://app.example.com/path", param_hint="'URL'")
    return host, slash + path


def _table(
    *, port: int | None, user: str | None, password: str | None, config_file: str | None, snapshot: str | None
) -> Table:
    if snapshot is not None:
        return _from_snapshot(snapshot)
    if config_file is not None:
        from gorouter_py.control import config as configuration

        try:
            status = configuration.load(config_file).config.status
        except ConfigError as error:
            flags.refuse_file(error)
        port, user, password = port or status.routes.port, user or status.user, password or status.pass_
    return _from_router(port or 8082, user or "", password or "")


def _from_router(port: int, user: str, password: str) -> Table:
    import http.client

    where = f"127.0.0.1:{port}"
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/routes", headers={"Authorization": f"Basic {login}"})
        response = connection.getresponse()
        body = response.read()
    except ConnectionRefusedError:
        _fail(f"nobody listens on {where}; is a router running? Its --admin-port or status.routes.port goes to --port")
    except (OSError, http.client.HTTPException) as error:
        _fail(f"no answer from {where}: {error or type(error).__name__}")
    finally:
        connection.close()
    if response.status == 401:
        given = f"user {user!r} is refused" if user else "it wants a user name"
        _fail(f"{where}: {given}; give --user and --password, or --config FILE with status.user and status.pass")
    if response.status != 200:
        _fail(f"{where}/routes answered {response.status} {response.reason}; is that the routes port of a router?")
    try:
        table = json.loads(body)
    except ValueError as error:
        _fail(f"{where}/routes sent no JSON: {error}")
    if not isinstance(table, dict):
        _fail(f"{where}/routes sent a {type(table).__name__}, not a table of routes")
    return table


def _from_snapshot(path: str) -> Table:
    import time

    from gorouter_py.control import snapshot

    try:
        _, entries = snapshot.unpack(load_file(path))
    except ConfigError as error:
        flags.refuse_file(error)
    except snapshot.Corrupt as error:
        _fail(f"{path}: {error}")
    now = time.time()
    table: Table = {}
    for entry in entries:
        facts = entry.registration
        instance = {
            "address": facts.address,
            "availability_zone": facts.availability_zone,
            "protocol": facts.protocol or "http1",
            "tls": facts.is_tls,
            "ttl": max(0, round(entry.until - now)),
            "route_service_url": facts.route_service_url,
            "tags": facts.tags,
            "isolation_segment": facts.isolation_segment,
            "private_instance_id": facts.private_instance_id,
            "server_cert_domain_san": facts.server_cert_domain_san,
        }
        for name in ("route_service_url", "isolation_segment", "private_instance_id", "server_cert_domain_san"):
            if not instance[name]:  # left out as in /routes
                del instance[name]
        table.setdefault(entry.uri, []).append(instance)
    return table


def _print_table(table: Table) -> None:
    lines = [("ROUTE", *(title for title, _ in _COLUMNS))]
    for key in sorted(table):
        for instance in table[key] or [{"address": "(no instance)"}]:
            lines.append((key, *(str(show(instance) or "-") for _, show in _COLUMNS)))
    # columns that say nothing are left out
    shown = [n for n in range(len(lines[0])) if n < 2 or any(line[n] != "-" for line in lines[1:])]
    widths = [max(len(line[n]) for line in lines) for n in shown]
    for line in lines:
        click.echo("  ".join(line[n].ljust(width) for n, width in zip(shown, widths, strict=True)).rstrip())
    instances = sum(len(found) for found in table.values())
    routes_s, instances_s = ("" if count == 1 else "s" for count in (len(table), instances))
    click.echo(f"{len(table)} route{routes_s}, {instances} instance{instances_s}", err=True)


def _fail(message: str) -> NoReturn:
    print(f"gorouter-py routes: {message}", file=sys.stderr)
    sys.exit(1)

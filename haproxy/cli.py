"""`python -m haproxy`: convert a first tier's haproxy.cfg into the router's configuration, or render both tiers.

Exit codes: 0 done; 1 a file cannot be read or written, or is not fit for use; 2 a wrong flag; 3 (convert) done, but
lines were not understood.
"""

import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import click

from gorouter_py.control import config
from haproxy import convert as conversion
from haproxy import render as rendering
from haproxy import tables
from haproxy.binds import Address
from haproxy.report import UNKNOWN

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
EXIT_FAILED, EXIT_NOT_UNDERSTOOD = 1, 3


@click.group(context_settings=SETTINGS)
def main() -> None:
    """Two tiers of HAProxy in front of the routers, and the way from there to the router alone.

    \b
    Examples:
      python -m haproxy convert /etc/haproxy/haproxy.cfg --out gorouter.yml
      python -m haproxy render --config gorouter.yml --router 10.0.0.1:8081 --out /etc/haproxy
    """


@main.command(context_settings=SETTINGS)
@click.argument("old", metavar="OLD.cfg", type=click.Path(dir_okay=False))
@click.option("--out", metavar="FILE", help="Write the configuration there.  [default: standard output]")
@click.option("--report", "report_file", metavar="FILE", help="Write the report there.  [default: standard error]")
@click.option("--maps", metavar="DIR", help="Where map files with relative names lie.  [default: beside OLD.cfg]")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
def convert(old: str, out: str | None, report_file: str | None, maps: str | None, as_json: bool) -> None:
    """Read a first tier's OLD.cfg, and write the router's configuration and a report on every line.

    Both the form with reqirep and rspirep and that with http-request and http-response are read, binds of one port
    and of ranges, and map files. Each line is taken, changed or not understood; the last kind makes exit code 3.

    \b
    Examples:
      python -m haproxy convert tier1.cfg > gorouter.yml
      python -m haproxy convert tier1.cfg --out gorouter.yml --report report.txt
    """
    path = Path(old)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        _fail(f"{old}: {getattr(error, 'strerror', None) or error}")
    found = conversion.convert(text, old, Path(maps) if maps else path.parent)
    written = conversion.as_yaml(found)
    problems = [*found.problems, *_refused(written)]
    report = found.report.as_json(problems) if as_json else found.report.text()
    _write(report_file, report, sys.stderr)
    if not found.hosts:
        _fail(problems[0])
    _write(out, written, sys.stdout)
    if not as_json:
        for problem in problems:
            print(f"{old}: {problem}", file=sys.stderr)
    sys.exit(EXIT_FAILED if problems else EXIT_NOT_UNDERSTOOD if found.report.count(UNKNOWN) else 0)


def _refused(text: str) -> list[str]:
    """What the router has against a configuration."""
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        file.write(text)
        file.flush()
        return [f"{problem.path}: {problem.text}" for problem in config.inspect(file.name).problems]


@main.command(context_settings=SETTINGS)
@click.option("--config", "config_file", metavar="FILE", help="The router's configuration, for its port_map.")
@click.option("--ports", "ports_file", metavar="FILE", help="What `gorouter-py ports list --json` printed, instead.")
@click.option("--router", "routers", metavar="IP:PORT", multiple=True, help="A router for tier 2; repeatable.")
@click.option("--routes", "routes_file", metavar="FILE",
              help="What `gorouter-py routes --json` printed: tier 2 goes to the instances, without a router.")
@click.option("--between", metavar="IP:PORT", default="127.0.0.1:8180", show_default=True, help="Where tier 2 listens.")
@click.option("--out", metavar="DIR", default=".", show_default=True, help="Where tier1.cfg, tier2.cfg and maps go.")
@click.option("--check/--no-check", default=True, help="Have `haproxy -c` look at the files.  [default: check]")
def render(
    config_file: str | None,
    ports_file: str | None,
    routers: tuple[str, ...],
    routes_file: str | None,
    between: str,
    out: str,
    check: bool,
) -> None:
    """Write both tiers as they would be needed without the router's own port map.

    \b
    Examples:
      python -m haproxy render --config gorouter.yml --router 10.0.0.1:8081 --router 10.0.0.2:8081 --out tiers
      python -m haproxy render --ports ports.json --routes routes.json --out tiers
    """
    if (config_file is None) == (ports_file is None):
        raise click.UsageError("which ports? Give --config FILE or --ports FILE.")
    if bool(routers) == (routes_file is not None):
        raise click.UsageError("where does tier 2 send requests? Give --router IP:PORT, or --routes FILE.")
    for text in (*routers, between):
        if not text.rpartition(":")[2].isdigit() or not text.rpartition(":")[0]:
            raise click.BadParameter(f"{text!r} is no IP:PORT")
    try:
        ports = tables.from_config(config_file) if config_file else tables.from_list(str(ports_file))
        routes = tables.routes(routes_file) if routes_file else None
    except (tables.Unfit, config.ConfigError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}")
    if not ports.hosts:
        _fail(f"{config_file or ports_file} maps no port; there is nothing to render")
    _say_unrouted(ports.hosts, routes)
    folder = Path(out).resolve()
    files = rendering.render(ports, routers, between, folder, routes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(content)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}")
    for name in files:
        print(folder / name)
    if check:
        _check([folder / name for name in files if name.endswith(".cfg")])


def _say_unrouted(hosts: dict[Address, str], routes: dict[str, list[str]] | None) -> None:
    for address, host in hosts.items():
        if routes is not None and host not in routes:
            print(f"{address}: {host} has no route; tier 2 answers 404", file=sys.stderr)


def _check(paths: list[Path]) -> None:
    for path in paths:
        try:
            against = rendering.check(path)
        except FileNotFoundError as error:
            print(f"not checked: {error}; --no-check keeps this quiet", file=sys.stderr)
            return
        if against:
            _fail(f"haproxy -c refuses {path}: {against}")


def _write(path: str | None, text: str, otherwise: object) -> None:
    if path is None:
        print(text, end="", file=otherwise)  # type: ignore[call-overload]
        return
    try:
        Path(path).write_text(text)
    except OSError as error:
        _fail(f"{path}: {error.strerror}")


def _fail(message: str) -> NoReturn:
    print(f"python -m haproxy: {message}", file=sys.stderr)
    sys.exit(EXIT_FAILED)

"""`gorouter-py ports`: the port map of a running router, by its admin API.

Exit codes: 1 for a router that cannot be reached or says no, 2 for a wrong flag or value.
"""

import json
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from gorouter_py.control import flags, mappings, reach
from gorouter_py.control.admin_client import AdminError


def _listen(text: str) -> str:
    return text if text == mappings.AUTO else str(mappings.parse_listen(text))


LISTEN = flags.Parsed(_listen, "ADDRESS:PORT")
HOST = flags.Parsed(mappings.parse_host, "HOST")


@click.group(context_settings=flags.PLAIN_SETTINGS)
def ports() -> None:
    """Public ports that stand for one app each, whatever Host a client names.

    \b
    Examples:
      gorouter-py ports add 0.0.0.0:9001 shop.apps.example.com
      gorouter-py ports add auto blog.apps.example.com --cookie SESSION
      gorouter-py ports list
      gorouter-py ports remove 0.0.0.0:9001
    """


@ports.command(context_settings=flags.PLAIN_SETTINGS)
@click.argument("listen", type=LISTEN)
@click.argument("host", type=HOST)
@click.option("--cookie", "cookies", multiple=True, metavar="NAME",
              help="Cookie of the app that gets a name of its own on this port, as the sticky cookie does; repeatable.")
@click.option("--replace", is_flag=True, help="The port may be mapped to another host: it goes over without closing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@reach.options
def add(listen: str, host: str, cookies: tuple[str, ...], replace: bool, as_json: bool, **router: Any) -> None:
    """Open LISTEN in the running router and map it to the app HOST.

    LISTEN is ADDRESS:PORT (0.0.0.0 for every IPv4 address, [::] for every address), or "auto" for a free port of
    gorouter_py.port_map_range. Running the same command again changes nothing.

    \b
    Examples:
      gorouter-py ports add 0.0.0.0:9001 shop.apps.example.com
      gorouter-py ports add '[::]:9001' shop.apps.example.com --replace
      gorouter-py ports add auto shop.apps.example.com --cookie JSESSIONID
    """
    body = {"listen": listen, "host": host, "cookies": list(cookies)}
    client = reach.client(**router)
    with _failures():
        entry = client.call("PUT", _path(listen), body) if replace else client.call("POST", "/v1/ports", body)
    if as_json:
        click.echo(json.dumps(entry, indent=2))
        return
    click.echo(f"{entry['listen']} is {entry['host']} now")
    if entry.get("warning"):
        click.echo(f"warning: {entry['warning']}", err=True)


@ports.command(context_settings=flags.PLAIN_SETTINGS)
@click.argument("listen", type=LISTEN)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@reach.options
def remove(listen: str, as_json: bool, **router: Any) -> None:
    """Close LISTEN and forget it. Requests in progress end as they should; nothing else is disturbed.

    \b
    Example:
      gorouter-py ports remove 0.0.0.0:9001
    """
    client = reach.client(**router)
    with _failures():
        entry = client.call("DELETE", _path(listen))
    click.echo(json.dumps(entry, indent=2) if as_json else f"{entry['listen']} is closed; it was {entry['host']}")


@ports.command("list", context_settings=flags.PLAIN_SETTINGS)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@reach.options
def list_ports(as_json: bool, **router: Any) -> None:
    """Print the port map. Exit code 1 if a port of it could not be opened.

    \b
    Example:
      gorouter-py ports list --json
    """
    client = reach.client(**router)
    with _failures():
        found = client.call("GET", "/v1/ports")["ports"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        lines = [("LISTEN", "HOST", "COOKIES", "ORIGIN", "STATE"), *(_line(entry) for entry in found)]
        widths = [max(len(line[column]) for line in lines) for column in range(4)]
        for line in lines:
            click.echo("  ".join([*(text.ljust(n) for text, n in zip(line, widths, strict=False)), line[4]]))
    sys.exit(0 if all(entry["open"] for entry in found) else 1)


def _line(entry: dict[str, Any]) -> tuple[str, str, str, str, str]:
    state = "open" if entry["open"] else entry["error"] or "closed"
    if entry["open"] and not entry["routed"]:
        state = "open, no route"
    return entry["listen"], entry["host"], ",".join(entry["cookies"]) or "-", entry["origin"], state


def _path(listen: str) -> str:
    return f"/v1/ports/{urllib.parse.quote(listen, safe='')}"


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except AdminError as error:
        reach.fail("ports", str(error))

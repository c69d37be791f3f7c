"""Values of command-line flags: parsing, and messages that name the value and what would be valid.

The parse functions raise ValueError with a whole sentence; the click types wrap them (wrong value: exit code 2).
"""

import re
import sys
from typing import Any, NamedTuple, NoReturn
from urllib.parse import unquote

import click

from gorouter_py.component import ConfigError, parse_duration
from gorouter_py.control.keys import StaticRoute

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_ROUTE_EXAMPLE = "write HOST[/PATH]=ADDRESS:PORT, for example app.example.com=127.0.0.1:8080"
_NATS_EXAMPLE = "write nats://[USER:PASSWORD@]HOST[:PORT], for example nats://127.0.0.1:4222"
_NATS_PORT = 4222

PLAIN_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
# The prefix is given to each sub-command, so that it is GOROUTER_PORT and not GOROUTER_SERVE_PORT.
SETTINGS: dict[str, Any] = {**PLAIN_SETTINGS, "auto_envvar_prefix": "GOROUTER"}


class NatsServer(NamedTuple):
    """One --nats: user and password are "" if not given; tls for tls://."""

    host: str
    port: int
    user: str
    password: str
    tls: bool


def parse_route(text: str) -> StaticRoute:
    """ "app.example.com/api=127.0.0.1:8080"; the host of the route may start with "*.", the address may be a name."""
    uri, equals, address = text.partition("=")
    if not equals or not uri or not address:
        raise ValueError(f"{text!r} is no route; {_ROUTE_EXAMPLE}")
    if "://" in uri or "://" in address:
        raise ValueError(f"{text!r} has a scheme, routes have none; {_ROUTE_EXAMPLE}")
    host, slash, path = uri.partition("/")
    _check_host(host, text)
    if re.search(r"[?#\s\x00-\x1f]", path):
        raise ValueError(f"{text!r}: the path of a route has no query, fragment or space")
    name, port = parse_address(address, text)
    return StaticRoute(host.lower() + slash + path, name, port)


def _check_host(host: str, text: str) -> None:
    if re.search(r":\d+$", host):
        raise ValueError(f"{text!r}: a route has no port, requests to any port of {host.rpartition(':')[0]!r} match")
    labels = host.lower().split(".")
    if labels[0] == "*":
        if len(labels) == 1:
            raise ValueError(f"{text!r}: '*' alone is no host; write '*.example.com' or the name itself")
        labels = labels[1:]
    for label in labels:
        if not _LABEL.fullmatch(label):
            wrong = "is empty" if not label else f"{label!r} is no part of a host name"
            raise ValueError(f"{text!r}: {wrong}; {_ROUTE_EXAMPLE}")


def parse_address(text: str, whole: str = "") -> tuple[str, int]:
    """ "127.0.0.1:8080", "[::1]:8080" or "name:8080"; the port is 1 to 65535. `whole`: what to call it in messages."""
    whole = whole or text
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise ValueError(f"{whole!r}: only an IPv6 address stands in brackets")
    elif ":" in host:
        raise ValueError(f"{whole!r}: write an IPv6 address in brackets, as [::1]:8080")
    if not colon or not host:
        raise ValueError(f"{whole!r}: {text!r} is no address; write HOST:PORT, for example 127.0.0.1:8080")
    if not re.fullmatch(r"[A-Za-z0-9._:%-]+", host):
        raise ValueError(f"{whole!r}: {host!r} is neither an IP address nor a host name")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError(f"{whole!r}: {port!r} is no port; valid: 1 to 65535")
    return host, int(port)


def parse_nats(text: str) -> NatsServer:
    """ "nats://user:pass@host:4222", "tls://host", or just "host[:port]"; the port is 4222 if not given."""
    shown = re.sub(r"(?s)(://|^)[^/]*@", r"\1***@", text)  # messages end up in logs; passwords must not
    scheme, separator, rest = text.rpartition("://")
    if separator and scheme not in ("nats", "tls"):
        raise ValueError(f"{shown!r}: {scheme!r} is no scheme of NATS; {_NATS_EXAMPLE}")
    credentials, _, address = rest.rstrip("/").rpartition("@")
    user, _, password = credentials.partition(":")
    if not address or re.search(r"[/?#\s]", address):
        raise ValueError(f"{shown!r} is no NATS server; {_NATS_EXAMPLE}")
    if not re.search(r"(^[^:]*|\]):[^\]]*$", address):
        address = f"{address}:{_NATS_PORT}"
    host, port = parse_address(address, shown)
    return NatsServer(host, port, unquote(user), unquote(password), scheme == "tls")


class Parsed(click.ParamType):  # type: ignore[type-arg]  # generic in new versions of click alone
    """A click type around a parse function. metavar: how the value is shown in the help."""

    def __init__(self, parse: Any, metavar: str) -> None:
        self.parse = parse
        self.name = metavar

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _duration(text: str) -> float:
    seconds = parse_duration(text)
    if seconds < 0:
        raise ValueError(f"{text!r} is negative; valid: 0s or more")
    return seconds


ROUTE = Parsed(parse_route, "HOST[/PATH]=ADDRESS:PORT")
NATS = Parsed(parse_nats, "URL")
DURATION = Parsed(_duration, "DURATION")
PORT = click.IntRange(0, 65535)


def refuse_file(error: ConfigError) -> NoReturn:
    """Prints every problem of a file, one per line, and exits with 1."""
    for problem in error.problems:
        print(problem, file=sys.stderr)
    sys.exit(1)

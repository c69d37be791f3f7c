"""How commands reach the admin API of a running router: their flags, and the client these make."""

import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from gorouter_py.control.admin_client import DEFAULT_SOCKET, AdminClient, AdminError

_PREFIX = "GOROUTER_ADMIN_"


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --socket, --url, --token and --token-file: the arguments of `client`."""
    added = (
        click.option("--socket", "path", metavar="PATH", envvar=_PREFIX + "SOCKET", show_envvar=True,
                     help=f"The router's admin socket.  [default: {DEFAULT_SOCKET}]"),
        click.option("--url", envvar=_PREFIX + "URL", show_envvar=True, help="Its admin port: http://127.0.0.1:PORT."),
        click.option("--token", envvar=_PREFIX + "TOKEN", help="Its token; safer in GOROUTER_ADMIN_TOKEN."),
        click.option("--token-file", metavar="FILE", help="File that holds the token."),
    )  # fmt: skip
    for option in reversed(added):
        command = option(command)
    return command


def client(path: str | None, url: str | None, token: str | None, token_file: str | None) -> AdminClient:
    """Ends the program with 1 for a token or an address that is unfit."""
    name = click.get_current_context().command_path.split()[1]
    if token_file is not None:
        try:
            with open(token_file) as file:
                token = file.read().strip()
        except (OSError, ValueError) as error:
            fail(name, f"--token-file: {error}")
    try:
        return AdminClient(path or "", url or "", token or "")
    except AdminError as error:
        fail(name, str(error))


def fail(command: str, message: str, code: int = 1) -> NoReturn:
    """Says what is wrong on standard error, and ends the program."""
    print(f"gorouter-py {command}: {message}", file=sys.stderr)
    sys.exit(code)

"""The admin side of a router, built and joined: the store, what is offered, and the listeners it is offered on.

A share of app.py's work, constructed there once. Control thread.
"""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gorouter_py import __version__
from gorouter_py.component import Logger
from gorouter_py.control import listeners, status
from gorouter_py.control.admin import Admin
from gorouter_py.control.admin_api import Api
from gorouter_py.control.keys import TOKEN_CHARACTERS_MIN, Config
from gorouter_py.control.store import FileStore, Store

HOST: Final = "127.0.0.1"


class CannotStart(Exception):
    """The admin API cannot be offered as configured; str() says why."""


class AdminSide:
    """See the head of the file. apis: what other parts offer beside the rollouts."""

    def __init__(self, config: Config, log: Logger, source: status.Source, apis: Sequence[Api] = ()) -> None:
        own = config.gorouter_py
        self._settings = own.admin
        self._log = log
        self._source = source
        self._apis = list(apis)
        self.store: Store = FileStore(own.state_file, log)
        self._server: status.StatusServer | None = None
        self._admin: Admin | None = None
        self._unix: socket.socket | None = None

    def offer(self, api: Api) -> None:
        """Adds what another part offers; before open()."""
        self._apis.append(api)

    def open(self) -> None:
        """Offers the API from now on, where it is configured. CannotStart."""
        settings = self._settings
        if not settings.socket and not settings.port:
            return
        pages: list[status.Page] = []
        server = status.StatusServer(pages, self._source)
        admin = Admin(self._apis, __version__, server.await_)
        try:
            if settings.port:
                listener = listeners.open_one(HOST, settings.port)
                pages.append(status.Page(listener, application=admin.application(_token(settings.token_file))))
                self._log.info("admin-listener-started", address=f"{HOST}:{listener.getsockname()[1]}")
            if settings.socket:
                self._unix = listeners.open_unix(settings.socket)
                pages.append(status.Page(self._unix, application=admin.application()))
                self._log.info("admin-listener-started", address=settings.socket)
            server.start()
        except (listeners.CannotListen, status.CannotServe, CannotStart) as error:
            listeners.close([page.listener for page in pages])
            raise CannotStart(str(error)) from None
        self._server, self._admin = server, admin

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop()
        if self._unix is not None:
            listeners.remove_unix(self._settings.socket)
        await self.store.stop()


def _token(path: str) -> str:
    """The token in a file. CannotStart if it is none."""
    try:
        token = Path(path).read_text().strip()
    except (OSError, ValueError) as error:
        raise CannotStart(f"gorouter_py.admin.token_file: {error}") from None
    if len(token) < TOKEN_CHARACTERS_MIN or not token.isascii() or not token.isprintable() or " " in token:
        raise CannotStart(
            f"gorouter_py.admin.token_file: {path} holds no token; "
            f"write at least {TOKEN_CHARACTERS_MIN} letters and digits in one line, such as of: openssl rand -hex 16"
        )
    return token

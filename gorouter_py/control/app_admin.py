"""The admin side of a router, built and joined: the store, the rollouts, and the API with its listeners.

A share of app.py's work, constructed there once. Control thread.
"""

import asyncio
import hashlib
import json
import socket
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from gorouter_py import __version__, _fastpath
from gorouter_py.component import Logger
from gorouter_py.control import listeners, rollout_spec, status
from gorouter_py.control.admin import Admin
from gorouter_py.control.admin_api import Api
from gorouter_py.control.bucket import BucketStore
from gorouter_py.control.bus import Bus
from gorouter_py.control.keys import TOKEN_CHARACTERS_MIN, Config
from gorouter_py.control.registry import Registry, route_key
from gorouter_py.control.rollout_api import ACTION, START, RolloutApi
from gorouter_py.control.rollouts import Rollouts, Wiring, Wish
from gorouter_py.control.store import FileStore, Store

HOST: Final = "127.0.0.1"
STOP_S: Final = 5.0
QUEUE: Final = "gorouter-rollouts"  # of routers that share a bucket one answers


class CannotStart(Exception):
    """The admin side cannot be as configured; str() says why."""


class AdminSide:
    """See the head of the file. apis: what other parts offer beside the rollouts. CannotStart."""

    def __init__(
        self,
        config: Config,
        log: Logger,
        source: status.Source,
        plane: "_fastpath.DataPlane",
        registry: Registry,
        bus: Bus | None,
        apis: Sequence[Api] = (),
    ) -> None:
        own = config.gorouter_py
        self._own = own
        self._log = log
        self._source = source
        self._bus = bus
        self.store = self._make_store()
        self._server: status.StatusServer | None = None
        self._admin: Admin | None = None
        self._unix: socket.socket | None = None
        self.rollouts = Rollouts(
            Wiring(
                plane=plane,
                routes=registry,
                store=self.store,
                log=log.session("rollouts"),
                node=own.node or f"{socket.gethostname()}-{config.index}-{config.port}",
                bounds_ns=_fastpath.HISTOGRAM_BOUNDS_NS,
                route_key=route_key,
                publish=self._publish,
                changed=self._changed,
            )
        )
        self._offered = RolloutApi(self.rollouts)
        self._apis = [self._offered.api(), *apis]

    def _make_store(self) -> Store:
        own, log = self._own, self._log.session("state")
        local = FileStore(own.state_file, log)
        if not own.state_bucket:
            return local
        if self._bus is None:
            raise CannotStart("gorouter_py.state_bucket: a bucket is on the bus, and there is none; give nats.hosts")
        return BucketStore(own.state_bucket, self._bus.client, local, log)

    async def start(self) -> None:
        """Puts rollouts into force; the routes need not be there yet."""
        if self._bus is not None:
            queue = QUEUE if self.store.shared else ""
            await self._bus.serve(START, self._offered.answer_start, queue)
            await self._bus.serve(ACTION, self._offered.answer_action, queue)
        await self.rollouts.start([_wish(entry) for entry in self._own.rollouts if isinstance(entry, dict)])

    def offer(self, api: Api) -> None:
        """Adds what another part offers; before open()."""
        self._apis.append(api)

    def open(self) -> None:
        """Offers the API from now on, where it is configured. CannotStart."""
        settings = self._own.admin
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

    async def stop_deciding(self) -> None:
        """Keeps what there is to keep, while the bus is still there."""
        await asyncio.wait_for(self.rollouts.stop(), STOP_S)

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop()
        if self._unix is not None:
            listeners.remove_unix(self._own.admin.socket)
        await self.store.stop()

    def _changed(self) -> None:
        if self._admin is not None:
            self._admin.changed()

    def _publish(self, subject: str, payload: bytes) -> Coroutine[Any, Any, object]:
        return self._bus.publish(subject, payload) if self._bus is not None else _nothing()


async def _nothing() -> None:
    return


def _wish(entry: dict[str, Any]) -> Wish:
    """A rollout of the configuration, which has been checked."""
    body = {key: value for key, value in entry.items() if key != "route"}
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]
    return Wish(route_key(entry["route"]), rollout_spec.read(body), digest, body.get("why") or "")


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

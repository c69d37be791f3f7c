"""The status pages, served by uvicorn on a thread and loop of their own: /routes (basic auth), /metrics, the deprecated
component (/varz, /healthz and /health on status.port), and whatever application a page brings along.

Why a thread: rendering 1,000 histograms or 250,000 routes takes hundreds of milliseconds of Python, and a client may
read as slowly as it likes; on the control loop either would hold up registrations. Here a scrape costs the control
loop only the reading of numbers, and /routes comes over in portions of ROUTES_STEP routes.

Only `ask` and `await_` touch the control plane: they run a function on the control loop and wait for the result.
Where /health matters the workers answer it, whatever Python does; here it is for the deprecated component alone.
"""

import asyncio
import base64
import binascii
import concurrent.futures
import hmac
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gorouter_py.control import metrics

ROUTES_STEP: Final = 100  # routes that the control loop describes in one go: about 1 ms
ASK_TIMEOUT_S: Final = 10.0
IDLE_TIMEOUT_S: Final = 10  # gorouter: read and write time-out of the status listeners
STOP_TIMEOUT_S: Final = 2.0
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of 1.3 are fixed
T = TypeVar("T")


class Source(Protocol):
    """What the pages show. Every method is called on the control loop."""

    def readings(self) -> metrics.Readings: ...
    def keys(self) -> list[str]: ...
    def rows(self, keys: Sequence[str]) -> dict[str, list[dict[str, object]]]: ...
    async def varz(self) -> bytes: ...
    def healthy(self) -> bool: ...


@dataclass(frozen=True)
class Tls:
    """Files of a listener that speaks TLS and wants a client certificate of `authorities`."""

    certificate: str
    key: str
    authorities: str


@dataclass(frozen=True)
class Page:
    """One listener and what it serves. `credentials` guard everything but /metrics and health; None: open.

    component: the deprecated /varz, /healthz and /health; application: instead of everything else."""

    listener: socket.socket
    routes: bool = False
    metrics: bool = False
    credentials: tuple[str, str] | None = None
    component: bool = False
    application: Callable[..., Any] | None = None
    tls: Tls | None = None


class CannotServe(Exception):
    """The TLS files of a page are no use."""


class StatusServer:
    """See the head of the file. Constructed, started and stopped on the control thread."""

    def __init__(self, pages: Sequence[Page], source: Source) -> None:
        self._pages = pages
        self._source = source
        self.metric_errors = {"gathering": 0, "encoding": 0}
        self._control: asyncio.AbstractEventLoop | None = None
        self._servers: list[uvicorn.Server] = []
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Serves from now on; the caller's loop is the one that is asked. Raises CannotServe."""
        self._control = asyncio.get_running_loop()
        self._servers = [uvicorn.Server(self._configured(page)) for page in self._pages]
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)
        self._thread.start()

    def _configured(self, page: Page) -> uvicorn.Config:
        secured: dict[str, Any] = {}
        if page.tls is not None:
            if not page.tls.authorities:
                raise CannotServe("a certificate without authorities to verify those of clients")
            secured = {
                "ssl_certfile": page.tls.certificate,
                "ssl_keyfile": page.tls.key,
                "ssl_ca_certs": page.tls.authorities,
                "ssl_cert_reqs": ssl.CERT_REQUIRED,
                "ssl_ciphers": CIPHERS,
            }
        config = uvicorn.Config(
            page.application or self._application(page),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_keep_alive=IDLE_TIMEOUT_S,
            timeout_graceful_shutdown=1,
            limit_concurrency=64,
            **secured,
        )
        try:
            config.load()
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise CannotServe(f"{error}: {page.tls}") from None
        return config

    async def stop(self) -> None:
        """Ends the thread; gives up after STOP_TIMEOUT_S (it is a daemon thread and owns nothing that matters)."""
        for server in self._servers:
            server.should_exit = True
            server.force_exit = True
        thread = self._thread
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, thread.join, STOP_TIMEOUT_S)
        for page in self._pages:
            page.listener.close()

    def _run(self) -> None:
        async def serve() -> None:
            await asyncio.gather(
                *(
                    server.serve(sockets=[page.listener])
                    for server, page in zip(self._servers, self._pages, strict=True)
                )
            )

        asyncio.run(serve())

    async def ask(self, function: Callable[[], T]) -> T:
        """The result of a function that runs on the control loop. TimeoutError if that loop does not get to it."""
        answer: concurrent.futures.Future[T] = concurrent.futures.Future()

        def call() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(function())
            except BaseException as error:
                answer.set_exception(error)

        assert self._control is not None
        self._control.call_soon_threadsafe(call)
        return await asyncio.wait_for(asyncio.wrap_future(answer), ASK_TIMEOUT_S)

    async def await_(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The same for a coroutine function, which may take its time in portions."""
        assert self._control is not None
        answer = asyncio.run_coroutine_threadsafe(function(), self._control)
        return await asyncio.wait_for(asyncio.wrap_future(answer), ASK_TIMEOUT_S)

    # -- pages ---------------------------------------------------------------------------------------------

    def _application(self, page: Page) -> ASGIApp:
        shown: list[tuple[str, Callable[[Request], Awaitable[Response]]]] = []
        if page.routes:
            shown.append(("/routes", self._guarded(page, self._show_routes)))
        if page.metrics:
            shown.append(("/metrics", self._show_metrics))
        if page.component:
            shown.append(("/varz", self._guarded(page, self._show_varz)))
            shown.append(("/healthz", _show_healthz))
            shown.append(("/health", self._show_health))
        guarded_unknown = self._guarded(page, _show_unknown)

        async def not_found(request: Request, _error: Exception) -> Response:
            return await guarded_unknown(request)

        async def failed(_request: Request, error: Exception) -> Response:
            return PlainTextResponse(f"{type(error).__name__}\n", 503)

        application = Starlette(
            routes=[Route(path, _AnyMethod(show)) for path, show in shown],
            exception_handlers={404: not_found, Exception: failed},
        )
        application.router.redirect_slashes = False  # gorouter: /routes/ is another path, and unknown
        return application

    def _guarded(
        self, page: Page, show: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            if page.credentials is not None and not is_authorised(
                request.headers.get("authorization", ""), page.credentials
            ):
                return PlainTextResponse("401 Unauthorized\n", 401, {"WWW-Authenticate": "Basic"})
            return await show(request)

        return guarded

    async def _show_metrics(self, _request: Request) -> Response:
        try:
            readings = await self.ask(self._source.readings)
        except Exception:
            self.metric_errors["gathering"] += 1
            raise
        try:
            text = metrics.render(readings)
        except Exception:
            self.metric_errors["encoding"] += 1
            raise
        return Response(text, media_type=metrics.CONTENT_TYPE)

    async def _show_varz(self, _request: Request) -> Response:
        page = await self.await_(self._source.varz)
        return Response(page + b"\n", media_type="application/json", headers={"Connection": "close"})

    async def _show_health(self, _request: Request) -> Response:
        headers = {"Cache-Control": "private, max-age=0", "Expires": "0"}
        if await self.ask(self._source.healthy):
            return PlainTextResponse("ok\n", headers=headers)
        return Response(status_code=503, headers=headers)

    async def _show_routes(self, _request: Request) -> Response:
        keys = await self.ask(self._source.keys)
        keys.sort()  # gorouter: Go writes the keys of a map in order
        # gorouter: Connection: close
        return StreamingResponse(self._routes(keys), media_type="application/json", headers={"Connection": "close"})

    async def _routes(self, keys: list[str]) -> AsyncIterator[bytes]:
        encode = msgspec.json.encode
        separator = b"{"
        for start in range(0, len(keys), ROUTES_STEP):
            portion = keys[start : start + ROUTES_STEP]
            rows = await self.ask(lambda portion=portion: self._source.rows(portion))  # type: ignore[misc]
            inner = encode(rows)[1:-1]
            if inner:
                yield separator + inner
                separator = b","
        yield b"{}\n" if separator == b"{" else b"}\n"


async def _show_healthz(_request: Request) -> Response:
    return Response("ok", headers={"Content-Type": "text/plain", "Connection": "close"})


async def _show_unknown(_request: Request) -> Response:
    return PlainTextResponse("404 page not found\n", 404, {"X-Content-Type-Options": "nosniff"})


class _AnyMethod:
    """An endpoint for all methods (gorouter: methods are not checked); Starlette limits plain functions to GET."""

    def __init__(self, show: Callable[[Request], Awaitable[Response]]) -> None:
        self._show = show

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._show(Request(scope, receive))
        await response(scope, receive, send)


def is_authorised(header: str, credentials: tuple[str, str]) -> bool:
    """Whether an Authorization header carries these credentials. gorouter: a second ":" makes them invalid."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return False
    if decoded.count(b":") != 1:
        return False
    user, _, password = decoded.partition(b":")
    same_user = hmac.compare_digest(user, credentials[0].encode())
    same_password = hmac.compare_digest(password, credentials[1].encode())
    return same_user and same_password

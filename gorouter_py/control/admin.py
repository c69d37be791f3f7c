"""The admin API and the page that uses it: an application that the status server serves on a thread of its own.

Offers what the parts give it (`Api`, control/admin_api.py) under /v1, the document of that at /v1/openapi.json, and
the files of gorouter_py/web at /. Answers are JSON; every error has "error" and "reason". An operation runs on the
control loop through `call`; reading, encoding and waiting for slow clients happen here.

Who may: a unix socket is guarded by its permissions. A port on loopback wants a bearer token for /v1 (the page itself
is open), answers only to the names of this machine, and lets no other site's page write (names that are pointed at
127.0.0.1 from outside, forms of strange pages).
"""

import asyncio
import contextlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gorouter_py.control import admin_api
from gorouter_py.control.admin_api import Api, Call, Operation, Refusal

STREAMS_MAX: Final = 32
STREAM_PERIOD_S: Final = 1.0  # without a change an object comes this often
STREAM_PAUSE_S: Final = 0.05  # and never more often than this
HOSTS: Final = ("localhost", "127.0.0.1", "[::1]")
WEB: Final = Path(__file__).resolve().parent.parent / "web"
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
API_HEADERS: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
Answerer = Callable[[Request], Awaitable[Response]]


class Admin:
    """See the head of the file.

    call: runs a coroutine function on the control loop and gives its result; TimeoutError if that takes too long."""

    def __init__(
        self,
        apis: Sequence[Api],
        version: str,
        call: Callable[[Callable[[], Coroutine[Any, Any, Any]]], Awaitable[Any]],
    ) -> None:
        self._apis = apis
        self._call = call
        self._document = _json(admin_api.document(apis, version))
        self._files = {path.name: path.read_bytes() for path in sorted(WEB.iterdir()) if path.suffix in TYPES}
        self._streams: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def changed(self) -> None:
        """Something that a stream shows has changed. From any thread."""
        for loop, event in tuple(self._streams):
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:  # that loop has ended; its stream goes with it
                self._streams.discard((loop, event))

    def application(self, token: str | None = None) -> ASGIApp:
        """For one listener. token: what /v1 asks for there; None (a unix socket): nothing, whoever it lets in."""
        routes: list[Route] = []
        by_path: dict[str, list[Operation]] = {}
        for api in self._apis:
            for operation in api.operations:
                by_path.setdefault(operation.path, []).append(operation)
        for path, operations in by_path.items():
            answers = {operation.method: self._answerer(operation) for operation in operations}
            routes.append(Route(path, _methods(answers), methods=list(answers)))
        routes.append(Route("/v1/openapi.json", self._show_document, methods=["GET"]))
        routes.append(Route("/", self._show_file, methods=["GET"]))
        routes.append(Route("/{file}", self._show_file, methods=["GET"]))

        async def refused(_request: Request, error: Exception) -> Response:
            return _refuse(_as_refusal(error))

        handlers: dict[Any, Any] = {Refusal: refused, HTTPException: refused, Exception: refused}
        application = Starlette(routes=routes, exception_handlers=handlers)
        application.router.redirect_slashes = False
        return _Guard(application, token)

    # -- answers -------------------------------------------------------------------------------------------

    def _answerer(self, operation: Operation) -> Answerer:
        async def answer(request: Request) -> Response:
            call = await _read(request, operation)
            if operation.streams:
                return await self._stream(operation, call)
            return _answer(await self._ask(operation, call))

        return answer

    async def _ask(self, operation: Operation, call: Call) -> Any:
        async def handle() -> Any:
            return await operation.handle(call)

        return await self._call(handle)

    async def _stream(self, operation: Operation, call: Call) -> Response:
        if len(self._streams) >= STREAMS_MAX:
            raise Refusal(503, "too_many_streams", f"{STREAMS_MAX} are open already; close one of them")
        first = await self._ask(operation, call)  # a refusal is an answer of its own, not the end of a stream
        headers = {**API_HEADERS, "X-Accel-Buffering": "no"}
        return StreamingResponse(self._events(operation, call, first), 200, headers, "text/event-stream")

    async def _events(self, operation: Operation, call: Call, first: Any) -> AsyncIterator[bytes]:
        changed = asyncio.Event()
        mine = (asyncio.get_running_loop(), changed)
        self._streams.add(mine)
        try:
            shown = first
            while True:
                yield b"data: " + _json(shown) + b"\n\n"
                await asyncio.sleep(STREAM_PAUSE_S)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), STREAM_PERIOD_S)
                changed.clear()
                shown = await self._ask(operation, call)
        except (Refusal, TimeoutError):
            return  # what was shown has gone, or the router is ending
        finally:
            self._streams.discard(mine)

    async def _show_document(self, _request: Request) -> Response:
        return Response(self._document, 200, API_HEADERS, "application/json")

    async def _show_file(self, request: Request) -> Response:
        name = request.path_params.get("file", "index.html")
        content = self._files.get(name)
        if content is None:
            raise Refusal(404, "not_found", f"there is no {name!r} here; the API is described in /v1/openapi.json")
        return Response(content, 200, {**PAGE_HEADERS, "Content-Type": TYPES[Path(name).suffix]})


class _Guard:
    """What comes before the routes: who may ask, and paths as they were sent (a "/" in a parameter is %2F)."""

    def __init__(self, inner: ASGIApp, token: str | None) -> None:
        self._inner = inner
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        scope = {**scope, "path": scope["raw_path"].decode("latin-1")}
        try:
            self._check(Request(scope))
        except Refusal as refusal:
            await _refuse(refusal)(scope, receive, send)
            return
        await self._inner(scope, receive, send)

    def _check(self, request: Request) -> None:
        if self._token is None:
            return
        host = request.headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name.lower() not in HOSTS:
            raise Refusal(403, "strange_host", f"the host {host!r} is not this machine; use http://127.0.0.1:PORT")
        origin = request.headers.get("origin")
        if origin is not None and request.method not in ("GET", "HEAD") and origin.lower() != f"http://{host}".lower():
            raise Refusal(403, "strange_origin", f"a page of {origin!r} may not change anything here")
        if not request.scope["path"].startswith("/v1"):
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            raise Refusal(401, "token_missing", "send the header Authorization: Bearer TOKEN")
        if not hmac.compare_digest(given.strip().encode(), self._token.encode()):
            raise Refusal(401, "token_wrong", "this is not the token of the router's token_file")


def _methods(answers: dict[str, Answerer]) -> Answerer:
    async def answer(request: Request) -> Response:
        return await answers["GET" if request.method == "HEAD" and "GET" in answers else request.method](request)

    return answer


async def _read(request: Request, operation: Operation) -> Call:
    """The call of a request. Refusal for a body that is no JSON or too large."""
    body: Any = None
    if operation.body:
        raw = b""
        async for part in request.stream():
            raw += part
            if len(raw) > admin_api.BODY_BYTES_MAX:
                raise Refusal(413, "too_large", f"the body has more than {admin_api.BODY_BYTES_MAX} bytes")
        try:
            body = json.loads(raw) if raw.strip() else {}
        except (ValueError, RecursionError) as error:
            raise Refusal(400, "no_json", f"the body is no JSON: {error}") from None
        if not isinstance(body, dict):
            raise Refusal(400, "no_object", f"the body is {_kind(body)}; write a JSON object")
    params = {name: unquote(str(value)) for name, value in request.path_params.items()}
    return Call(params, dict(request.query_params), body)


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _as_refusal(error: Exception) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, HTTPException):
        if error.status_code == 405:
            return Refusal(405, "wrong_method", "this path has other methods; see /v1/openapi.json")
        return Refusal(error.status_code, "not_found", "there is nothing here; see /v1/openapi.json")
    if isinstance(error, TimeoutError):
        return Refusal(503, "busy", "the router did not get to it in time; try again")
    if isinstance(error, ClientDisconnect):
        return Refusal(400, "incomplete", "the body ended early")
    return Refusal(500, "internal", f"{type(error).__name__}: {error}; this is a defect of the router")


def _refuse(refusal: Refusal) -> Response:
    headers = {**API_HEADERS, **({"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {})}
    return Response(_json(refusal.body()), refusal.status, headers, "application/json")


def _answer(value: Any) -> Response:
    return Response(_json(value), 200, API_HEADERS, "application/json")


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")

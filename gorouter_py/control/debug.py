"""The debug server (`debug_addr`): the level of the component log can be seen and changed while the router runs.

An ASGI application, served by the status server on its thread. A level is one assignment that every logger reads, so
it needs no lock.

/log-level: PUT or POST with a level as body sets it, GET without a body shows it. The profiler of Go is not here.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Protocol

BODY_MAX: Final = 64
# The words and short forms that gorouter's debug server takes. "fatal" lines are written at every level.
LEVELS: Final = {
    "debug": "debug", "d": "debug", "0": "debug",
    "info": "info", "i": "info", "1": "info",
    "warn": "warn", "w": "warn", "2": "warn",
    "error": "error", "e": "error", "3": "error",
    "fatal": "fatal", "f": "fatal", "4": "fatal",
}  # fmt: skip
ABSENT: Final = ("/debug/pprof", "/block-profile-rate", "/mutex-profile-fraction")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Log(Protocol):
    @property
    def level(self) -> str: ...
    def set_level(self, level: str) -> None: ...
    def info(self, message: str, /, **data: object) -> None: ...


class Debug:
    """The application; see the head of the file."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        path = scope["path"]
        if path == "/log-level":
            status, text = self.log_level(scope["method"], await _body(receive))
        elif path.startswith(ABSENT):
            status, text = 404, f"{path} belongs to the Go runtime; this router has no such profiler\n"
        else:
            status, text = 404, "404 page not found\n"
        body = text.encode()
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"x-content-type-options", b"nosniff"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def log_level(self, method: str, body: bytes) -> tuple[int, str]:
        """Status and text of a request for /log-level."""
        if method in ("GET", "HEAD") and not body:
            return 200, f"{self._log.level}\n"
        if method not in ("GET", "PUT", "POST"):
            return 400, f"method {method} not allowed, use PUT\n"
        asked = body.decode("utf-8", "replace").strip().lower()
        level = LEVELS.get(asked)
        if level is None:
            return 400, f"Invalid log level: {asked}; valid: debug, info, warn, error, fatal\n"
        before = self._log.level
        self._log.set_level(level)
        self._log.info("log-level-changed", **{"from": before, "to": level})
        return 200, f"/log-level was invoked with Level: {level}\n"


async def _body(receive: Receive) -> bytes:
    """The first bytes of the request's body; no level is longer than BODY_MAX."""
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += bytes(message.get("body", b""))[: BODY_MAX + 1 - len(body)]
        if not message.get("more_body", False):
            return body

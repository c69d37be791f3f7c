"""An HTTP/1.1 router in plain Python: what one would write today without a compiled core.

uvloop and httptools carry it, as they carry uvicorn. Features are those of the other peers of the bench: keep-alive on
both sides, round robin, X-Forwarded-For/-Proto, X-Request-Start, a fresh X-Vcap-Request-Id, sticky sessions by
JSESSIONID and __VCAP_ID__, streamed bodies with back-pressure, a second attempt after a failed connect, the access log
in the same format, written in blocks. It is meant to be an honest competitor: heads are joined once, log lines are
buffered, request ids are cut from blocks of random bytes. One thread, one event loop.

Not there: upgrades, trailers, time-outs, several requests in one read (pipelining).
Use: python -m bench.load.plain_router --port N --routes FILE [--access-log FILE], where FILE holds
{"host": [["ip", port, "instance id"], ...], ...} as JSON.
"""

import argparse
import asyncio
import json
import os
import signal
import time
from collections import deque
from datetime import datetime
from typing import Any

import httptools
import uvloop

LOG_BLOCK_BYTES = 64 * 1024
LOG_FLUSH_S = 1.0
IDLE_PER_INSTANCE = 128
ATTEMPTS_MAX = 3
HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
DROPPED = HOP_BY_HOP | {b"x-vcap-request-id"}


class Instance:
    """One backend: its address and its idle connections."""

    __slots__ = ("address", "host", "id", "idle", "port")

    def __init__(self, host: str, port: int, instance_id: str) -> None:
        self.host, self.port, self.id = host, port, instance_id
        self.address = f"{host}:{port}"
        self.idle: list[Upstream] = []


class Route:
    """The instances of one host, in round robin."""

    __slots__ = ("cursor", "instances")

    def __init__(self, instances: list[Instance]) -> None:
        self.instances = instances
        self.cursor = 0

    def pick(self, sticky_id: str) -> Instance:
        """The instance a sticky client belongs to, else the next one."""
        if sticky_id:
            for instance in self.instances:
                if instance.id == sticky_id:
                    return instance
        self.cursor += 1
        return self.instances[self.cursor % len(self.instances)]


class Router:
    """The route table, the request ids and the log; shared by all connections."""

    def __init__(self, table: dict[str, list[list[Any]]], access_log: str) -> None:
        self.loop: asyncio.AbstractEventLoop
        self.routes = {host.encode(): Route([Instance(*row) for row in rows]) for host, rows in table.items()}
        self.log_fd = os.open(access_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if access_log else -1
        self.lines: list[str] = []
        self.lines_bytes = 0
        self._random = ""
        self._random_at = 0
        self._second = 0
        self._second_text = ""

    def find(self, host: bytes) -> Route | None:
        """Exact host, port and case ignored."""
        route = self.routes.get(host)
        if route is None:
            route = self.routes.get(host.partition(b":")[0].lower())
        return route

    def request_id(self) -> str:
        """A version 4 UUID; 128 of them are drawn at a time."""
        if self._random_at == len(self._random):
            self._random, self._random_at = os.urandom(2048).hex(), 0
        text = self._random[self._random_at : self._random_at + 32]
        self._random_at += 32
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"

    def log(self, line: str) -> None:
        """Queues a finished line; a full block is written at once."""
        if self.log_fd >= 0:
            self.lines.append(line)
            self.lines_bytes += len(line)
            if self.lines_bytes >= LOG_BLOCK_BYTES:
                self.flush()

    def flush(self) -> None:
        """Writes what is queued."""
        if self.lines:
            os.write(self.log_fd, "".join(self.lines).encode("latin-1", "replace"))
            self.lines.clear()
            self.lines_bytes = 0

    def flush_now_and_then(self) -> None:
        """Keeps lines from waiting longer than LOG_FLUSH_S."""
        self.flush()
        self.loop.call_later(LOG_FLUSH_S, self.flush_now_and_then)

    def time_text(self, now: float) -> str:
        """Local time with nanoseconds and a literal Z, as gorouter writes it."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_text = datetime.fromtimestamp(second).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._second_text}{int((now - second) * 1e9):09d}Z"


class Request:
    """One request on its way; the chunks of its body wait here until an upstream connection is there."""

    __slots__ = (
        "agent",
        "answered_at",
        "attempts",
        "body",
        "bytes_in",
        "bytes_out",
        "chunked",
        "complete",
        "cookie",
        "forwarded_for",
        "forwarded_proto",
        "head_sent",
        "headers",
        "host",
        "id",
        "instance",
        "keep_alive",
        "length",
        "method",
        "minor",
        "received_at",
        "referer",
        "request_start",
        "route",
        "sent_at",
        "status",
        "sticky_id",
        "target",
        "upstream",
    )

    def __init__(self) -> None:
        self.method = b""
        self.minor = "1.1"
        self.keep_alive = True
        self.headers: list[bytes] = []
        self.target = self.host = self.referer = self.agent = self.cookie = b""
        self.forwarded_for = self.forwarded_proto = self.request_start = b""
        self.length = self.bytes_in = self.bytes_out = self.attempts = self.status = 0
        self.chunked = self.complete = self.head_sent = False
        self.received_at = time.time()
        self.sent_at = self.answered_at = 0.0
        self.id = self.sticky_id = ""
        self.body: list[bytes] = []
        self.route: Route | None = None
        self.instance: Instance | None = None
        self.upstream: Upstream | None = None


class Client(asyncio.Protocol):
    """A connection from a client: one request at a time is forwarded, bytes that come early wait."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.transport: asyncio.Transport
        self.peer_ip = self.peer = b""
        self.request: Request | None = None
        self.waiting: deque[bytes] = deque()
        self.parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        host, port = transport.get_extra_info("peername")[:2]
        self.peer_ip = host.encode()
        self.peer = f"{host}:{port}".encode()

    def connection_lost(self, exc: Exception | None) -> None:
        request = self.request
        if request is not None and request.upstream is not None:
            request.upstream.abandon()
        self.request = None

    def data_received(self, data: bytes) -> None:
        request = self.request
        if request is not None and request.complete:
            self.waiting.append(data)
            self.transport.pause_reading()
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.connection_lost(None)  # as gorouter does, what is no request is not logged
            self.refuse(400, b"Bad Request")

    def pause_writing(self) -> None:
        if self.request is not None and self.request.upstream is not None:
            self.request.upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.request is not None and self.request.upstream is not None:
            self.request.upstream.transport.resume_reading()

    # -- what the parser calls ---------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        if self.request is not None:
            raise httptools.HttpParserError("a second request in one read is not spoken here")
        self.request = Request()

    def on_url(self, url: bytes) -> None:
        self.request.target += url  # type: ignore[union-attr]

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self.request
        assert request is not None
        lower = name.lower()
        if lower == b"host":
            request.host = value
        elif lower == b"x-forwarded-for":
            request.forwarded_for = request.forwarded_for + b", " + value if request.forwarded_for else value
            return
        elif lower == b"content-length":
            request.length = int(value)
        elif lower == b"transfer-encoding":
            request.chunked = True
            return
        elif lower == b"cookie":
            request.cookie = value
        elif lower == b"user-agent":
            request.agent = value
        elif lower == b"referer":
            request.referer = value
        elif lower == b"x-forwarded-proto":
            request.forwarded_proto = value
        elif lower == b"x-request-start":
            request.request_start = value
        elif lower in DROPPED:
            return
        request.headers.append(name + b": " + value)

    def on_headers_complete(self) -> None:
        request = self.request
        assert request is not None
        request.method = self.parser.get_method()
        request.minor = self.parser.get_http_version()
        request.keep_alive = self.parser.should_keep_alive()
        request.route = self.router.find(request.host)
        if request.route is None:
            self.refuse(404, b"Not Found")
            return
        request.id = self.router.request_id()
        headers = request.headers
        if request.chunked:
            headers.append(b"Transfer-Encoding: chunked")
        request.forwarded_for = request.forwarded_for + b", " + self.peer_ip if request.forwarded_for else self.peer_ip
        headers.append(b"X-Forwarded-For: " + request.forwarded_for)
        if not request.forwarded_proto:
            request.forwarded_proto = b"http"
            headers.append(b"X-Forwarded-Proto: http")
        if not request.request_start:
            headers.append(b"X-Request-Start: %d" % int(request.received_at * 1000))
        headers.append(b"X-Vcap-Request-Id: " + request.id.encode())
        if request.cookie and b"JSESSIONID=" in request.cookie:
            _, found, rest = request.cookie.partition(b"__VCAP_ID__=")
            if found:
                request.sticky_id = rest.partition(b";")[0].strip().decode("latin-1")
        self.attempt()

    def on_body(self, body: bytes) -> None:
        request = self.request
        if request is None or request.route is None:
            return
        request.bytes_in += len(body)
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if request.chunked else body
        if request.upstream is not None:
            request.upstream.transport.write(chunk)
        else:
            request.body.append(chunk)
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        request = self.request
        if request is None:
            return
        request.complete = True
        if request.chunked:
            if request.upstream is not None:
                request.upstream.transport.write(b"0\r\n\r\n")
            else:
                request.body.append(b"0\r\n\r\n")

    # -- forwarding --------------------------------------------------------------------------------------
    def attempt(self) -> None:
        """Sends the request to an instance over an idle connection, or over a new one."""
        request = self.request
        assert request is not None and request.route is not None
        request.instance = instance = request.route.pick(request.sticky_id if not request.attempts else "")
        request.attempts += 1
        while instance.idle:
            upstream = instance.idle.pop()
            if not upstream.transport.is_closing():
                self.send(upstream)
                return
        self.router.loop.create_task(self.dial(request, instance))

    async def dial(self, request: Request, instance: Instance) -> None:
        try:
            _, upstream = await self.router.loop.create_connection(
                lambda: Upstream(self.router, instance), instance.host, instance.port
            )
        except OSError:
            if self.request is request:
                if request.attempts < ATTEMPTS_MAX:
                    self.attempt()
                else:
                    self.refuse(502, b"Bad Gateway")
            return
        if self.request is request:
            self.send(upstream)
        else:
            upstream.transport.close()

    def send(self, upstream: "Upstream") -> None:
        request = self.request
        assert request is not None
        request.upstream = upstream
        request.sent_at = time.time()
        upstream.begin(self, request)
        head = b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (request.method, request.target, b"\r\n".join(request.headers))
        if request.body:
            upstream.transport.write(head + b"".join(request.body))
            request.body.clear()
            self.transport.resume_reading()
        else:
            upstream.transport.write(head)

    def upstream_failed(self, request: Request) -> None:
        """The instance closed the connection before its answer was whole."""
        if self.request is not request:
            return
        request.upstream = None
        repeatable = request.method in (b"GET", b"HEAD", b"OPTIONS", b"TRACE") and not request.bytes_in
        if request.head_sent:
            self.log(request)
            self.request = None
            self.transport.close()
        elif repeatable and request.complete and request.attempts < ATTEMPTS_MAX:
            self.attempt()
        else:
            self.refuse(502, b"Bad Gateway")

    def refuse(self, status: int, reason: bytes) -> None:
        """Answers by itself and closes: the body that may follow is not read."""
        body = b"%d %b\n" % (status, reason)
        self.transport.write(
            b"HTTP/1.1 %d %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (status, reason, len(body), body)
        )
        if self.request is not None:
            self.request.status = status
            self.request.bytes_out = len(body)
            self.log(self.request)
            self.request = None
        self.transport.close()

    def finished(self, request: Request) -> None:
        """The answer is whole: log it and take the next request."""
        self.log(request)
        self.request = None
        if not request.keep_alive or not request.complete:
            self.transport.close()
        elif self.waiting:
            data = b"".join(self.waiting)
            self.waiting.clear()
            self.transport.resume_reading()
            self.data_received(data)

    def log(self, request: Request) -> None:
        router = self.router
        if router.log_fd < 0:
            return
        now = time.time()
        spent = now - request.received_at
        own = spent - (request.answered_at - request.sent_at) if request.answered_at else spent
        instance = request.instance
        router.log(
            f"{request.host.decode('latin-1')} - [{router.time_text(request.received_at)}] "
            f'"{request.method.decode()} {request.target.decode("latin-1")} HTTP/{request.minor}" {request.status} '
            f'{request.bytes_in} {request.bytes_out} "{request.referer.decode("latin-1") or "-"}" '
            f'"{request.agent.decode("latin-1") or "-"}" "{self.peer.decode()}" '
            f'"{instance.address if instance else "-"}" '
            f'x_forwarded_for:"{request.forwarded_for.decode("latin-1") or "-"}" '
            f'x_forwarded_proto:"{request.forwarded_proto.decode("latin-1") or "-"}" '
            f'vcap_request_id:"{request.id or "-"}" '
            f'response_time:{spent:.6f} gorouter_time:{own:.6f} app_id:"-" app_index:"-" '
            f'instance_id:"{instance.id if instance else "-"}" x_cf_routererror:"-"\n'
        )


class Upstream(asyncio.Protocol):
    """A connection to an instance: idle in its list, or busy with one request."""

    def __init__(self, router: Router, instance: Instance) -> None:
        self.router = router
        self.instance = instance
        self.transport: asyncio.Transport
        self.client: Client | None = None
        self.request: Request | None = None
        self.parser: Any = httptools.HttpResponseParser(self)
        self.headers: list[bytes] = []
        self.reason = b""
        self.chunked = self.has_length = self.sets_session = self.complete = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def begin(self, client: Client, request: Request) -> None:
        """Takes over a request; its head is written next."""
        self.client, self.request = client, request
        self.headers = []
        self.reason = b""
        self.chunked = self.has_length = self.sets_session = self.complete = False

    def abandon(self) -> None:
        """The client is gone: half an exchange cannot be re-used."""
        self.client = self.request = None
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self.instance.idle:
            self.instance.idle.remove(self)
        client, request = self.client, self.request
        self.client = self.request = None
        if client is None or request is None:
            return
        if request.head_sent and not self.has_length and not self.chunked:
            request.keep_alive = False
            client.finished(request)
        else:
            client.upstream_failed(request)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            client, request = self.client, self.request
            self.abandon()
            if client is not None and request is not None:
                client.upstream_failed(request)

    def pause_writing(self) -> None:
        if self.client is not None:
            self.client.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.client is not None:
            self.client.transport.resume_reading()

    # -- what the parser calls ---------------------------------------------------------------------------
    def on_status(self, status: bytes) -> None:
        self.reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"content-length":
            self.has_length = True
        elif lower == b"set-cookie":
            if value.startswith(b"JSESSIONID="):
                self.sets_session = True
        elif lower == b"transfer-encoding":
            self.chunked = True
        elif lower in HOP_BY_HOP:
            return
        self.headers.append(name + b": " + value)

    def on_headers_complete(self) -> None:
        client, request = self.client, self.request
        if client is None or request is None:
            return
        request.status = status = self.parser.get_status_code()
        if status < 200:
            self.headers, self.reason = [], b""
            return
        request.answered_at = time.time()
        headers = self.headers
        if self.sets_session or (request.sticky_id and request.sticky_id != self.instance.id):
            headers.append(b"Set-Cookie: __VCAP_ID__=" + self.instance.id.encode() + b"; Path=/; HttpOnly")
        if not self.has_length and not self.chunked and status not in (204, 304) and request.method != b"HEAD":
            request.keep_alive = False
        if not request.keep_alive:
            headers.append(b"Connection: close")
        request.head_sent = True
        client.transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n\r\n" % (status, self.reason, b"\r\n".join(headers)))
        if request.method == b"HEAD":
            # llhttp would wait for the body that Content-Length names: this connection is not used again.
            self.client = self.request = None
            self.transport.close()
            client.finished(request)

    def on_body(self, body: bytes) -> None:
        client, request = self.client, self.request
        if client is None or request is None:
            return
        request.bytes_out += len(body)
        client.transport.write(b"%x\r\n%b\r\n" % (len(body), body) if self.chunked else body)

    def on_message_complete(self) -> None:
        client, request = self.client, self.request
        if client is None or request is None or request.status < 200:
            return
        if self.chunked:
            client.transport.write(b"0\r\n\r\n")
        self.client = self.request = None
        if self.parser.should_keep_alive() and request.complete and len(self.instance.idle) < IDLE_PER_INSTANCE:
            self.instance.idle.append(self)
        else:
            self.transport.close()
        client.finished(request)


async def serve(port: int, router: Router) -> None:
    """Listens on the loopback until SIGTERM."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    router.loop = loop
    server = await loop.create_server(lambda: Client(router), "127.0.0.1", port, backlog=4096)
    loop.call_later(LOG_FLUSH_S, router.flush_now_and_then)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="A router in plain Python.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--routes", required=True, help="JSON file: host to list of [ip, port, instance id]")
    parser.add_argument("--access-log", default="")
    options = parser.parse_args()
    with open(options.routes, encoding="utf-8") as file:
        router = Router(json.load(file), options.access_log)
    try:
        uvloop.run(serve(options.port, router))
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
    finally:
        router.flush()


if __name__ == "__main__":
    main()

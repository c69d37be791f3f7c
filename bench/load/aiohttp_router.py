"""An HTTP router on aiohttp's server and client: what most people would write in Python when asked for a proxy.

The features of plain_router.py (which is the faster one, on bare protocols) in a quarter of the lines. Same
command line.
"""

import argparse
import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from datetime import datetime

import aiohttp
import uvloop
from aiohttp import web

from bench.load.plain_router import Instance, Route

HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}


class Handler:
    """Finds the instance, forwards both ways, logs."""

    def __init__(self, routes: dict[str, Route], access_log: str) -> None:
        self.routes = routes
        self.session: aiohttp.ClientSession
        self.file = open(access_log, "a", buffering=65536, encoding="utf-8") if access_log else None  # noqa: SIM115

    async def lifetime(self, app: web.Application) -> AsyncIterator[None]:
        """Opens the client session with the loop and closes it with it."""
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=900)
        self.session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        flusher = asyncio.get_running_loop().create_task(self.flush_now_and_then())
        yield
        flusher.cancel()
        await self.session.close()

    async def flush_now_and_then(self) -> None:
        """Keeps lines from waiting longer than a second."""
        while self.file:
            await asyncio.sleep(1)
            self.file.flush()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        received = time.time()
        route = self.routes.get(request.host.partition(":")[0].lower())
        if route is None:
            return web.Response(status=404, text="404 Not Found\n")
        sticky = request.cookies.get("__VCAP_ID__", "") if "JSESSIONID" in request.cookies else ""
        instance = route.pick(sticky)
        headers = request.headers.copy()
        for name in [*HOP_BY_HOP, "X-Vcap-Request-Id"]:
            headers.popall(name, None)
        forwarded = headers.popall("X-Forwarded-For", [])
        headers["X-Forwarded-For"] = ", ".join([*forwarded, request.remote or "-"])
        headers.setdefault("X-Forwarded-Proto", "http")
        headers.setdefault("X-Request-Start", str(int(received * 1000)))
        headers["X-Vcap-Request-Id"] = request_id = str(uuid.uuid4())
        url = f"http://{instance.address}{request.raw_path}"
        data = request.content if request.can_read_body else None
        sent = time.time()
        try:
            upstream = await self.session.request(
                request.method,
                url,
                headers=headers,
                data=data,
                allow_redirects=False,
                skip_auto_headers=("Accept", "User-Agent"),
            )
        except aiohttp.ClientError:
            return web.Response(status=502, text="502 Bad Gateway\n")
        async with upstream:
            answered = time.time()
            response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
            for name, value in upstream.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    response.headers.add(name, value)
            sets_session = any(v.startswith("JSESSIONID=") for v in upstream.headers.getall("Set-Cookie", ()))
            if sets_session or (sticky and sticky != instance.id):
                response.headers.add("Set-Cookie", f"__VCAP_ID__={instance.id}; Path=/; HttpOnly")
            size = 0
            await response.prepare(request)
            async for chunk in upstream.content.iter_any():
                size += len(chunk)
                await response.write(chunk)
            await response.write_eof()
        if self.file:
            spent = time.time() - received
            self.file.write(
                f"{request.host} - [{datetime.fromtimestamp(received):%Y-%m-%dT%H:%M:%S.%f}000Z] "
                f'"{request.method} {request.raw_path} HTTP/1.1" {upstream.status} {request.content_length or 0} '
                f'{size} "{request.headers.get("Referer", "-")}" "{request.headers.get("User-Agent", "-")}" '
                f'"{request.remote}" '
                f'"{instance.address}" x_forwarded_for:"{headers["X-Forwarded-For"]}" '
                f'x_forwarded_proto:"{headers["X-Forwarded-Proto"]}" vcap_request_id:"{request_id}" '
                f'response_time:{spent:.6f} gorouter_time:{spent - (answered - sent):.6f} app_id:"-" app_index:"-" '
                f'instance_id:"{instance.id}" x_cf_routererror:"-"\n'
            )
        return response


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="A router on aiohttp.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--routes", required=True, help="JSON file: host to list of [ip, port, instance id]")
    parser.add_argument("--access-log", default="")
    options = parser.parse_args()
    with open(options.routes, encoding="utf-8") as file:
        routes = {host: Route([Instance(*row) for row in rows]) for host, rows in json.load(file).items()}
    handler = Handler(routes, options.access_log)
    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", handler.handle)
    app.cleanup_ctx.append(handler.lifetime)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=options.port, access_log=None, print=None, backlog=4096, loop=loop)


if __name__ == "__main__":
    main()

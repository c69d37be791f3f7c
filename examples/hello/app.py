"""A small ASGI app that shows what a router does for it: which instance answered, and what arrived there.

    uvicorn examples.hello.app:app --port 9001

Pages: / for people, /headers the request as JSON, /login sets JSESSIONID (the router adds __VCAP_ID__ and the session
stays on one instance), /logout ends it, /stream sends a line every half second, /echo (POST) sends a body back as it
arrives, /ws echoes websocket messages. The environment names the instance, as Cloud Foundry does:
CF_INSTANCE_INDEX, CF_INSTANCE_GUID.
"""

import asyncio
import html
import os
import secrets
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

INDEX = os.environ.get("CF_INSTANCE_INDEX", "0")
INSTANCE_ID = os.environ.get("CF_INSTANCE_GUID", "")

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>hello, instance {index}</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em }}
td {{ padding: 0 1em 0 0; vertical-align: top; font-family: monospace }}
pre {{ background: #eee; padding: .5em }}</style>
<h1>Hello from instance <span id="instance">{index}</span></h1>
<p>Reload: the other instance answers (round robin). <a href="/login">Log in</a> and reload: the session stays
where it began. <a href="/logout">Log out</a> again. {session}</p>
<p><a href="/stream">A page that streams</a> &middot; <a href="/headers">this request as JSON</a></p>
<h2>Websocket</h2>
<form id="say"><input id="text" value="hello"> <button>Send</button></form><pre id="ws">not connected</pre>
<h2>The request as it arrived here</h2>
<table>{rows}</table>
<script>
const out = document.getElementById("ws");
const ws = new WebSocket("ws://" + location.host + "/ws");
ws.onopen = () => {{ out.textContent = "connected\\n"; ws.send("hello"); }};
ws.onmessage = (event) => {{ out.textContent += event.data + "\\n"; document.body.dataset.ws = "echoed"; }};
ws.onclose = () => {{ out.textContent += "closed\\n"; }};
document.getElementById("say").onsubmit = (event) => {{
  event.preventDefault();
  ws.send(document.getElementById("text").value);
}};
</script></html>
"""


def headers_of(request: Request) -> list[tuple[str, str]]:
    """Names and values in the order and case-folding of ASGI (lower case)."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]


async def index(request: Request) -> Response:
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in headers_of(request)
    )
    session = "You are logged in." if "JSESSIONID" in request.cookies else "You are not logged in."
    page = PAGE.format(index=html.escape(INDEX), session=session, rows=rows)
    return HTMLResponse(page, headers={"X-Instance": INDEX})


async def headers(request: Request) -> Response:
    body = {
        "instance": INDEX,
        "instance_id": INSTANCE_ID,
        "method": request.method,
        "path": request.url.path,
        "headers": headers_of(request),
    }
    return JSONResponse(body, headers={"X-Instance": INDEX})


async def login(request: Request) -> Response:
    response = PlainTextResponse(f"logged in at instance {INDEX}\n", headers={"X-Instance": INDEX})
    response.set_cookie("JSESSIONID", secrets.token_hex(16), httponly=True, path="/")
    return response


async def logout(request: Request) -> Response:
    response = PlainTextResponse("logged out\n", headers={"X-Instance": INDEX})
    response.delete_cookie("JSESSIONID", path="/")
    return response


async def stream(request: Request) -> Response:
    async def lines() -> AsyncIterator[str]:
        for number in range(1, 11):
            yield f"line {number} of 10 from instance {INDEX}\n"
            await asyncio.sleep(0.5)

    return StreamingResponse(lines(), media_type="text/plain", headers={"X-Instance": INDEX})


async def echo(request: Request) -> Response:
    kind = request.headers.get("content-type", "application/octet-stream")
    return StreamingResponse(request.stream(), media_type=kind, headers={"X-Instance": INDEX})


async def websocket_echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(f"instance {INDEX} heard: {await websocket.receive_text()}")
    except WebSocketDisconnect:
        pass  # the other side left: nothing more to do


app = Starlette(
    routes=[
        Route("/", index),
        Route("/headers", headers, methods=["GET", "POST", "PUT", "DELETE", "OPTIONS"]),
        Route("/login", login),
        Route("/logout", logout),
        Route("/stream", stream),
        Route("/echo", echo, methods=["POST", "PUT"]),
        WebSocketRoute("/ws", websocket_echo),
    ]
)

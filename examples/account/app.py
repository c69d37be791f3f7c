"""A small ASGI app with a login, as many apps have one: it knows its own host alone, and nothing of X-Forwarded-*.

    uvicorn examples.account.app:app --port 9001

It redirects to absolute addresses of its own host and sets a cookie for its whole domain; sessions are in its memory,
so a session works at the instance where it began. Behind a mapped port (docs/port-mapping.md) all of that is turned
for a client that only knows address and port. Pages: / and /login for people, /account for those who are logged in,
/logout. SHOP_NAME in the environment is the name of the shop.
"""

import html
import os
import secrets

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

NAME = os.environ.get("SHOP_NAME", "shop")
COOKIE = "JSESSIONID"
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{name}</title>
<h1 id="shop">{name}</h1>
{content}</html>
"""
FORM = """<form id="login" method="post" action="/login">
<input name="user" id="user" value="ann"> <button id="send">Log in</button></form>
"""
ACCOUNT = """<p>You are <b id="user">{user}</b>. This is page <b id="visits">{visits}</b> of your visit.</p>
<p><a href="/account">Reload</a> <a href="/logout">Log out</a></p>
"""
sessions: dict[str, list[str]] = {}  # token -> the user, and a page for each visit


def page(content: str) -> Response:
    return HTMLResponse(PAGE.format(name=html.escape(NAME), content=content))


def own(request: Request, path: str) -> str:
    """An absolute address of this app, as it believes to be reached."""
    return f"http://{request.headers['host']}{path}"


def domain(request: Request) -> str:
    """The domain that its apps share: the host without the first label."""
    return "." + request.headers["host"].partition(":")[0].partition(".")[2]


async def index(request: Request) -> Response:
    return RedirectResponse(own(request, "/account"), 302)


async def account(request: Request) -> Response:
    session = sessions.get(request.cookies.get(COOKIE, ""))
    if session is None:
        return RedirectResponse(own(request, "/login"), 302)
    session.append(request.url.path)
    return page(ACCOUNT.format(user=html.escape(session[0]), visits=len(session) - 1))


async def login(request: Request) -> Response:
    if request.method == "GET":
        return page(FORM)
    fields = dict(pair.partition("=")[::2] for pair in (await request.body()).decode().split("&"))
    token = secrets.token_hex(16)
    sessions[token] = [fields.get("user", "somebody")]
    response = RedirectResponse(own(request, "/account"), 302)
    response.set_cookie(COOKIE, token, path="/", domain=domain(request), httponly=True)
    return response


async def logout(request: Request) -> Response:
    sessions.pop(request.cookies.get(COOKIE, ""), None)
    response = RedirectResponse(own(request, "/login"), 302)
    response.delete_cookie(COOKIE, path="/", domain=domain(request))
    return response


app = Starlette(
    routes=[
        Route("/", index),
        Route("/account", account),
        Route("/login", login, methods=["GET", "POST"]),
        Route("/logout", logout),
    ]
)

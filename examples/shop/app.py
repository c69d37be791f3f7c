"""One instance of a shop. It registers itself over NATS, with its version, until it is told to end.

    python -m examples.shop.app --version v1 --port 9001
    python -m examples.shop.app --version v2 --port 9002 --broken 30

Pages: / and /cart, both say which version answered, in the text and in X-Version. --broken: so many percent of the
requests for /cart end in 500. --slow: milliseconds that each answer takes.
"""

import argparse
import asyncio
import random
import signal
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from examples import register


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--version", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--uri", action="append", help="default: shop.localhost")
    parser.add_argument("--nats", action="append", metavar="URL", help="default: nats://127.0.0.1:4222")
    parser.add_argument("--broken", type=float, default=0.0, metavar="PERCENT")
    parser.add_argument("--slow", type=float, default=0.0, metavar="MS")
    return parser.parse_args()


def shop(options: argparse.Namespace) -> Starlette:
    """The app of one version."""
    chance = random.Random(options.version)

    async def page(request: Request) -> Response:
        await asyncio.sleep(options.slow / 1000)
        headers = {"X-Version": options.version, "Cache-Control": "no-store"}
        if request.url.path == "/cart" and chance.random() * 100 < options.broken:
            return PlainTextResponse(f"the cart of {options.version} is broken\n", 500, headers)
        return PlainTextResponse(f"shop {options.version}: {request.url.path}\n", headers=headers)

    return Starlette(routes=[Route("/", page), Route("/cart", page)])


async def run(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    config = uvicorn.Config(shop(options), port=options.port, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    registered = argparse.Namespace(
        uri=options.uri or ["shop.localhost"], address=f"127.0.0.1:{options.port}", app="shop", instance_id="",
        index="0", version=options.version, nats=options.nats, interval=20.0,
    )  # fmt: skip
    serving = loop.create_task(server.serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if serving.done():
        sys.exit(1)  # uvicorn has said why
    for number in (signal.SIGINT, signal.SIGTERM):  # after uvicorn set its own: first unregister, then stop to serve
        loop.add_signal_handler(number, stop.set)
    await register.keep_registered(registered, stop)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(run(arguments()))

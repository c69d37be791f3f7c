"""Registers one app instance with every router that listens on a NATS bus, as a Cloud Foundry component does.

    python examples/register.py --nats nats://127.0.0.1:4222 --uri hello.localhost --address 127.0.0.1:9001 --index 0

It waits until the instance accepts connections, publishes router.register, and does so again whenever a router says
router.start and every --interval seconds (a router forgets an instance it has not heard of for two minutes). On TERM
or INT it publishes router.unregister and ends with 0.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import uuid
from typing import Any

import nats
from nats.aio.msg import Msg


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nats", action="append", metavar="URL", help="may be given more than once")
    parser.add_argument("--uri", action="append", required=True, help="host[/path]; may be given more than once")
    parser.add_argument("--address", required=True, metavar="HOST:PORT", help="where the instance listens")
    parser.add_argument("--app", default="hello", help="application id")
    parser.add_argument("--instance-id", default="", help="default: a new one")
    parser.add_argument("--index", default="0", help="number of the instance")
    parser.add_argument("--version", default="", help="of the app: what canary rollouts tell instances apart by")
    parser.add_argument("--interval", type=float, default=20.0, metavar="SECONDS")
    return parser.parse_args()


def message(options: argparse.Namespace) -> dict[str, Any]:
    """The body of router.register; router.unregister carries the same."""
    host, _, port = options.address.rpartition(":")
    version = {"options": {"version": options.version}} if options.version else {}
    return {
        "uris": options.uri,
        "host": host.strip("[]"),
        "port": int(port),
        "app": options.app,
        "private_instance_id": options.instance_id or str(uuid.uuid4()),
        "private_instance_index": str(options.index),
        "stale_threshold_in_seconds": 120,
        "tags": {"component": "examples/register"},
        **version,
    }


async def accepts(address: str) -> bool:
    """True when somebody listens there: registering an instance that is still starting would send it requests."""
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except OSError:
        return False
    writer.close()
    return True


async def run(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await keep_registered(options, stop)


async def keep_registered(options: argparse.Namespace, stop: asyncio.Event) -> None:
    """Registers the instance as soon as it listens, and until `stop` is set."""
    body = json.dumps(message(options)).encode()

    async def complain(error: Exception) -> None:
        print(f"nats: {error!r}", file=sys.stderr, flush=True)

    servers = options.nats or ["nats://127.0.0.1:4222"]
    bus = await nats.connect(servers, name="examples/register", max_reconnect_attempts=-1, error_cb=complain)

    async def greet(_: Msg) -> None:
        await bus.publish("router.register", body)

    await bus.subscribe("router.start", cb=greet)
    while not stop.is_set() and not await accepts(options.address):
        await asyncio.sleep(0.05)
    if stop.is_set():
        await bus.close()
        return
    print(f"registering {', '.join(options.uri)} -> {options.address}", flush=True)
    while not stop.is_set():
        await bus.publish("router.register", body)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), options.interval)
    await bus.publish("router.unregister", body)
    await bus.drain()


if __name__ == "__main__":
    asyncio.run(run(arguments()))

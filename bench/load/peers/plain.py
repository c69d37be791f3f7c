"""Routers in Python alone as peers: one on uvloop and httptools, one on aiohttp's server and client."""

import json
import sys
from importlib import metadata

from bench.load.peers.base import Running, Settings, own_directory
from bench.load.procs import BenchError, Fleet, wait_for_port


def _versions(*packages: str) -> str:
    found = [f"Python {sys.version.split()[0]}"]
    for name in packages:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError as error:
            raise BenchError(f"{name} is not installed") from error
    return ", ".join(found)


def _start(name: str, module: str, fleet: Fleet, settings: Settings) -> Running:
    (port,) = fleet.ports(1)
    routes = own_directory(fleet, name) / "routes.json"
    table = {host: [[i.ip, i.port, i.id] for i in instances] for host, instances in settings.table.items()}
    routes.write_text(json.dumps(table))
    argv = [sys.executable, "-m", module, "--port", str(port), "--routes", str(routes)]
    if settings.access_log:
        argv += ["--access-log", str(settings.access_log)]
    process = fleet.start(name, argv, settings.cpu)
    wait_for_port(port, process)
    return Running(name, port, settings, [process])


class PlainPython:
    """bench/load/plain_router.py: one process, one thread, protocols on uvloop and httptools."""

    name = "plain-python"

    def version(self) -> str:
        return _versions("uvloop", "httptools")

    def describe(self) -> str:
        return "bench/load/plain_router.py: asyncio protocols, one thread, log written in 64 KiB blocks"

    def start(self, fleet: Fleet, settings: Settings) -> Running:
        return _start(self.name, "bench.load.plain_router", fleet, settings)


class Aiohttp:
    """bench/load/aiohttp_router.py: a handler on aiohttp, as most people would write a proxy in Python."""

    name = "aiohttp"

    def version(self) -> str:
        return _versions("uvloop", "aiohttp")

    def describe(self) -> str:
        return "bench/load/aiohttp_router.py: aiohttp server and client on uvloop, one thread"

    def start(self, fleet: Fleet, settings: Settings) -> Running:
        return _start(self.name, "bench.load.aiohttp_router", fleet, settings)

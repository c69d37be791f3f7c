"""Real programs for system tests: a nats-server, a router process, and a backend that can be told to wait.

Every class is a context manager that ends what it started. Nothing here asserts a duration: `until` waits for a
condition, with a deadline that only a hang reaches.
"""

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import nats
from nats.aio.client import Client

from tests.support import ports

ROOT = Path(__file__).resolve().parent.parent.parent
DEADLINE_S = 60.0
Line = dict[str, Any]


def until(condition: Callable[[], Any], what: str = "") -> Any:
    """The first true value of condition(); TimeoutError after DEADLINE_S."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise TimeoutError(what or "the condition did not come true")


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now; they differ."""
    return [ports.take() for _ in range(count)]


class NatsServer:
    """nats-server on 127.0.0.1. stop() and start() again keep the port."""

    def __init__(self, port: int = 0, arguments: tuple[str, ...] = ()) -> None:
        self.port = port or free_ports(1)[0]
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        program = shutil.which("nats-server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        assert program is not None, "nats-server is neither beside this Python nor on PATH"
        # A sanitizer that was loaded into us must not be loaded into it.
        environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
        self._process = subprocess.Popen(
            [program, "-a", "127.0.0.1", "-p", str(self.port), *self._arguments],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        until(self._answers, "nats-server does not listen")

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "nats-server has ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            return connection.recv(4) == b"INFO"
        return False

    def run(self, scenario: Callable[[Client], Any], **options: Any) -> Any:
        """Runs a coroutine function with a client of this server."""

        async def connected() -> Any:
            client = await nats.connect(f"nats://127.0.0.1:{self.port}", **options)
            try:
                result = await scenario(client)
                await client.flush()
                return result
            finally:
                await client.close()

        return asyncio.run(connected())

    def publish(self, subject: str, *payloads: bytes | dict[str, Any], **options: Any) -> None:
        async def send(client: Client) -> None:
            for payload in payloads:
                data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
                await client.publish(subject, data)

        self.run(send, **options)

    def register(self, uri: str, port: int, **fields: Any) -> None:
        self.publish("router.register", {"host": "127.0.0.1", "port": port, "uris": [uri], **fields})

    def unregister(self, uri: str, port: int, **fields: Any) -> None:
        self.publish("router.unregister", {"host": "127.0.0.1", "port": port, "uris": [uri], **fields})


class Router:
    """A router process: `serve` with flags, or the drop-in form with a configuration (a dict; JSON is YAML).

    Its three listeners are on free ports of 127.0.0.1. `lines` grows with its log. Entering waits for the line
    `wait_for`; with None it only starts the process."""

    def __init__(
        self,
        *flags: str,
        config: dict[str, Any] | None = None,
        folder: Path | None = None,
        ports: list[int] | None = None,
        wait_for: str | None = "gorouter.started",
    ) -> None:
        self._wait_for = wait_for
        self.port, self.status_port, self.admin_port = ports or free_ports(3)
        self.lines: list[Line] = []
        self.raw: list[str] = []
        self.complaints: list[str] = []
        if config is None:
            self._command = [
                sys.executable, "-m", "gorouter_py", "serve", "--host", "127.0.0.1", "--workers", "1",
                "--port", str(self.port), "--status-port", str(self.status_port),
                "--admin-port", str(self.admin_port), *flags,
            ]  # fmt: skip
        else:
            assert folder is not None
            self._command = [
                sys.executable, "-c", "from gorouter_py.control.cli import gorouter_main; gorouter_main()",
                "-c", str(self._write(config, folder)),
            ]  # fmt: skip
        self.process: subprocess.Popen[str] | None = None
        self._readers: list[threading.Thread] = []

    def _write(self, config: dict[str, Any], folder: Path) -> Path:
        whole = {
            "port": self.port,
            "go_max_procs": 1,
            "start_response_delay_interval": "0s",
            "droplet_stale_threshold": "120s",
            **config,
            "status": {"port": self.status_port, "routes": {"port": self.admin_port}, **config.get("status", {})},
            "gorouter_py": {"host": "127.0.0.1", **config.get("gorouter_py", {})},
        }
        path = folder / "gorouter.yml"
        path.write_text(json.dumps(whole))
        return path

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            cwd=ROOT,
        )
        for stream, target in ((self.process.stdout, self._take_line), (self.process.stderr, self.complaints.append)):
            reader = threading.Thread(target=lambda stream=stream, target=target: [target(line) for line in stream])
            reader.start()
            self._readers.append(reader)
        if self._wait_for:
            self.saw(self._wait_for)

    def _take_line(self, line: str) -> None:
        self.raw.append(line.rstrip("\n"))
        if line.startswith("{"):
            self.lines.append(json.loads(line))

    def said(self, message: str) -> list[Line]:
        """The log lines with that message so far."""
        return [line for line in tuple(self.lines) if line["message"] == message]

    def saw(self, message: str, count: int = 1) -> Line:
        """Waits for the count-th line with that message."""

        def there() -> Line | None:
            found = self.said(message)
            if len(found) >= count:
                return found[count - 1]
            assert self.process is not None
            if self.process.poll() is not None and not any(reader.is_alive() for reader in self._readers):
                found = self.said(message)  # what was read meanwhile
                if len(found) >= count:
                    return found[count - 1]
                raise AssertionError(f"ended with {self.process.returncode}, never said {message}:\n{self.tail()}")
            return None

        try:
            found: Line = until(there)
        except TimeoutError:
            raise AssertionError(f"never said {message}:\n{self.tail()}") from None
        return found

    def tail(self) -> str:
        return "\n".join(self.raw[-30:] + [line.rstrip() for line in self.complaints[-30:]])

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code."""
        assert self.process is not None
        code = self.process.wait(DEADLINE_S)
        for reader in self._readers:
            reader.join(DEADLINE_S)
        return code

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.wait()
            assert self.process.stdout and self.process.stderr
            self.process.stdout.close()
            self.process.stderr.close()

    def get(self, host: str, path: str = "/") -> tuple[int, bytes]:
        """Status and body of a request through the router, on a connection of its own."""
        status, _, body = fetch(self.port, path, {"Host": host})
        return status, body

    def serves(self, host: str, body: bytes) -> bool:
        return self.get(host) == (200, body)

    def health(self) -> int:
        return fetch(self.status_port, "/health")[0]

    def routes(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = json.loads(fetch(self.admin_port, "/routes")[2])
        return found

    def metric(self, name: str) -> float:
        """The value of a metric without labels; -1 while nobody answers."""
        try:
            text = fetch(self.admin_port, "/metrics")[2].decode()
        except ConnectionError:
            return -1.0
        for line in text.splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no metric {name}")


def fetch(
    port: int, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """One request to 127.0.0.1; header names in lower case."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


class Served(socketserver.ThreadingTCPServer):
    """A server on a free port of 127.0.0.1 that runs on a thread while it is entered."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, handler: type[socketserver.BaseRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class Backend(Served):
    """Answers every request with `body`; a request for /wait only once `release` is set."""

    def __init__(self, body: bytes = b"hello") -> None:
        super().__init__(_Answer)
        self.body = body
        self.release = threading.Event()
        self.waiting = threading.Semaphore(0)

    def __exit__(self, *_: object) -> None:
        self.release.set()
        super().__exit__()


class _Answer(socketserver.StreamRequestHandler):
    server: Backend

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            for target in self._targets():
                if target == b"/wait":
                    self.server.waiting.release()
                    self.server.release.wait(DEADLINE_S)
                body = self.server.body
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    def _targets(self) -> Iterator[bytes]:
        while first := self.rfile.readline():
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            yield first.split(b" ")[1]


class Waiting:
    """A request for /wait under way on a thread; `join` gives its status, or the exception it ended with."""

    def __init__(self, router: Router, backend: Backend, host: str) -> None:
        self._result: Any = None

        def go() -> None:
            try:
                self._result = router.get(host, "/wait")
            except Exception as error:
                self._result = error

        self._thread = threading.Thread(target=go)
        self._thread.start()
        assert backend.waiting.acquire(timeout=DEADLINE_S), "the request did not reach the backend"

    def join(self) -> Any:
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        return self._result

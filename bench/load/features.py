"""Checks, before anything is measured, that every peer does the same work: headers, request id, stickiness, log.

An echo origin inside the harness answers with the head it received, so a peer that leaves a header out is
found, and the run stops, instead of winning.
"""

import re
import socket
import socketserver
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench.load.procs import BenchError
from bench.load.table import Instance

HOST = "echo.bench"
SESSION = "JSESSIONID=0123456789"
ID_SHAPE = re.compile(r"^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$")


class _Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        name = self.server.name  # type: ignore[attr-defined]
        while True:
            lines = []
            while (line := self.rfile.readline()) not in (b"\r\n", b"\n", b""):
                lines.append(line)
            if not line:
                return
            body = b"".join(lines)
            cookie = f"Set-Cookie: {SESSION}; Path=/\r\n".encode() if b"/login" in lines[0] else b""
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Instance: %b\r\n%bContent-Length: %d\r\n\r\n"
            self.wfile.write(head % (name.encode(), cookie, len(body)) + body)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a router may reset an idle connection
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@dataclass
class EchoOrigins:
    """Two echo origins on the given ports, while the context lasts."""

    ports: list[int]

    @property
    def instances(self) -> list[Instance]:
        return [Instance(port, f"e{number}") for number, port in enumerate(self.ports)]

    def __enter__(self) -> "EchoOrigins":
        self._servers = []
        for instance in self.instances:
            server = _Server((instance.ip, instance.port), _Echo)
            server.name = instance.id  # type: ignore[attr-defined]
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self._servers.append(server)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


@dataclass(frozen=True)
class Answer:
    """An answer and, as its body, the head that the origin saw."""

    head: str
    seen: str

    def field(self, name: str) -> str:
        """Value of a field of the answer, "" if it is not there."""
        return _field(self.head, name)

    def seen_field(self, name: str) -> str:
        return _field(self.seen, name)


def _field(head: str, name: str) -> str:
    start = name.lower() + ":"
    return ", ".join(line[len(start) :].strip() for line in head.split("\r\n") if line.lower().startswith(start))


def ask(port: int, target: str = "/", cookie: str = "", host: str = HOST, forwarded_for: str = "") -> Answer:
    """One GET on a connection of its own."""
    fields = [f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: close"]
    fields += [f"Cookie: {cookie}"] if cookie else []
    fields += [f"X-Forwarded-For: {forwarded_for}"] if forwarded_for else []
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(("\r\n".join(fields) + "\r\n\r\n").encode())
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
    head, _, body = data.decode("latin-1").partition("\r\n\r\n")
    return Answer(head, body)


def check(peer: str, port: int, access_log: Path | None) -> None:
    """BenchError naming the first feature that a peer on the port lacks."""

    def must(true: bool, what: str, answer: Answer) -> None:
        if not true:
            raise BenchError(f"{peer}: {what}\nanswer:\n{answer.head}\norigin saw:\n{answer.seen}")

    first, second = ask(port, forwarded_for="192.0.2.7"), ask(port)
    must(first.head.split(" ")[1:2] == ["200"], "a GET is not answered with 200", first)
    forwarded = [part.strip() for part in first.seen_field("x-forwarded-for").split(",")]
    must(forwarded == ["192.0.2.7", "127.0.0.1"], "X-Forwarded-For is not appended to", first)
    must(first.seen_field("x-forwarded-proto") == "http", "no X-Forwarded-Proto", first)
    must(first.seen_field("x-request-start") != "", "no X-Request-Start", first)
    ids = [answer.seen_field("x-vcap-request-id") for answer in (first, second)]
    must(all(ID_SHAPE.match(i) for i in ids) and ids[0] != ids[1], f"no unique request ids: {ids}", first)
    must(first.field("x-instance") != second.field("x-instance"), "no round robin over two instances", second)
    must(first.field("set-cookie") == "", "a cookie nobody asked for", first)
    login = ask(port, "/login")
    instance = login.field("x-instance")
    must(f"__VCAP_ID__={instance}" in login.field("set-cookie"), "no __VCAP_ID__ beside the app's session", login)
    for _ in range(4):
        sticky = ask(port, cookie=f"{SESSION}; __VCAP_ID__={instance}")
        must(sticky.field("x-instance") == instance, f"a session of {instance} is not sticky", sticky)
    if access_log:
        line = _wait_for_line(access_log, ids[0])
        for part in (HOST, "GET / HTTP/1.1", " 200 ", "192.0.2.7"):
            must(part in line, f"{part!r} is not in the log line: {line}", first)


def _wait_for_line(log: Path, text: str) -> str:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if log.exists():
            for line in log.read_text(errors="replace").splitlines():
                if text in line:
                    return line
        time.sleep(0.1)
    raise BenchError(f"no line with request id {text} in {log}")

"""The same cases through two tiers of real HAProxys before the router, and through a mapped port of it alone."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gorouter_py import _fastpath
from haproxy import render, tables
from haproxy.binds import Address
from tests.support import ports
from tests.support.origins import Origin, Served
from tests.support.plane import Router, until
from tests.support.wire import Cut, Message, Wire
from tests.system.port_cases import APP, CASES, Case, Seen

pytestmark = [pytest.mark.foreign, pytest.mark.release_only]
DOC = Path(__file__).resolve().parents[2] / "docs" / "port-mapping.md"
TAG = _fastpath.cookie_tag(APP)


class Ways:
    """A router with one app behind it, and the ports that lead there."""

    def __init__(self, folder: Path) -> None:
        self.answer = b""
        self.app = Origin(self._serve)
        self.router = Router()
        self.router.add(self.app, APP, instance_id="id-1")
        self.alone, _ = self.router.map_port(APP)
        self.chain, between = ports.take(), ports.take()
        mapped = tables.Ports({Address("127.0.0.1", self.chain): APP})
        files = render.render(mapped, [f"127.0.0.1:{self.router.port}"], f"127.0.0.1:{between}", folder)
        for name, content in files.items():
            (folder / name).write_text(content)
        self.tiers = [
            subprocess.Popen(["/usr/sbin/haproxy", "-db", "-f", str(folder / name)], stderr=subprocess.DEVNULL)
            for name in ("tier2.cfg", "tier1.cfg")
        ]

    def _serve(self, conn: Served) -> None:
        while (request := conn.request()) is not None:
            if (request.get("Upgrade") or "").lower() == "websocket":
                conn.send(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"  # RFC 6455 1.3
                )
                conn.send(conn.take(4)[::-1])
                return
            conn.send(self.answer)

    def is_up(self) -> bool:
        """Whether both ways lead to the app; the tiers have to find each other and the router healthy first."""
        self.answer = answer_of(CASES[0])
        try:
            return all(
                ask(port, f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()).status == 200
                for port in (self.chain, self.alone)
            )
        except (OSError, Cut):
            return False

    def finish(self) -> None:
        for tier in reversed(self.tiers):
            tier.kill()
            tier.wait()
        self.router.finish()
        self.app.finish()


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    made = Ways(tmp_path_factory.mktemp("tiers"))
    try:
        until(made.is_up, "the chain does not come up")
        yield made
    finally:
        made.finish()


def ask(port: int, request: bytes, method: str = "GET") -> Message:
    with Wire.connect(port) as client:
        client.send(request)
        return client.answer(method)


def answer_of(case: Case) -> bytes:
    length = () if case.status.startswith("204") else ("Content-Length: 0",)
    return "\r\n".join((f"HTTP/1.1 {case.status}", *length, *case.answer, "", "")).encode()


def check(what: str, message: Message, seen: Seen, fill: Callable[[str], str]) -> None:
    """Every field that is named is what it should be."""
    for name, wanted in seen.items():
        found = message.all(name)
        if isinstance(wanted, str):
            assert found == [fill(wanted)], f"{what}: {name}"
        else:
            assert found == [fill(each) for each in wanted or []], f"{what}: {name}"


def request_of(case: Case, fill: Callable[[str], str]) -> bytes:
    host = () if case.host is None else (f"Host: {case.host}",)
    length = (f"Content-Length: {len(case.body)}",) if case.body else ()
    return fill("\r\n".join((case.start, *host, *length, *case.lines, "", case.body))).encode()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("way", ["chain", "alone"])
def test_case(ways: Ways, way: str, case: Case) -> None:
    port = ways.chain if way == "chain" else ways.alone

    def fill(text: str) -> str:
        return text.replace("{public}", f"127.0.0.1:{port}").replace("{port}", str(port)).replace("{tag}", TAG)

    ways.answer = answer_of(case)
    seen_before = len(ways.app.requests)
    reply = ask(port, request_of(case, fill), case.start.split()[0])
    own = case.chain if way == "chain" else case.alone
    assert reply.status == case.expected
    answered = {name: value for name, value in own.items() if name in ANSWERED}
    check(f"client, {way}", reply, {**case.client, **answered}, fill)
    if not case.reaches_app:
        assert len(ways.app.requests) == seen_before
        return
    request = ways.app.requests[-1]
    asked = {name: value for name, value in own.items() if name not in ANSWERED}
    check(f"app, {way}", request, {**case.app, **asked}, fill)
    assert request.body.decode() == case.body


ANSWERED = {"Location", "Content-Location", "Refresh", "Set-Cookie"}


@pytest.mark.parametrize("way", ["chain", "alone"])
def test_a_websocket(ways: Ways, way: str) -> None:
    port = ways.chain if way == "chain" else ways.alone
    with Wire.connect(port) as client:
        client.send(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            f"Origin: http://127.0.0.1:{port}\r\n\r\n".encode()
        )
        assert client.answer().status == 101
        client.send(b"ping")
        assert client.take(4) == b"gnip"
    assert ways.app.last().get("Origin") == f"http://127.0.0.1:{port}"
    assert ways.app.last().get("Host") == APP
    assert ways.app.last().get("X-Forwarded-Host") == f"127.0.0.1:{port}"


def test_every_difference_is_explained() -> None:
    rows = {line.split("|")[1].strip() for line in DOC.read_text().splitlines() if line.startswith("| ")}
    differing = {case.differs for case in CASES if case.differs}
    assert differing <= rows
    assert all(case.differs for case in CASES if case.chain or case.alone)

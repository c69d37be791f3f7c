"""The access log at a syslog server."""

import re
import socket
from collections.abc import Iterator
from datetime import datetime

import pytest

from gorouter_py._fastpath import DataPlane
from tests.support.origins import OK
from tests.support.plane import MakeOrigin, MakeRouter, until

FORM = re.compile(r"<14>1 (\S+) host-1 vcap\.gorouter 4711 - \ufeff(.*)", re.S)


class Udp:
    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(60)

    def attach(self, plane: DataPlane, truncate: int = 0) -> None:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)
        ip, port = self.socket.getsockname()
        made.connect((ip, port))
        plane.stream_log(made.detach(), ip, port, tcp=False, origin="host-1 vcap.gorouter 4711", truncate=truncate)

    def line(self) -> str:
        return self.socket.recv(70000).decode("utf-8", "surrogateescape")

    def close(self) -> None:
        self.socket.close()


class Tcp:
    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(60)
        self.peers: list[socket.socket] = []

    def attach(self, plane: DataPlane, truncate: int = 0) -> None:
        ip, port = self.listener.getsockname()
        made = socket.create_connection((ip, port))
        made.setblocking(False)
        plane.stream_log(made.detach(), ip, port, tcp=True, origin="host-1 vcap.gorouter 4711", truncate=truncate)
        self.accept()

    def accept(self) -> None:
        peer, _ = self.listener.accept()
        peer.settimeout(60)
        self.peers.append(peer)
        self.file = peer.makefile("rb")

    def line(self) -> str:
        line = self.file.readline().decode("utf-8", "surrogateescape")
        assert line.endswith("\n")
        return line[:-1]

    def close(self) -> None:
        for each in (*self.peers, self.listener):
            each.close()


@pytest.fixture(params=[Udp, Tcp])
def server(request: pytest.FixtureRequest) -> Iterator[Udp | Tcp]:
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def tcp() -> Iterator[Tcp]:
    made = Tcp()
    yield made
    made.close()


def test_lines_are_those_of_the_file(router: MakeRouter, origin: MakeOrigin, server: Udp | Tcp) -> None:
    front = router(log=True, outlets=server.attach)
    front.add(origin())
    for number in range(20):
        front.get(f"/{number}")
    streamed = [server.line() for _ in range(20)]
    parts = [FORM.fullmatch(line) for line in streamed]
    assert [part and part[2] for part in parts] == front.log_lines(20)
    for part in parts:
        assert part is not None and datetime.fromisoformat(part[1]).tzinfo is not None
    until(lambda: front.plane.outlets()["syslog_lines"] == 20)
    assert front.plane.outlets()["syslog_lost"] == 0


def test_without_a_file(router: MakeRouter, origin: MakeOrigin, server: Udp | Tcp) -> None:
    front = router(outlets=server.attach)
    front.add(origin())
    front.get("/only")
    assert '"GET /only HTTP/1.1" 200 ' in server.line()


@pytest.mark.parametrize("most", [1, 25, 100_000])
def test_a_text_is_cut(router: MakeRouter, origin: MakeOrigin, server: Udp | Tcp, most: int) -> None:
    front = router(log=True, outlets=lambda plane: server.attach(plane, most))
    front.add(origin())
    front.get()
    front.get("/second")
    for text in front.log_lines(2):
        part = FORM.fullmatch(server.line())
        assert part is not None and part[2] == text[:most]


def test_what_waits_when_the_router_ends_is_sent(router: MakeRouter, origin: MakeOrigin, tcp: Tcp) -> None:
    front = router(outlets=tcp.attach)
    front.add(origin())
    front.get("/last")
    assert front.plane.stop()
    assert "/last" in tcp.line()


def test_a_connection_that_breaks_is_opened_anew(router: MakeRouter, origin: MakeOrigin, tcp: Tcp) -> None:
    front = router(log=True, outlets=tcp.attach)
    front.add(origin())
    front.get("/one")
    assert "/one" in tcp.line()
    tcp.file.close()
    tcp.peers[0].close()
    front.get("/two")
    tcp.accept()
    assert "/two" in tcp.line(), "what the router had not sent yet is not lost"
    front.get("/three")
    assert "/three" in tcp.line()
    assert front.plane.outlets()["syslog_lost"] == 0


def test_a_server_that_is_away_costs_lines_and_nothing_else(router: MakeRouter, origin: MakeOrigin, tcp: Tcp) -> None:
    front = router(log=True, outlets=tcp.attach)
    front.add(origin(OK))
    front.get("/one")
    tcp.line()
    port = tcp.listener.getsockname()[1]
    tcp.close()
    tcp.file.close()
    for number in range(5):
        assert front.get(f"/away/{number}").status == 200
    front.log_lines(6)
    tcp.listener = socket.create_server(("127.0.0.1", port))
    tcp.listener.settimeout(60)
    tcp.accept()
    assert [f"/away/{number} " in tcp.line() for number in range(5)] == [True] * 5


def test_a_server_that_does_not_read(router: MakeRouter, origin: MakeOrigin, tcp: Tcp) -> None:
    front = router(log=True, outlets=tcp.attach)
    front.add(origin())
    request = "GET / HTTP/1.1\r\nHost: app.test\r\nUser-Agent: {0}\r\nReferer: {0}\r\n\r\n".format("x" * 1000).encode()
    with front.client() as client:

        def lost() -> bool:
            for _ in range(500):
                client.send(request)
                assert client.answer().status == 200
            return front.plane.outlets()["syslog_lost"] > 0

        until(lost)
    # The lines that come are whole.
    requests = front.counter("requests")
    front.log_lines(requests)
    kept = 0

    def all_told() -> bool:
        counted = front.plane.outlets()
        return counted["syslog_lines"] + counted["syslog_lost"] >= requests and kept >= counted["syslog_lines"]

    while not all_told():
        part = FORM.fullmatch(tcp.line())
        assert part is not None and part[2].endswith('x_cf_routererror:"-"')
        kept += 1
    assert kept > 100


def test_an_origin_that_is_too_long() -> None:
    plane = DataPlane({})
    with pytest.raises(ValueError, match="too long"):
        plane.stream_log(0, "127.0.0.1", 1, tcp=True, origin="x" * 600)
    with pytest.raises(ValueError, match="port 0"):
        plane.stream_log(0, "127.0.0.1", 0, tcp=True, origin="x")

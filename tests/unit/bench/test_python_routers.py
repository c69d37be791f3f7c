"""The routers in Python alone do what the bench says they do."""

import re
import socket
from pathlib import Path

import pytest

from bench.load import features
from bench.load.peers import PEERS, Running, Settings
from bench.load.procs import Fleet, compile_native, cpus, wait_for_port
from bench.load.table import Instance


def start(fleet: Fleet, name: str, echo: features.EchoOrigins, log: Path) -> tuple[Running, int]:
    """The router with an echo route, one to the compiled origin and one whose first instance is dead; and a port."""
    dead, origin_port = fleet.ports(2)
    wait_for_port(origin_port, fleet.start("origin", [compile_native("origin"), "-p", str(origin_port)], cpus()[1]))
    table = {
        features.HOST: echo.instances,
        "origin.bench": [Instance(origin_port, "o0")],
        "half-dead.bench": [Instance(dead, "d0"), Instance(origin_port, "d1")],
        "dead.bench": [Instance(dead, "d0")],
    }
    return PEERS[name].start(fleet, Settings(table, log, cpus()[0], cpus()[1])), origin_port


@pytest.mark.parametrize("name", ["plain-python", "aiohttp"])
def test_features(name: str) -> None:
    with Fleet() as fleet, features.EchoOrigins(fleet.ports(2)) as echo:
        running, _ = start(fleet, name, echo, fleet.directory / "access.log")
        features.check(name, running.port, fleet.directory / "access.log")


def exchange(port: int, request: bytes) -> bytes:
    """Sends bytes, reads until the router closes."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(request)
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
    return data


def test_plain_router_bodies_and_failures(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with Fleet() as fleet, features.EchoOrigins(fleet.ports(2)) as echo:
        running, _ = start(fleet, "plain-python", echo, log)
        assert len(features.ask(running.port, "/64k", host="origin.bench").seen) == 65536
        body = b"p" * 300_000
        head = b"POST /up HTTP/1.1\r\nHost: origin.bench\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert exchange(running.port, head + body).endswith(b"\r\n\r\nhello world\n")
        for _ in range(4):  # the dead instance is passed over, whoever's turn it is
            assert " 200 " in features.ask(running.port, host="half-dead.bench").head.split("\r\n")[0]
        assert " 502 " in features.ask(running.port, host="dead.bench").head.split("\r\n")[0]
        assert " 404 " in features.ask(running.port, host="nobody.bench").head.split("\r\n")[0]
        assert exchange(running.port, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    lines = log.read_text().splitlines()
    assert len(lines) == 8
    shape = re.compile(
        r'^\S+ - \[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z\] "(GET|POST) \S+ HTTP/1\.1" \d{3} \d+ \d+ '
        r'"-" "-" "\S+" "\S+" x_forwarded_for:"\S+" x_forwarded_proto:"\S+" vcap_request_id:"\S+" '
        r'response_time:\d+\.\d{6} gorouter_time:\d+\.\d{6} app_id:"-" app_index:"-" instance_id:"\S+" '
        r'x_cf_routererror:"-"$'
    )
    assert [line for line in lines if not shape.match(line)] == []
    assert sum('"POST /up HTTP/1.1" 200 300000 12 ' in line for line in lines) == 1

"""The port map on a machine with several addresses, from another machine: network namespaces with a wire between."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gorouter_py.control.admin_client import AdminClient, AdminError
from tests.support import netns
from tests.support.origins import Origin
from tests.support.wire import Message, Wire
from tests.system.harness import Router, until

pytestmark = pytest.mark.foreign  # ip(8)
ROUTER = ["192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64"]
CLIENT = ["192.0.2.100/24", "192.0.2.101/24", "2001:db8::100/64"]
HOSTS = ("shop.test", "blog.test", "six.test")


class World:
    """A router with three apps on one side of the wire; clients on the other."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.router_side, self.client_side = stack.enter_context(netns.pair(ROUTER, CLIENT))
        self.admin = folder / "admin"
        self.apps: dict[str, Origin] = {}
        for host in HOSTS:
            answer = f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-App: {host}\r\nLocation: http://{host}/next\r\n\r\n"
            self.apps[host] = netns.inside(self.router_side, lambda answer=answer: Origin(answer.encode()))
            stack.callback(self.apps[host].finish)
        config = folder / "gorouter.yml"
        config.write_text(json.dumps({"gorouter_py": {"port_map_trusted": ["192.0.2.101/32"]}}))
        flags = [word for host, app in self.apps.items() for word in ("--route", f"{host}=127.0.0.1:{app.port}")]
        self.router = Router(*flags, "--config", str(config), "--admin-socket", str(self.admin), "--workers", "2")
        self.router._command = ["ip", "netns", "exec", self.router_side, *self.router._command]
        stack.enter_context(self.router)

    def add(self, listen: str, host: str) -> None:
        """Maps a port; AdminError if the router refuses."""
        AdminClient(str(self.admin)).call("POST", "/v1/ports", {"listen": listen, "host": host})

    def remove(self, listen: str) -> None:
        AdminClient(str(self.admin)).call("DELETE", f"/v1/ports/{listen}")

    def ask(self, address: str, port: int, source: str, lines: str = "") -> Message:
        """The answer to a GET from the other side of the wire."""
        shown = f"[{address}]" if ":" in address else address

        def go() -> Message:
            with Wire(socket.create_connection((address, port), 20, (source, 0))) as client:
                client.send(f"GET / HTTP/1.1\r\nHost: {shown}:{port}\r\n{lines}\r\n".encode())
                return client.answer()

        found: Message = netns.inside(self.client_side, go)
        return found

    def is_closed(self, address: str, port: int) -> bool:
        def go() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex((address, port)) != 0

        return bool(netns.inside(self.client_side, go))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    reason = netns.missing()
    if reason:
        pytest.skip(reason)
    with ExitStack() as stack:
        yield World(stack, tmp_path_factory.mktemp("addresses"))


def test_one_port_of_several_addresses(world: World) -> None:
    mapped = {"192.0.2.1": "shop.test", "192.0.2.2": "blog.test", "2001:db8::1": "six.test"}
    for address, host in mapped.items():
        listen = f"[{address}]:9001" if ":" in address else f"{address}:9001"
        world.add(listen, host)
    for address, host in mapped.items():
        source = "2001:db8::100" if ":" in address else "192.0.2.100"
        public = f"[{address}]:9001" if ":" in address else f"{address}:9001"
        reply = world.ask(address, 9001, source)
        assert reply.get("X-App") == host
        assert reply.get("Location") == f"http://{public}/next"
        seen = world.apps[host].last()
        assert seen.get("X-Forwarded-Host") == public
        assert seen.get("X-Forwarded-For") == source
        shown = f'"[{source}]"' if ":" in source else source
        assert seen.get("Forwarded") == f'for={shown};host="{public}";proto=http'
    with pytest.raises(AdminError, match=r"0\.0\.0\.0:9001 overlaps 192\.0\.2\."):
        world.add("0.0.0.0:9001", "shop.test")
    world.remove("192.0.2.2:9001")
    assert world.is_closed("192.0.2.2", 9001)
    assert world.ask("192.0.2.1", 9001, "192.0.2.100").get("X-App") == "shop.test"


def test_every_address(world: World) -> None:
    world.add("0.0.0.0:9002", "shop.test")
    world.add("[::]:9003", "blog.test")
    for address in ("192.0.2.1", "192.0.2.2"):
        assert world.ask(address, 9002, "192.0.2.100").get("Location") == f"http://{address}:9002/next"
        assert world.ask(address, 9003, "192.0.2.100").get("X-App") == "blog.test"
        assert world.apps["blog.test"].last().get("X-Forwarded-For") == "192.0.2.100"
    assert world.ask("2001:db8::1", 9003, "2001:db8::100").get("X-App") == "blog.test"


def test_who_is_trusted(world: World) -> None:
    world.add("192.0.2.1:9004", "shop.test")
    lines = "X-Forwarded-Host: www.shop.test\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 198.51.100.1\r\n"
    believed = world.ask("192.0.2.1", 9004, "192.0.2.101", lines)
    assert believed.get("Location") == "https://www.shop.test/next"
    assert world.apps["shop.test"].last().get("X-Forwarded-For") == "198.51.100.1, 192.0.2.101"
    refused = world.ask("192.0.2.1", 9004, "192.0.2.100", lines)
    assert refused.get("Location") == "http://192.0.2.1:9004/next"
    assert world.apps["shop.test"].last().get("X-Forwarded-For") == "192.0.2.100"


def test_an_address_that_is_not_here(world: World) -> None:
    with pytest.raises(AdminError, match=r"198\.51\.100\.9:9001.*annot assign requested address"):
        world.add("198.51.100.9:9001", "shop.test")


def test_a_port_comes_and_goes_under_load(world: World) -> None:
    """Clients of one port notice nothing of another one that opens and closes beside it."""
    world.add("192.0.2.1:9005", "shop.test")
    wrong: list[Any] = []
    served: list[int] = []
    done: list[bool] = []

    def load() -> None:
        with Wire(socket.create_connection(("192.0.2.1", 9005), 20)) as client:
            while not done:
                client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
                reply = client.answer()
                served.append(reply.status)
                if reply.get("X-App") != "shop.test":
                    wrong.append(reply)

    thread = threading.Thread(target=lambda: netns.inside(world.client_side, load))
    thread.start()
    try:
        for _ in range(3):
            before = len(served)
            world.add("192.0.2.2:9006", "blog.test")
            assert world.ask("192.0.2.2", 9006, "192.0.2.100").get("X-App") == "blog.test"
            world.remove("192.0.2.2:9006")
            assert world.is_closed("192.0.2.2", 9006)
            until(lambda before=before: len(served) > before)
    finally:
        done.append(True)
        thread.join(30)
    assert not wrong and set(served) == {200}

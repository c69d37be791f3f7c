"""The port map: what is opened, kept, refused; stand-ins for the data plane and the sockets, a real store."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gorouter_py.control import mappings, ports_api, store
from gorouter_py.control.admin_api import Refusal
from gorouter_py.control.ports import Ports
from tests.unit.control.fakes import FakeLog


class Socket:
    """A listening socket of the kernel below."""

    def __init__(self, kernel: "Kernel", address: tuple[str, int]) -> None:
        self._kernel, self._address = kernel, address

    def fileno(self) -> int:
        return self._address[1]

    def detach(self) -> int:
        return self._address[1]

    def close(self) -> None:
        self._kernel.bound.discard(self._address)


class Kernel:
    """Holds ports as one, and is the data plane too: closing takes one question to be done."""

    def __init__(self) -> None:
        self.bound: set[tuple[str, int]] = set()
        self.mapped: dict[int, tuple[int, str, tuple[str, ...]]] = {}
        self.closing: set[int] = set()
        self.busy = 0
        self._next = 0

    def open_group(self, host: str, port: int) -> list[Socket]:
        if (host, port) in self.bound:
            raise OSError(98, f"listen tcp {host}:{port}: bind: address already in use")
        self.bound.add((host, port))
        return [Socket(self, (host, port))]

    def map_port(self, fds: Any, host: str, port: int, cookies: Any = ()) -> int:
        if self.busy:
            self.busy -= 1
            raise BlockingIOError(11, "full")
        self._next += 1
        self.mapped[self._next] = (port, host, tuple(cookies))
        return self._next

    def remap_port(self, handle: int, host: str, cookies: Any = ()) -> int:
        new = self.map_port([], host, self.mapped[handle][0], cookies)
        del self.mapped[handle]
        return new

    def unmap_port(self, handle: int) -> None:
        self.closing.add(handle)

    def mapped_listeners(self, handle: int) -> int:
        if handle in self.closing:
            self.closing.discard(handle)
            return 1
        port, _, _ = self.mapped.pop(handle)
        self.bound = {address for address in self.bound if address[1] != port}
        return 0

    def hosts(self) -> dict[int, str]:
        return {port: host for port, host, _ in self.mapped.values()}


class World:
    """A port map and what surrounds it."""

    def __init__(self, folder: Path, *fixed: dict[str, Any], handed_out: str = "") -> None:
        self.kernel, self.log = Kernel(), FakeLog()
        self.state = folder / "state"
        self.store = store.FileStore(str(self.state), self.log)
        self.routed = {"shop.test", "blog.test"}
        self.ports = Ports(
            self.kernel, self.kernel.open_group, self.routed.__contains__, self.store,
            [mappings.parse(each) for each in fixed], mappings.parse_range(handed_out) if handed_out else None,
            self.log,
        )  # fmt: skip

    async def refused(self, code: str, doing: Any) -> str:
        """The reason; nothing has changed."""
        before = (self.ports.list(), dict(self.kernel.mapped), set(self.kernel.bound), self.store.entries(""))
        with pytest.raises(Refusal) as caught:
            await doing
        assert caught.value.code == code, caught.value.reason
        assert before == (self.ports.list(), dict(self.kernel.mapped), set(self.kernel.bound), self.store.entries(""))
        return caught.value.reason


SHOP = {"listen": "0.0.0.0:9001", "host": "shop.test"}


def run(scenario: Callable[[], Any]) -> None:
    asyncio.run(scenario())


def test_added_listed_kept_removed(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.ports.start()
        entry = await world.ports.add({**SHOP, "cookies": ["SID"]})
        assert entry == {**SHOP, "cookies": ["SID"], "origin": "added", "open": True, "error": "", "routed": True}
        assert list(world.kernel.mapped.values()) == [(9001, "shop.test", ("SID",))]
        assert await world.ports.add({**SHOP, "cookies": ["SID"]}) == entry
        again = World(tmp_path)
        await again.ports.start()
        assert again.ports.list() == [entry]
        assert (await again.ports.remove(":9001"))["host"] == "shop.test"
        assert again.ports.list() == [] and not again.kernel.mapped and not again.kernel.bound
        assert World(tmp_path).store.entries("") == {}

    run(scenario)


def test_a_host_without_a_route_is_allowed_and_reported(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.ports.start()
        entry = await world.ports.add({"listen": ":1", "host": "nobody.test"})
        assert entry["open"] and not entry["routed"] and "no route" in entry["warning"]
        assert world.log.order("warn") == ["port-mapped"]
        world.routed.add("nobody.test")
        assert "warning" not in world.ports.list()[0]

    run(scenario)


def test_what_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, {"listen": ":80", "host": "blog.test"})
        await world.ports.start()
        await world.ports.add(SHOP)
        world.kernel.bound.add(("0.0.0.0", 9005))
        add, remove = world.ports.add, world.ports.remove
        assert "shop.test" in await world.refused("port_mapped", add({**SHOP, "host": "blog.test"}))
        reason = await world.refused("port_overlaps", add({"listen": "127.0.0.1:9001", "host": "a.test"}))
        assert "127.0.0.1:9001 overlaps 0.0.0.0:9001" in reason and "shop.test" in reason
        assert "in use" in await world.refused("port_taken", add({"listen": ":9005", "host": "a.test"}))
        await world.refused("unfit", add({"listen": "x", "host": "a.test"}))
        await world.refused("unfit", add({"listen": ":1", "host": "a b"}))
        await world.refused("no_range", add({"listen": "auto", "host": "a.test"}))
        await world.refused("port_fixed", remove(":80"))
        await world.refused("port_fixed", add({"listen": ":80", "host": "shop.test"}, replace=True))
        await world.refused("port_unknown", remove(":81"))
        await world.refused("unfit", remove("nonsense"))

    run(scenario)


def test_a_port_goes_over_to_another_host(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.ports.start()
        await world.ports.add(SHOP)
        world.kernel.busy = 2
        entry = await world.ports.add({**SHOP, "host": "blog.test"}, replace=True)
        assert entry["host"] == "blog.test" and world.kernel.hosts() == {9001: "blog.test"}
        world.kernel.busy = 1000
        await world.refused("busy", world.ports.add({"listen": ":9002", "host": "shop.test"}))

    run(scenario)


def test_a_taken_port_waits_and_the_rest_serves(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, SHOP, {"listen": ":9002", "host": "blog.test"})
        world.kernel.bound.add(("0.0.0.0", 9001))
        await world.ports.start()
        assert [entry["open"] for entry in world.ports.list()] == [False, True]
        assert "in use" in world.ports.list()[0]["error"]
        await world.ports.retry()
        assert world.log.order("error") == ["port-not-opened"]  # told once
        world.kernel.bound.discard(("0.0.0.0", 9001))
        await world.ports.retry()
        assert [entry["open"] for entry in world.ports.list()] == [True, True]
        assert world.ports.list()[0]["error"] == ""

    run(scenario)


def test_ports_are_handed_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, {"listen": ":9000", "host": "blog.test"}, handed_out="9000-9002")
        await world.ports.start()
        world.kernel.bound.add(("0.0.0.0", 9001))
        auto = {"listen": "auto", "host": "shop.test"}
        assert (await world.ports.add(auto))["listen"] == "0.0.0.0:9002"
        assert (await world.ports.add(auto))["listen"] == "0.0.0.0:9002"
        await world.refused("range_full", world.ports.add({**auto, "host": "blog.test"}))

    run(scenario)


def test_what_cannot_be_kept_is_undone(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.ports.start()
        world.state.mkdir()
        await world.refused("not_kept", world.ports.add(SHOP))

    run(scenario)


def test_others_changes_are_followed(tmp_path: Path) -> None:
    class Shared(store.FileStore):
        def watch(self, prefix: str, changed: store.Watcher) -> None:
            self.changed = changed

    async def scenario() -> None:
        world = World(tmp_path, {"listen": ":80", "host": "blog.test"})
        shared = world.store = Shared("", world.log)
        world.ports._store = shared
        await world.ports.start()

        async def tell(value: Any, key: str = "port.0.0.0.0:9001") -> list[dict[str, Any]]:
            shared.changed(key, None if value is None else store.Entry(value, 1))
            while world.ports._tasks:
                await asyncio.sleep(0.001)
            return [entry for entry in world.ports.list() if entry["origin"] == "added"]

        assert [entry["open"] for entry in await tell(SHOP)] == [True]
        assert [entry["host"] for entry in await tell({**SHOP, "host": "blog.test"})] == ["blog.test"]
        assert world.kernel.hosts()[9001] == "blog.test"
        assert len(await tell({"listen": "127.0.0.1:80", "host": "shop.test"}, "port.127.0.0.1:80")) == 1
        assert await tell(None) == []
        assert 9001 not in world.kernel.hosts()
        assert await tell({"nonsense": 1}) == []
        assert await tell(None, "port.nonsense") == []
        assert world.log.order("error") == ["port-map-entry-unfit", "port-map-entry-unfit", "port-map-not-followed"]
        world.ports.stop()
        assert await tell(SHOP) == []

    run(scenario)


def test_what_the_store_holds_may_be_unfit(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.store.put("port.x", {"listen": "x"})
        await world.store.put("port.0.0.0.0:9001", SHOP)
        await world.ports.start()
        assert [entry["listen"] for entry in world.ports.list()] == ["0.0.0.0:9001"]
        assert len(world.log.said("port-map-entry-unfit")) == 1

    run(scenario)


def test_the_bus_answers(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.ports.start()
        serving = ports_api.on_bus(world.ports)

        async def ask(verb: str, payload: object) -> Any:
            raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
            return json.loads(await serving[f"router.ports.{verb}"](raw))

        assert (await ask("add", SHOP))["open"] is True
        assert (await ask("add", {**SHOP, "host": "blog.test", "replace": True}))["host"] == "blog.test"
        assert [entry["host"] for entry in (await ask("list", b""))["ports"]] == ["blog.test"]
        assert (await ask("add", {**SHOP, "host": "x.test"}))["error"] == "port_mapped"
        assert (await ask("remove", {"listen": ":9001"}))["listen"] == "0.0.0.0:9001"
        assert (await ask("remove", {"listen": ":9001"}))["error"] == "port_unknown"
        assert (await ask("add", b"{"))["error"] == "no_json"
        assert (await ask("list", b"[]"))["error"] == "no_object"

    run(scenario)

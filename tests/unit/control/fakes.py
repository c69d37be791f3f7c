"""Stand-ins for what surrounds the registry: they record, and refuse what the real ones refuse."""

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from gorouter_py.control.registry import route_key


@dataclass
class Held:
    uri: str
    ip: str
    port: int
    app: str
    instance_id: str
    instance_index: str
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class FakeTable:
    """Holds what it is told to; a handle is used once and is void after remove or replace."""

    held: dict[int, Held] = field(default_factory=dict)
    empty: set[str] = field(default_factory=set)
    replaced: int = 0
    _next: int = 100

    def add(
        self,
        uri: str,
        ip: str,
        port: int,
        *,
        app: str = "",
        instance_id: str = "",
        instance_index: str = "",
        **more: Any,
    ) -> int:
        ipaddress.ip_address(ip)
        if " " in uri:
            raise ValueError(f"bad uri {uri!r}")
        self._next += 1
        self.held[self._next] = Held(uri, ip, port, app, instance_id, instance_index, more)
        self.empty.discard(route_key(uri))
        return self._next

    def replace(
        self, handle: int, *, app: str = "", instance_id: str = "", instance_index: str = "", **more: Any
    ) -> int:
        old = self.held.pop(handle)
        self._next += 1
        self.replaced += 1
        self.held[self._next] = Held(old.uri, old.ip, old.port, app, instance_id, instance_index, more)
        return self._next

    def remove(self, handle: int, *, keep_empty: bool = False) -> None:
        key = route_key(self.held.pop(handle).uri)
        if keep_empty and not any(route_key(held.uri) == key for held in self.held.values()):
            self.empty.add(key)

    def endpoint_serial(self, handle: int) -> int:
        assert handle in self.held
        return handle * 10

    def vacate(self, uri: str) -> None:
        if " " in uri:
            raise ValueError(f"bad uri {uri!r}")
        key = route_key(uri)
        self.held = {handle: held for handle, held in self.held.items() if route_key(held.uri) != key}
        self.empty.add(key)

    def drop_empty(self, uri: str) -> bool:
        known = uri in self.empty
        self.empty.discard(uri)
        return known

    def shown(self) -> list[tuple[str, str]]:
        return sorted((held.uri, f"{held.ip}:{held.port}") for held in self.held.values())


@dataclass
class FakeNames:
    known: dict[str, tuple[str, ...]] = field(default_factory=dict)
    users: dict[str, int] = field(default_factory=dict)

    def watch(self, host: str) -> tuple[str, ...]:
        self.users[host] = self.users.get(host, 0) + 1
        return self.known.get(host, ())

    def unwatch(self, host: str) -> None:
        self.users[host] -= 1
        if not self.users[host]:
            del self.users[host]


@dataclass
class FakeLog:
    lines: list[tuple[str, str, dict[str, object]]] = field(default_factory=list)

    def enabled(self, level: str) -> bool:
        return True

    def debug(self, message: str, /, **data: object) -> None:
        self.lines.append(("debug", message, data))

    def info(self, message: str, /, **data: object) -> None:
        self.lines.append(("info", message, data))

    def warn(self, message: str, /, **data: object) -> None:
        self.lines.append(("warn", message, data))

    def error(self, message: str, /, **data: object) -> None:
        self.lines.append(("error", message, data))

    fatal = error

    def said(self, message: str) -> list[dict[str, object]]:
        return [data for _, text, data in self.lines if text == message]

    def order(self, *levels: str) -> list[str]:
        return [text for level, text, _ in self.lines if level in levels]


@dataclass
class FakePlane:
    """The rollouts of the data plane: refuses what the real one refuses, and lets a test say what it has seen."""

    table: FakeTable
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    slow: dict[str, int] = field(default_factory=dict)
    seen: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)  # route -> version -> numbers
    fill: dict[str, float] = field(default_factory=dict)
    waiting: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    sampled: dict[str, list[list[tuple[int, str]]]] = field(default_factory=dict)  # clients by route and version

    def set_rollout(self, uri: str, spec: Any, members: Any = None) -> None:
        key = route_key(uri)
        self.calls.append(key)
        if key not in {route_key(held.uri) for held in self.table.held.values()} | self.table.empty:
            raise LookupError(f"no route {uri}")
        if spec is None:
            self.splits.pop(key, None)
            return
        names = spec["versions"]
        ends = [end for end, _ in spec["intervals"]]
        if not 2 <= len(names) <= 254 or spec["id"] < 1 or not 0 <= spec["stable"] < len(names):
            raise ValueError(f"versions: {names}")
        if (
            ends != sorted(set(ends))
            or ends[-1] != 65536
            or any(not 0 <= it < len(names) for _, it in spec["intervals"])
        ):
            raise ValueError(f"intervals: {spec['intervals']}")
        if len(spec["cookie_key"]) not in (0, 16):
            raise ValueError("cookie_key")
        for handle, version in (members or {}).items():
            if handle not in self.table.held:
                raise LookupError(f"no endpoint {handle}")
            if version != 255 and not version < len(names):
                raise ValueError(f"members: {version}")
        for handle, version in (members or {}).items():
            self.table.held[handle].more["version"] = version
        self.splits[key] = dict(spec)

    def set_slow(self, uri: str, ns: int) -> None:
        if route_key(uri) not in self.splits:
            raise LookupError(uri)
        self.slow[route_key(uri)] = ns

    def clients(self, uri: str) -> list[list[tuple[int, str]]]:
        if route_key(uri) not in self.splits:
            raise LookupError(uri)
        return self.sampled.get(route_key(uri), [])

    def rollouts(self) -> list[dict[str, Any]]:
        found = []
        for key, spec in self.splits.items():
            seen = self.seen.get(key, {})
            rows = [numbers(**seen.get(number, {})) for number in range(len(spec["versions"]))]
            found.append(
                {"id": spec["id"], "route": key, "draws": 0, "versions": rows, "bitmap_fill": dict(self.fill),
                 "outcomes_dropped": 0, "retry_budget_denied": 0}
            )  # fmt: skip
        return found

    def outcomes(self, limit: int = 1024) -> list[dict[str, Any]]:
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return taken

    def fail(self, key: str, version: int, metric: str = "failure", count: int = 1) -> None:
        """First failures of that many users of a version."""
        for number in range(count):
            self.waiting.append(
                {"rollout": self.splits[key]["id"], "version": version, "metric": metric, "unit": number, "u": number,
                 "status": 500, "cause": "status", "method": "GET", "path": "/", "request_id": f"r{number}",
                 "address": "127.0.0.1", "latency_ns": 2_000_000, "at_ns": 1_000_000_000}
            )  # fmt: skip

    def explain(self, head: bytes, address: str) -> dict[str, Any]:
        if not head.endswith(b"\r\n\r\n"):
            raise ValueError("no head")
        host = head.split(b"Host: ")[1].split(b"\r\n")[0].decode()
        return {"route": host, "version": 0, "version_name": self.splits[host]["versions"][0], "reason": "draw",
                "u": None, "slot": None, "fallback": False}  # fmt: skip


def numbers(**given: Any) -> dict[str, Any]:
    """What a version has had."""
    zeros = dict.fromkeys(
        ("requests", "users", "drawn", "failovers", "retries_on_stable", "kept", "forced", "excluded", "mirrored",
         "mirror_failures", "sum_ns", "endpoints"), 0
    )  # fmt: skip
    return {**zeros, "by_class": (0,) * 6, "failures": {}, "buckets": (0, 0, 0, 0), **given}

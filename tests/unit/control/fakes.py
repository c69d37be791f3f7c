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

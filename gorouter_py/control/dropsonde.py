"""Metrics as dropsonde version 1 envelopes: one protobuf message per UDP datagram to the metron agent of the machine.

`Emitter` owns the socket: it never blocks and never raises; a datagram that could not be sent is counted in `failed`.
`Batch` turns totals into the differences that go out every BATCH_S seconds. Control thread.

Requests never come here one by one: what gorouter sends per request (latency) is the mean over the time since the
latest batch.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from gorouter_py.control.sonde import counter_event, value_metric
from gorouter_py.control.traffic import STATUS_GROUPS, UNREGISTERED, Histogram, Taken

if TYPE_CHECKING:
    from gorouter_py._fastpath import Meter

BATCH_S: Final = 5.0
UPTIME_S: Final = 1.0
# gorouter: these are sent even if nothing happened
ALWAYS: Final = (
    "bad_gateways", "backend_exhausted_conns", "backend_invalid_id", "backend_invalid_tls_cert",
    "backend_tls_handshake_failed", "rejected_requests", "total_requests", "responses", "responses.2xx",
    "responses.3xx", "responses.4xx", "responses.5xx", "responses.xxx", "routed_app_requests", "routes_pruned",
    "websocket_failures", "websocket_upgrades",
)  # fmt: skip
FROM_DATA_PLANE: Final = (
    "bad_gateways", "backend_exhausted_conns", "backend_invalid_id", "backend_invalid_tls_cert",
    "backend_tls_handshake_failed", "rejected_requests", "websocket_failures", "websocket_upgrades",
)  # fmt: skip


# Name, the data plane's name, its nanoseconds per unit, unit
MEASURED: Final = (("route_lookup_time", "lookup_time", 1, "ns"), ("gorouter_time", "gorouter_time", 1_000_000, "ms"))


# -- sending -------------------------------------------------------------------------------------------------


class CannotInitialize(Exception):
    """The address of the metron agent is no use; str() is gorouter's error."""


def destination(address: str) -> tuple[str, int]:
    """Host and port of "host:port". CannotInitialize if it is not one."""
    if not address:
        raise CannotInitialize("Failed to initialize dropsonde: destination variable not set")
    host, colon, port = address.rpartition(":")
    if not colon:
        raise CannotInitialize(f"Failed to initialize dropsonde: address {address}: missing port in address")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise CannotInitialize(f"Failed to initialize dropsonde: address {port}: invalid port")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


def connect(address: str) -> socket.socket:
    """A non-blocking socket to the agent; its address is resolved once. CannotInitialize if that fails."""
    host, port = destination(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        found.sort(key=lambda each: each[0] != socket.AF_INET)  # Go: an IPv4 address comes first
        made = socket.socket(found[0][0], socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        made.connect(found[0][4])
    except OSError as error:
        raise CannotInitialize(f"Failed to initialize dropsonde: lookup {host}: {error}") from None
    return made


class Emitter:
    """Sends datagrams to the agent. CannotInitialize if its address is no use."""

    def __init__(self, address: str, wall: Callable[[], int] = time.time_ns) -> None:
        self._socket = connect(address)
        self._wall = wall
        self.sent = 0
        self.failed = 0

    def count(self, name: str, delta: int) -> None:
        self._send(counter_event(name, delta, self._wall()))

    def value(self, name: str, value: float, unit: str) -> None:
        self._send(value_metric(name, value, unit, self._wall()))

    def close(self) -> None:
        self._socket.close()

    def _send(self, datagram: bytes) -> None:
        try:
            self._socket.send(datagram)
        except OSError:  # nobody listens, the buffer is full: metrics are not worth more than a count
            self.failed += 1
        else:
            self.sent += 1


class Sender(Protocol):
    def count(self, name: str, delta: int) -> None: ...
    def value(self, name: str, value: float, unit: str) -> None: ...


class Batch:
    """Sends what has grown since the latest flush."""

    def __init__(self, sender: Sender, *, latencies: bool = True) -> None:
        self._sender = sender
        self._latencies = latencies
        self._sent: dict[str, int] = {}
        self._means: dict[str, tuple[int, float]] = {}

    def flush(
        self,
        totals: Mapping[str, int],
        taken: Taken,
        registrations_ms: Histogram,
        *,
        muzzled: bool,
        meters: "Mapping[str, Meter]" = MappingProxyType({}),
    ) -> None:
        """totals: counters by gorouter's names, as `totals` gives them; muzzled: no registration latencies yet;
        meters: as the data plane gives them."""
        for name in dict.fromkeys((*ALWAYS, *totals)):
            total = totals.get(name, 0)
            delta = max(total - self._sent.get(name, 0), 0)
            self._sent[name] = max(total, self._sent.get(name, 0))
            if delta or name in ALWAYS:
                self._sender.count(name, delta)
        if self._latencies:
            self._mean("latency", taken.whole.requests, taken.whole.sum_ns / 1e6)
            for component, flow in taken.components.items():
                self._mean(f"latency.{component}", flow.requests, flow.sum_ns / 1e6)
        for name, key, unit_ns, unit in MEASURED:
            if key in meters:
                self._mean(name, sum(meters[key]["counts"]), meters[key]["sum_ns"] / unit_ns, unit)
        self._mean("route_registration_latency", registrations_ms.count, registrations_ms.total, send=not muzzled)

    def _mean(self, name: str, count: int, total: float, unit: str = "ms", *, send: bool = True) -> None:
        last_count, last_total = self._means.get(name, (0, 0.0))
        self._means[name] = (count, total)
        if count > last_count and send:
            mean = (total - last_total) / (count - last_count)
            # gorouter: whole milliseconds, but for its own time
            self._sender.value(name, mean if name == "gorouter_time" else float(int(mean)), unit)


def totals(
    counters: Mapping[str, int], taken: Taken, messages: Mapping[tuple[str, str], int], pruned: int
) -> dict[str, int]:
    """Every counter by the name that gorouter sends it under. messages: per component and action."""
    found = {name: counters.get(name, 0) for name in FROM_DATA_PLANE}
    found["total_requests"] = counters["attempts"]
    found["routes_pruned"] = pruned
    found["responses"] = taken.whole.requests
    for group, count in zip(STATUS_GROUPS, taken.whole.groups, strict=True):
        found[f"responses.{group}"] = count
    found["routed_app_requests"] = 0
    for component, flow in taken.components.items():
        found[f"requests.{component}"] = flow.requests
        if component.startswith("dea-"):
            found["routed_app_requests"] += flow.requests
    for (component, action), count in messages.items():
        name = "unregistry_message" if action == UNREGISTERED else "registry_message"
        if component:
            name = f"{name}.{component}"
        found[name] = found.get(name, 0) + count
    return found


def open_descriptors() -> int:
    """Descriptors of this process. Takes long if there are very many on an old kernel: not on the control thread."""
    return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))  # the size is known since Linux 6.2

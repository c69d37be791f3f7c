"""The bandwidth of a container, both ways: a token bucket on the host's end of its link for what it receives, and one
on an ifb link, to which all that it sends is redirected.

Everything blocks; failures are EngineError.
"""

import contextlib
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

from warden.engine.api import BandwidthStat
from warden.engine.network import Network, index_of, link, netlink

UNLIMITED = 0xFFFFFFFF  # and 0: how requests and statistics say "no limit"
_LATENCY_S = 0.025  # how long a packet may wait for its turn
# The kernel counts the times of a frame and of a whole bucket in ticks of 64 ns, with 32 bits.
_RATE_MIN = 16
_FILL_S_MAX = 250
_TURNS_A_SECOND = 1000  # of the kernel's clock at least: a bucket smaller than a turn's share limits to less
_ROOT = 0xFFFFFFFF  # TC_H_ROOT
_INGRESS_ROOT = 0xFFFFFFF1  # TC_H_INGRESS
_INGRESS = 0xFFFF0000
_ALL_PROTOCOLS = 0x0003
_FRAME = 14  # bytes of an Ethernet head


class Shaper:
    """Remembers what was asked for, as the kernel keeps a bucket's size in time, rounded."""

    def __init__(self, network: Network, mtu: int) -> None:
        self._network = network
        self._burst_min = mtu + _FRAME  # a bucket smaller than a frame lets none through
        self._limits: dict[str, tuple[int, int]] = {}

    def limit(self, container_id: str, rate: int, burst: int) -> None:
        """rate in bytes/s, burst in bytes; in force at once. A rate of 0 or UNLIMITED lifts."""
        with netlink() as socket:
            outer = index_of(socket, link(container_id))
            if rate <= 0 or rate >= UNLIMITED:
                self._lift(socket, container_id, outer)
                return
            self._bucket(socket, outer, rate, burst)
            shaper = socket.link_lookup(ifname=link(container_id, 2))
            if not shaper:
                socket.link("add", ifname=link(container_id, 2), kind="ifb", group=self._network.group)
                shaper = socket.link_lookup(ifname=link(container_id, 2))
            self._bucket(socket, shaper[0], rate, burst)
            if (container_id not in self._limits) or not self._redirected(socket, outer):
                self._redirect(socket, outer, shaper[0])
            self._limits[container_id] = (rate, burst)

    def _bucket(self, socket: Any, index: int, rate: int, burst: int) -> None:
        rate = max(rate, _RATE_MIN)
        size = max(min(burst, rate * _FILL_S_MAX), rate // _TURNS_A_SECOND, self._burst_min)
        size += rate // 1_000_000 + 1  # it reaches the kernel as a time in whole microseconds, rounded down
        queue = min(int(rate * _LATENCY_S) + size, UNLIMITED)
        socket.tc("replace", kind="tbf", index=index, handle=0x10000, rate=rate, burst=size, limit=queue)
        socket.link("set", index=index, state="up")

    def _redirected(self, socket: Any, outer: int) -> bool:
        return any(item.get_attr("TCA_KIND") == "ingress" for item in socket.get_qdiscs(outer))

    def _redirect(self, socket: Any, outer: int, shaper: int) -> None:
        with contextlib.suppress(NetlinkError):  # not there
            socket.tc("del", index=outer, parent=_INGRESS_ROOT)
        socket.tc("add", kind="ingress", index=outer)
        action = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": shaper}
        socket.tc(
            "add-filter", kind="u32", index=outer, parent=_INGRESS, prio=1, protocol=_ALL_PROTOCOLS, target=0x10001,
            keys=["0x0/0x0+0"], action=action,
        )  # fmt: skip

    def _lift(self, socket: Any, container_id: str, outer: int) -> None:
        for parent in (_ROOT, _INGRESS_ROOT):
            with contextlib.suppress(NetlinkError):  # not there
                socket.tc("del", index=outer, parent=parent)
        for index in socket.link_lookup(ifname=link(container_id, 2)):
            socket.link("del", index=index)
        self._limits.pop(container_id, None)

    def forget(self, container_id: str) -> None:
        self._limits.pop(container_id, None)

    def limits(self, container_id: str) -> tuple[int | None, int | None]:
        """Rate and burst; None: no limit."""
        return self._limits.get(container_id, (None, None))

    def stat(self, container_id: str) -> BandwidthStat:
        rate, burst = self._limits.get(container_id, (UNLIMITED, UNLIMITED))
        return BandwidthStat(rate, burst, rate, burst)

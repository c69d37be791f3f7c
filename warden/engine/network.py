"""The network of a container: a namespace, and a pair of links between it and the host.

The host's end is `w-<id>-0` with host_ip, the container's `w-<id>-1` with container_ip, which is its way to everything.
All links of one server carry its group number, by which it finds those that a crash left; a link of another server is
never touched. Home of pyroute2 with `shaping`. Everything blocks; failures are EngineError.
"""

import contextlib
import ipaddress
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from warden.engine import kernel
from warden.engine.api import EngineError, Spec

_NOT_THERE = 19  # ENODEV


def link(container_id: str, end: int = 0) -> str:
    """Names of links: 0 the host's end, 1 the container's, 2 the one that shapes what leaves it."""
    return f"w-{container_id}-{end}"


@contextlib.contextmanager
def netlink() -> Iterator[Any]:
    """A socket in the network namespace of the calling thread."""
    with IPRoute() as socket:
        try:
            yield socket
        except NetlinkError as error:
            raise EngineError(f"network: {error}") from error


def index_of(socket: Any, name: str) -> int:
    """Number of a link; EngineError if it is not there."""
    found = socket.link_lookup(ifname=name)
    if not found:
        raise EngineError(f"network: no link {name}")
    return int(found[0])


def _close_v6(name: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
        Path("/proc/sys/net/ipv6/conf", name, "disable_ipv6").write_text("1")


class Network:
    def __init__(self, group: int, mtu: int) -> None:
        self.group = group
        self._mtu = mtu

    def check(self, pool: str) -> None:
        """EngineError if addresses of the pool belong to somebody else on this machine."""
        wanted = ipaddress.IPv4Network(pool, strict=False)
        with netlink() as socket:
            ours = {item["index"] for item in socket.get_links() if self._is_ours(item)}
            for item in socket.get_addr(family=2):
                taken = ipaddress.IPv4Interface(f"{item.get_attr('IFA_ADDRESS')}/{item['prefixlen']}")
                if item["index"] not in ours and taken.network.overlaps(wanted):
                    name = item.get_attr("IFA_LABEL")
                    raise EngineError(f"network.pool_network {pool} overlaps {taken} of {name}; choose another one")

    def create(self, spec: Spec) -> int:
        """Makes both ends; a descriptor of the new namespace, which lives as long as that or a process in it."""
        found: list[int | BaseException] = []
        # A thread of its own: it moves into the new namespace and does not come back.
        thread = threading.Thread(target=self._make, args=(spec, found), name=f"network of {spec.container_id}")
        thread.start()
        thread.join()
        result = found[0]
        if isinstance(result, BaseException):
            raise result
        return result

    def _make(self, spec: Spec, found: list[int | BaseException]) -> None:
        descriptor = -1
        try:
            with netlink() as host:
                kernel.unshare(kernel.CLONE_NEWNET)
                descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                for name in ("all", "default", "lo"):
                    _close_v6(name)
                with netlink() as inside:
                    self._join(spec, host, inside, descriptor)
            found.append(descriptor)
        except BaseException as error:
            if descriptor >= 0:
                os.close(descriptor)
            found.append(EngineError(f"network: {error}") if isinstance(error, OSError) else error)

    def _join(self, spec: Spec, host: Any, inside: Any, descriptor: int) -> None:
        peer = {"ifname": link(spec.container_id, 1), "net_ns_fd": descriptor, "mtu": self._mtu}
        name = link(spec.container_id)
        host.link("add", ifname=name, kind="veth", group=self.group, mtu=self._mtu, peer=peer)
        outer = index_of(host, name)
        host.addr("add", index=outer, address=spec.host_ip, prefixlen=spec.prefix)
        inside.link("set", index=index_of(inside, "lo"), state="up")
        inner = index_of(inside, link(spec.container_id, 1))
        inside.addr("add", index=inner, address=spec.container_ip, prefixlen=spec.prefix)
        inside.link("set", index=inner, state="up")
        inside.route("add", dst="default", gateway=spec.host_ip)

    def start(self, spec: Spec) -> None:
        """Takes the host's end into service, once the rules for it stand. From a thread of the host's namespace."""
        name = link(spec.container_id)
        _close_v6(name)
        try:
            # The host's connections to its own port on 127.0.0.1 go out here, and their answers come in.
            Path("/proc/sys/net/ipv4/conf", name, "route_localnet").write_text("1")
        except OSError as error:
            raise EngineError(f"network: {error}") from error
        with netlink() as socket:
            socket.link("set", index=index_of(socket, name), state="up")

    def remove(self, container_id: str) -> None:
        """Takes away what there is of its links. The other end goes with each."""
        with netlink() as socket:
            for end in (0, 2):
                for index in socket.link_lookup(ifname=link(container_id, end)):
                    try:
                        if self._is_ours(socket.get_links(index)[0]):
                            socket.link("del", index=index)
                    except NetlinkError as error:
                        if error.code != _NOT_THERE:  # it went with its namespace just now
                            raise

    def ids(self) -> set[str]:
        """Containers of this server that have a link."""
        with netlink() as socket:
            names = [item.get_attr("IFLA_IFNAME") for item in socket.get_links() if self._is_ours(item)]
        return {name[2:13] for name in names if name.startswith("w-")}

    def _is_ours(self, item: Any) -> bool:
        return bool(item.get_attr("IFLA_GROUP") == self.group)

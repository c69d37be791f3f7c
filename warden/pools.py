"""Networks, ports and uids that containers borrow: first in, first out, and one that comes back rests a while.

Only the head of a queue is looked at: an entry that is not free again yet hides those behind it, which came back later
still. Times are those of the monotonic clock.
"""

import ipaddress
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

from warden.errors import WardenError

Entry = TypeVar("Entry", bound=Hashable)
PORT_LAST = 65000
PORTS_MIN = 1000
PREFIX = 30  # of the network of one container: its own address, the host's, and the two ends


class PoolError(Exception):
    """A pool that cannot serve; the server does not start."""


class Pool(Generic[Entry]):
    """Entries in the order in which they are free. empty: what a client is told when there is none."""

    def __init__(
        self, entries: Iterable[Entry], empty: str, delay: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._free: deque[tuple[float, Entry]] = deque((0.0, entry) for entry in entries)
        self._empty = empty
        self._delay = delay
        self._clock = clock

    def __len__(self) -> int:
        return len(self._free)

    def acquire(self) -> Entry:
        """The entry that has been free longest; WardenError if none is free."""
        if not self._free or self._free[0][0] > self._clock():
            raise WardenError(self._empty)
        return self._free.popleft()[1]

    def take(self, wanted: Entry) -> bool:
        """Takes one particular entry out, rested or not; False if it is not there."""
        for item in self._free:
            if item[1] == wanted:
                self._free.remove(item)
                return True
        return False

    def release(self, entry: Entry) -> None:
        self._free.append((self._clock() + self._delay, entry))


# -- the three pools ----------------------------------------------------------------------------------------------


def networks(pool: ipaddress.IPv4Network, delay: float) -> Pool[str]:
    """The /30s of a network, each by its address: "10.254.0.4"."""
    if pool.prefixlen > PREFIX:
        raise PoolError(f"network.pool_network {pool} has no room for one /{PREFIX}; valid: A.B.C.D/N with N up to 30")
    entries = (str(network.network_address) for network in pool.subnets(new_prefix=PREFIX))
    return Pool(entries, "Could not acquire network", delay)


def network_of(start: str, size: int) -> ipaddress.IPv4Network:
    """The network that the older keys mean: `size` /30s from the address `start` on. ValueError if that is none."""
    addresses = 4 * max(size, 1)
    return ipaddress.IPv4Network(f"{start}/{32 - (addresses - 1).bit_length()}", strict=False)


def ports(first: int | None, count: int | None) -> Pool[int]:
    """Host ports: from `first` (default: behind those the kernel gives to outgoing connections), up to PORT_LAST."""
    if first is None:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[1]) + 1
    room = PORT_LAST + 1 - first if count is None else count
    if not 0 < first <= 65535 or first + room > 65536:
        raise PoolError(f"ports {first} to {first + room - 1} are not all ports; valid: 1 to 65535")
    if room < PORTS_MIN:
        raise PoolError(
            f"a pool of {max(room, 0)} ports from {first} on is too small, {PORTS_MIN} are needed; "
            "set port.pool_start_port and port.pool_size, or lower net.ipv4.ip_local_port_range"
        )
    return Pool(range(first, first + room), "no port available")


def uids(first: int, count: int, passwd: Path = Path("/etc/passwd")) -> Pool[int]:
    """User ids for the users of containers. PoolError if one of them is a user of the host."""
    for line in passwd.read_text(errors="replace").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isdigit() and first <= int(fields[2]) < first + count:
            raise PoolError(
                f"uid {fields[2]} of the pool {first} to {first + count - 1} belongs to {fields[0]} in {passwd}; "
                "set user.pool_start_uid and user.pool_size to uids that nobody has"
            )
    return Pool(range(first, first + count), "no uid available")


def addresses(network: str) -> tuple[str, str]:
    """(host's, container's) address in a /30: the first and the second behind the network's own."""
    base = ipaddress.IPv4Address(network)
    return str(base + 1), str(base + 2)

"""The rules for the traffic of containers: one nftables table of the server's own, and nothing of the host's.

    raw          from containers: no IPv6, no loopback addresses, no source but their own
    prerouting   net_in: a port of any address of the host, loopback too, becomes a port of a container
    output       the same for the host's own connections
    postrouting  what leaves the containers' networks goes out under the host's address
    forward      from a container only what net_out opened and allow_networks names; to one only net_in
    input        from a container to the host: nothing, unless allow_host_access
    out-<id>     the net_out rules of a container, the newest first

Each change is one transaction of `nft -f -`. Which ports belong to whom is held here and read from the table at the
start, so that the rules of containers that outlived a server go with them.
"""

import asyncio
import ipaddress
import json
import re
from collections.abc import Iterable, Sequence

from warden.engine import kernel
from warden.engine.api import EngineError, Flow, Settings, Spec
from warden.engine.network import link

_CHAIN = re.compile(r"^out-([0-9a-v]{11})$")
_PROTOCOLS = {"tcp": "tcp", "udp": "udp", "all": "{ tcp, udp }"}


def table_text(table: str, settings: Settings) -> str:
    """The table without containers; keeps the elements and chains of those there are."""
    pool = ipaddress.IPv4Network(settings.pool_network, strict=False)
    allowed = ", ".join(str(ipaddress.IPv4Network(one, strict=False)) for one in settings.allow_networks)
    base = {
        "raw": "type filter hook prerouting priority raw; policy accept;",
        "prerouting": "type nat hook prerouting priority dstnat; policy accept;",
        "output": "type nat hook output priority -100; policy accept;",
        "postrouting": "type nat hook postrouting priority srcnat; policy accept;",
        "forward": "type filter hook forward priority filter; policy accept;",
        "input": "type filter hook input priority filter; policy accept;",
    }
    rules = [
        ("raw", "iifname @links meta nfproto ipv6 drop"),
        ("raw", "iifname @links ip daddr 127.0.0.0/8 drop"),
        ("raw", "iifname @links iifname . ip saddr != @addresses drop"),
        ("prerouting", "fib daddr type local dnat ip to tcp dport map @forwards"),
        ("output", "fib daddr type local dnat ip to tcp dport map @forwards"),
        ("postrouting", f"ip saddr {pool} ip daddr != {pool} masquerade"),
        ("postrouting", "oifname @links ip saddr 127.0.0.0/8 masquerade"),
        ("forward", "iifname @links ct state established,related accept"),
        ("forward", "oifname @links ct state established,related accept"),
        ("forward", "iifname vmap @leaving"),
        ("forward", "oifname @links ct status dnat accept"),
        ("forward", "iifname @links drop"),
        ("forward", "oifname @links drop"),
        ("input", "iifname @links ct state established,related accept"),
        ("default", f"ip daddr {{ {allowed} }} accept" if allowed else ""),
        ("default", "reject with icmpx admin-prohibited"),
    ]
    if not settings.allow_host_access:
        rules.append(("input", "iifname @links reject with icmpx admin-prohibited"))
    lines = [
        f"add table inet {table}",
        f"add set inet {table} links {{ type ifname; }}",
        f"add set inet {table} addresses {{ type ifname . ipv4_addr; }}",
        f"add map inet {table} forwards {{ type inet_service : ipv4_addr . inet_service; }}",
        f"add map inet {table} leaving {{ type ifname : verdict; }}",
        f"add chain inet {table} default",
        f"flush chain inet {table} default",
    ]
    for chain, declaration in base.items():
        lines += [f"add chain inet {table} {chain} {{ {declaration} }}", f"flush chain inet {table} {chain}"]
    lines += [f"add rule inet {table} {chain} {rule}" for chain, rule in rules if rule]
    return "\n".join(lines) + "\n"


def _address(network: str) -> str:
    """What nft calls an address, a network or a range of a net_out."""
    try:
        first, dash, last = network.partition("-")
        if dash:
            one, other = ipaddress.IPv4Address(first.strip()), ipaddress.IPv4Address(last.strip())
            return f"{one}-{other}" if one < other else str(one)
        whole = ipaddress.IPv4Network(network.strip(), strict=False)
    except ValueError as error:
        raise EngineError(f"network {network!r}: {error}; valid: A.B.C.D, A.B.C.D/N or A.B.C.D-A.B.C.D") from error
    return str(whole)


def flow_text(flow: Flow) -> str:
    """The match of one net_out rule, in nft's words."""
    parts = []
    if flow.network:
        parts.append(f"ip daddr {_address(flow.network)}")
    if flow.protocol == "icmp":
        if flow.icmp_type is None or flow.icmp_type < 0:
            parts.append("ip protocol icmp")
        else:
            parts.append(f"icmp type {flow.icmp_type}")
            if flow.icmp_code is not None and flow.icmp_code >= 0:
                parts.append(f"icmp code {flow.icmp_code}")
        return " ".join(parts)
    if flow.protocol not in _PROTOCOLS:
        raise EngineError(f"protocol {flow.protocol!r} is unknown; valid: tcp, udp, icmp, all")
    if flow.ports is not None:
        first, last = flow.ports
        if not 0 <= first <= last <= 65535:
            raise EngineError(f"port range {first}:{last}; valid: 0 to 65535, the first not above the last")
        ports = str(first) if first == last else f"{first}-{last}"
        parts.append(f"meta l4proto {_PROTOCOLS[flow.protocol]} th dport {ports}")
    elif flow.protocol != "all":
        parts.append(f"meta l4proto {flow.protocol}")
    elif not parts:
        parts.append("meta nfproto ipv4")
    return " ".join(parts)


class Firewall:
    """The table. Every method is one transaction or two; on the event loop."""

    def __init__(self, table: str, settings: Settings) -> None:
        self.table = table
        self._settings = settings
        self._known: dict[str, str] = {}  # container id to its address
        self._forwards: dict[int, str] = {}  # host port to the address of a container
        self._lock = asyncio.Lock()

    async def setup(self) -> None:
        await self._apply(table_text(self.table, self._settings))
        listing = json.loads(await kernel.run("nft", "-j", "list", "table", "inet", self.table))
        for item in listing["nftables"]:
            if "map" in item and item["map"]["name"] == "forwards":
                for port, target in item["map"].get("elem", ()):
                    self._forwards[port] = target["concat"][0]
            if "set" in item and item["set"]["name"] == "addresses":
                for element in item["set"].get("elem", ()):
                    name, address = element["concat"]
                    self._known[name[2:13]] = address
            if "chain" in item and (found := _CHAIN.match(item["chain"]["name"])):
                self._known.setdefault(found[1], "")

    async def teardown(self) -> None:
        """Removes the table if it is there."""
        await self._apply(f"add table inet {self.table}\ndelete table inet {self.table}\n")
        self._known.clear()
        self._forwards.clear()

    def ids(self) -> set[str]:
        return set(self._known)

    async def add(self, spec: Spec, flows: Iterable[Flow] = (), ports: Sequence[tuple[int, int]] = ()) -> None:
        """A container with its rules, in place of what there was of it."""
        async with self._lock:
            lines = self._removal(spec.container_id)
            name, table = link(spec.container_id), self.table
            chain = f"out-{spec.container_id}"
            lines += [
                f"add chain inet {table} {chain}",
                f"add rule inet {table} {chain} goto default",
                f'add element inet {table} leaving {{ "{name}" : jump {chain} }}',
                f'add element inet {table} links {{ "{name}" }}',
                f'add element inet {table} addresses {{ "{name}" . {spec.container_ip} }}',
            ]
            for flow in flows:
                lines += self._opening(spec, flow)
            lines += [self._forward(spec, host, inner) for host, inner in ports]
            await self._apply("\n".join(lines) + "\n")
            self._forget(spec.container_id)
            self._known[spec.container_id] = spec.container_ip
            self._forwards.update((host, spec.container_ip) for host, _ in ports)

    async def remove(self, container_id: str) -> None:
        async with self._lock:
            if container_id in self._known:
                await self._apply("\n".join(self._removal(container_id)) + "\n")
                self._forget(container_id)

    async def open(self, spec: Spec, flow: Flow) -> None:
        await self._apply("\n".join(self._opening(spec, flow)) + "\n")

    async def forward(self, spec: Spec, host_port: int, container_port: int) -> None:
        async with self._lock:
            lines = []
            if host_port in self._forwards:
                lines.append(f"delete element inet {self.table} forwards {{ {host_port} }}")
            lines.append(self._forward(spec, host_port, container_port))
            await self._apply("\n".join(lines) + "\n")
            self._forwards[host_port] = spec.container_ip

    def _forward(self, spec: Spec, host_port: int, container_port: int) -> str:
        target = f"{spec.container_ip} . {container_port}"
        return f"add element inet {self.table} forwards {{ {host_port} : {target} }}"

    def _opening(self, spec: Spec, flow: Flow) -> list[str]:
        place = f"insert rule inet {self.table} out-{spec.container_id} {flow_text(flow)}"
        lines = [f"{place} accept"]
        if flow.log:  # of each connection the beginning; inserted later, so it stands before
            lines.append(f'{place} ct state new,untracked,invalid log prefix "warden-i-{spec.container_id} "')
        return lines

    def _removal(self, container_id: str) -> list[str]:
        """What takes a known container out of the table; elements before the chain that they jump to."""
        if container_id not in self._known:
            return []
        table, name, address = self.table, link(container_id), self._known[container_id]
        lines = [f"delete element inet {table} forwards {{ {port} }}" for port in self._ports(address)]
        if address:
            lines += [
                f'delete element inet {table} leaving {{ "{name}" }}',
                f'delete element inet {table} links {{ "{name}" }}',
                f'delete element inet {table} addresses {{ "{name}" . {address} }}',
            ]
        chain = f"out-{container_id}"
        return [*lines, f"flush chain inet {table} {chain}", f"delete chain inet {table} {chain}"]

    def _ports(self, address: str) -> list[int]:
        return [port for port, owner in self._forwards.items() if address and owner == address]

    def _forget(self, container_id: str) -> None:
        for port in self._ports(self._known.pop(container_id, "")):
            del self._forwards[port]

    async def _apply(self, text: str) -> None:
        await kernel.run("nft", "-f", "-", stdin=text)

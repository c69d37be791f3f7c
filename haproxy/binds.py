"""Addresses that HAProxy listens on, as the router writes them."""

import ipaddress
import re
from dataclasses import dataclass

PORTS_MAX = 1000  # of one range


@dataclass(frozen=True)
class Address:
    """An IP address ("0.0.0.0", "::" for all) and a port."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


def parse(text: str) -> list[Address]:
    """ "10.0.0.1:80,:81", "*:9000-9009", "[::]:80", ":::80". ValueError for what is no address and port."""
    found: list[Address] = []
    for part in text.split(","):
        family, at, rest = part.rpartition("@")
        if at and family not in ("ipv4", "ipv6"):
            raise ValueError(f"{part!r} is no address and port")
        if rest.startswith("/") or "${" in rest or '"' in rest:
            raise ValueError(f"{part!r} is no address and port")
        host, colon, ports = rest.rpartition(":")
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", ports)
        if not colon or not match:
            raise ValueError(f"{part!r} names no port")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last <= 65535 or last - first >= PORTS_MAX:
            raise ValueError(f"{part!r}: the ports must be from 1 to 65535, at most {PORTS_MAX} of them")
        ip = _ip(host.removeprefix("[").removesuffix("]"), family)
        found += [Address(ip, port) for port in range(first, last + 1)]
    return found


def _ip(host: str, family: str) -> str:
    if host in ("", "*"):
        return "::" if family == "ipv6" else "0.0.0.0"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise ValueError(f"{host!r} is no IP address") from None

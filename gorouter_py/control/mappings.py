"""The port map's words: a public "address:port" that stands for an app's host. Parsing, overlaps, ranges; no state.

The parse functions raise ValueError with a whole sentence that names the value and what would be valid.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

COOKIES_MAX: Final = 16
AUTO: Final = "auto"
_HOST: Final = re.compile(r"(?!.{254})[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_COOKIE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,63}")
_EXAMPLE: Final = "write ADDRESS:PORT, for example 0.0.0.0:9001 or [::1]:9001"


@dataclass(frozen=True, slots=True)
class Listen:
    """One address of this machine and a port. 0.0.0.0 is every IPv4 address, :: every address there is."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def overlaps(self, other: "Listen") -> bool:
        """Whether a client's connection could be meant for either."""
        if self.port != other.port:
            return False
        addresses = {self.address, other.address}
        is_v4 = [":" not in address for address in addresses]
        return len(addresses) == 1 or "::" in addresses or ("0.0.0.0" in addresses and all(is_v4))


@dataclass(frozen=True, slots=True)
class Mapping:
    """One entry of the map. cookies: names that are the app's own on this port, beside the sticky cookie."""

    listen: Listen
    host: str
    cookies: tuple[str, ...] = field(default=())

    def value(self) -> dict[str, Any]:
        """As JSON keeps it; `parse` reads it back."""
        return {"listen": str(self.listen), "host": self.host, "cookies": list(self.cookies)}


@dataclass(frozen=True, slots=True)
class Range:
    """Ports of one address that may be handed out, both ends included."""

    address: str
    first: int
    last: int

    def free(self, taken: Iterable[Listen]) -> Iterator[Listen]:
        """Those that overlap none of `taken`, in order."""
        known = tuple(taken)
        for port in range(self.first, self.last + 1):
            listen = Listen(self.address, port)
            if not any(listen.overlaps(other) for other in known):
                yield listen


def parse_listen(text: str) -> Listen:
    """ "0.0.0.0:9001", "[::1]:9001"; ":9001" and "*:9001" are 0.0.0.0."""
    address, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text!r} is no address to listen on; {_EXAMPLE}")
    return Listen(_address(address, text), _port(port, text))


def parse_range(text: str) -> Range:
    """ "9000-9999" (of 0.0.0.0) or "192.0.2.1:9000-9999"."""
    address, _, ports = text.rpartition(":")
    first, dash, last = ports.partition("-")
    if not dash:
        raise ValueError(f"{text!r} is no range; write FIRST-LAST or ADDRESS:FIRST-LAST, for example 9000-9999")
    found = Range(_address(address, text), _port(first, text), _port(last, text))
    if found.first > found.last:
        raise ValueError(f"{text!r}: the range ends before it begins; write {last}-{first}")
    return found


def parse_host(text: str) -> str:
    """The host of an app, in lower case."""
    host = text.lower().removesuffix(".")
    if not _HOST.fullmatch(host):
        port = " without its port" if re.search(r":\d*$", text) else ""
        raise ValueError(f"{text!r} is no host of an app; write its name{port}, for example shop.apps.example.com")
    return host


def parse_cookies(names: Iterable[str]) -> tuple[str, ...]:
    """Names of cookies, each once."""
    found = tuple(dict.fromkeys(names))
    for name in found:
        if not _COOKIE.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a cookie; valid: 1 to 63 letters, digits and -_.")
    if len(found) > COOKIES_MAX:
        raise ValueError(f"{len(found)} cookies are too many; at most {COOKIES_MAX} may have a name of their own")
    return found


def parse_network(text: str) -> str:
    """An address or network of senders that are trusted: "10.0.0.0/8"."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError(f"{text!r} is no network: {error}; write for example 10.0.0.0/8 or 192.0.2.7") from None


def parse(value: Any) -> Mapping:
    """An entry as `Mapping.value` gives it."""
    if not isinstance(value, dict):
        raise ValueError("an entry of the port map is an object with listen and host")
    unknown = value.keys() - {"listen", "host", "cookies"}
    if unknown:
        raise ValueError(f"{sorted(unknown)[0]!r} is unknown; an entry has listen, host and cookies")
    for name in ("listen", "host"):
        if not isinstance(value.get(name), str):
            raise ValueError(f"{name} is missing or no text; write an object with listen and host")
    cookies = value.get("cookies", [])
    if not isinstance(cookies, list) or not all(isinstance(name, str) for name in cookies):
        raise ValueError("cookies is no list of names")
    return Mapping(parse_listen(value["listen"]), parse_host(value["host"]), parse_cookies(cookies))


def _address(text: str, whole: str) -> str:
    if text in ("", "*"):
        return "0.0.0.0"
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        raise ValueError(f"{whole!r}: {text!r} is no IP address; {_EXAMPLE}") from None
    if address.version == 6 and bare == text:
        raise ValueError(f"{whole!r}: write an IPv6 address in brackets, as [::1]:9001")
    return str(address)


def _port(text: str, whole: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError(f"{whole!r}: {text!r} is no port; valid: 1 to 65535")
    return int(text)

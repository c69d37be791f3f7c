"""The router's tables as this program reads them: the port map, and the routes with their instances.

The port map comes from a configuration file of the router, or from `gorouter-py ports list --json`; routes come from
`gorouter-py routes --json`.
"""

import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gorouter_py.control import config
from haproxy.binds import Address


class Unfit(ValueError):
    """A file that is not what it should be; str() names it and says how it is made."""


@dataclass(frozen=True)
class Ports:
    """Hosts by address, and networks whose X-Forwarded-* is believed."""

    hosts: dict[Address, str]
    trusted: tuple[str, ...] = ()


def from_config(path: str) -> Ports:
    """config.ConfigError for a file that the router would refuse, too."""
    loaded = config.load(path).config
    hosts = {Address(each.listen.address, each.listen.port): each.host for each in config.port_map(loaded)}
    return Ports(hosts, tuple(loaded.gorouter_py.port_map_trusted))


def from_list(path: str) -> Ports:
    """The JSON of `gorouter-py ports list --json`."""
    try:
        entries = _json(path)
        entries = entries["ports"] if isinstance(entries, dict) else entries
        hosts = {}
        for entry in entries:
            ip, _, port = entry["listen"].rpartition(":")
            hosts[Address(str(ipaddress.ip_address(ip.strip("[]"))), int(port))] = str(entry["host"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unfit(f"{path} is no port map ({error}); it is written by: gorouter-py ports list --json") from None
    return Ports(hosts)


def routes(path: str) -> dict[str, list[str]]:
    """Addresses ("ip:port") of the instances by host. Routes with a path have no place in a map of hosts."""
    try:
        table = _json(path)
        found = {key: [str(each["address"]) for each in instances] for key, instances in table.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unfit(f"{path} is no table of routes ({error}); it is written by: gorouter-py routes --json") from None
    return {key: addresses for key, addresses in found.items() if "/" not in key and "*" not in key and addresses}


def _json(path: str) -> Any:
    return json.loads(Path(path).read_text())

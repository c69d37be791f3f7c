"""The two tiers as haproxy.cfg files, from templates and the router's tables.

Tier 1 gives each public address and port the app's Host, tier 2 spreads over the routers (or, with a table of routes,
over the instances of each app themselves). What the files do is told in README.md; where they differ from a mapped
port of the router is in docs/port-mapping.md.
"""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from haproxy.binds import Address
from haproxy.tables import Ports

TEMPLATES = Path(__file__).resolve().parent / "templates"
EVERY = ("0.0.0.0", "::")


def render(
    ports: Ports,
    routers: Sequence[str],
    between: str,
    folder: Path,
    routes: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, str]:
    """File name -> content. between: "ip:port" where tier 2 listens; folder: where the files will lie."""
    files = {"apps.map": _map(ports), "tier1.cfg": _tier1(ports, between, folder)}
    if routes:
        files["hosts.map"] = "".join(f"{host} {_name(host)}\n" for host in sorted(routes))
        choice = f"use_backend %[req.hdr(Host),field(1,:),lower,map({folder}/hosts.map,none)]"
        backends = "\n\n".join(
            _backend(_name(host), list(addresses), check=False) for host, addresses in sorted(routes.items())
        )
        backends += "\n\nbackend none\n    mode http\n    http-request return status 404\n"
        alive = "always_true"
    else:
        choice, backends = "default_backend routers", _backend("routers", list(routers), check=True)
        alive = "nbsrv(routers) ge 1"
    values = {"between": between, "tier1": between.rpartition(":")[0], "choice": choice, "backends": backends,
              "alive": alive, "folder": str(folder)}  # fmt: skip
    files["tier2.cfg"] = _fill("tier2.cfg", values)
    return files


def _tier1(ports: Ports, between: str, folder: Path) -> str:
    lines = [f"    bind {_bind(address)}" for address in _in_order(ports)]
    trusted = " ".join(ports.trusted)
    values = {
        "binds": "\n".join(lines),
        "folder": str(folder),
        "between": between,
        "trusted": f"src {trusted}" if trusted else "always_false",
    }
    return _fill("tier1.cfg", values)


def _map(ports: Ports) -> str:
    """Keys as tier 1 makes them: address and port that were reached, or any address and the port."""
    return "".join(f"{_key(address)} {ports.hosts[address]}\n" for address in _in_order(ports))


def _key(address: Address) -> str:
    return f"{'*' if address.ip in EVERY else address.ip}:{address.port}"


def _bind(address: Address) -> str:
    if ":" not in address.ip:
        return f"{address.ip}:{address.port}"
    return f"ipv6@[{address.ip}]:{address.port}{' v4v6' if address.ip == '::' else ''}"


def _in_order(ports: Ports) -> list[Address]:
    return sorted(ports.hosts, key=lambda address: (address.port, address.ip))


def _backend(name: str, addresses: list[str], *, check: bool) -> str:
    lines = [f"backend {name}", "    mode http", "    balance roundrobin", "    option redispatch", "    retries 2"]
    if check:
        # gorouter's own health answer: a router that drains or hangs takes no more requests
        lines += [
            "    option httpchk",
            "    http-check send meth GET uri /health hdr User-Agent HTTP-Monitor/1.1",
            "    http-check expect status 200",
            "    default-server check inter 1000 fall 2 rise 2",
        ]
    lines += [f"    server {name}-{number} {address}" for number, address in enumerate(addresses)]
    return "\n".join(lines)


def _name(host: str) -> str:
    return f"app-{host}"


def _fill(template: str, values: Mapping[str, str]) -> str:
    class At(Template):
        delimiter = "@"  # the files are full of $ and %

    return At((TEMPLATES / template).read_text()).substitute(values)


def check(path: Path) -> str:
    """What `haproxy -c` has against a file; "" for nothing. FileNotFoundError without a haproxy."""
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise FileNotFoundError("haproxy is not installed")
    done = subprocess.run([program, "-c", "-f", str(path)], capture_output=True, text=True, timeout=60)
    return "" if done.returncode == 0 else (done.stderr + done.stdout).strip() or f"exit code {done.returncode}"

"""From the first tier's haproxy.cfg to a configuration of the router, with a verdict on each line.

A first tier gives each public address and port one app: a frontend per port that sets Host, or one frontend with many
binds and a map keyed by address and port. What else it does on the way (X-Forwarded-*, redirects, cookies) a mapped
port does by itself. Lines that mean neither are told as not understood, and nothing is guessed of them.
"""

import ipaddress
import itertools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from haproxy import binds, conditions, rules
from haproxy.binds import Address
from haproxy.conditions import Test
from haproxy.report import CHANGED, TAKEN, UNKNOWN, Report
from haproxy.words import Line, Section, sections

TIMEOUTS = {
    "connect": "endpoint_dial_timeout",
    "client": "gorouter_py.body_timeout",
    "server": "gorouter_py.first_byte_timeout",
    "http-request": "read_header_timeout",
    "http-keep-alive": "frontend_idle_timeout",
    "tunnel": "gorouter_py.tunnel_timeout",
}
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400, "": 1e-3}
# Directives that are about HAProxy itself, or about a second tier that is not there any more.
NOT_NEEDED = {
    "log": "the router has an access log of its own (access_log.file)",
    "option": "the router's own behaviour",
    "mode": "the router speaks HTTP alone",
    "stats": "gorouter-py ports list and /metrics show what is going on",
    "daemon": "see the service that starts the router",
    "user": "see the service that starts the router",
    "group": "see the service that starts the router",
    "chroot": "see the service that starts the router",
    "pidfile": "see the service that starts the router",
    "nbproc": "go_max_procs says how many workers there are",
    "nbthread": "go_max_procs says how many workers there are",
    "cpu-map": "the kernel spreads the workers",
    "spread-checks": "instances are not checked; they register and go",
    "ulimit-n": "the router takes all descriptors it may have",
    "tune.bufsize": "heads may have 1 MiB",
    "balance": "balancing_algorithm says how instances are chosen",
    "retries": "backends.max_attempts says how often",
    "http-check": "instances are not checked; they register and go",
    "default-server": "instances come over NATS",
    "server": "instances come over NATS; no second tier is needed",
    "default_backend": "the app's instances are the backend",
    "use_backend": "the app's instances are the backend",
    "cookie": "sessions stick by __VCAP_ID__ beside a cookie of sticky_session_cookie_names",
    "monitor-uri": "/health on status.port",
    "monitor": "/health on status.port",
    "acl": "conditions are looked at where they are used",
    "description": "a remark",
    "errorfile": "html_error_template_file is the page of the router's own errors",
    "unique-id-format": "every request gets an X-Vcap-Request-Id",
    "unique-id-header": "every request gets an X-Vcap-Request-Id",
}  # fmt: skip


@dataclass
class Found:
    """What a file says: hosts by address, other keys by dotted path, and why it cannot all be so."""

    report: Report
    hosts: dict[Address, str] = field(default_factory=dict)
    keys: dict[str, object] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    bound: list[Address] = field(default_factory=list)
    backend_of: dict[Address, str] = field(default_factory=dict)
    backend_hosts: dict[str, str] = field(default_factory=dict)
    turned: list[tuple[Line, str]] = field(default_factory=list)    # rules for redirects, and the host they are about


def convert(text: str, name: str, folder: Path) -> Found:
    """Reads a haproxy.cfg. folder: where map files with relative names are looked for."""
    found = Found(Report(name))
    stray, parts = sections(text)
    for line in stray:
        found.report.add(line, UNKNOWN, "no section has begun")
    for part in parts:
        _Part(part, found, folder).read()
    for address in found.bound:
        host = found.backend_hosts.get(found.backend_of.get(address, ""))
        if host and address not in found.hosts:
            found.hosts[address] = host
        if address not in found.hosts:
            found.problems.append(f"{address} is bound, but nothing gives it an app")
    for line, host in found.turned:
        about = host in found.hosts.values()
        note = rules.LOCATION.note if about else f"it is about {host}, which is no app of a port in this file"
        found.report.add(line, CHANGED if about else UNKNOWN, note)
    for one, other in itertools.combinations(found.hosts, 2):
        if one.port == other.port and {"0.0.0.0", "::"} & {one.ip, other.ip}:
            found.problems.append(f"{one} and {other} overlap: HAProxy lets them share the port, the router does not")
    if not found.hosts:
        found.problems.append("no port is mapped to an app in this file: is it a first tier?")
    return found


def as_yaml(found: Found) -> str:
    """The configuration; JSON is YAML, so values are written as that."""
    lines = [f"# from {found.report.file} by: python -m haproxy convert", "gorouter_py:"]
    own = {key.partition(".")[2]: value for key, value in found.keys.items() if key.startswith("gorouter_py.")}
    lines.append("  port_map:" if found.hosts else "  port_map: []")
    for address, host in found.hosts.items():
        lines.append(f"    - {{listen: {json.dumps(str(address))}, host: {json.dumps(host)}}}")
    lines += [f"  {key}: {json.dumps(value)}" for key, value in own.items()]
    lines += [f"{key}: {json.dumps(value)}" for key, value in found.keys.items() if "." not in key]
    return "\n".join(lines) + "\n"


class _Part:
    """One section: its binds, its conditions, and what its rules say of each bind."""

    def __init__(self, part: Section, found: Found, folder: Path) -> None:
        self._part, self._found, self._folder = part, found, folder
        self._report = found.report
        self._binds: list[Address] = []
        self._acls: dict[str, list[Test]] = {}
        self._variables: dict[str, str] = {}
        self._is_public = part.kind in ("frontend", "listen")

    def read(self) -> None:
        part = self._part
        if part.kind not in ("global", "defaults", "frontend", "listen", "backend"):
            self._report.add(part.line, UNKNOWN, f"a section {part.kind} has no counterpart")
            for line in part.lines:
                self._report.add(line, UNKNOWN, f"part of the section {part.kind}")
            return
        inline = [word for word in part.line.words[2:3] if self._is_public]
        if inline:
            self._bind(part.line, inline[0], part.line.words[3:])
        else:
            self._report.add(part.line, CHANGED, "a section; what it says is below")
        if any(line.words[:2] == ("mode", "tcp") for line in part.lines) and self._is_public:
            for line in part.lines:
                self._report.add(line, UNKNOWN, "of a section in mode tcp: the router forwards HTTP alone")
            return
        for line in part.lines:
            if line.words[0] == "bind":
                self._bind(line, line.words[1] if len(line.words) > 1 else "", line.words[2:])
            elif line.words[0] == "acl":
                self._acl(line)
        for line in part.lines:
            if line.words[0] not in ("bind", "acl"):
                self._line(line)
        self._found.bound += self._binds

    def _bind(self, line: Line, text: str, options: tuple[str, ...]) -> None:
        try:
            addresses = binds.parse(text)
        except ValueError as error:
            self._report.add(line, UNKNOWN, str(error))
            return
        strange = [word for word in options if word in ("ssl", "accept-proxy", "transparent", "crt", "proto", "alpn")]
        if strange:
            note = "TLS on a port is not served yet" if "ssl" in strange else f"{strange[0]} has no counterpart"
            self._report.add(line, UNKNOWN, f"{note}; the port is left out")
            return
        self._binds += addresses
        self._report.add(line, TAKEN, f"port_map: {', '.join(map(str, addresses))}")

    def _acl(self, line: Line) -> None:
        name, test = line.words[1] if len(line.words) > 1 else "", line.words[2:]
        try:
            self._acls.setdefault(name, []).append(conditions.acl(test))
        except conditions.NotUnderstood as error:
            self._acls.pop(name, None)
            self._report.add(line, CHANGED, f"{error}: counts only where a line uses it")
        else:
            self._report.add(line, TAKEN, "used by the lines that name it")

    def _line(self, line: Line) -> None:
        words = line.words
        if words[0] == "":
            self._report.add(line, UNKNOWN, words[1])
        elif words[0] in rules.OLD or words[0] in ("http-request", "http-response"):
            self._rule(line)
        elif words[0] in ("timeout", "clitimeout", "srvtimeout", "contimeout"):
            self._timeout(line)
        elif words[0] == "maxconn" and len(words) > 1 and words[1].isdigit():
            if self._part.kind == "global":
                self._found.keys["gorouter_py.max_connections"] = int(words[1])
                self._report.add(line, TAKEN, f"gorouter_py.max_connections: {words[1]}")
            else:
                self._report.add(line, CHANGED, "the bound of all connections is gorouter_py.max_connections")
        elif words[:2] == ("option", "forwardfor"):
            self._forwardfor(line)
        elif words[0] in ("default_backend", "use_backend") and self._is_public:
            self._backend(line)
        elif words[0] == "redirect":
            self._report.add(line, UNKNOWN, "the router makes no redirects; the app has to")
        else:
            note = NOT_NEEDED.get(words[0])
            self._report.add(line, CHANGED if note else UNKNOWN, note or f"{words[0]} has no counterpart")

    def _backend(self, line: Line) -> None:
        bare, condition = rules.split_condition(line.words)
        try:
            test = conditions.parse(condition, self._acls)
        except conditions.NotUnderstood as error:
            self._report.add(line, UNKNOWN, f"{error}: the router chooses an app by address and port alone")
            return
        for address in filter(test, self._binds):
            self._found.backend_of.setdefault(address, bare[1] if len(bare) > 1 else "")
        self._report.add(line, CHANGED, NOT_NEEDED[line.words[0]])

    def _forwardfor(self, line: Line) -> None:
        if "except" in line.words[:-1]:
            network = line.words[line.words.index("except") + 1]
            try:
                text = str(ipaddress.ip_network(network, strict=False))
            except ValueError:
                self._report.add(line, UNKNOWN, f"{network!r} is no network")
                return
            trusted = self._found.keys.setdefault("gorouter_py.port_map_trusted", [])
            assert isinstance(trusted, list)
            if text not in trusted:
                trusted.append(text)
            self._report.add(line, CHANGED, f"port_map_trusted: {text}; its X-Forwarded-For is kept and added to")
            return
        self._report.add(line, TAKEN, "X-Forwarded-For has the client's address")

    def _timeout(self, line: Line) -> None:
        words = line.words
        old = {"clitimeout": "client", "srvtimeout": "server", "contimeout": "connect"}
        name = old.get(words[0], words[1] if len(words) > 1 else "")
        value = re.fullmatch(r"(\d+)([a-z]*)", words[-1])
        key = TIMEOUTS.get(name)
        if key is None or value is None or value[2] not in _UNITS:
            self._report.add(line, UNKNOWN, f"timeout {name} has no counterpart")
            return
        text = f"{int(value[1]) * _UNITS[value[2]]:g}s"
        self._found.keys[key] = text
        note = f"{key}: {text}"
        self._report.add(line, TAKEN if name in ("connect", "http-request", "tunnel") else CHANGED, note)

    def _rule(self, line: Line) -> None:
        bare, condition = rules.split_condition(line.words)
        old = line.words[0] in rules.OLD
        meaning = rules.old_form(bare) if old else rules.http_rule(bare, self._variables)
        host = rules.redirect_host(bare) if meaning is rules.LOCATION else ""
        if host:
            self._found.turned.append((line, host))
        elif meaning is None:
            self._report.add(line, UNKNOWN, "the router has no rule like this; the app has to do it")
        elif isinstance(meaning, rules.Remark):
            self._report.add(line, TAKEN if meaning.same else CHANGED, meaning.note)
        elif self._part.kind == "backend" and not condition and meaning.host:
            self._found.backend_hosts[self._part.name] = meaning.host
            self._report.add(line, TAKEN, f"{meaning.host} for the ports of frontends that use {self._part.name}")
        elif not self._is_public:
            self._report.add(line, UNKNOWN, f"which ports are meant by it, in a {self._part.kind}, cannot be told")
        else:
            self._set_host(line, meaning, condition)

    def _set_host(self, line: Line, meaning: rules.SetsHost, condition: list[str]) -> None:
        usable = [word for word in condition if word not in ("{", "}")]
        if meaning.map and any("found" in word for word in usable):
            condition = []  # the map decides which ports there are
        try:
            test = conditions.parse(condition, self._acls)
        except conditions.NotUnderstood as error:
            self._report.add(line, UNKNOWN, f"{error}: the router chooses an app by address and port alone")
            return
        meant = [address for address in self._binds if test(address)]
        if meaning.map:
            try:
                meant = self._from_map(meant, self._folder / meaning.map)
            except OSError as error:
                self._report.add(line, UNKNOWN, f"{meaning.map} cannot be read: {error.strerror}; see --maps")
                return
            note = f"{len(meant)} ports of the map {meaning.map}"
        else:
            self._found.hosts |= {address: meaning.host for address in meant}
            note = f"{', '.join(map(str, meant))}: {meaning.host}"
        verdict = TAKEN if meant else UNKNOWN
        self._report.add(line, verdict, note if meant else "no bind of this section is meant by it")

    def _from_map(self, meant: list[Address], path: Path) -> list[Address]:
        known: list[Address] = []
        table = dict(_map_lines(path))
        for address in meant:
            plain = f"{address.ip}:{address.port}"
            keys = (plain, str(address), f"*:{address.port}", str(address.port))
            host = next((table[key] for key in keys if key in table), "")
            if host:
                self._found.hosts[address] = host.lower()
                known.append(address)
            elif address.ip in ("0.0.0.0", "::"):
                known += self._single(address, table)
        return known

    def _single(self, address: Address, table: dict[str, str]) -> list[Address]:
        """A bind on every address of which the map knows some: a listener for each of those."""
        found = []
        for key, host in table.items():
            ip, _, port = key.rpartition(":")
            if port == str(address.port) and ip not in ("", "*"):
                found.append(Address(ip.strip("[]"), address.port))
                self._found.hosts[found[-1]] = host.lower()
        if found:
            self._binds.remove(address)
            self._binds += found
        return found


def _map_lines(path: Path) -> list[tuple[str, str]]:
    lines = [line.split() for line in path.read_text().splitlines()]
    return [(words[0], words[1]) for words in lines if len(words) >= 2 and not words[0].startswith("#")]

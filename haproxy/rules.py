"""What single directives of a first tier mean: hosts given to requests, headers dropped or set, answers turned back.

Each function looks at the words of one line and says what it is; nothing here knows sections or ports.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_OLD_HOST = re.compile(r"\^?\(?\[?Hh?\]?ost\)?:?.*", re.I)
_FORWARDED = re.compile(r"x-forwarded-(for|host|port|proto|server|ssl|scheme|prefix)|forwarded|x-real-ip", re.I)
OLD = frozenset(
    f"{side}{case}{verb}"
    for side in ("req", "rsp")
    for case in ("", "i")
    for verb in ("rep", "del", "add", "deny", "allow", "tarpit", "pass")
)


@dataclass(frozen=True)
class SetsHost:
    """Requests get this host; map: through a map file, with the form of its keys."""

    host: str = ""
    map: str = ""


@dataclass(frozen=True)
class Remark:
    """A line that needs no entry: what the router does about it, and whether it is the same."""

    note: str
    same: bool = True


Meaning = SetsHost | Remark | None
SPOOFED = Remark("what clients say in X-Forwarded-* and Forwarded is dropped on mapped ports")
TOLD = Remark("mapped ports tell the app in X-Forwarded-* and Forwarded what the client used")
LOCATION = Remark(
    "redirects to the app's host are turned to what the client asked for; the whole host is compared, in any case and "
    "with any port",
    same=False,
)
DOMAIN = Remark("a Domain that covers the app's host is taken off; others stay", same=False)


def split_condition(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(the words before "if" or "unless", those from there on)."""
    for at, word in enumerate(words):
        if word in ("if", "unless"):
            return list(words[:at]), list(words[at:])
    return list(words), []


def old_form(words: Sequence[str]) -> Meaning:
    """reqirep, rspirep, reqadd and their like, of versions before 2.1."""
    verb, arguments = words[0], list(words[1:])
    if not arguments:
        return None
    search = arguments[0]
    name = re.match(r"\^?\(?([A-Za-z-]+)", re.sub(r"\[(.)[^\]]*\]", r"\1", search))
    header = name[1].lower() if name else ""
    replacement = arguments[1] if len(arguments) > 1 else ""
    if verb in ("reqrep", "reqirep") and header == "host":
        host = re.fullmatch(r"Host:\s*(\S+)", replacement, re.I)
        return _host(host[1]) if host else None
    if verb in ("reqdel", "reqidel") and _FORWARDED.fullmatch(header):
        return SPOOFED
    if verb == "reqadd" and _FORWARDED.fullmatch(search.partition(":")[0]):
        return TOLD
    if verb in ("rsprep", "rspirep"):
        return _turned(header)
    return None


def http_rule(words: Sequence[str], variables: dict[str, str]) -> Meaning:
    """http-request and http-response, without their condition. variables: map files by the variable they fill."""
    side, arguments = words[0], list(words[1:])
    verb = arguments[0].partition("(")[0] if arguments else ""
    header = arguments[1].lower() if len(arguments) > 1 else ""
    if side == "http-request":
        if verb in ("set-header", "replace-header", "replace-value") and header == "host":
            return _host_of(arguments[-1], variables)
        if verb == "del-header" and _FORWARDED.fullmatch(header):
            return SPOOFED
        if verb in ("set-header", "add-header") and _FORWARDED.fullmatch(header):
            return TOLD
        if verb in ("set-var", "set-var-fmt"):
            return _variable(arguments, variables)
        if verb in ("return", "deny") and any("404" in word or "403" in word for word in arguments):
            return Remark("nobody listens on a port that is not mapped", same=False)
        return None
    if verb in ("set-header", "replace-header", "replace-value"):
        return _turned(header)
    if verb in ("set-var", "set-var-fmt"):
        return Remark("answers are turned by the mapped port itself; no variable is needed", same=False)
    return None


def redirect_host(words: Sequence[str]) -> str:
    """The host that a rule for redirects looks for, "" if it is not written out in it."""
    found = re.search(r"https?\??:\\?/\\?/\(?((?:[A-Za-z0-9_-]|\\?\.)+)", " ".join(words[1:]))
    return found[1].replace("\\", "").rstrip(".").lower() if found else ""


def _turned(header: str) -> Meaning:
    if header in ("location", "content-location", "refresh"):
        return LOCATION
    return DOMAIN if header == "set-cookie" else None


def _host(text: str) -> Meaning:
    host = re.sub(r":\d+$", "", text)
    return SetsHost(host.lower()) if HOST.fullmatch(host) else None


def _host_of(value: str, variables: dict[str, str]) -> Meaning:
    variable = re.fullmatch(r"%\[var\(([\w.]+)\)\]", value)
    if variable and variable[1] in variables:
        return SetsHost(map=variables[variable[1]])
    mapped = _map_file(value)
    return SetsHost(map=mapped) if mapped else _host(value)


def _variable(arguments: list[str], variables: dict[str, str]) -> Meaning:
    name = re.search(r"\(([\w.]+)\)", arguments[0])
    mapped = _map_file(" ".join(arguments[1:]))
    if name and mapped:
        variables[name[1]] = mapped
    return Remark("a mapped port knows its app; no variable is needed", same=False)


def _map_file(text: str) -> str:
    found = re.search(r"map(?:_str|_beg|_ip|_int|_str_str)?\(([^,)]+)", text)
    return found[1].strip() if found and re.search(r"dst|var\(", text) else ""

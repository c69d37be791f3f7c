"""What the parsers must take, said a second time: regular expressions and plain Python, from the RFCs' grammar.

Slow, and written without a look at the parsers; the fuzzer compares verdict for verdict. None means refused, or not
complete yet.
"""

import re
from dataclasses import dataclass

from tests import _probe

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
HEAD = re.compile(
    rb"(?:\r\n)?(?P<method>"
    + TOKEN
    + rb"{1,64}) (?P<target>[\x21\x22\x24-\x7e\x80-\xff]{1,65536}) HTTP/1\.(?P<minor>[01])\r\n"
    rb"(?P<fields>(?:" + TOKEN + rb"{1,65535}:[\t\x20-\x7e\x80-\xff]*\r\n)*)\r\n"
)
STATUS_HEAD = re.compile(
    rb"HTTP/1\.(?P<minor>[01]) (?P<status>[1-9][0-9]{2})(?: (?P<reason>[\t\x20-\x7e\x80-\xff]*))?\r\n"
    rb"(?P<fields>(?:" + TOKEN + rb"{1,65535}:[\t\x20-\x7e\x80-\xff]*\r\n)*)\r\n"
)
# RFC 3986 3.2.2, without the zone identifiers and IPvFuture that nobody routes by.
REG_NAME = rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+"
AUTHORITY = re.compile(rb"(?:" + REG_NAME + rb"|\[(?=[^\]]*:[^\]]*:)[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{0,5}))?")
ABSOLUTE = re.compile(rb"(?i:https?)://(?P<authority>[^/?]+)(?P<path>/[^?]*)?(?:\?.*)?", re.S)


@dataclass
class Head:
    """A head that is taken."""

    length: int
    start: tuple[bytes, ...]
    minor: int
    fields: list[tuple[bytes, bytes]]
    framing: str
    content_length: int
    host: bytes = b""
    path: bytes = b""


def authority(text: bytes, port_required: bool = False) -> bool:
    match = AUTHORITY.fullmatch(text)
    if match is None:
        return False
    port = match["port"]
    return int(port or 0) <= 65535 and (bool(port) or not port_required)


def values(fields: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for n, value in fields if n.lower() == name]


def length_of(fields: list[tuple[bytes, bytes]], minor: int) -> tuple[str, int] | None:
    """RFC 9112 6.3 for a message that may have a body: (framing, length)."""
    lengths, codings = values(fields, b"content-length"), values(fields, b"transfer-encoding")
    if (lengths and codings) or len(lengths) > 1 or len(codings) > 1:
        return None
    if codings:
        return ("chunked", 0) if codings[0].lower() == b"chunked" and minor == 1 else None
    if not lengths:
        return "none", 0
    if not re.fullmatch(rb"[0-9]{1,19}", lengths[0]) or int(lengths[0]) >= 2**63:
        return None
    return "length", int(lengths[0])


def section(text: bytes) -> list[tuple[bytes, bytes]] | None:
    fields = []
    for line in text.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        fields.append((name, value.strip(b" \t")))
    listed = sum(len(value) for value in values(fields, b"connection"))
    return fields if listed <= _probe.LIMITS["CONNECTION_BYTES_MAX"] else None


def request(data: bytes) -> Head | None:
    match = HEAD.match(data)
    fields = section(match["fields"]) if match else None
    if match is None or fields is None:
        return None
    method, target, minor = match["method"], match["target"], int(match["minor"])
    framing = length_of(fields, minor)
    hosts = values(fields, b"host")
    if framing is None or len(hosts) > 1 or len(hosts) < minor or any(host and not authority(host) for host in hosts):
        return None
    host, path = (hosts or [b""])[0], target.partition(b"?")[0]
    if method == b"CONNECT":
        if not authority(target, port_required=True):
            return None
        host, path = target, b""
    elif target.startswith(b"*"):
        if target != b"*" or method != b"OPTIONS":
            return None
    elif not target.startswith(b"/"):
        absolute = ABSOLUTE.fullmatch(target)
        if absolute is None or not authority(absolute["authority"]):
            return None
        host, path = absolute["authority"], absolute["path"] or b"/"
    return Head(match.end(), (method, target), minor, fields, *framing, host, path)


def response(data: bytes, method: str) -> Head | None:
    match = STATUS_HEAD.match(data)
    fields = section(match["fields"]) if match else None
    if match is None or fields is None:
        return None
    minor, status = int(match["minor"]), int(match["status"])
    found = length_of(fields, minor)
    if found is None:
        return None
    framing, length = found
    if framing == "none":
        framing = "close"
    if status == 101 or (method == "CONNECT" and 200 <= status < 300):
        framing = "tunnel"
    elif status < 200 or status in (204, 304) or method == "HEAD":
        framing = "none"
    return Head(match.end(), (match["status"], match["reason"] or b""), minor, fields, framing, length)


QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
CHUNK_LINE = re.compile(
    rb"(?P<size>[0-9A-Fa-f]{1,16})(?:;" + TOKEN + rb"+(?:=(?:" + TOKEN + rb"+|" + QUOTED + rb"))?)*\r\n"
)
TRAILER_LINE = re.compile(rb"(?P<name>" + TOKEN + rb"+):[\t\x20-\x7e\x80-\xff]*\r\n")
FORBIDDEN = {text for _, text, _, _, framing in _probe.name_table() if framing}


def chunked(data: bytes) -> tuple[bytes, bytes, int] | None:
    """(body, trailer lines, octets left) of a complete chunked body."""
    body, at, waste = b"", 0, 0
    while True:
        match = CHUNK_LINE.match(data, at)
        if match is None or match.end() - at - 1 > _probe.LIMITS["CHUNK_LINE_MAX"]:
            return None
        size = int(match["size"], 16)
        waste = max(0, waste + match.end() - at - 16 - 2 * size)
        if waste > _probe.LIMITS["CHUNK_WASTE_MAX"] or size >= 2**63:
            return None
        at = match.end()
        if size == 0:
            break
        body += data[at : at + size]
        at += size
        if data[at : at + 2] != b"\r\n":
            return None
        at += 2
    start = at
    while data[at : at + 2] != b"\r\n":
        match = TRAILER_LINE.match(data, at)
        if match is None or match["name"].lower() in FORBIDDEN:
            return None
        at = match.end()
    if at - start > _probe.LIMITS["TRAILER_BYTES_MAX"]:
        return None
    return body, data[start:at], len(data) - at - 2


COOKIE_OCTETS = re.compile(rb"[\x20\x21\x23-\x3a\x3c-\x5b\x5d-\x7e]*")


def cookie_value(text: bytes) -> bytes | None:
    if len(text) > 1 and text[:1] == text[-1:] == b'"':
        text = text[1:-1]
    return text if COOKIE_OCTETS.fullmatch(text) else None


def cookie(line: bytes, wanted: bytes) -> bytes | None:
    for part in line.split(b";"):
        name, equals, value = part.partition(b"=")
        if equals and name.strip(b" \t") == wanted and (found := cookie_value(value.strip(b" \t"))) is not None:
            return found
    return None


def set_cookie(line: bytes) -> dict[str, object] | None:
    first, *rest = [part.strip(b" \t") for part in line.split(b";")]
    name, equals, value = first.partition(b"=")
    name = name.strip(b" \t")
    found = cookie_value(value.strip(b" \t"))
    if not equals or not re.fullmatch(TOKEN + rb"+", name) or found is None:
        return None
    said: dict[str, object] = dict.fromkeys(("path", "expires", "same_site", "max_age"))
    said |= {"name": name, "value": found, "site": "", "secure": False, "http_only": False, "partitioned": False}
    for part in rest:
        key, _, value = part.partition(b"=")
        key, value = key.strip(b" \t").lower(), value.strip(b" \t")
        if key in (b"path", b"expires"):
            said[key.decode()] = value
        elif key in (b"secure", b"partitioned"):
            said[key.decode()] = True
        elif key == b"httponly":
            said["http_only"] = True
        elif key == b"samesite":
            known = value.lower().decode("latin-1")
            said |= {"same_site": value, "site": known if known in ("lax", "strict", "none") else "other"}
        elif key == b"max-age" and re.fullmatch(rb"-?[0-9]+", value):
            # Digits beyond any date are still a sign; Python would not convert ten thousand of them.
            zero = not value.strip(b"-0")
            if zero or not value.startswith(b"0"):
                said["max_age"] = not zero and not value.startswith(b"-")
    return said

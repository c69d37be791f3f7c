"""Where h11 and llhttp judge otherwise than we do, and why; every other difference is a failure.

LENIENT lists what a peer takes and we refuse, by our fault and with a witness. STRICTER lists the messages that we
take and a peer refuses, leaves, or reads otherwise.
"""

from collections.abc import Callable

from tests.unit.http import peers
from tests.unit.http.peers import Message, Reading

Read = Callable[[bytes], Reading]
HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
OK_CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def h11_response(data: bytes) -> Reading:
    return peers.h11_response(data, "GET")


def ours_response(data: bytes) -> Reading:
    return peers.ours(data, request_method="GET")


READERS: dict[str, tuple[Read, Read]] = {
    "h11 request": (peers.ours, peers.h11_requests),
    "llhttp request": (peers.ours, peers.llhttp_requests),
    "h11 response": (ours_response, h11_response),
    "llhttp response": (ours_response, peers.llhttp_response),
}

# (reader, our fault, why we refuse what it takes, a witness)
LENIENT = [
    ("h11 request", "P_BARE_LF", "RFC 9112 2.2 only allows to take it; smuggling lives off it", HEAD + b"X: y\n\r\n"),
    ("h11 request", "P_OBS_FOLD", "RFC 9112 5.2: a server rejects it or unfolds it", HEAD + b"X: y\r\n z\r\n\r\n"),
    ("h11 request", "P_METHOD", "no method is that long", b"M" * 65 + b" / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("h11 request", "P_FIELD_VALUE", "RFC 9110 5.5: a control", HEAD + b"X: \x7f\r\n\r\n"),
    ("h11 request", "P_TARGET", "RFC 9112 3.2: none of the four forms", b"GET x HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("h11 request", "P_VERSION", "RFC 9112 2.3: not this protocol", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    ("h11 request", "P_HOST_INVALID", "RFC 9112 3.2: an invalid value is 400", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("h11 request", "P_LENGTH_INVALID", "RFC 9112 6.3: a list of equal values, merged",
     POST + b"Content-Length: 0, 0\r\n\r\n"),
    ("h11 request", "P_LENGTH_AND_CODING", "RFC 9112 6.1: TE wins there",
     CHUNKED[:-2] + b"Content-Length: 9\r\n\r\n0\r\n\r\n"),
    ("h11 request", "P_CODING_UNKNOWN", "RFC 9112 5.2: it unfolds, we see an empty value",
     POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    ("h11 request", "P_CODING_OLD_VERSION", "RFC 9112 6.1: faulty framing",
     b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("h11 request", "P_CHUNK_SIZE", "white space behind the size is not grammar", CHUNKED + b"0 \r\n\r\n"),
    ("h11 request", "P_CHUNK_EXT", "RFC 9112 7.1.1: an extension has a name", CHUNKED + b"0;\r\n\r\n"),
    ("h11 request", "P_CHUNK_END", "RFC 9112 7.1: a bare CR in an extension", CHUNKED + b'0;a="\r"\r\n\r\n'),
    ("h11 request", "P_TRAILER", "RFC 9110 6.5.1: not in a trailer", CHUNKED + b"0\r\nHost: b\r\n\r\n"),
    ("llhttp request", "P_BARE_LF", "it skips any CR and LF before a request", b"\n" + HEAD + b"\r\n"),
    ("llhttp request", "P_REQ_LINE", "RFC 9112 3: one SP; several pass there", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("llhttp request", "P_TARGET", "RFC 9112 3.2.4: for OPTIONS only", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("llhttp request", "P_VERSION", "RFC 9112 2.3: not this protocol", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    ("llhttp request", "P_HOST_MISSING", "RFC 9112 3.2: left to its user", b"GET / HTTP/1.1\r\n\r\n"),
    ("llhttp request", "P_HOST_DUPLICATE", "RFC 9112 3.2: left to its user", HEAD + b"Host: a\r\n\r\n"),
    ("llhttp request", "P_HOST_INVALID", "RFC 9112 3.2: left to its user", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("llhttp request", "P_LENGTH_INVALID", "over 2^63 - 1", POST + b"Content-Length: " + b"0" * 20 + b"\r\n\r\n"),
    ("llhttp request", "P_CODING_UNKNOWN", "we read chunked only",
     POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("llhttp request", "P_CODING_OLD_VERSION", "RFC 9112 6.1: faulty framing",
     b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("llhttp request", "P_CHUNK_SIZE", "17 digits, all zero", CHUNKED + b"0" * 17 + b"\r\n\r\n"),
    ("llhttp request", "P_CHUNK_EXT", "RFC 9112 7.1.1: a value is not empty", CHUNKED + b"0;a=\r\n\r\n"),
    ("llhttp request", "P_TRAILER", "RFC 9110 6.5.1: not in a trailer", CHUNKED + b"0\r\nHost: b\r\n\r\n"),
    ("h11 response", "P_RESP_LINE", "RFC 9112 2.3: not this protocol", b"HTTP/2.0 204 OK\r\n\r\n"),
    ("h11 response", "P_BARE_LF", "RFC 9112 2.2", OK + b"Content-Length: 0\n\r\n"),
    ("h11 response", "P_OBS_FOLD", "RFC 9112 5.2: 502 or unfold", OK + b"X: y\r\n z\r\nContent-Length: 0\r\n\r\n"),
    ("h11 response", "P_FIELD_VALUE", "RFC 9110 5.5: a control", OK + b"X: a\x01b\r\nContent-Length: 0\r\n\r\n"),
    ("h11 response", "P_LENGTH_INVALID", "RFC 9112 6.3: a list of equal values", OK + b"Content-Length: 0, 0\r\n\r\n"),
    ("h11 response", "P_LENGTH_AND_CODING", "RFC 9112 6.3 rule 3",
     OK_CHUNKED[:-2] + b"Content-Length: 9\r\n\r\n0\r\n\r\n"),
    ("h11 response", "P_CODING_UNKNOWN", "RFC 9112 5.2: it unfolds, we see an empty value",
     OK + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    ("h11 response", "P_CODING_OLD_VERSION", "RFC 9112 6.1",
     b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("h11 response", "P_CHUNK_SIZE", "white space behind the size", OK_CHUNKED + b"0 \r\n\r\n"),
    ("h11 response", "P_CHUNK_EXT", "RFC 9112 7.1.1", OK_CHUNKED + b"0;\r\n\r\n"),
    ("h11 response", "P_CHUNK_END", "RFC 9112 7.1: a bare CR in an extension", OK_CHUNKED + b'0;a="\r"\r\n\r\n'),
    ("h11 response", "P_TRAILER", "RFC 9110 6.5.1", OK_CHUNKED + b"0\r\nHost: b\r\n\r\n"),
    ("llhttp response", "P_RESP_LINE", "RFC 9110 15: below 100", b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"),
    ("llhttp response", "P_LENGTH_INVALID", "over 2^63 - 1",
     b"HTTP/1.1 204 x\r\nContent-Length: 9223372036854775808\r\n\r\n"),
    ("llhttp response", "P_CODING_UNKNOWN", "we read chunked only",
     OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("llhttp response", "P_CODING_OLD_VERSION", "RFC 9112 6.1",
     b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("llhttp response", "P_CHUNK_SIZE", "17 digits, all zero", OK_CHUNKED + b"0" * 17 + b"\r\n\r\n"),
    ("llhttp response", "P_CHUNK_EXT", "RFC 9112 7.1.1", OK_CHUNKED + b"0;a=\r\n\r\n"),
    ("llhttp response", "P_TRAILER", "RFC 9110 6.5.1", OK_CHUNKED + b"0\r\nHost: b\r\n\r\n"),
]  # fmt: skip
# Limits of ours, of which no peer can know.
BOUNDS = {"P_TARGET_TOO_LONG", "P_CONNECTION_TOO_LONG", "P_TRAILER_TOO_LONG", "P_TOO_MANY_FIELDS"}
ALLOWED = {(reader, fault) for reader, fault, _, _ in LENIENT} | {
    (reader, bound) for reader in READERS for bound in BOUNDS
}

LLHTTP_METHODS = {b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"DELETE", b"CONNECT", b"TRACE", b"PATCH"}


def has_field(message: Message, name: bytes, value: bytes = b"") -> bool:
    return any(n == name and value in v.lower() for n, v in message.fields)


# What a peer refuses, or leaves, and we take.
STRICTER: dict[str, list[tuple[str, Callable[[Message], bool]]]] = {
    "h11 request": [
        # gorouter: octets over 0x7f in a target pass as they are.
        ("obs-text in the target", lambda m: any(octet > 0x7F for octet in m.start[1])),
        ("keeps no HTTP/1.0 connection open", lambda m: m.start[2] == b"1.0"),
        ("takes Upgrade without Connection for a switch", lambda m: has_field(m, b"upgrade")),
    ],
    "llhttp request": [
        ("knows a fixed list of methods", lambda m: m.start[0] not in LLHTTP_METHODS),
        ("obs-text in the target", lambda m: any(octet > 0x7F for octet in m.start[1])),
        ("reads the authority of an absolute target its own way", lambda m: m.start[1][:4].lower() == b"http"),
        ("lets keep-alive win over close in HTTP/1.0", lambda m: has_field(m, b"connection", b"close")),
        ("takes CONNECT for the end of HTTP", lambda m: m.start[0] == b"CONNECT"),
        # RFC 9110 7.8: the switch happens behind the whole request.
        ("skips the body of a request to upgrade", lambda m: has_field(m, b"upgrade")),
    ],
    "h11 response": [("101 that was not asked for", lambda m: m.start[0] == b"101")],
    "llhttp response": [
        ("a body until the connection closes never ends for it", lambda m: not has_field(m, b"content-length")),
        ("gives interim answers a body", lambda m: m.start[0] < b"200"),
    ],
}


def excused(reader: str, message: Message) -> bool:
    return any(applies(message) for _, applies in STRICTER[reader])


def compare(reader: str, data: bytes) -> None:
    """Fails on a difference that no table explains."""
    read_ours, read_theirs = READERS[reader]
    mine, theirs = read_ours(data), read_theirs(data)
    for one, other in zip(mine.messages, theirs.messages, strict=False):
        if one != other:
            assert excused(reader, one), f"{reader}: other messages\n{one}\n{other}"
            return
    common = min(len(mine.messages), len(theirs.messages))
    if len(theirs.messages) > common:
        suspects = theirs.messages[max(common - 1, 0) : common + 1]
        known = (reader, mine.refused) in ALLOWED or any(excused(reader, message) for message in suspects)
        assert known, f"{reader} goes on where we end with {mine.refused or 'no fault'}: {theirs.messages[common]}"
    elif len(mine.messages) > common:
        suspects = mine.messages[max(common - 1, 0) : common + 1]
        assert any(excused(reader, message) for message in suspects), (
            f"we go on where {reader} ends with {theirs.refused or 'no fault'}: {mine.messages[common]}"
        )

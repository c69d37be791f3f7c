"""Response heads: what is taken from an origin, how long its body is, and what is refused."""

import pytest

from tests import _probe


def head(*fields: bytes, line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([line, *fields]) + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"HTTP/1.1 20 OK", "P_RESP_LINE"),  # RFC 9112 4: 3DIGIT
        (b"HTTP/1.1 2000 OK", "P_RESP_LINE"),
        (b"HTTP/1.1 2x0 OK", "P_RESP_LINE"),
        (b"HTTP/1.1 -20 OK", "P_RESP_LINE"),
        (b"HTTP/1.1 099 OK", "P_RESP_LINE"),  # RFC 9110 15: 100 to 599; up to 999 passes
        (b"HTTP/1.1  200 OK", "P_RESP_LINE"),
        (b"HTTP/1.1\t200 OK", "P_RESP_LINE"),
        (b"HTTP/1.1 200\tOK", "P_RESP_LINE"),
        (b"HTTP/1.1 200OK", "P_RESP_LINE"),
        (b"HTTP/1.1 OK", "P_RESP_LINE"),
        (b"HTTP/1.1", "P_RESP_LINE"),
        (b" HTTP/1.1 200 OK", "P_RESP_LINE"),
        (b"http/1.1 200 OK", "P_RESP_LINE"),  # RFC 9112 2.3
        (b"HTTP/1.2 200 OK", "P_RESP_LINE"),
        (b"HTTP/2.0 200 OK", "P_RESP_LINE"),
        (b"HTTP/0.9 200 OK", "P_RESP_LINE"),
        (b"HTTP/1.10 200 OK", "P_RESP_LINE"),
        (b"ICY 200 OK", "P_RESP_LINE"),
        (b"<html>", "P_RESP_LINE"),
        (b"SSH-2.0-OpenSSH_9.2p1", "P_RESP_LINE"),
        (b"HTTP/1.1 200 O\0K", "P_RESP_LINE"),  # HAProxy passes NUL in a reason phrase
        (b"HTTP/1.1 200 O\x01K", "P_RESP_LINE"),
        (b"HTTP/1.1 200 O\x7fK", "P_RESP_LINE"),
        (b"HTTP/1.1 200 O\rK", "P_BARE_CR"),  # RFC 9112 2.2
        (b"HTTP/1.1 200 OK\nX: y", "P_BARE_LF"),
        (b"HTTP/1.1 200 OK\r", "P_BARE_CR"),
        (b"\r\nHTTP/1.1 200 OK", "P_RESP_LINE"),  # RFC 9112 2.2 tolerates this before request lines only
    ],
)
def test_refused_status_lines(line: bytes, fault: str) -> None:
    data = head(b"Content-Length: 0", line=line)
    assert _probe.parse_response(data) == fault
    for cut in range(len(data)):
        assert _probe.parse_response(data, cuts=(cut,)) == fault


@pytest.mark.parametrize(
    ("line", "status", "reason", "minor"),
    [
        (b"HTTP/1.1 200 OK", 200, b"OK", 1),
        (b"HTTP/1.0 404 Not Found", 404, b"Not Found", 0),
        (b"HTTP/1.1 200 ", 200, b"", 1),
        (b"HTTP/1.1 200", 200, b"", 1),
        (b"HTTP/1.1 100 Continue", 100, b"Continue", 1),
        (b"HTTP/1.1 999 \xe4\tb  ", 999, b"\xe4\tb  ", 1),
    ],
)
def test_status_lines(line: bytes, status: int, reason: bytes, minor: int) -> None:
    data = head(b"X: y", line=line)
    said = _probe.parse_response(data)
    assert (said["status"], said["reason"], said["minor"], said["is_response"]) == (status, reason, minor, True)
    assert (said["length"], said["head_len"]) == (len(data), len(data))
    for cut in range(len(data)):
        assert _probe.parse_response(data, cuts=(cut,)) == said
        assert _probe.parse_response(data[:cut]) == "PARTIAL"


CL = b"Content-Length: 5"
TE = b"Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("method", "line", "fields", "framing", "keep"),
    [
        # RFC 9112 6.3, by its numbered rules
        ("HEAD", b"HTTP/1.1 200", [CL], "none", True),  # 1
        ("HEAD", b"HTTP/1.1 200", [TE], "none", True),
        ("HEAD", b"HTTP/1.1 200", [], "none", True),
        ("GET", b"HTTP/1.1 304", [CL], "none", True),
        ("GET", b"HTTP/1.1 304", [TE], "none", True),
        ("GET", b"HTTP/1.1 204", [], "none", True),
        ("GET", b"HTTP/1.1 204", [b"Content-Length: 0"], "none", True),
        ("GET", b"HTTP/1.1 204", [CL], "none", False),  # whoever announces a body there may send it
        ("GET", b"HTTP/1.1 204", [TE], "none", False),
        ("GET", b"HTTP/1.1 100", [], "none", True),
        ("GET", b"HTTP/1.1 103", [b"Link: x"], "none", True),
        ("GET", b"HTTP/1.1 101", [b"Upgrade: x", b"Connection: upgrade"], "tunnel", False),
        ("GET", b"HTTP/1.1 101", [CL], "tunnel", False),
        ("CONNECT", b"HTTP/1.1 200", [], "tunnel", False),  # 2
        ("CONNECT", b"HTTP/1.1 299", [CL], "tunnel", False),
        ("CONNECT", b"HTTP/1.1 405", [CL], "length", True),
        ("GET", b"HTTP/1.1 200", [TE], "chunked", True),  # 4
        ("GET", b"HTTP/1.1 200", [CL], "length", True),  # 6
        ("GET", b"HTTP/1.1 200", [b"Content-Length: 0"], "length", True),
        ("POST", b"HTTP/1.1 500", [], "close", False),  # 8
        ("GET", b"HTTP/1.1 200", [b"Connection: keep-alive"], "close", False),
        ("GET", b"HTTP/1.0 200", [CL], "length", False),
        ("GET", b"HTTP/1.0 200", [CL, b"Connection: keep-alive"], "length", True),
        ("GET", b"HTTP/1.0 200", [], "close", False),
        ("GET", b"HTTP/1.1 200", [CL, b"Connection: close"], "length", False),
        ("GET", b"HTTP/1.1 200", [CL, b"Connection: keep-alive, Close"], "length", False),
        ("", b"HTTP/1.1 200", [CL], "length", True),
    ],
)
def test_framing(method: str, line: bytes, fields: list[bytes], framing: str, keep: bool) -> None:
    said = _probe.parse_response(head(*fields, line=line + b" x"), method)
    assert said["framing"] == framing
    assert ("keep-alive" in said["flags"]) == keep
    assert ("length" in said["flags"]) == any(field.startswith(b"Content-Length") for field in fields)
    assert said["content_length"] == (5 if CL in fields else 0)


@pytest.mark.parametrize("method", ["GET", "HEAD", "CONNECT"])
@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK", b"HTTP/1.1 204 x", b"HTTP/1.1 304 x", b"HTTP/1.1 100 x"])
@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ([b"Content-Length: "], "P_LENGTH_INVALID"),  # RFC 9112 6.3 rule 5
        ([b"Content-Length: -5"], "P_LENGTH_INVALID"),
        ([b"Content-Length: 5, 5"], "P_LENGTH_INVALID"),
        ([CL, CL], "P_LENGTH_INVALID"),
        ([CL, b"Content-Length: 6"], "P_LENGTH_INVALID"),
        ([b"Content-Length: 99999999999999999999"], "P_LENGTH_INVALID"),
        ([CL, TE], "P_LENGTH_AND_CODING"),  # RFC 9112 6.3 rule 3
        ([TE, CL], "P_LENGTH_AND_CODING"),
        ([b"Transfer-Encoding: gzip"], "P_CODING_UNKNOWN"),  # rule 4
        ([b"Transfer-Encoding: chunked, chunked"], "P_CODING_UNKNOWN"),
        ([TE, TE], "P_CODING_UNKNOWN"),
        ([b"X : y"], "P_FIELD_NAME"),  # RFC 9112 5.1
        ([b"X: y", b" z"], "P_OBS_FOLD"),  # RFC 9112 5.2
        ([b"X: \0"], "P_FIELD_VALUE"),  # RFC 9110 5.5
        ([b"X: a\rb"], "P_BARE_CR"),
        ([b"X: a\nY: b"], "P_BARE_LF"),
        ([b": a"], "P_FIELD_NAME"),
    ],
)
def test_refused_heads(method: str, line: bytes, fields: list[bytes], fault: str) -> None:
    assert _probe.parse_response(head(*fields, line=line), method) == fault


def test_chunked_from_http_1_0_is_refused() -> None:
    # RFC 9112 6.1
    assert _probe.parse_response(head(TE, line=b"HTTP/1.0 200 OK")) == "P_CODING_OLD_VERSION"


def test_flags() -> None:
    assert "sets-cookie" in _probe.parse_response(head(b"Set-Cookie: a=b"))["flags"]
    assert "nominates" in _probe.parse_response(head(b"Connection: X-A"))["flags"]
    switch = _probe.parse_response(
        head(b"Connection: Upgrade", b"Upgrade: websocket", line=b"HTTP/1.1 101 Switching Protocols")
    )
    assert switch["flags"] == {"upgrade", "websocket"}


def test_host_means_nothing_in_a_response() -> None:
    said = _probe.parse_response(head(b"Host: a b", b"Host: c"))
    assert said["host"] == b""


def test_drips_give_the_length() -> None:
    data = head(*(b"X-%d: %s" % (i, b"v" * 1000) for i in range(60)))
    assert _probe.drip(data, True) == (len(data), len(data))

"""Request heads: what is taken, what it then says, and what is refused, each with the paragraph that says so."""

import pytest

from tests import _probe

NUL = b"\0"


def head(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes | None = b"Host: a.test") -> bytes:
    """A request head from whole lines; pass host=None for one without Host."""
    lines = [line, *([host] if host is not None else []), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def refused(cases: list[tuple[str, bytes, str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("data", "fault"), [pytest.param(data, fault, id=f"{name} ({cite})") for name, data, fault, cite in cases]
    )


# -- the request line -----------------------------------------------------------------------------------------

LINES = [
    ("http/0.9", b"GET /\r\n\r\n", "P_REQ_LINE", "RFC 9112 2.3"),
    ("http/0.9 with space", b"GET / \r\n\r\n", "P_REQ_LINE", "RFC 9112 3"),
    ("no target", b"GET HTTP/1.1\r\n\r\n", "P_REQ_LINE", "RFC 9112 3.2"),
    ("method alone", b"GET\r\n\r\n", "P_REQ_LINE", "RFC 9112 3"),
    ("two spaces before target", head(line=b"GET  / HTTP/1.1"), "P_REQ_LINE", "RFC 9112 3"),
    ("two spaces before version", head(line=b"GET /  HTTP/1.1"), "P_REQ_LINE", "RFC 9112 3"),
    ("tab as separator", head(line=b"GET\t/ HTTP/1.1"), "P_METHOD", "RFC 9112 3"),
    ("tab before version", head(line=b"GET /\tHTTP/1.1"), "P_TARGET", "RFC 9112 3"),
    ("leading space", head(line=b" GET / HTTP/1.1"), "P_REQ_LINE", "RFC 9112 3"),
    ("leading tab", head(line=b"\tGET / HTTP/1.1"), "P_METHOD", "RFC 9112 3"),
    ("two empty lines before", b"\r\n\r\n" + head(), "P_REQ_LINE", "RFC 9112 2.2"),
    ("bare LF before", b"\n" + head(), "P_BARE_LF", "RFC 9112 2.2"),
    ("bare CR before", b"\r" + head(), "P_REQ_LINE", "RFC 9112 2.2"),
    ("trailing space", head(line=b"GET / HTTP/1.1 "), "P_REQ_LINE", "RFC 9112 3"),
    ("bare LF ends it", b"GET / HTTP/1.1\nHost: a.test\r\n\r\n", "P_BARE_LF", "RFC 9112 2.2"),
    ("CR CR LF ends it", b"GET / HTTP/1.1\r\r\nHost: a.test\r\n\r\n", "P_BARE_CR", "RFC 9112 2.2"),
    ("method with colon", head(line=b"GE:T / HTTP/1.1"), "P_METHOD", "RFC 9110 9.1"),
    ("method with NUL", head(line=b"GE\0T / HTTP/1.1"), "P_METHOD", "RFC 9110 9.1"),
    ("method with obs-text", head(line=b"G\xc3\x89T / HTTP/1.1"), "P_METHOD", "RFC 9110 9.1"),
    ("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "P_METHOD", "RFC 9110 9.1"),
    ("method too long", head(line=b"A" * 65 + b" / HTTP/1.1"), "P_METHOD", "RFC 9112 3"),
    ("lower-case version", head(line=b"GET / http/1.1"), "P_REQ_LINE", "RFC 9112 2.3"),
    ("no slash in version", head(line=b"GET / HTTP1.1"), "P_REQ_LINE", "RFC 9112 2.3"),
    ("two-digit minor", head(line=b"GET / HTTP/1.10"), "P_REQ_LINE", "RFC 9112 2.3"),
    ("no minor", head(line=b"GET / HTTP/1"), "P_REQ_LINE", "RFC 9112 2.3"),
    ("comma in version", head(line=b"GET / HTTP/1,1"), "P_REQ_LINE", "RFC 9112 2.3"),
    ("signed version", head(line=b"GET / HTTP/+1.1"), "P_REQ_LINE", "RFC 9112 2.3"),
    ("other protocol", head(line=b"GET / ICY/1.1"), "P_REQ_LINE", "RFC 9112 2.3"),
    ("HTTP/2.0 in text", head(line=b"GET / HTTP/2.0"), "P_VERSION", "RFC 9112 2.3"),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "P_TARGET", "RFC 9113 3.4"),
    ("HTTP/0.9 in text", head(line=b"GET / HTTP/0.9"), "P_VERSION", "RFC 9112 2.3"),
    ("HTTP/1.2", head(line=b"GET / HTTP/1.2"), "P_VERSION", "RFC 9112 2.3"),
    ("HTTP/9.1", head(line=b"GET / HTTP/9.1"), "P_VERSION", "RFC 9112 2.3"),
]


@refused(LINES)
def test_refused_request_lines(data: bytes, fault: str) -> None:
    assert _probe.parse_request(data) == fault


TARGETS = [
    ("fragment", b"GET /a#b", "P_TARGET", "RFC 9112 3.2"),
    ("NUL", b"GET /a\0b", "P_TARGET", "RFC 9112 3.2"),
    ("control", b"GET /a\x01b", "P_TARGET", "RFC 9112 3.2"),
    ("DEL", b"GET /a\x7fb", "P_TARGET", "RFC 9112 3.2"),
    ("space", b"GET /a b", "P_REQ_LINE", "RFC 9112 3.2"),
    ("CR", b"GET /a\rb", "P_REQ_LINE", "RFC 9112 2.2"),
    ("relative", b"GET a/b", "P_TARGET", "RFC 9112 3.2"),
    ("query only", b"GET ?a", "P_TARGET", "RFC 9112 3.2"),
    ("asterisk for GET", b"GET *", "P_TARGET", "RFC 9112 3.2.4"),
    ("asterisk and more", b"OPTIONS */", "P_TARGET", "RFC 9112 3.2.4"),
    ("authority for GET", b"GET a.test:80", "P_TARGET", "RFC 9112 3.2.3"),
    ("origin for CONNECT", b"CONNECT /", "P_TARGET", "RFC 9112 3.2.3"),
    ("absolute for CONNECT", b"CONNECT http://a.test/", "P_TARGET", "RFC 9112 3.2.3"),
    ("CONNECT without port", b"CONNECT a.test", "P_TARGET", "RFC 9112 3.2.3"),
    ("CONNECT with empty port", b"CONNECT a.test:", "P_TARGET", "RFC 9112 3.2.3"),
    ("CONNECT without host", b"CONNECT :443", "P_TARGET", "RFC 9112 3.2.3"),
    ("other scheme", b"GET ftp://a.test/", "P_TARGET", "RFC 9110 4.2"),
    ("scheme only", b"GET http://", "P_TARGET", "RFC 9110 4.2.1"),
    ("scheme with one slash", b"GET http:/a.test/", "P_TARGET", "RFC 9110 4.2.1"),
    ("empty authority", b"GET http:///x", "P_TARGET", "RFC 9110 4.2.1"),
    ("authority is a port", b"GET http://:80/", "P_TARGET", "RFC 9110 4.2.1"),
    ("userinfo", b"GET http://u@a.test/", "P_TARGET", "RFC 9110 4.2.4"),
    ("userinfo with password", b"GET http://u:p@a.test/", "P_TARGET", "RFC 9110 4.2.4"),
    ("backslash authority", b"GET http:\\\\a.test/", "P_TARGET", "RFC 3986 3.2"),
    ("backslash in authority", b"GET http://a.test\\b/", "P_TARGET", "RFC 3986 3.2"),
    ("port too large", b"GET http://a.test:65536/", "P_TARGET", "RFC 3986 3.2.3"),
]


@refused(TARGETS)
def test_refused_targets(data: bytes, fault: str) -> None:
    assert _probe.parse_request(head(line=data + b" HTTP/1.1")) == fault


@pytest.mark.parametrize(
    ("line", "target", "path", "host", "absolute"),
    [
        (b"GET /", b"/", b"/", b"a.test", False),
        (b"GET /a/b?c=d?e", b"/a/b?c=d?e", b"/a/b", b"a.test", False),
        (b"GET /?", b"/?", b"/", b"a.test", False),
        (b"GET //a//../b", b"//a//../b", b"//a//../b", b"a.test", False),
        (b"GET /%2f%00%zz", b"/%2f%00%zz", b"/%2f%00%zz", b"a.test", False),
        (b'GET /"<>\\^`{|}', b'/"<>\\^`{|}', b'/"<>\\^`{|}', b"a.test", False),
        (b"GET /\xc3\xbc", b"/\xc3\xbc", b"/\xc3\xbc", b"a.test", False),  # gorouter: raw octets pass
        (b"OPTIONS *", b"*", b"*", b"a.test", False),
        (b"CONNECT b.test:443", b"b.test:443", b"", b"b.test:443", False),
        (b"GET http://b.test/x?y", b"http://b.test/x?y", b"/x", b"b.test", True),
        (b"GET HTTP://B.test:81/x", b"HTTP://B.test:81/x", b"/x", b"B.test:81", True),
        (b"GET https://b.test", b"https://b.test", b"/", b"b.test", True),
        (b"GET https://b.test?q", b"https://b.test?q", b"/", b"b.test", True),
        (b"GET http://[::1]:80/x", b"http://[::1]:80/x", b"/x", b"[::1]:80", True),
    ],
)
def test_target_forms(line: bytes, target: bytes, path: bytes, host: bytes, absolute: bool) -> None:
    said = _probe.parse_request(head(line=line + b" HTTP/1.1"))
    assert isinstance(said, dict)
    assert (said["target"], said["path"], said["host"]) == (target, path, host)
    assert ("absolute" in said["flags"]) == absolute


def test_target_of_maximal_length_and_one_more() -> None:
    most = _probe.LIMITS["TARGET_MAX"]
    assert _probe.parse_request(head(line=b"GET /" + b"a" * (most - 1) + b" HTTP/1.1"))["path"] == b"/" + b"a" * (
        most - 1
    )
    assert _probe.parse_request(head(line=b"GET /" + b"a" * most + b" HTTP/1.1")) == "P_TARGET_TOO_LONG"
    # Known before the line ends, also when it arrives in drips.
    unfinished = b"GET /" + b"a" * (most + 200)
    assert _probe.parse_request(unfinished) == "P_TARGET_TOO_LONG"
    assert _probe.parse_request(unfinished, cuts=range(1, len(unfinished), 997)) == "P_TARGET_TOO_LONG"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "POST", "PUT", "DELETE", "PATCH"])
def test_methods(method: str) -> None:
    said = _probe.parse_request(head(line=method.encode() + b" / HTTP/1.1"))
    assert said["method_id"] == method
    assert ("idempotent" in said["flags"]) == (method in ("GET", "HEAD", "OPTIONS", "TRACE"))


@pytest.mark.parametrize("method", [b"get", b"Get", b"GETS", b"PROPFIND", b"!#$%&'*+-.^_`|~9", b"X" * 64])
def test_methods_nobody_knows_pass(method: bytes) -> None:
    said = _probe.parse_request(head(line=method + b" / HTTP/1.1"))
    assert (said["method"], said["method_id"]) == (method, "")
    assert "idempotent" not in said["flags"]


def test_one_empty_line_before_is_skipped() -> None:
    plain = _probe.parse_request(head())
    said = _probe.parse_request(b"\r\n" + head())
    assert said.pop("length") == plain.pop("length") + 2
    assert said == plain


# -- field lines ----------------------------------------------------------------------------------------------

FIELDS = [
    ("space before colon", head(b"X : y"), "P_FIELD_NAME", "RFC 9112 5.1"),
    ("tab before colon", head(b"X\t: y"), "P_FIELD_NAME", "RFC 9112 5.1"),
    ("space in name", head(b"X Y: z"), "P_FIELD_NAME", "RFC 9110 5.1"),
    ("empty name", head(b": y"), "P_FIELD_NAME", "RFC 9110 5.1"),
    ("no colon", head(b"XY"), "P_FIELD_NAME", "RFC 9112 5"),
    ("no colon, space", head(b"X Y"), "P_FIELD_NAME", "RFC 9112 5"),
    ("NUL in name", head(b"X\0: y"), "P_FIELD_NAME", "RFC 9110 5.1"),
    ("obs-text in name", head(b"X\xff: y"), "P_FIELD_NAME", "RFC 9110 5.1"),
    ("bracket in name", head(b"X[1]: y"), "P_FIELD_NAME", "RFC 9110 5.1"),
    ("quote in name", head(b'"X": y'), "P_FIELD_NAME", "RFC 9110 5.1"),
    ("name over 65535", head(b"A" * 65536 + b": y"), "P_FIELD_NAME", "RFC 9112 5"),
    ("folded line", head(b"X: y", b" z"), "P_OBS_FOLD", "RFC 9112 5.2"),
    ("folded by tab", head(b"X: y", b"\tz"), "P_OBS_FOLD", "RFC 9112 5.2"),
    ("white space before the first", head(host=b" Host: a.test"), "P_OBS_FOLD", "RFC 9112 2.2"),
    ("line of white space", head(b"X: y", b" "), "P_OBS_FOLD", "RFC 9112 5.2"),
    ("NUL in value", head(b"X: y\0z"), "P_FIELD_VALUE", "RFC 9110 5.5"),
    ("control in value", head(b"X: y\x01z"), "P_FIELD_VALUE", "RFC 9110 5.5"),
    ("escape in value", head(b"X: " + b"y" * 40 + b"\x1b"), "P_FIELD_VALUE", "RFC 9110 5.5"),
    ("vertical tab after name", head(b"X:\x0by"), "P_FIELD_VALUE", "RFC 9110 5.5"),
    ("DEL in value", head(b"X: y\x7f"), "P_FIELD_VALUE", "RFC 9110 5.5"),
    ("bare LF ends a line", head(b"X: y\nZ: 1"), "P_BARE_LF", "RFC 9112 2.2"),
    ("bare LF ends a long line", head(b"X: " + b"y" * 100 + b"\nZ: 1"), "P_BARE_LF", "RFC 9112 2.2"),
    ("bare CR in value", head(b"X: y\rz"), "P_BARE_CR", "RFC 9112 2.2"),
    ("CR CR LF", head(b"X: y\r"), "P_BARE_CR", "RFC 9112 2.2"),
    ("bare LF ends the head", b"GET / HTTP/1.1\r\nHost: a.test\r\n\n", "P_BARE_LF", "RFC 9112 2.2"),
    ("CR then something ends the head", b"GET / HTTP/1.1\r\nHost: a.test\r\n\rX", "P_BARE_CR", "RFC 9112 2.2"),
    ("CR in name", head(b"X\rY: z"), "P_FIELD_NAME", "RFC 9112 2.2"),
]


@refused(FIELDS)
def test_refused_fields(data: bytes, fault: str) -> None:
    assert _probe.parse_request(data) == fault


def test_fields_are_told_as_received() -> None:
    lines = [
        b"Host: a.test",
        b"X-Mixed-Case:no space",
        b"x-lower:   \t both  ends \t ",
        b"Empty:",
        b"Blank:  \t",
        b"Obs: \xff\x80",
        b"!#$%&'*+-.^_`|~09azAZ: token",
        b"Tab: a\tb",
        b"Colons: a:b::c",
        b"X-Mixed-Case: again",
    ]
    said = _probe.parse_request(head(*lines, host=None))
    assert [field[:2] for field in said["fields"]] == [
        (b"Host", b"a.test"),
        (b"X-Mixed-Case", b"no space"),
        (b"x-lower", b"both  ends"),
        (b"Empty", b""),
        (b"Blank", b""),
        (b"Obs", b"\xff\x80"),
        (b"!#$%&'*+-.^_`|~09azAZ", b"token"),
        (b"Tab", b"a\tb"),
        (b"Colons", b"a:b::c"),
        (b"X-Mixed-Case", b"again"),
    ]
    assert said["lines"] == [line + b"\r\n" for line in lines]


@pytest.mark.parametrize("n", [*range(0, 70), 255, 4096])
def test_values_of_every_length_near_the_vector_size(n: int) -> None:
    value = bytes(33 + i % 90 for i in range(n))
    said = _probe.parse_request(head(b"X: " + value))
    assert said["fields"][1][1] == value
    for at in {0, n // 2, n - 1} if n else set():
        broken = value[:at] + b"\x02" + value[at + 1 :]
        assert _probe.parse_request(head(b"X: " + broken)) == "P_FIELD_VALUE"


@pytest.mark.parametrize("octet", range(256))
def test_every_octet_in_every_place(octet: int) -> None:
    byte = bytes([octet])
    token = octet in b"!#$%&'*+-.^_`|~" or (byte.isalnum() and octet < 128)
    value = octet == 9 or (octet >= 32 and octet != 127)
    assert (type(_probe.parse_request(head(b"a" + byte + b"b: v"))) is dict) == (token or byte == b":")
    assert (type(_probe.parse_request(head(b"a: b" + byte + b"c"))) is dict) == value
    assert (type(_probe.parse_request(head(line=b"G" + byte + b"T / HTTP/1.1"))) is dict) == token
    in_target = octet > 32 and octet != 127 and byte != b"#"
    assert (type(_probe.parse_request(head(line=b"GET /" + byte + b" HTTP/1.1"))) is dict) == in_target


def test_more_fields_than_room_then_with_room() -> None:
    data = head(*(b"X-%d: y" % i for i in range(100)))
    assert _probe.parse_request(data, cap=100) == "P_TOO_MANY_FIELDS"
    whole = _probe.parse_request(data, cap=101)
    assert len(whole["fields"]) == 101
    # What a caller does: a larger index and the same *scanned, whole or in pieces.
    assert _probe.parse_request_growing(data, (), [48, 101]) == whole
    assert _probe.parse_request_growing(data, (5, 300, 700, len(data) - 1), [8, 48, 4096]) == whole
    assert _probe.parse_request_growing(data, (), [8, 48]) == "P_TOO_MANY_FIELDS"


# -- Host -----------------------------------------------------------------------------------------------------

HOSTS = [
    ("missing", head(host=None), "P_HOST_MISSING", "RFC 9112 3.2"),
    ("missing, absolute form", head(host=None, line=b"GET http://a.test/ HTTP/1.1"), "P_HOST_MISSING", "RFC 9112 3.2"),
    ("twice", head(b"Host: b.test"), "P_HOST_DUPLICATE", "RFC 9112 3.2"),
    ("twice the same", head(b"host: a.test"), "P_HOST_DUPLICATE", "RFC 9112 3.2"),
    ("twice in 1.0", head(b"Host: a.test", line=b"GET / HTTP/1.0"), "P_HOST_DUPLICATE", "RFC 9112 3.2"),
    (
        "bad beside absolute form",
        head(host=b"Host: a b", line=b"GET http://a/ HTTP/1.1"),
        "P_HOST_INVALID",
        "RFC 9112 3.2",
    ),
]


@refused(HOSTS)
def test_refused_hosts(data: bytes, fault: str) -> None:
    assert _probe.parse_request(data) == fault


@pytest.mark.parametrize(
    "value",
    [
        *(b"a b", b"a, b", b"a/b", b"a?b", b"a#b", b"u@a", b"a\\b", b"a%", b"a%2", b"a%zz", b'a"b', b"a\xc3\xbcb"),
        *(b"a:80:80", b"a:8o", b"a:-1", b"a:65536", b"a:000080", b":80", b"<a>", b"a^b", b"a|b", b"a`b", b"{a}"),
        *(b"[::1", b"::1", b"[::1]x", b"[]", b"[::1%25eth0]", b"[g::1]", b"[1]", b"a[::1]", b"a]"),
    ],
)
def test_bad_host_values(value: bytes) -> None:
    # RFC 3986 3.2.2 and 3.2.3
    assert not _probe.check_host(value)
    assert _probe.parse_request(head(host=b"Host: " + value)) == "P_HOST_INVALID"


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"a", b"A.Test", b"a.test:80", b"a.test:", b"a.test:0", b"a.test:65535", b"a_b.test", b"*.test", b"a."),
        *(b"127.0.0.1:8080", b"[::1]", b"[::1]:80", b"[2001:DB8::ffff:1.2.3.4]", b"a%2Db", b"xn--bcher-kva.test"),
        *(b"a;b", b"a,b", b"!$&'()*+,;=-._~"),
    ],
)
def test_good_host_values(value: bytes) -> None:
    said = _probe.parse_request(head(host=b"Host:  " + value + b" "))
    assert said["host"] == value
    assert said["first"]["host"] == 0


def test_http_1_0_needs_no_host() -> None:
    said = _probe.parse_request(head(line=b"GET / HTTP/1.0", host=None))
    assert (said["host"], said["minor"], said["flags"]) == (b"", 0, {"idempotent"})


# -- the length of the body -----------------------------------------------------------------------------------

LENGTHS = [
    ("empty", [b"Content-Length:"], "P_LENGTH_INVALID", "RFC 9110 8.6"),
    ("plus", [b"Content-Length: +1"], "P_LENGTH_INVALID", "RFC 9110 8.6"),
    ("minus", [b"Content-Length: -1"], "P_LENGTH_INVALID", "RFC 9110 8.6"),
    ("hex", [b"Content-Length: 0x1"], "P_LENGTH_INVALID", "RFC 9110 8.6"),
    ("fraction", [b"Content-Length: 1.0"], "P_LENGTH_INVALID", "RFC 9110 8.6"),
    ("inner space", [b"Content-Length: 1 0"], "P_LENGTH_INVALID", "RFC 9110 8.6"),
    ("underscore", [b"Content-Length: 1_0"], "P_LENGTH_INVALID", "RFC 9110 8.6"),
    ("list", [b"Content-Length: 1, 1"], "P_LENGTH_INVALID", "RFC 9112 6.3"),
    ("list of one", [b"Content-Length: 1,"], "P_LENGTH_INVALID", "RFC 9112 6.3"),
    ("twice the same", [b"Content-Length: 1", b"Content-Length: 1"], "P_LENGTH_INVALID", "RFC 9112 6.3"),
    ("twice", [b"Content-Length: 1", b"content-length: 2"], "P_LENGTH_INVALID", "RFC 9112 6.3"),
    ("second one empty", [b"Content-Length: 1", b"Content-Length:"], "P_LENGTH_INVALID", "RFC 9112 6.3"),
    ("2^63", [b"Content-Length: 9223372036854775808"], "P_LENGTH_INVALID", "RFC 9110 8.6"),
    ("2^64", [b"Content-Length: 18446744073709551616"], "P_LENGTH_INVALID", "RFC 9110 8.6"),
    ("2^64 + 5", [b"Content-Length: 18446744073709551621"], "P_LENGTH_INVALID", "RFC 9110 8.6"),
    ("twenty zeros", [b"Content-Length: " + b"0" * 20], "P_LENGTH_INVALID", "RFC 9110 8.6"),
    ("length and coding", [b"Content-Length: 1", b"Transfer-Encoding: chunked"], "P_LENGTH_AND_CODING", "RFC 9112 6.1"),
    ("coding and length", [b"Transfer-Encoding: chunked", b"Content-Length: 1"], "P_LENGTH_AND_CODING", "RFC 9112 6.1"),
    (
        "length 0 and coding",
        [b"Content-Length: 0", b"Transfer-Encoding: chunked"],
        "P_LENGTH_AND_CODING",
        "RFC 9112 6.1",
    ),
    ("empty coding", [b"Transfer-Encoding:"], "P_CODING_UNKNOWN", "RFC 9112 6.1"),
    ("identity", [b"Transfer-Encoding: identity"], "P_CODING_UNKNOWN", "RFC 9112 7"),
    ("gzip", [b"Transfer-Encoding: gzip"], "P_CODING_UNKNOWN", "RFC 9112 6.1"),
    ("gzip, chunked", [b"Transfer-Encoding: gzip, chunked"], "P_CODING_UNKNOWN", "RFC 9112 6.1"),
    ("chunked, gzip", [b"Transfer-Encoding: chunked, gzip"], "P_CODING_UNKNOWN", "RFC 9112 6.3"),
    ("chunked twice", [b"Transfer-Encoding: chunked, chunked"], "P_CODING_UNKNOWN", "RFC 9112 6.1"),
    ("two lines", [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], "P_CODING_UNKNOWN", "RFC 9112 6.1"),
    (
        "second line",
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
        "P_CODING_UNKNOWN",
        "RFC 9112 6.1",
    ),
    ("trailing comma", [b"Transfer-Encoding: chunked,"], "P_CODING_UNKNOWN", "RFC 9112 6.1"),
    ("parameter", [b"Transfer-Encoding: chunked;q=1"], "P_CODING_UNKNOWN", "RFC 9112 7"),
    ("quoted", [b'Transfer-Encoding: "chunked"'], "P_CODING_UNKNOWN", "RFC 9112 7"),
    ("prefix", [b"Transfer-Encoding: xchunked"], "P_CODING_UNKNOWN", "RFC 9112 7"),
    ("suffix", [b"Transfer-Encoding: chunkedx"], "P_CODING_UNKNOWN", "RFC 9112 7"),
    ("vertical tab", [b"Transfer-Encoding: \x0bchunked"], "P_FIELD_VALUE", "RFC 9110 5.5"),
]


@pytest.mark.parametrize("line", [b"POST / HTTP/1.1", b"GET / HTTP/1.1", b"POST / HTTP/1.0"])
@pytest.mark.parametrize(("fields", "fault"), [pytest.param(f, v, id=f"{n} ({c})") for n, f, v, c in LENGTHS])
def test_refused_framing(line: bytes, fields: list[bytes], fault: str) -> None:
    assert _probe.parse_request(head(*fields, line=line)) == fault


def test_coding_in_http_1_0_is_refused() -> None:
    # RFC 9112 6.1: a transfer coding in an HTTP/1.0 message is faulty framing.
    data = head(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0")
    assert _probe.parse_request(data) == "P_CODING_OLD_VERSION"


@pytest.mark.parametrize(
    ("fields", "framing", "length"),
    [
        ([], "none", 0),
        ([b"Content-Length: 0"], "length", 0),
        ([b"CONTENT-LENGTH:12"], "length", 12),
        ([b"Content-Length: 0012"], "length", 12),
        ([b"Content-Length: 9223372036854775807"], "length", 2**63 - 1),
        ([b"Transfer-Encoding: chunked"], "chunked", 0),
        ([b"transfer-encoding:\tCHUNKED "], "chunked", 0),
        ([b"Content_Length: 5"], "none", 0),
        ([b"X-Transfer-Encoding: chunked"], "none", 0),
    ],
)
def test_framing(fields: list[bytes], framing: str, length: int) -> None:
    for method in (b"POST", b"GET"):
        said = _probe.parse_request(head(*fields, line=method + b" / HTTP/1.1"))
        assert (said["framing"], said["content_length"]) == (framing, length)
        assert ("length" in said["flags"]) == (framing == "length")


# -- flags ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minor", "fields", "flags"),
    [
        (1, [], {"keep-alive"}),
        (1, [b"Connection: close"], set()),
        (1, [b"Connection: Close"], set()),
        (1, [b"Connection: keep-alive, close"], set()),
        (1, [b"Connection: close", b"Connection: keep-alive"], set()),
        (1, [b"Connection: foo,, bar"], {"keep-alive", "nominates"}),
        (1, [b"Connection: closed"], {"keep-alive", "nominates"}),
        (1, [b"Connection: TE", b"TE: trailers"], {"keep-alive", "te-trailers"}),
        (1, [b"TE: gzip;q=0.5 , Trailers ;q=1"], {"keep-alive", "te-trailers"}),
        (1, [b"TE: xtrailers"], {"keep-alive"}),
        (0, [], set()),
        (0, [b"Connection: Keep-Alive"], {"keep-alive"}),
        (0, [b"Connection: keep-alive, close"], set()),
        (1, [b"Connection: Upgrade", b"Upgrade: WebSocket"], {"keep-alive", "upgrade", "websocket"}),
        (1, [b"Upgrade: websocket", b"Connection: keep-alive, upgrade"], {"keep-alive", "upgrade", "websocket"}),
        (1, [b"Connection: Upgrade", b"Upgrade: h2c"], {"keep-alive", "upgrade"}),
        (1, [b"Connection: Upgrade", b"Upgrade: websocket, h2c"], {"keep-alive", "upgrade"}),
        (1, [b"Connection: Upgrade", b"Upgrade: websocket", b"Upgrade: h2c"], {"keep-alive", "upgrade"}),
        (1, [b"Connection: Upgrade", b"Upgrade: h2c", b"Upgrade: websocket"], {"keep-alive", "upgrade"}),
        (1, [b"Connection: Upgrade", b"Upgrade:"], {"keep-alive"}),
        (1, [b"Connection: Upgrade"], {"keep-alive"}),
        (1, [b"Upgrade: websocket"], {"keep-alive"}),
        (0, [b"Connection: Upgrade", b"Upgrade: websocket"], set()),
        (1, [b"Expect: 100-continue"], {"keep-alive", "expect-100"}),
        (1, [b"Expect: 100-Continue"], {"keep-alive", "expect-100"}),
        (0, [b"Expect: 100-continue"], set()),
        (1, [b"Expect: 200-ok"], {"keep-alive", "expect-other"}),
        (1, [b"Expect: 100-continue, x"], {"keep-alive", "expect-100", "expect-other"}),
        (1, [b"Expect: 100-continue=1"], {"keep-alive", "expect-other"}),
        (1, [b"Expect:"], {"keep-alive"}),
        (1, [b"Cookie: a=b"], {"keep-alive", "cookie"}),
        (1, [b"Idempotency-Key: 1"], {"keep-alive", "idempotent"}),
        (1, [b"x-idempotency-key: 1"], {"keep-alive", "idempotent"}),
    ],
)
def test_flags(minor: int, fields: list[bytes], flags: set[str]) -> None:
    said = _probe.parse_request(head(*fields, line=b"POST / HTTP/1.%d" % minor))
    assert said["flags"] == flags
    assert said["stray_flags"] == 0


def test_fields_named_in_connection() -> None:
    data = head(b"Connection: close, X-One ,,", b"X-One: 1", b"connection: x-TWO")
    for name, wanted in [(b"x-one", True), (b"X-TWO", True), (b"X-", False), (b"X-One ", False), (b"", True)]:
        if name:
            assert _probe.nominated(data, name) == wanted, name
    assert not _probe.nominated(head(), b"close")


def test_connection_has_a_bound() -> None:
    # Each field is looked for in it: without a bound a head of 1 MiB would cost seconds.
    most = _probe.LIMITS["CONNECTION_BYTES_MAX"]
    assert "nominates" in _probe.parse_request(head(b"Connection: " + b"x," * (most // 2)))["flags"]
    assert _probe.parse_request(head(b"Connection: " + b"x" * (most + 1))) == "P_CONNECTION_TOO_LONG"
    parts = [b"Connection: " + b"x" * (most // 2)] * 2
    assert isinstance(_probe.parse_request(head(*parts)), dict)
    assert _probe.parse_request(head(*parts, b"Connection: x")) == "P_CONNECTION_TOO_LONG"


# -- in pieces ------------------------------------------------------------------------------------------------

SAMPLES = [
    head(),
    b"\r\n" + head(b"Accept: */*", b"Cookie: a=b; c=d"),
    head(b"Content-Length: 5", b"Connection: close", line=b"POST http://a.test:80/x?y HTTP/1.1"),
    head(b"Transfer-Encoding: chunked", b"X-Long: " + b"v" * 60, line=b"PUT /u HTTP/1.1"),
    head(line=b"GET / HTTP/1.0", host=None),
]


@pytest.mark.parametrize("data", SAMPLES)
def test_every_cut_gives_the_same(data: bytes) -> None:
    whole = _probe.parse_request(data)
    assert isinstance(whole, dict)
    for cut in range(len(data)):
        assert _probe.parse_request(data, cuts=(cut,)) == whole
        assert _probe.parse_request(data[:cut]) == "PARTIAL"
    assert _probe.parse_request(data, cuts=range(len(data))) == whole
    # What follows the head is not looked at.
    more = _probe.parse_request(data + b"\0\xff\n\r rest")
    assert more == whole


@pytest.mark.parametrize(
    ("data", "fault"), [case[1:3] for case in (*LINES, *FIELDS, *HOSTS) if len(case[1]) < 2000], ids=lambda _: ""
)
def test_every_cut_refuses_the_same(data: bytes, fault: str) -> None:
    for cut in range(len(data)):
        early = _probe.parse_request(data[:cut])
        assert early in ("PARTIAL", fault)
        # Without the end of a head there may be nothing to wait for but the time-out; with it there is a verdict.
        if b"\r\n\r\n" in data[2:] or b"\n\n" in data:
            assert _probe.parse_request(data, cuts=(cut,)) == fault
            assert _probe.parse_request(data, cuts=(cut // 2, cut)) == fault


def test_a_bad_start_line_is_refused_when_it_is_complete() -> None:
    data = b"GET / HTTP/3.3\r\n"
    for cut in range(1, len(data)):
        assert _probe.parse_request(data, cuts=(cut,)) == "P_VERSION"


def test_drips_give_the_length() -> None:
    data = head(*(b"X-%d: %s" % (i, b"v" * 1000) for i in range(60)))
    assert _probe.drip(data) == (len(data), len(data))

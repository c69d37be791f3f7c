"""Hypothesis strategies for streams of requests and responses: mostly well-formed, with one oddity here and there."""

from hypothesis import strategies as st

CRLF = b"\r\n"


def rarely(usual: st.SearchStrategy[bytes], odd: list[bytes]) -> st.SearchStrategy[bytes]:
    """Usually the one, in about one case of twelve one of the odd ones."""
    return st.integers(0, 11).flatmap(lambda n: st.sampled_from(odd) if n == 11 else usual)


TOKENS = st.text("abcdefgXYZ0159-_!#.", min_size=1, max_size=8).map(str.encode)
VALUES = st.text('abcdefXYZ019 ,;=:/"-\t\u00e9', max_size=12).map(lambda text: text.encode("latin-1"))
EOL = rarely(st.just(CRLF), [b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n", b"\r\n\r\n", b""])
SPACE = rarely(st.just(b" "), [b"", b"  ", b"\t", b"\x0b", b"\xa0", b" \t"])

METHODS = rarely(
    st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"DELETE"]),
    [b"get", b"CONNECT", b"FOO", b"", b"G T", b"G\0", b"PRI", b"G(T"],
)
TARGETS = rarely(
    st.sampled_from([b"/", b"/a?b=c", b"//x/../y", b"/%00"]),
    [b"*", b"http://b.test/x", b"https://b.test:1?y", b"b.test:80", b"/a#b", b"/\xc3\xbc", b"/\x7f", b"a", b"", b"/\0",
     b"http://u@b.test/", b"/a b", b"HTTP://B/", b"http://", b'/"<>'],
)  # fmt: skip
VERSIONS = rarely(
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"]),
    [b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.10", b"HTTP/01.1", b"HTTP/1", b"", b"HTTP/1.1 "],
)
LENGTHS = rarely(
    st.sampled_from([b"0", b"1", b"3", b"5"]),
    [
        b"",
        b"+3",
        b"-1",
        b"0x3",
        b"3, 3",
        b"3,3",
        b"03",
        b"3 ",
        b"3.0",
        b"9" * 19,
        b"1" * 20,
        b"18446744073709551619",
        b"\x0b3",
    ],
)
CODINGS = rarely(
    st.sampled_from([b"chunked", b"chunked", b"Chunked"]),
    [b"identity", b"gzip, chunked", b"chunked, gzip", b"chunked,", b",chunked", b"chunked, chunked", b"chunked;a=b",
     b"", b"xchunked", b"chunked\x0b", b'"chunked"', b"gzip"],
)  # fmt: skip
CONNECTIONS = st.sampled_from(
    [b"close", b"keep-alive", b"Close", b"keep-alive, close", b"upgrade", b"foo", b"", b"closed", b"x,close"]
)
HOSTS = rarely(
    st.sampled_from([b"a.test", b"a.test:80", b"[::1]"]), [b"", b"a b", b"a,b", b"u@a", b"a/b", b"a:b", b"\xe9"]
)

ODD_LINES = st.sampled_from(
    [b"X : y", b": y", b"X", b"X\0: y", b"X: \0", b"X: y\x01z", b" folded", b"\tfolded", b"X\xff: y", b"X:\x7f",
     b"X y: z", b"Content-Length : 3", b"Transfer-Encoding : chunked", b"Content-Length: 3\nX: y",
     b"Transfer_Encoding: chunked",     b"X: y\rz", b"Content-Length:\x0c3",
     b"Transfer-Encoding:\tchunked", b"X: a\r\n b", b"(x): y", b"\xef\xbb\xbfX: y"]
)  # fmt: skip


def named(name: bytes, values: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    spelling = st.sampled_from([name, name.lower(), name.upper()])
    return st.tuples(spelling, st.sampled_from([b": ", b":", b": \t"]), values).map(b"".join)


HOST = named(b"Host", HOSTS)
LENGTH = named(b"Content-Length", LENGTHS)
CODING = named(b"Transfer-Encoding", CODINGS)
PLAIN = st.tuples(TOKENS, st.just(b": "), VALUES).map(b"".join)
UPGRADE = named(b"Upgrade", st.sampled_from([b"websocket", b"x", b""]))
EXPECT = named(b"Expect", st.sampled_from([b"100-continue", b"x"]))
CONNECTION = named(b"Connection", CONNECTIONS)
LINES = st.one_of(PLAIN, PLAIN, CONNECTION, rarely(PLAIN, [b"Upgrade: x", b"Expect: 100-continue"]), UPGRADE, EXPECT)


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    """A chunked body, sound or nearly so."""
    out = []
    for data in draw(st.lists(st.binary(min_size=1, max_size=6), max_size=3)):
        size = draw(
            rarely(st.just(b"%x" % len(data)), [b"", b"0x1", b"g", b"-1", b"8000000000000000", b"1" * 17, b" 1"])
        )
        extension = draw(
            rarely(
                st.just(b""),
                [b";a", b";a=b", b';a="b"', b";", b" ;a", b" ", b"; a", b";a=", b';a="\n"', b";\x01", b";a;b=c"],
            )
        )
        out.append(size + extension + draw(EOL) + data + draw(EOL))
    out.append(draw(rarely(st.just(b"0"), [b"", b"00", b"0;a", b"0 ", b"0" * 17])) + draw(EOL))
    for line in draw(
        st.lists(st.one_of(PLAIN, rarely(PLAIN, [b"Host: b", b"Content-Length: 1"]), ODD_LINES), max_size=1)
    ):
        out.append(line + draw(EOL))
    out.append(draw(EOL))
    return b"".join(out)


@st.composite
def messages(draw: st.DrawFn, start: st.SearchStrategy[bytes], required: st.SearchStrategy[bytes] | None) -> bytes:
    """One message with that start line; required is a field line that is nearly always there."""
    lines = draw(st.lists(LINES, max_size=2))
    if draw(st.integers(0, 11)) == 11:
        lines.append(draw(ODD_LINES))
    if required is not None and draw(st.integers(0, 19)) < 19:
        lines.insert(draw(st.integers(0, len(lines))), draw(required))
    if required is not None and draw(st.integers(0, 19)) == 19:
        lines.append(draw(required))
    body = b""
    kind = draw(st.sampled_from(["none", "length", "chunked", "length", "chunked", "both", "twice"]))
    if kind in ("length", "both", "twice"):
        lines.insert(draw(st.integers(0, len(lines))), draw(LENGTH))
        body = b"abcde"[: draw(st.sampled_from([0, 1, 3, 5]))]
    if kind in ("chunked", "both"):
        lines.insert(draw(st.integers(0, len(lines))), draw(CODING))
        body = draw(chunks())
    if kind == "twice":
        lines.append(draw(st.one_of(LENGTH, CODING)))
    ends = draw(EOL)
    return draw(start) + ends + b"".join(line + draw(EOL) for line in lines) + draw(EOL) + body


REQUEST_LINE = st.tuples(METHODS, SPACE, TARGETS, SPACE, VERSIONS).map(b"".join)
STATUS = rarely(
    st.sampled_from([b"200", b"404", b"204", b"304", b"500", b"100"]),
    [b"101", b"20", b"2000", b"099", b"999", b"2x0", b"-20"],
)
REASON = rarely(
    st.sampled_from([b" OK", b" ", b" Not Found"]), [b"", b" \0", b" \x01", b"\tOK", b" a\rb", b"OK", b" \xe9"]
)
STATUS_LINE = st.tuples(VERSIONS, SPACE, STATUS, REASON).map(b"".join)

# A second request behind the first shows whether a reader lost its place.
MARKER = b"GET /marker HTTP/1.1\r\nHost: marker\r\n\r\n"
REQUESTS = st.tuples(messages(REQUEST_LINE, HOST), st.sampled_from([MARKER, b"", b"\r\n" + MARKER])).map(b"".join)
RESPONSES = messages(STATUS_LINE, None)

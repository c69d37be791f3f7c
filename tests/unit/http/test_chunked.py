"""The chunked coding: bodies and trailers in any pieces, and what is refused (RFC 9112 7.1)."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import _probe

LAST = b"0\r\n\r\n"


def decode(data: bytes, **more: int) -> dict:
    return _probe.decode_chunks([data], **more)


def split(data: bytes, *cuts: int) -> list[bytes]:
    edges = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


GOOD = [
    (LAST, b"", b""),
    (b"5\r\nhello\r\n" + LAST, b"hello", b""),
    (b"5\r\nhello\r\n06\r\n world\r\n000\r\n\r\n", b"hello world", b""),
    (b"A\r\n0123456789\r\na\r\nabcdefghij\r\n" + LAST, b"0123456789abcdefghij", b""),
    (b"0000000000000001\r\nx\r\n0000000000000000\r\n\r\n", b"x", b""),
    (b'5;a\r\nhello\r\n0;b=c;d="e;\\"\t\\\\ \xff"\r\n\r\n', b"hello", b""),
    (b"2\r\n\r\n\r\n" + LAST, b"\r\n", b""),
    (b"0\r\nX-Sum: 1\r\nEmpty:\r\n\r\n", b"", b"X-Sum: 1\r\nEmpty:\r\n"),
    (b"1\r\na\r\n0\r\ngrpc-status:\t0 \r\n\r\n", b"a", b"grpc-status:\t0 \r\n"),
    (b"1;" + b"e" * 252 + b"\r\nx\r\n" + LAST, b"x", b""),
]


@pytest.mark.parametrize(("data", "body", "trailer"), GOOD)
def test_bodies_in_all_pieces(data: bytes, body: bytes, trailer: bytes) -> None:
    rest = b"GET / HTTP/1.1\r\n"
    for pieces in (
        [data],
        [data[i : i + 1] for i in range(len(data))],
        *(split(data, cut) for cut in range(len(data))),
    ):
        told = _probe.decode_chunks(pieces)
        assert (told["body"], told["trailer"], told["done"], told["fault"]) == (body, trailer, True, None)
        assert told["asked"] == bool(trailer)
    # Whatever follows stays where it is.
    assert decode(data + rest)["left"] == len(rest)


BAD = [
    ("no size", b"\r\n", "P_CHUNK_END"),
    ("no size, extension", b";a\r\n", "P_CHUNK_SIZE"),
    ("not hex", b"g\r\n", "P_CHUNK_SIZE"),
    ("prefix 0x", b"0x5\r\nhello\r\n", "P_CHUNK_SIZE"),
    ("plus", b"+5\r\nhello\r\n", "P_CHUNK_SIZE"),
    ("minus", b"-5\r\nhello\r\n", "P_CHUNK_SIZE"),
    ("underscore", b"5_\r\nhello\r\n", "P_CHUNK_SIZE"),
    ("space before", b" 5\r\nhello\r\n", "P_CHUNK_SIZE"),
    ("space behind", b"5 \r\nhello\r\n", "P_CHUNK_SIZE"),
    ("space and extension", b"5 ;a\r\nhello\r\n", "P_CHUNK_SIZE"),
    ("tab behind", b"5\t\r\nhello\r\n", "P_CHUNK_SIZE"),
    ("NUL", b"5\0\r\nhello\r\n", "P_CHUNK_SIZE"),
    ("2^63", b"8000000000000000\r\n", "P_CHUNK_SIZE"),
    ("2^64 - 1", b"ffffffffffffffff\r\n", "P_CHUNK_SIZE"),
    ("2^64 + 5", b"10000000000000005\r\n", "P_CHUNK_SIZE"),
    ("17 digits", b"00000000000000001\r\nx\r\n", "P_CHUNK_SIZE"),
    ("bare LF ends the line", b"5\nhello\r\n", "P_CHUNK_END"),
    ("bare LF behind an extension", b"5;a\nhello\r\n", "P_CHUNK_END"),
    ("bare LF behind a value", b"5;a=b\nhello\r\n", "P_CHUNK_END"),
    ("bare CR ends the line", b"5\rhello\r\n", "P_CHUNK_END"),
    ("CR CR LF", b"5\r\r\nhello\r\n", "P_CHUNK_END"),
    ("LF CR", b"5\n\rhello\r\n", "P_CHUNK_END"),
    ("empty extension", b"5;\r\nhello\r\n", "P_CHUNK_EXT"),
    ("two semicolons", b"5;;a\r\nhello\r\n", "P_CHUNK_EXT"),
    ("space before a name", b"5; a\r\nhello\r\n", "P_CHUNK_EXT"),
    ("space behind a name", b"5;a =b\r\nhello\r\n", "P_CHUNK_EXT"),
    ("empty value", b"5;a=\r\nhello\r\n", "P_CHUNK_EXT"),
    ("two values", b"5;a=b=c\r\nhello\r\n", "P_CHUNK_EXT"),
    ("control in a name", b"5;a\x01\r\nhello\r\n", "P_CHUNK_EXT"),
    ("text behind a quoted value", b'5;a="b"c\r\nhello\r\n', "P_CHUNK_EXT"),
    ("quote inside a token", b'5;a=b"c"\r\nhello\r\n', "P_CHUNK_EXT"),
    ("CR LF inside quotes", b'5;a="\r\n"\r\nhello\r\n', "P_CHUNK_END"),
    ("LF inside quotes", b'5;a="\n"\r\nhello\r\n', "P_CHUNK_END"),
    ("escaped CR LF", b'5;a="\\\r\n"\r\nhello\r\n', "P_CHUNK_END"),
    ("NUL inside quotes", b'5;a="\0"\r\nhello\r\n', "P_CHUNK_EXT"),
    ("quote left open", b'5;a="b\r\nhello\r\n', "P_CHUNK_END"),
    ("line too long", b"5;" + b"a" * 300 + b"\r\nhello\r\n", "P_CHUNK_EXT"),
    ("data longer than said", b"5\r\nhello!\r\n", "P_CHUNK_END"),
    ("data shorter than said", b"5\r\nhell\r\n0\r\n\r\n", "P_CHUNK_END"),
    ("data ended by LF", b"5\r\nhello\n0\r\n\r\n", "P_CHUNK_END"),
    ("data ended by CR", b"5\r\nhello\r0\r\n\r\n", "P_CHUNK_END"),
    ("data ended by nothing", b"5\r\nhello0\r\n\r\n", "P_CHUNK_END"),
    ("end by LF", b"0\r\n\n", "P_TRAILER"),
    ("end by CR", b"0\r\n\rX", "P_TRAILER"),
    ("trailer without colon", b"0\r\nX\r\n\r\n", "P_TRAILER"),
    ("trailer without name", b"0\r\n: y\r\n\r\n", "P_TRAILER"),
    ("trailer with space before colon", b"0\r\nX : y\r\n\r\n", "P_TRAILER"),
    ("trailer folded", b"0\r\nX: y\r\n z\r\n\r\n", "P_TRAILER"),
    ("trailer ended by LF", b"0\r\nX: y\n\r\n", "P_TRAILER"),
    ("trailer with CR", b"0\r\nX: y\rz\r\n\r\n", "P_TRAILER"),
    ("trailer with NUL", b"0\r\nX: y\0\r\n\r\n", "P_TRAILER"),
    ("trailer with control", b"0\r\nX: \x1f\r\n\r\n", "P_TRAILER"),
    ("request as trailer", b"0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "P_TRAILER"),
]


@pytest.mark.parametrize(("data", "fault"), [pytest.param(data, fault, id=name) for name, data, fault in BAD])
def test_refused_in_all_pieces(data: bytes, fault: str) -> None:
    assert decode(data)["fault"] == fault
    for cut in range(len(data)):
        assert _probe.decode_chunks(split(data, cut))["fault"] == fault
    assert _probe.decode_chunks([data[i : i + 1] for i in range(len(data))])["fault"] == fault


@pytest.mark.parametrize("row", [row for row in _probe.name_table() if row[4]], ids=lambda row: row[1].decode())
def test_names_that_may_not_trail(row: tuple) -> None:
    # RFC 9110 6.5.1
    assert decode(b"0\r\nOk: 1\r\n" + row[1].title() + b": 1\r\n\r\n")["fault"] == "P_TRAILER"


def test_largest_size() -> None:
    told = decode(b"7fffffffffffffff\r\nabc")
    assert (told["fault"], told["body"], told["done"]) == (None, b"abc", False)


def test_trailer_section_has_a_bound() -> None:
    most = _probe.LIMITS["TRAILER_BYTES_MAX"]
    line = b"X-%04d: " + b"v" * 54 + b"\r\n"
    assert len(line % 0) == 64
    full = b"".join(line % i for i in range(most // 64))
    told = decode(b"0\r\n" + full + b"\r\n")
    assert (told["done"], told["trailer"]) == (True, full)
    for pieces in ([b"0\r\n" + full + b"Y: 1\r\n\r\n"], [b"0\r\n", full, b"Y", b": 1\r\n\r\n"]):
        assert _probe.decode_chunks(pieces)["fault"] == "P_TRAILER_TOO_LONG"
    # Nor past what the caller gave.
    assert decode(b"0\r\nX: 1234\r\n\r\n", room=8)["fault"] == "P_TRAILER_TOO_LONG"
    # A line without an end is no way around it.
    assert decode(b"0\r\nX: " + b"v" * most)["fault"] == "P_TRAILER_TOO_LONG"


def test_framing_may_not_outweigh_the_data() -> None:
    # CVE-2023-39326: one octet of data in each chunk, and a long extension.
    costly = (b"1;" + b"e" * 200 + b"\r\nx\r\n") * 200
    assert decode(costly)["fault"] == "P_CHUNK_EXT"
    # Small chunks alone are fine, and so are extensions on large ones.
    assert decode(b"1\r\nx\r\n" * 20000 + LAST)["done"]
    assert decode((b"200;" + b"e" * 200 + b"\r\n" + b"x" * 512 + b"\r\n") * 2000 + LAST)["done"]


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=12), st.lists(st.integers(0, 4000), max_size=20))
def test_what_is_written_is_read(chunks: list[bytes], cuts: list[int]) -> None:
    data = (
        b"".join(_probe.write_size(len(chunk)) + chunk + b"\r\n" for chunk in chunks) + _probe.write_size(0) + b"\r\n"
    )
    told = _probe.decode_chunks(split(data, *(min(cut, len(data)) for cut in cuts)))
    assert (told["body"], told["done"], told["left"]) == (b"".join(chunks), True, 0)


@given(st.integers(0, 2**64 - 1))
def test_sizes_as_written(n: int) -> None:
    assert _probe.write_size(n) == b"%x\r\n" % n

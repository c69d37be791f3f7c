"""Our parsers against h11 and llhttp (httptools): the same messages, or a difference that stands in the tables.

Whatever we take must be the same messages to a peer: same start line, fields and body, and nothing left over that
one of us would read as another request.
"""

import pytest
from hypothesis import HealthCheck, example, given, settings

from tests.unit.http import peers, streams
from tests.unit.http.differences import ALLOWED, CHUNKED, LENIENT, OK, OK_CHUNKED, POST, READERS, compare, excused


@pytest.mark.parametrize(
    ("reader", "fault", "data"), [pytest.param(r, f, d, id=f"{r}: {f}, {why}") for r, f, why, d in LENIENT]
)
def test_the_tables_are_true(reader: str, fault: str, data: bytes) -> None:
    read_ours, read_theirs = READERS[reader]
    assert (read_ours(data).messages, read_ours(data).refused) == ([], fault)
    assert len(read_theirs(data).messages) == 1


COMMON = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.mark.parametrize("reader", ["h11 request", "llhttp request"])
@COMMON
@given(data=streams.REQUESTS)
@example(data=streams.MARKER * 2)
@example(data=POST + b"Content-Length: 5\r\n\r\nhello" + streams.MARKER)
@example(data=CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n\r\n" + streams.MARKER)
def test_requests(reader: str, data: bytes) -> None:
    compare(reader, data)


@pytest.mark.parametrize("reader", ["h11 response", "llhttp response"])
@COMMON
@given(data=streams.RESPONSES)
@example(data=OK + b"Content-Length: 5\r\n\r\nhello")
@example(data=OK_CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n\r\n")
@example(data=b"HTTP/1.1 204 No Content\r\n\r\n")
@example(data=b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n")
def test_responses(reader: str, data: bytes) -> None:
    compare(reader, data)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "CONNECT"])
@COMMON
@given(data=streams.RESPONSES)
def test_framing_by_method_as_in_h11(method: str, data: bytes) -> None:
    mine, theirs = peers.ours(data, request_method=method), peers.h11_response(data, method)
    if mine.messages and theirs.messages:
        assert mine.messages == theirs.messages
    elif mine.messages:
        assert excused("h11 response", mine.messages[0])
    elif theirs.messages:
        assert ("h11 response", mine.refused) in ALLOWED


@given(data=streams.REQUESTS)
def test_what_follows_changes_nothing(data: bytes) -> None:
    mine = peers.ours(data)
    if mine.refused or mine.stopped:
        return
    more = peers.ours(data + b"x")
    assert more.messages[: len(mine.messages)] == mine.messages

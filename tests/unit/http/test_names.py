"""Known field names: every row is found in any case, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import _probe

TABLE = _probe.name_table()
IDS = {text: number for number, text, *_ in TABLE}


@pytest.mark.parametrize(
    ("number", "text"), [row[:2] for row in TABLE], ids=lambda v: v.decode() if isinstance(v, bytes) else ""
)
def test_every_row_is_found(number: int, text: bytes) -> None:
    assert _probe.name_id(text) == number
    assert _probe.name_id(text.upper()) == number
    assert _probe.name_id(text.title()) == number
    assert _probe.name_id(text[:-1]) != number
    assert _probe.name_id(text + b"x") != number
    for i in range(len(text)):
        # The neighbour by the bit that tells cases apart is another character for '-' and the digits.
        changed = text[:i] + bytes([text[i] ^ 1]) + text[i + 1 :]
        assert _probe.name_id(changed) != number
        if not text[i : i + 1].isalpha():
            assert _probe.name_id(text[:i] + bytes([text[i] ^ 32]) + text[i + 1 :]) == 0


def test_rows_are_lower_case_and_unique() -> None:
    assert len(IDS) == len(TABLE)
    assert all(text == text.lower() for text in IDS)


@given(st.one_of(st.binary(max_size=24), st.text("abcdefghijklmnopqrstuvwxyz-", max_size=24).map(str.encode)))
def test_nothing_else_is_known(name: bytes) -> None:
    assert _probe.name_id(name) == IDS.get(name.lower(), 0)


def test_flags_of_rows_that_matter() -> None:
    rows = {text: flags for _, text, *flags in TABLE}
    hop, framing = 0, 2
    # RFC 9110 7.6.1
    for text in (b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"):
        assert rows[text][hop], text
    # RFC 9110 6.5.1
    for text in (b"host", b"content-length", b"transfer-encoding", b"trailer", b"te", b"cookie", b"authorization"):
        assert rows[text][framing], text

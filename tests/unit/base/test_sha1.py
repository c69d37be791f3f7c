"""The digest that stands for a query in the access log."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import _probe


@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    assert _probe.sha1_hex(data) == hashlib.sha1(data).hexdigest()


@pytest.mark.parametrize("length", [*range(50, 70), *range(115, 135), 65_535, 1_000_001])
def test_lengths_around_a_block(length: int) -> None:
    data = bytes(index * 7 & 255 for index in range(length))
    assert _probe.sha1_hex(data) == hashlib.sha1(data).hexdigest()

"""Keys of a bucket; what it does with a real server is in tests/system/test_rollouts_shared.py."""

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorouter_py.control.bucket import BucketStore, escape, unescape
from gorouter_py.control.store import Entry, FileStore, Unavailable
from tests.unit.control.fakes import FakeLog


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_key_has_letters_that_a_bucket_takes(key: str) -> None:
    escaped = escape(key)
    assert re.fullmatch(r"[-/_=.a-zA-Z0-9]+", escaped) and ".." not in escaped
    assert unescape(escaped) == key


def test_keys_of_routes() -> None:
    assert escape("rollout.*.a.test/x") == "rollout=2E=2A=2Ea=2Etest/x"


def test_names_that_are_none_are_refused() -> None:
    for name in ("", "a.b", "a b", "x" * 65):
        with pytest.raises(ValueError, match="valid: letters"):
            BucketStore(name, lambda: None, FileStore("", FakeLog()), FakeLog())


def test_without_the_bus_it_reads_its_copy_and_writes_nothing() -> None:
    async def scenario() -> None:
        copy = FileStore("", FakeLog())
        await copy.put("rollout.a.test", {"revision": 7, "value": {"weight": 5}})
        await copy.put("rollout.b.test", "something else")
        store = BucketStore("rollouts", lambda: None, copy, FakeLog())
        assert store.entries("rollout.") == {"rollout.a.test": Entry({"weight": 5}, 7)}
        for work in (store.put("key", 1), store.put("key", 1, 0), store.delete("key")):
            with pytest.raises(Unavailable, match="the bus is not connected"):
                await work

    asyncio.run(scenario())

"""Coordinates, draws, bitmaps and budget of a rollout; the split of a route over random histories."""

import math
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import _probe as probe

KEY = bytes(range(16))
U64 = st.integers(0, 2**64 - 1)


# -- the cookie -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, 0x726FDB47DD0E0E31), (1, 0x74F839C593DC67FD), (8, 0x93F5F5799A932462), (15, 0xA129CA6149BE45E5)],
)
def test_siphash_known_answers(length: int, expected: int) -> None:
    assert probe.siphash(KEY, bytes(range(length))) == expected


@given(id=U64, key=st.sampled_from([b"", KEY]))
def test_a_coordinate_survives_its_cookie(id: int, key: bytes) -> None:
    value = probe.coordinate_write(id, key)
    assert len(value) == (23 if key else 11)
    assert probe.coordinate_parse(value, key) == id
    assert probe.coordinate_parse(value) == id, "a signature does no harm where none is wanted"
    if key:
        assert value[12:] == probe.coordinate_write(probe.siphash(KEY, struct.pack(">Q", id)))


@given(value=st.binary(max_size=30))
def test_anything_else_is_no_coordinate(value: bytes) -> None:
    got = probe.coordinate_parse(value)
    assert got is None or probe.coordinate_write(got) == value[:11]
    assert probe.coordinate_parse(value, KEY) is None


@given(id=U64, at=st.integers(0, 22), other=st.sampled_from(b"AZaz09-_.!"))
def test_a_changed_cookie_is_forged(id: int, at: int, other: int) -> None:
    value = bytearray(probe.coordinate_write(id, KEY))
    if value[at] != other:
        value[at] = other
        assert probe.coordinate_parse(bytes(value), KEY) is None


PIECES = st.one_of(
    st.sampled_from(
        [b"gr_c", b"gr_c=", b"=", b";", b"; ", b" ", b"\t", b'"', b",", b"a=b", b"xgr_c=", b"AAAAAAAAAAA", b"."]
    ),
    U64.map(probe.coordinate_write),
    U64.map(lambda id: b"gr_c=" + probe.coordinate_write(id)),
    U64.map(lambda id: b"gr_c=" + probe.coordinate_write(id, KEY)),
)


@given(lines=st.lists(st.lists(PIECES, max_size=8).map(b"".join), max_size=3))
def test_a_quick_look_finds_what_a_thorough_one_does(lines: list[bytes]) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"Cookie: " + line + b"\r\n" for line in lines) + b"\r\n"
    quick, thorough = probe.coordinate_spot(head)
    if quick is not None:
        assert (quick or None) == (thorough or None)


@pytest.mark.parametrize("before", [b"", b"a=b; ", b"a=b;c=d;  "])
@pytest.mark.parametrize("behind", [b"", b"; e=f", b";"])
def test_a_plain_cookie_is_found_by_a_quick_look(before: bytes, behind: bytes) -> None:
    line = before + b"gr_c=" + probe.coordinate_write(4711) + behind
    assert probe.coordinate_spot(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + line + b"\r\n\r\n") == (4711, 4711)


def test_a_quick_look_knows_every_digit_and_nothing_else() -> None:
    for at in range(11):
        for octet in [*range(0x21, 0x7F), *range(0x80, 0x100)]:
            value = bytearray(b"_9zZ-0aA5mQ")
            value[at] = octet
            head = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: gr_c=" + bytes(value) + b"\r\n\r\n"
            quick, thorough = probe.coordinate_spot(head)
            assert quick == thorough == probe.coordinate_parse(bytes(value)), bytes(value)


def test_a_quick_look_tells_that_there_is_nothing() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b; xgr_c=AAAAAAAAAAE\r\n\r\n"
    assert probe.coordinate_spot(head) == (False, None)


# -- the draw -------------------------------------------------------------------------------------------------


def test_few_draws_lie_evenly_from_any_start() -> None:
    assert probe.few_draws(40, 65536 * 5 // 100) == (1, 3)


def test_followers_of_a_draw() -> None:
    state = probe.RolloutState()
    first, place, shared = state.draw_shared(7 << 32, 123, 1000)
    assert place >= 0 and not shared
    for _ in range(8):
        assert state.draw_shared(7 << 32, 456, 2999) == (first, -1, True)
    ninth, place9, shared = state.draw_shared(7 << 32, 456, 2999)
    assert ninth != first and place9 == -1 and not shared
    assert state.draw_shared((7 + 64) << 32, 1, 2999)[1:] == (-1, False), "another client's, in the same place"
    state.answered(place, first)
    second, place, shared = state.draw_shared(7 << 32, 789, 2999)
    assert second not in (first, ninth) and place >= 0 and not shared
    third, _, shared = state.draw_shared(7 << 32, 789, 2999 + 2000)
    assert third != second and not shared, "two seconds later nobody follows"
    state.answered(place, second)
    assert state.draw_shared(7 << 32, 5, 5000)[0] == third, "an answer that comes late frees nobody else's"
    assert state.draws == 5


# -- bitmaps, budget, probes, addresses ------------------------------------------------------------------------


def test_a_unit_is_marked_once() -> None:
    state = probe.RolloutState()
    units = random.Random(1).sample(range(2**62), 5000)
    fresh = [unit for unit in units if state.mark(unit)]
    assert len(fresh) == state.marked() >= 4970, "few units share a bit"
    assert not any(state.mark(unit) for unit in units)
    assert state.marked(1) == 0
    assert state.mark(units[0], 1)


def test_the_budget_of_retries() -> None:
    state = probe.RolloutState()
    assert [state.grant(0, 20, 100000) for _ in range(12)] == [True] * 10 + [False] * 2
    assert state.denied == 2
    assert sum(state.grant(100, 20, 110000) for _ in range(40)) == 30, "of the last window's requests"
    assert sum(state.grant(200, 20, 115000) for _ in range(40)) == 20, "a hundred requests more, twenty tokens more"
    assert sum(state.grant(200, 20, 120000) for _ in range(40)) == 30, "only this window's and the last one's count"
    assert sum(state.grant(200, 20, 200000) for _ in range(40)) == 10


def test_one_probe_at_a_time() -> None:
    state = probe.RolloutState()
    assert [state.may_probe(1, now) for now in (5000, 5000, 5099, 5100)] == [True, False, False, True]
    assert state.may_probe(2, 5000)


def test_probes_are_frequent_until_the_evidence_is_there() -> None:
    state = probe.RolloutState()
    tries = [now for now in range(5000, 15000, 10) if state.may_probe(1, now)]
    assert tries == [*range(5000, 6000, 100), *range(6000, 15000, 1000)]
    state.is_well(1)
    assert [now for now in range(20000, 20300, 10) if state.may_probe(1, now)] == [20000, 20100, 20200]


def test_who_asks_whether_a_retry_would_be_granted_uses_none_up() -> None:
    state = probe.RolloutState()
    for now in (100000, 150000):
        assert all(state.may_grant(0, 20, now) for _ in range(30))
        granted = [state.grant(0, 20, now) for _ in range(12) if state.may_grant(0, 20, now)]
        assert granted == [True] * 10 and state.denied == 0
        assert (
            not state.may_grant(0, 20, now + 9999)
            and state.may_grant(5, 20, now)
            and state.may_grant(0, 20, now + 10000)
        )


def test_failures_of_an_address() -> None:
    state = probe.RolloutState()
    for _ in range(3):
        state.count_address(77)
    assert state.is_over_cap(77, 3)
    assert not state.is_over_cap(77, 4)
    assert not state.is_over_cap(77, 0)
    assert not state.is_over_cap(78, 3)


@pytest.mark.parametrize("users", [0, 1, 50, 2000, 100000])
def test_users_are_counted(users: int) -> None:
    units = random.Random(users).sample(range(2**62), users)
    registers = probe.registers_of([*units, *units[: users // 2]])
    m = len(registers)
    empty = registers.count(0)
    raw = 0.7213 / (1 + 1.079 / m) * m * m / sum(2.0**-rank for rank in registers)
    counted = m * math.log(m / empty) if empty > m // 10 else raw
    assert abs(counted - users) <= max(1, 0.03 * users)


# -- the split over a history ----------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32))
def test_the_split_follows_the_routes_endpoints(seed: int) -> None:
    rng = random.Random(seed)
    before = probe.route_live()
    table = probe.RouteTable()
    listed: dict[int, int] = {}
    versions = 0
    for step in range(60):
        what = rng.randrange(6)
        if what <= 1 or not listed:
            serial = table.make(text=b"10.0.0.1:%d" % (step + 1), id=b"id-%d" % step)
            version = rng.choice([0, 1, 2, 255])
            table.set_version(serial, version)
            if not listed:
                versions = 0  # a route that comes back has no rollout
            table.add(b"a.test", serial)
            listed[serial] = version
        elif what == 2:
            serial = rng.choice(list(listed))
            table.remove(serial)
            table.forget(serial)
            del listed[serial]
        elif what == 3:
            old = rng.choice(list(listed))
            new = table.make(text=b"10.0.0.2:%d" % (step + 1))
            version = rng.choice([0, 1, 2, 255])
            table.set_version(new, version)
            table.replace(old, new)
            table.forget(old)
            listed = {(new if serial == old else serial): (version if serial == old else known)
                      for serial, known in listed.items()}  # fmt: skip
        elif what == 4:
            serial = rng.choice(list(listed))
            listed[serial] = rng.randrange(3)
            table.set_version(serial, listed[serial])
            versions = rng.randrange(1, 4)
            assert table.set_plan(b"a.test", versions)
        else:
            versions = rng.randrange(4)
            assert table.set_plan(b"a.test", versions)
        expected = [[serial for serial, known in listed.items() if known == v] for v in range(versions)]
        assert table.split_of(b"a.test") == (expected if listed and versions else None)
    table.close()
    assert probe.route_live() == before


def test_every_coordinate_has_its_version() -> None:
    table = probe.RouteTable()
    serial = table.make()
    table.add(b"a.test", serial)
    for versions in (1, 2, 3, 7, 254):
        table.set_plan(b"a.test", versions)
        ends = [(i + 1) * 65536 // versions for i in range(versions)]
        for end in ends[:-1]:
            assert table.version_at(b"a.test", end - 1) + 1 == table.version_at(b"a.test", end)
        assert table.version_at(b"a.test", 0) == 0
        assert table.version_at(b"a.test", 65535) == versions - 1
    table.set_plan(b"a.test", 2, 32768)
    assert table.version_at(b"a.test", 0) == 1
    assert table.version_at(b"a.test", 32768) == 0
    assert not table.set_plan(b"other.test", 2)
    table.close()

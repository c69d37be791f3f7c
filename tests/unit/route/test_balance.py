"""Choice of an instance: rotation, retries, cool-down, sticky ids."""

from collections.abc import Iterator

import pytest

from tests import _probe as probe

COOL = 30_000


@pytest.fixture
def table() -> Iterator[probe.RouteTable]:
    table = probe.RouteTable()
    yield table
    table.close()


def fill(table: probe.RouteTable, count: int, host: bytes = b"h.test") -> list[int]:
    serials = [table.make(text=b"10.0.0.1:%d" % (number + 1), id=b"id-%d" % number) for number in range(count)]
    for serial in serials:
        table.add(host, serial)
    return serials


def request(table: probe.RouteTable, now: int = 1000) -> int | None:
    serial: int | None = table.choose(b"h.test", probe.RoutePick(), now, COOL)
    return serial


def test_requests_go_round(table: probe.RouteTable) -> None:
    serials = fill(table, 3)
    first = request(table)
    assert first is not None
    start = serials.index(first)
    assert [request(table) for _ in range(7)] == [serials[(start + 1 + n) % 3] for n in range(7)]


def test_rotation_is_exact_over_threads(table: probe.RouteTable) -> None:
    fill(table, 5, b"spin.test")
    assert probe.route_rotation(table, 4, 2500) == [2000] * 5


def test_retries_walk_on_and_come_back_only_when_all_were_tried(table: probe.RouteTable) -> None:
    serials = fill(table, 3)
    pick = probe.RoutePick()
    chosen = [table.choose(b"h.test", pick, 1000, COOL) for _ in range(6)]
    start = serials.index(chosen[0])
    assert chosen == [serials[(start + n) % 3] for n in range(6)]


def test_retries_of_one_request_do_not_turn_the_wheel_for_others(table: probe.RouteTable) -> None:
    serials = fill(table, 3)
    pick = probe.RoutePick()
    first = table.choose(b"h.test", pick, 1000, COOL)
    for _ in range(2):
        table.choose(b"h.test", pick, 1000, COOL)
    assert request(table) == serials[(serials.index(first) + 1) % 3]


def test_more_tries_than_a_pick_can_note(table: probe.RouteTable) -> None:
    serials = fill(table, 20)
    pick = probe.RoutePick()
    chosen = [table.choose(b"h.test", pick, 1000, COOL) for _ in range(40)]
    assert len(set(chosen[:16])) == 16 and set(chosen) <= set(serials)


def test_a_failed_endpoint_rests_for_the_cool_down(table: probe.RouteTable) -> None:
    serials = fill(table, 3)
    table.mark_failed(serials[1], 1000)
    assert {request(table, now) for now in (1000, 1001, 20_000, 30_999) for _ in range(3)} == {serials[0], serials[2]}
    assert {request(table, 31_000) for _ in range(3)} == set(serials)


def test_a_clock_that_is_a_little_behind_does_not_heal(table: probe.RouteTable) -> None:
    serials = fill(table, 2)
    table.mark_failed(serials[0], 1000)
    assert {request(table, 999) for _ in range(4)} == {serials[1]}
    table.mark_failed(serials[1], 0)
    assert table.describe(serials[1])["failed_at_ms"] == 1


def test_when_all_rest_the_marks_go(table: probe.RouteTable) -> None:
    serials = fill(table, 3)
    for serial in serials:
        table.mark_failed(serial, 1000)
    assert request(table) in serials
    assert [table.describe(serial)["failed_at_ms"] for serial in serials] == [0, 0, 0]
    assert {request(table) for _ in range(3)} == set(serials)


def test_who_failed_in_this_request_comes_after_those_who_rest(table: probe.RouteTable) -> None:
    serials = fill(table, 3)
    pick = probe.RoutePick()
    first = table.choose(b"h.test", pick, 1000, COOL)
    for serial in serials:
        table.mark_failed(serial, 1000)
    others = {table.choose(b"h.test", pick, 1000, COOL) for _ in range(2)}
    assert others == set(serials) - {first}
    assert table.describe(first)["failed_at_ms"] == 1000
    assert {request(table) for _ in range(4)} == others


def test_when_all_were_tried_a_fit_one_comes_first(table: probe.RouteTable) -> None:
    serials = fill(table, 3)
    pick = probe.RoutePick()
    for _ in serials:
        table.choose(b"h.test", pick, 1000, COOL)
    for serial in serials[:2]:
        table.mark_failed(serial, 1000)
    assert {table.choose(b"h.test", pick, 1000, COOL) for _ in range(3)} == {serials[2]}
    table.mark_failed(serials[2], 1000)
    assert table.choose(b"h.test", pick, 1000, COOL) in serials


def test_an_endpoint_found_by_its_id_counts_as_tried(table: probe.RouteTable) -> None:
    serials = fill(table, 2)
    for _ in range(2):
        pick = probe.RoutePick()
        table.note(serials[0], pick)
        assert table.choose(b"h.test", pick, 1000, COOL) == serials[1]


def test_a_pool_without_instances_gives_none(table: probe.RouteTable) -> None:
    (serial,) = fill(table, 1)
    assert request(table) == serial
    table.remove(serial, True)
    assert table.find(b"h.test") == (b"h.test", b"/", []) and request(table) is None
    assert table.instance(b"h.test", b"id-0") is None


def test_a_chosen_endpoint_is_held(table: probe.RouteTable) -> None:
    (serial,) = fill(table, 1)
    assert table.choose(b"h.test", probe.RoutePick(), keep=True) == serial
    table.begin(serial)
    table.remove(serial)
    assert table.poll() == 0
    told = table.describe(serial)
    assert (told["refs"], told["in_flight"], told["dead"], told["route"]) == (2, 1, 1, b"h.test")
    table.finish(serial)
    assert table.describe(serial)["in_flight"] == 0
    table.made[serial, "kept"] = table.made[serial]
    table.forget((serial, "kept"))


def test_sticky_by_instance_id_and_by_address(table: probe.RouteTable) -> None:
    serials = fill(table, 50)
    for number in (0, 17, 49):
        assert table.instance(b"h.test", b"id-%d" % number) == serials[number]
        assert table.instance(b"h.test", b"10.0.0.1:%d" % (number + 1)) == serials[number]
    for stranger in (b"", b"id-50", b"ID-1", b"10.0.0.1:51", b"id-1 "):
        assert table.instance(b"h.test", stranger) is None
    table.remove(serials[17])
    assert table.instance(b"h.test", b"id-17") is None


def test_of_two_instances_with_one_id_the_later_counts(table: probe.RouteTable) -> None:
    old, new = table.make(text=b"10.0.0.1:1", id=b"same"), table.make(text=b"10.0.0.2:1", id=b"same")
    table.add(b"h.test", old)
    table.add(b"h.test", new)
    assert table.instance(b"h.test", b"same") == new
    table.remove(new)
    assert table.instance(b"h.test", b"same") == old
    moved = table.make(text=b"10.0.0.1:1", id=b"other")
    table.replace(old, moved)
    assert table.instance(b"h.test", b"same") is None and table.instance(b"h.test", b"other") == moved

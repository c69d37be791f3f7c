"""When memory is freed: not while a reader may see it, and at once when none can."""

from collections.abc import Iterator

import pytest

from tests import _probe as probe


@pytest.fixture
def table() -> Iterator[probe.RouteTable]:
    before = probe.route_live()
    table = probe.RouteTable()
    yield table
    table.close()
    assert probe.route_live() == before


def test_without_readers_everything_goes_at_once(table: probe.RouteTable) -> None:
    serial = table.make()
    table.add(b"h.test", serial)
    table.remove(serial)
    assert table.poll() == 0
    assert table.describe(serial)["refs"] == 1


def test_a_reader_on_line_holds_what_it_may_have_seen(table: probe.RouteTable) -> None:
    serial = table.make()
    table.add(b"h.test", serial)
    table.online(3)
    table.remove(serial)
    assert [table.poll() for _ in range(5)] == [3] * 5  # the array, the endpoint, the pool
    assert table.describe(serial)["refs"] == 2
    table.quiesce(3)
    assert table.poll() == 0
    assert table.describe(serial)["refs"] == 1
    table.offline(3)


def test_a_reader_that_came_later_holds_nothing_older(table: probe.RouteTable) -> None:
    table.online(0)
    serial = table.make()
    table.add(b"h.test", serial)
    table.remove(serial)
    assert table.poll() == 3
    table.online(1)
    table.offline(0)
    assert table.poll() == 0
    table.offline(1)


def test_every_reader_must_have_passed(table: probe.RouteTable) -> None:
    readers = (0, 1, 31, 63)
    for reader in readers:
        table.online(reader)
    serial = table.make()
    table.add(b"h.test", serial)
    table.remove(serial)
    for reader in readers:
        assert table.poll() == 3
        table.quiesce(reader)
    assert table.poll() == 0
    for reader in readers:
        table.offline(reader)


def test_quiescent_before_the_epoch_moved_is_not_enough(table: probe.RouteTable) -> None:
    serial = table.make()
    table.add(b"h.test", serial)
    table.online()
    table.remove(serial)
    table.quiesce()  # nobody polled since: the reader's epoch is the one of the retirement
    assert table.poll() == 3
    table.quiesce()
    assert table.poll() == 0
    table.offline()


def test_it_waits_for_a_stuck_reader_without_bound_of_its_own_and_recovers(table: probe.RouteTable) -> None:
    table.online()
    serial = table.make()
    table.add(b"h.test", serial)
    for _ in range(2000):
        new = table.make()
        table.replace(serial, new)
        table.forget(serial)
        serial = new
    assert table.poll() == 4000
    table.offline()
    assert table.poll() == 0


def test_polling_of_its_own_keeps_the_queue_short(table: probe.RouteTable) -> None:
    serial = table.make()
    table.add(b"h.test", serial)
    for _ in range(500):
        new = table.make()
        table.replace(serial, new)
        table.forget(serial)
        serial = new
    if probe.route_debug_build():
        assert probe.route_live()[0] < 100


def test_endpoints_and_their_pool_outlive_the_table_for_who_holds_them() -> None:
    before = probe.route_live()
    table = probe.RouteTable()
    serial = table.make(text=b"10.0.0.7:1")
    table.add(b"h.test/Ctx", serial)
    table.close(forget=False)
    told = table.describe(serial)
    assert (told["refs"], told["dead"], told["route"], told["text"]) == (1, 1, b"h.test/ctx", b"10.0.0.7:1")
    table.forget(serial)
    assert probe.route_live() == before

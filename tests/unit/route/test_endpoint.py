"""What an endpoint is made of."""

from collections.abc import Iterator

import pytest

from tests import _probe as probe


@pytest.fixture
def table() -> Iterator[probe.RouteTable]:
    table = probe.RouteTable()
    yield table
    table.close()


def test_header_lines_and_views(table: probe.RouteTable) -> None:
    told = table.describe(
        table.make(text=b"10.1.2.3:80", app=b"app-guid", id=b"inst-guid", index=b"7", addr=b"\2\0\0\x50")
    )
    assert told["header"] == (
        b"X-Cf-Applicationid: app-guid\r\nX-Cf-Instanceid: inst-guid\r\nX-Cf-Instanceindex: 7\r\n"
    )
    assert (told["text"], told["app"], told["id"], told["index"]) == (b"10.1.2.3:80", b"app-guid", b"inst-guid", b"7")
    assert told["addr"] == b"\2\0\0\x50" and told["refs"] == 1 and told["route"] is None and told["aligned"]


def test_lines_without_a_value_are_left_out_and_the_address_stands_for_an_id(table: probe.RouteTable) -> None:
    told = table.describe(table.make(text=b"[::1]:80"))
    assert told["header"] == b"X-Cf-Instanceid: [::1]:80\r\n"
    assert (told["app"], told["id"], told["index"]) == (b"", b"", b"")


def test_serials_are_never_given_twice(table: probe.RouteTable) -> None:
    serials = []
    for _ in range(100):
        serials.append(table.make())
        table.forget(serials[-1])
    assert len(set(serials)) == 100


@pytest.mark.parametrize("field", ["text", "app", "id", "index"])
def test_values_that_would_break_a_header(table: probe.RouteTable, field: str) -> None:
    for bad in (b"\r", b"\n", b"\x00", b"a\r\nX: y", b"\x7f", b"\x1b"):
        with pytest.raises(probe.RouteFault, match="VALUE_BYTES"):
            table.make(**{field: b"a" * 20 + bad + b"b"})
    with pytest.raises(probe.RouteFault, match="VALUE_LONG"):
        table.make(**{field: b"a" * 256})


def test_the_longest_values(table: probe.RouteTable) -> None:
    serial = table.make(text=b"t" * 255, app=b"a" * 255, id=b"i" * 255, index=b"x" * 255, addr=b"s" * 28)
    told = table.describe(serial)
    assert (told["text"], told["app"], told["id"], told["index"]) == (b"t" * 255, b"a" * 255, b"i" * 255, b"x" * 255)
    with pytest.raises(probe.RouteFault):
        table.make(addr=b"s" * 29)
    with pytest.raises(probe.RouteFault):
        table.make(text=b"")

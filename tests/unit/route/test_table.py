"""Lookup rules of the route table, one by one; tests/unit/route/test_table_model.py has them all at once."""

from collections.abc import Iterator

import pytest

from tests import _probe as probe


@pytest.fixture
def table() -> Iterator[probe.RouteTable]:
    table = probe.RouteTable()
    yield table
    table.close()


def add(table: probe.RouteTable, uri: bytes) -> int:
    serial = table.make()
    table.add(uri, serial)
    return serial


def key(table: probe.RouteTable, host: bytes, path: bytes = b"/") -> bytes | None:
    found = table.find(host, path)
    return None if found is None else found[0]


def test_host_in_any_case_with_or_without_port(table: probe.RouteTable) -> None:
    serial = add(table, b"App.Example.COM")
    for host in (b"app.example.com", b"APP.EXAMPLE.COM", b"app.Example.com:8080", b"app.example.com:"):
        assert table.find(host) == (b"app.example.com", b"/", [serial])
    for host in (b"", b":80", b"app.example.com.", b"xapp.example.com", b"app.example.co", b"example.com"):
        assert table.find(host) is None


def test_every_byte_is_lowered_as_ascii_and_no_other(table: probe.RouteTable) -> None:
    for length in range(1, 40):
        table.add(b"q" * length, table.make())
        assert key(table, b"Q" * length) == b"q" * length
    for byte in range(0x21, 0x100):
        if chr(byte) in "#:/?[" or byte == 0x7F:
            continue
        name = bytes([byte]) * 9
        if key(table, name) is None:
            add(table, name)
        assert key(table, name) == (name.lower() if byte < 0x80 else name)


def test_a_bracketed_address_is_a_host_and_a_broken_one_is_none(table: probe.RouteTable) -> None:
    add(table, b"[::1]")
    assert key(table, b"[::1]:8080") == key(table, b"[::1]") == b"[::1]"
    for host in (b"[", b"[::1", b"]", b"[]", b"[:", b"::1"):
        assert key(table, host) is None


def test_context_path_by_whole_segments_longest_first(table: probe.RouteTable) -> None:
    for uri in (b"h.test", b"h.test/foo", b"h.test/foo/Bar/baz"):
        add(table, uri)
    for path, expected in {
        b"": b"h.test",
        b"*": b"h.test",
        b"/": b"h.test",
        b"/foobar": b"h.test",
        b"/fo": b"h.test",
        b"/foo": b"h.test/foo",
        b"/FOO/": b"h.test/foo",
        b"/foo//": b"h.test/foo",
        b"/foo/bar": b"h.test/foo",
        b"/foo/bar/bazz": b"h.test/foo",
        b"/foo/bAR/BAZ": b"h.test/foo/bar/baz",
        b"/foo/bar/baz/": b"h.test/foo/bar/baz",
        b"/foo/bar/baz/x/y": b"h.test/foo/bar/baz",
        b"//foo": b"h.test",
        b"/foo%2fbar/baz": b"h.test",
    }.items():
        assert key(table, b"h.test", path) == expected, path


def test_an_empty_segment_is_a_segment_but_for_the_last(table: probe.RouteTable) -> None:
    for uri in (b"h.test", b"h.test//", b"h.test/x", b"h.test/x//y/"):
        add(table, uri)
    assert key(table, b"h.test", b"/") == b"h.test"
    assert key(table, b"h.test", b"//") == key(table, b"h.test", b"//z") == b"h.test/"
    assert key(table, b"h.test", b"/x/") == key(table, b"h.test", b"/x//") == b"h.test/x"
    assert key(table, b"h.test", b"/x//y") == b"h.test/x//y"


def test_a_host_with_paths_only_has_no_route_of_its_own(table: probe.RouteTable) -> None:
    serial = add(table, b"h.test/foo")
    assert (table.count, table.nodes) == (1, 2)
    assert key(table, b"h.test") is None
    assert key(table, b"h.test", b"/foo/x") == b"h.test/foo"
    table.remove(serial)
    assert (table.count, table.nodes) == (0, 0)


def test_the_host_stays_while_a_path_under_it_does(table: probe.RouteTable) -> None:
    root, first, second = add(table, b"h.test"), add(table, b"h.test/a"), add(table, b"h.test/a/b")
    table.remove(root)
    assert key(table, b"h.test") is None and key(table, b"h.test", b"/a/b/c") == b"h.test/a/b"
    table.remove(second)
    assert key(table, b"h.test", b"/a/b/c") == b"h.test/a"
    root = add(table, b"h.test")
    table.remove(first)
    assert key(table, b"h.test", b"/a") == b"h.test" and table.nodes == 1


def test_context_keeps_its_case_and_loses_query_and_slash(table: probe.RouteTable) -> None:
    serial = add(table, b"/C.test/Ctx/Path/?q=/x")
    assert table.find(b"c.test", b"/ctx/path/y") == (b"c.test/ctx/path", b"/Ctx/Path", [serial])
    add(table, b"D.test/?x")
    assert table.find(b"d.test") is not None and table.find(b"d.test")[:2] == (b"d.test", b"/")


def test_wildcards_from_the_most_specific(table: probe.RouteTable) -> None:
    add(table, b"*.w.test")
    assert table.wildcards == 1
    assert key(table, b"a.w.test") == key(table, b"a.b.w.test") == key(table, b".w.test") == b"*.w.test"
    assert key(table, b"w.test") is None and key(table, b"aw.test") is None
    inner = add(table, b"*.b.w.test")
    exact = add(table, b"a.b.w.test")
    assert key(table, b"A.b.w.test:80") == b"a.b.w.test"
    assert key(table, b"c.b.w.test") == b"*.b.w.test" and key(table, b"b.w.test") == b"*.w.test"
    assert key(table, b"*.b.w.test") == b"*.b.w.test"
    table.remove(exact)
    assert key(table, b"a.b.w.test") == b"*.b.w.test"
    table.remove(inner)
    assert key(table, b"a.b.w.test") == key(table, b"*.b.w.test") == b"*.w.test"


def test_a_host_that_matched_nothing_leaves_the_request_to_the_wildcard(table: probe.RouteTable) -> None:
    add(table, b"*.test")
    add(table, b"*.test/deep")
    add(table, b"h.test/foo")
    assert key(table, b"h.test", b"/foo") == b"h.test/foo"
    assert key(table, b"h.test", b"/bar") == b"*.test"
    assert key(table, b"h.test", b"/Deep/er") == b"*.test/deep"


def test_an_empty_pool_counts_only_when_nothing_else_matches_and_stops_the_wildcards(table: probe.RouteTable) -> None:
    add(table, b"*.test")
    host, deep, deeper = add(table, b"h.test"), add(table, b"h.test/a"), add(table, b"h.test/a/b")
    table.remove(deeper, True)
    assert table.find(b"h.test", b"/a/b")[0] == b"h.test/a"
    table.remove(deep, True)
    assert table.find(b"h.test", b"/a/b")[0] == b"h.test"
    table.remove(host, True)
    assert table.find(b"h.test", b"/a/b/c") == (b"h.test/a/b", b"/a/b", [])
    assert table.find(b"h.test", b"/x") == (b"h.test", b"/", [])
    assert table.count == 4
    assert table.drop_empty(b"h.test/a/b") and table.drop_empty(b"H.test") and not table.drop_empty(b"h.test")
    assert table.find(b"h.test", b"/a/b/c") == (b"h.test/a", b"/a", [])
    assert table.find(b"h.test", b"/x")[0] == b"*.test"
    assert not table.drop_empty(b"*.test")


def test_a_route_is_vacated_at_once(table: probe.RouteTable) -> None:
    serials = [add(table, b"h.test/a") for _ in range(3)]
    add(table, b"*.test")
    assert table.vacate(b"H.test/a/") == serials
    assert table.find(b"h.test", b"/a/b") == (b"h.test/a", b"/a", [])
    assert [table.describe(serial)["dead"] for serial in serials] == [1, 1, 1]
    assert table.vacate(b"h.test/a") == []
    assert table.vacate(b"new.test/X") == []
    assert table.find(b"new.test", b"/x") == (b"new.test/X".lower(), b"/X", [])
    assert table.count == 3
    back = add(table, b"h.test/a")
    assert table.find(b"h.test", b"/a")[2] == [back]
    with pytest.raises(probe.RouteFault, match="NOT_LISTED"):
        table.remove(serials[0])


def test_instances_keep_their_order_and_a_replacement_its_place(table: probe.RouteTable) -> None:
    serials = [add(table, b"h.test") for _ in range(4)]
    assert table.find(b"h.test")[2] == serials
    table.remove(serials[1])
    new = table.make()
    table.replace(serials[2], new)
    assert table.find(b"h.test")[2] == [serials[0], new, serials[3]]
    assert [table.describe(serial)["dead"] for serial in serials] == [0, 1, 1, 0]
    for call in (table.remove, lambda serial: table.replace(serial, table.make())):
        with pytest.raises(probe.RouteFault, match="NOT_LISTED"):
            call(serials[1])
    assert table.describe(new)["route"] == b"h.test"


@pytest.mark.parametrize(
    ("uri", "fault"),
    [
        (b"", "KEY_EMPTY"),
        (b"/", "KEY_EMPTY"),
        (b"//x", "KEY_EMPTY"),
        (b"?x", "KEY_EMPTY"),
        (b"h" * 256, "KEY_LONG"),
        (b"h/" + b"p" * 1023, "KEY_LONG"),
        (b"h" + b"/p" * 33, "KEY_DEEP"),
        (b"h test", "KEY_BYTES"),
        (b"h\r\n", "KEY_BYTES"),
        (b"h/a\x00", "KEY_BYTES"),
        (b"h#", "KEY_BYTES"),
    ],
)
def test_uris_that_are_refused(table: probe.RouteTable, uri: bytes, fault: str) -> None:
    serial = table.make()
    with pytest.raises(probe.RouteFault, match=fault):
        table.add(uri, serial)
    for call in (table.drop_empty, table.vacate):
        with pytest.raises(probe.RouteFault, match=fault):
            call(uri)
    assert (table.count, table.nodes, table.describe(serial)["refs"]) == (0, 0, 1)


def test_the_longest_keys_that_are_taken(table: probe.RouteTable) -> None:
    for uri in (b"h" * 255, b"h/" + b"p" * 1022, b"h" + b"/p" * 32):
        add(table, uri)
        host, _, path = uri.partition(b"/")
        assert key(table, host, b"/" + path) == uri
        assert key(table, host, b"/" + path + b"/x" * 40) == uri
    assert key(table, b"h" * 256) is None
    assert key(table, b"h", b"/" + b"p" * 1023) is None
    assert key(table, b"h", b"/p" * 31) is None
    assert key(table, b"h", b"/" + b"p" * 100000) is None
    assert key(table, b"h", b"/" * 100000) is None


def test_it_grows_and_forgets_without_losing_a_name(table: probe.RouteTable) -> None:
    names = [b"app-%d.example.com" % number for number in range(3000)]
    serials = [add(table, name) for name in names]
    wide = table.slots
    assert wide >= 4096 and table.count == len(names)
    assert all(key(table, name) == name for name in names)
    for serial in serials[10:]:
        table.remove(serial)
    assert all((key(table, name) == name) == (index < 10) for index, name in enumerate(names))
    for round_ in range(4000):
        table.remove(add(table, b"passing-%d.example.com" % round_))
    assert table.slots <= wide and table.nodes == 10
    assert all(key(table, name) == name for name in names[:10])
    assert 4 * (table.nodes + table.tombs) <= 3 * table.slots


def test_a_route_fits_its_memory_budget() -> None:
    if probe.route_debug_build():
        count, most = 2000, 100_000.0  # a sanitizer's allocator has its own measures: only that names are found
    else:
        count, most = 50_000, 400.0
    size, found = probe.route_footprint(count)
    assert found == count
    assert size <= most

"""The words of the port map: addresses, ranges, hosts, overlaps."""

import pytest

from gorouter_py.control import mappings
from gorouter_py.control.mappings import Listen


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0.0.0.0:9001", "0.0.0.0:9001"),
        (":9001", "0.0.0.0:9001"),
        ("*:9001", "0.0.0.0:9001"),
        ("[::1]:9001", "[::1]:9001"),
        ("[0:0::1]:09001", "[::1]:9001"),
        ("[::]:1", "[::]:1"),
        ("192.0.2.1:65535", "192.0.2.1:65535"),
    ],
)
def test_addresses(text: str, shown: str) -> None:
    assert str(mappings.parse_listen(text)) == shown


@pytest.mark.parametrize("text", ["", "9001", "a.test:9001", "::1:9001", "0.0.0.0:", "0.0.0.0:0", "0.0.0.0:65536",
                                  "0.0.0.0:90 01", "0.0.0.0:-1", "1.2.3:80", "[1.2.3.4:80"])  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|valid"):
        mappings.parse_listen(text)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("0.0.0.0:1", "127.0.0.1:1", True),
        ("0.0.0.0:1", "127.0.0.1:2", False),
        ("127.0.0.1:1", "127.0.0.2:1", False),
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("[::]:1", "127.0.0.1:1", True),
        ("[::]:1", "0.0.0.0:1", True),
        ("[::]:1", "[::1]:1", True),
        ("0.0.0.0:1", "[::1]:1", False),
        ("127.0.0.1:1", "[::1]:1", False),
    ],
)
def test_overlaps(one: str, other: str, overlap: bool) -> None:
    a, b = mappings.parse_listen(one), mappings.parse_listen(other)
    assert a.overlaps(b) is overlap
    assert b.overlaps(a) is overlap


def test_a_range_gives_what_is_free() -> None:
    found = mappings.parse_range("9000-9003")
    taken = [Listen("127.0.0.1", 9000), Listen("::", 9002), Listen("::1", 9001)]
    assert [listen.port for listen in found.free(taken)] == [9001, 9003]
    assert mappings.parse_range("[::1]:1-1").address == "::1"


@pytest.mark.parametrize("text", ["9000", "9001-9000", "a-b", "0-10", "1-70000", "a.test:1-2", ""])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|valid"):
        mappings.parse_range(text)


@pytest.mark.parametrize("text", ["", "a b", "shop:80", "*.test", "a..b", "-a", "a-", "http://a", "x" * 64, "ü.test"])
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(ValueError, match="write its name"):
        mappings.parse_host(text)


def test_hosts() -> None:
    assert mappings.parse_host("Shop.Apps.Example.com.") == "shop.apps.example.com"


@pytest.mark.parametrize(
    "value",
    [None, [], {}, {"listen": "x"}, {"listen": ":1", "host": 5}, {"listen": ":1", "host": "a", "x": 1},
     {"listen": ":1", "host": "a", "cookies": "SID"}, {"listen": ":1", "host": "a", "cookies": ["a b"]},
     {"listen": ":1", "host": "a", "cookies": [f"c{n}" for n in range(17)]}],
)  # fmt: skip
def test_what_is_no_entry(value: object) -> None:
    with pytest.raises(ValueError):
        mappings.parse(value)


def test_an_entry_reads_back() -> None:
    found = mappings.parse({"listen": ":1", "host": "A.test", "cookies": ["SID", "SID"]})
    assert found.cookies == ("SID",)
    assert mappings.parse(found.value()) == found


@pytest.mark.parametrize("text", ["10.0.0.1/8", "a", "", "300.0.0.0/8"])
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match="write for example"):
        mappings.parse_network(text)

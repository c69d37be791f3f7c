"""What containers borrow."""

import ipaddress
from pathlib import Path

import pytest

from warden import pools
from warden.errors import WardenError
from warden.pools import Pool, PoolError


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_first_in_first_out() -> None:
    pool = Pool([1, 2, 3], "none")
    assert [pool.acquire(), pool.acquire()] == [1, 2]
    pool.release(1)
    assert [pool.acquire(), pool.acquire()] == [3, 1]
    with pytest.raises(WardenError, match=r"^none$"):
        pool.acquire()


def test_what_comes_back_rests() -> None:
    clock = Clock()
    pool = Pool(["a", "b"], "none", 5.0, clock)
    pool.release(pool.acquire())
    assert pool.acquire() == "b"
    clock.now += 4.9
    with pytest.raises(WardenError):
        pool.acquire()
    clock.now += 0.1
    assert pool.acquire() == "a"


def test_one_that_rests_can_be_asked_for_by_name() -> None:
    pool = Pool(["a", "b"], "none", 5.0, Clock())
    pool.release(pool.acquire())
    assert pool.take("a")
    assert not pool.take("a")
    assert pool.acquire() == "b"


def test_networks_are_the_thirties_of_the_pool() -> None:
    pool = pools.networks(ipaddress.IPv4Network("10.254.0.0/28"), 5.0)
    assert [pool.acquire() for _ in range(len(pool))] == ["10.254.0.0", "10.254.0.4", "10.254.0.8", "10.254.0.12"]
    with pytest.raises(WardenError, match=r"^Could not acquire network$"):
        pool.acquire()
    assert pools.addresses("10.254.0.4") == ("10.254.0.5", "10.254.0.6")


@pytest.mark.parametrize(("size", "wanted"), [(64, "10.1.0.0/24"), (1, "10.1.0.0/30"), (65, "10.1.0.0/23")])
def test_a_start_address_and_a_size_are_a_network(size: int, wanted: str) -> None:
    assert str(pools.network_of("10.1.0.0", size)) == wanted


def test_ports_begin_behind_the_kernels() -> None:
    last = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[1])
    pool = pools.ports(None, None)
    assert pool.acquire() == last + 1
    assert len(pool) == pools.PORT_LAST - last - 1
    pool = pools.ports(20000, 1000)
    for _ in range(1000):
        pool.acquire()
    with pytest.raises(WardenError, match=r"^no port available$"):
        pool.acquire()


@pytest.mark.parametrize(("first", "count"), [(64500, None), (20000, 999), (65000, 1000), (0, 2000)])
def test_too_few_ports(first: int, count: int | None) -> None:
    with pytest.raises(PoolError, match="port"):
        pools.ports(first, count)


def test_uids_that_somebody_has(tmp_path: Path) -> None:
    passwd = tmp_path / "passwd"
    passwd.write_text("root:x:0:0::/root:/bin/sh\nbob:x:10003:1::/:/bin/sh\nbroken line\n")
    with pytest.raises(PoolError, match="uid 10003 of the pool 10000 to 10063 belongs to bob"):
        pools.uids(10000, 64, passwd)
    pool = pools.uids(10004, 2, passwd)
    assert [pool.acquire(), pool.acquire()] == [10004, 10005]
    with pytest.raises(WardenError, match=r"^no uid available$"):
        pool.acquire()

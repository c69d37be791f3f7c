"""Route look-up by host and path. 1 us in the table is 1 ns per look-up."""

import random
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from bench.micro.conftest import STEPS

PATH = b"/shop/items/4711"


def host(number: int) -> bytes:
    """Hosts of a length as platforms give them."""
    return b"app-%d.apps.example.com" % number


@pytest.mark.parametrize("count", [10, 10_000, 100_000])
def test_find_host(micro: ModuleType, steps: Callable[..., Any], count: int) -> None:
    """All routes in random order: with many of them each look-up misses the caches."""
    routes = micro.Routes()
    hosts = [host(number) for number in range(count)]
    routes.add(hosts)
    random.Random(7).shuffle(hosts)
    block = min(count, STEPS)
    turns = []
    for start in range(0, count - block + 1, block):
        names = micro.Names(hosts[start : start + block])
        turns.append(lambda n, names=names: routes.find(names, PATH, n // block))
    assert steps(turns) == STEPS


def test_find_same_host_in_a_large_table(micro: ModuleType, steps: Callable[..., Any]) -> None:
    routes = micro.Routes()
    routes.add(host(number) for number in range(100_000))
    names = micro.Names([host(4711)])
    assert steps(lambda n: routes.find(names, PATH, n)) == STEPS


def test_find_context_path(micro: ModuleType, steps: Callable[..., Any]) -> None:
    routes = micro.Routes()
    routes.add([b"app.example.com", b"app.example.com/shop", b"app.example.com/shop/items", b"app.example.com/api"])
    names = micro.Names([b"app.example.com"])
    assert steps(lambda n: routes.find(names, PATH, n)) == STEPS


def test_find_wildcard(micro: ModuleType, steps: Callable[..., Any]) -> None:
    routes = micro.Routes()
    routes.add([b"*.example.com", *(host(number) for number in range(10_000))])
    names = micro.Names([b"some.deep.name.example.com"])
    assert steps(lambda n: routes.find(names, PATH, n)) == STEPS


def test_find_nothing(micro: ModuleType, steps: Callable[..., Any]) -> None:
    routes = micro.Routes()
    routes.add(host(number) for number in range(10_000))
    names = micro.Names([b"nobody.example.net"])
    assert steps(lambda n: routes.find(names, PATH, n)) == 0

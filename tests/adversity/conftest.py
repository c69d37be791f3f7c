"""Fixtures: a router in this process, the origins behind it, and what stands between them and it."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.support.between import Between
from tests.support.plane import origin, router

__all__ = ["between", "origin", "router"]


@pytest.fixture
def between() -> Iterator[Callable[[int], Between]]:
    """Call it with a port for a proxy to that port."""
    made: list[Between] = []

    def make(target: int) -> Between:
        made.append(Between(target))
        return made[-1]

    yield make
    with contextlib.ExitStack() as stack:
        for one in made:
            stack.callback(one.finish)

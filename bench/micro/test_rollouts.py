"""What a rollout adds to a request: `whole` minus `plain`, of it `decide` for the version, `book` for the outcome.

1 us in the table is 1 ns per request.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from bench.micro.conftest import STEPS
from bench.micro.test_heads import ANSWER, BROWSER, SMALL

COOKIE = b"Cookie: gr_c=AAAAAAAAAAE\r\n\r\n"  # coordinate 0


def with_cookie(head: bytes) -> bytes:
    """The request of a client that has its coordinate, behind the cookies it has already."""
    if b"\r\nCookie: " in head:
        return head.replace(b"\r\nCookie: ", b"\r\nCookie: gr_c=AAAAAAAAAAE; ")
    return head[:-2] + COOKIE


HEADS = {"small": with_cookie(SMALL), "browser": with_cookie(BROWSER)}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_choose_without_a_rollout(micro: ModuleType, steps: Callable[..., Any], head: bytes) -> None:
    assert steps(micro.Splitting(head, ANSWER).plain) == STEPS


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_decide_the_version(micro: ModuleType, steps: Callable[..., Any], head: bytes) -> None:
    assert steps(micro.Splitting(head, ANSWER).decide) == (0, 0)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_choose_and_book_in_a_rollout(micro: ModuleType, steps: Callable[..., Any], head: bytes) -> None:
    assert steps(micro.Splitting(head, ANSWER).whole) == STEPS


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_book_the_outcome(micro: ModuleType, steps: Callable[..., Any], head: bytes) -> None:
    assert steps(micro.Splitting(head, ANSWER).book) == STEPS

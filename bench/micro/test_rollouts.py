"""What a rollout adds to a request: the split is `whole` minus `plain`, and `whole` has the outcome counted or not.

Of the split `decide` is from the cookie to the version. 1 us in the table is 1 ns per request. `python -m bench.canary`
has the same beside what else a rollout promises.
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


@pytest.mark.parametrize("counted", [False, True], ids=["split", "and-counted"])
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_choose_in_a_rollout(micro: ModuleType, steps: Callable[..., Any], head: bytes, counted: bool) -> None:
    assert steps(micro.Splitting(head, ANSWER).whole, counted) == STEPS

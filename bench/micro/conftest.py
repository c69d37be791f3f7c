"""Builds the compiled loops once and gives every test a way to time a step."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from bench.micro import build

STEPS = 1000


@pytest.fixture(scope="session")
def micro() -> ModuleType:
    """The compiled loops."""
    return build.micro()


@pytest.fixture
def steps(benchmark: Any) -> Callable[..., Any]:
    """Times function(*arguments, STEPS): one microsecond in the table is one nanosecond per step.

    `function` may be a list of functions that take turns, one per round, so that no round finds what the last one left
    in the caches. Returns what the last call returned.
    """

    def run(function: Any, *arguments: Any) -> Any:
        turns = function if isinstance(function, list) else [function]
        turn = 0

        def call() -> Any:
            nonlocal turn
            turn += 1
            return turns[turn % len(turns)](*arguments, STEPS)

        result = benchmark.pedantic(call, rounds=max(200, 2 * len(turns)), iterations=1, warmup_rounds=20)
        benchmark.extra_info["ns_per_step"] = benchmark.stats.stats.median / STEPS * 1e9
        return result

    return run

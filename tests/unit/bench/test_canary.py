"""The measurement of rollouts: what it counts, and that a miss is one."""

from collections.abc import Iterator
from typing import Any

import pytest

from bench import canary
from bench.canary import Line
from tests.system.crowd import Person


def test_whom_a_version_loses_is_counted() -> None:
    crowd = [
        Person(1, versions=["v1", "v2", "v2"]),
        Person(2, versions=["v2", "v1", "v2", "v1"]),
        Person(3, versions=["v2"]),
        Person(4),
    ]
    assert canary.flips(crowd, "v2") == 2 and canary.flips(crowd, "v1") == 2


@pytest.mark.parametrize("kept", [True, False])
def test_a_miss_is_said_and_ends_with_1(
    kept: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def part(_: Any) -> Iterator[Line]:
        yield Line("this", "at most 1", "1", True)
        yield Line("that", "0", "7", kept)

    monkeypatch.setattr(canary, "PARTS", {"one": part})
    assert canary.main(["--no-save"]) == (0 if kept else 1)
    assert capsys.readouterr().out.splitlines()[-1].split() == ["that", "0", "7", "yes" if kept else "no"]


def test_the_statistics_are_those_of_the_tests(capsys: pytest.CaptureFixture[str]) -> None:
    assert canary.main(["--no-save", "--only", "chance", "--rollouts", "5"]) == 0
    assert "median of at most 150" in capsys.readouterr().out

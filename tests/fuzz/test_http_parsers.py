"""A bounded, repeatable part of the fuzzing in every test run; GOROUTER_FUZZ_RUNS asks for more inputs a parser."""

import os

import pytest

from tests.fuzz.__main__ import fuzz
from tests.fuzz.mutate import Mutator, corpus, dictionary
from tests.fuzz.targets import TARGETS

RUNS = int(os.environ.get("GOROUTER_FUZZ_RUNS", "6000"))
SEED = int(os.environ.get("GOROUTER_FUZZ_SEED", "1"))


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_inputs(target: str) -> None:
    verdicts = fuzz(target, SEED, range(RUNS))
    assert sum(verdicts.values()) == RUNS
    if RUNS >= 6000:
        missing = TARGETS[target][1] - verdicts.keys()
        assert not missing, f"no input met {missing}: corpus and dictionary no longer reach it"


@pytest.mark.parametrize("target", TARGETS)
def test_an_input_is_known_by_its_number(target: str) -> None:
    first, again = Mutator(target, 3), Mutator(target, 3)
    inputs = [first.input(i)[0] for i in range(50)]
    assert inputs == [again.input(i)[0] for i in range(50)]
    assert len(set(inputs)) > 25
    assert inputs != [Mutator(target, 4).input(i)[0] for i in range(50)]


def test_corpus_and_dictionary_are_read() -> None:
    assert b"\r\n" in dictionary()
    assert b"\x00" in dictionary()
    assert all(corpus(target) for target in TARGETS)

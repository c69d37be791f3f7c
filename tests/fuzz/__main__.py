"""Fuzzes the HTTP parsers: python -m tests.fuzz [TARGET ...] [--seed N] [--runs N] [--only I] [--keep FILE].

    python -m tests.fuzz                                  every parser, 20,000 inputs each
    python -m tests.fuzz request --seed 7 --runs 1000000
    python -m tests.fuzz request --seed 7 --only 4711     one input again: prints it and what is said to it

The input at hand is always in --keep (default build/fuzz/last): when the process dies, that is the finding.
"""

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

from tests.fuzz.mutate import Mutator
from tests.fuzz.targets import TARGETS


def fuzz(target: str, seed: int, numbers: range, keep: Path | None = None) -> Counter[str]:
    """How often each verdict was given; AssertionError names the input that broke a rule."""
    check, _ = TARGETS[target]
    mutator = Mutator(target, seed)
    verdicts: Counter[str] = Counter()
    last = os.open(keep, os.O_WRONLY | os.O_CREAT, 0o644) if keep else -1
    try:
        for number in numbers:
            data, rng = mutator.input(number)
            if last >= 0:
                os.ftruncate(last, 0)
                os.pwrite(last, data, 0)
            try:
                verdicts[check(data, rng)] += 1
            except Exception as error:
                raise AssertionError(f"{target} --seed {seed} --only {number}: {error}\n{data!r}") from error
    finally:
        if last >= 0:
            os.close(last)
    return verdicts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzzes the HTTP parsers.")
    parser.add_argument("target", nargs="*", choices=[*TARGETS, []], help="which parsers (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=20000)
    parser.add_argument("--only", type=int, help="just the input with that number")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz/last"))
    args = parser.parse_args()
    numbers = range(args.runs) if args.only is None else range(args.only, args.only + 1)
    args.keep.parent.mkdir(parents=True, exist_ok=True)
    for target in args.target or TARGETS:
        if args.only is not None:
            print(repr(Mutator(target, args.seed).input(args.only)[0]))
        verdicts = fuzz(target, args.seed, numbers, args.keep)
        print(f"{target}: " + ", ".join(f"{verdict} {count}" for verdict, count in verdicts.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

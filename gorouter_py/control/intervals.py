"""Which version owns which of the 65536 coordinates, and how that changes when weights do.

A plan is a list of (end, version): ends exclusive and ascending, the last one SLOTS, no version twice in a row. A user
has a coordinate for good, so who changes version is decided here alone.

Up to three versions the plan follows from the weights: the canary owns the upper end, a third version the lower one,
stable what is between. Growing the canary moves one border; every router that knows the weights has the same plan.
With more versions the next plan is made from the present one: who shrinks gives exactly what they lose, who grows
keeps all they had, so nobody goes back and the fewest users move.

Pure; always true: each version's slots are exactly its weight.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Final

SLOTS: Final = 65536
PIECES_MAX: Final = 512  # more, and the plan is made anew from the weights: see grow
Plan = list[tuple[int, int]]


def slots(percent: float) -> int:
    """Slots of a weight in percent: the nearest, but never none for a weight above 0 nor all for one below 100."""
    if not 0 <= percent <= 100:
        raise ValueError(f"{percent!r} is no weight; valid: 0 to 100")
    nearest = round(percent * SLOTS / 100)
    if 0 < percent < 100:
        return min(max(nearest, 1), SLOTS - 1)
    return nearest


def ends(weights: Mapping[int, int], stable: int, canary: int) -> Plan:
    """The plan of weights in slots: the others from below in the order of their numbers, stable, the canary on top.

    ValueError unless the weights add up to SLOTS."""
    if sum(weights.values()) != SLOTS or any(weight < 0 for weight in weights.values()):
        raise ValueError(f"weights {dict(weights)} do not add up to {SLOTS}")
    others = sorted(version for version in weights if version not in (stable, canary))
    plan: Plan = []
    at = 0
    for version in (*others, *dict.fromkeys((stable, canary))):
        if weights.get(version, 0):
            at += weights[version]
            plan.append((at, version))
    return plan


def change(plan: Sequence[tuple[int, int]], weights: Mapping[int, int], stable: int, canary: int) -> Plan:
    """The plan for new weights with the fewest moves from an old one (empty: there is none yet)."""
    target = ends(weights, stable, canary)
    if not plan or len({*weights, *(version for _, version in plan)}) <= 3:
        return target
    moved = _grow(plan, weights)
    return moved if len(moved) <= PIECES_MAX else target


def owned(plan: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Slots by version."""
    found: dict[int, int] = {}
    for start, end, version in pieces(plan):
        found[version] = found.get(version, 0) + end - start
    return found


def pieces(plan: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(start, end, version) of each piece."""
    starts = (0, *(end for end, _ in plan))
    return [(start, end, version) for start, (end, version) in zip(starts, plan, strict=False)]


def _grow(plan: Sequence[tuple[int, int]], weights: Mapping[int, int]) -> Plan:
    """Moves slots from those that have too many to those that have too few, at borders between them if possible."""
    have = owned(plan)
    surplus = {version: count - weights.get(version, 0) for version, count in have.items()}
    parts = [[start, end, version] for start, end, version in pieces(plan)]
    for taker in sorted(version for version, weight in weights.items() if weight > have.get(version, 0)):
        wanted = weights[taker] - have.get(taker, 0)
        while wanted:
            number, at_end = _donor(parts, surplus, taker)
            start, end, giver = parts[number]
            count = min(wanted, surplus[giver], end - start)
            given = [end - count, end, taker] if at_end else [start, start + count, taker]
            kept = [start, end - count, giver] if at_end else [start + count, end, giver]
            parts[number : number + 1] = [part for part in ((kept, given) if at_end else (given, kept))
                                          if part[0] < part[1]]  # fmt: skip
            surplus[giver] -= count
            wanted -= count
            parts = _joined(parts)
    return [(end, version) for _, end, version in parts]


def _donor(parts: list[list[int]], surplus: Mapping[int, int], taker: int) -> tuple[int, bool]:
    """Number of the piece that gives next, and whether at its end: a neighbour of the taker, else the largest."""
    best, best_size, at_end = -1, 0, True
    for number, (start, end, version) in enumerate(parts):
        if surplus.get(version, 0) <= 0:
            continue
        if number + 1 < len(parts) and parts[number + 1][2] == taker:
            return number, True
        if number and parts[number - 1][2] == taker:
            return number, False
        if end - start > best_size:
            best, best_size = number, end - start
    return best, at_end


def _joined(parts: list[list[int]]) -> list[list[int]]:
    found: list[list[int]] = []
    for part in parts:
        if found and found[-1][2] == part[2]:
            found[-1][1] = part[1]
        else:
            found.append(part)
    return found


def moved(before: Sequence[tuple[int, int]], after: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """How many coordinates went from one version to another, by (from, to)."""
    borders = sorted({0, *(end for end, _ in before), *(end for end, _ in after)})
    found: dict[tuple[int, int], int] = {}
    for start, end in itertools.pairwise(borders):
        pair = (owner(before, start), owner(after, start))
        if pair[0] != pair[1]:
            found[pair] = found.get(pair, 0) + end - start
    return found


def owner(plan: Sequence[tuple[int, int]], slot: int) -> int:
    """The version of a slot."""
    return next(version for end, version in plan if slot < end)

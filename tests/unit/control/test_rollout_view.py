"""What is said beside a verdict: what makes the comparison unfair or blind, and who asks most."""

from collections.abc import Sequence
from typing import Any

import pytest

from gorouter_py.control import rollout_spec, rollout_states, rollout_view
from gorouter_py.control.rollout_view import NOTHING, Shown
from gorouter_py.control.verdict import Seen, Verdict


def shown(spec: dict[str, Any] | None = None, **more: Any) -> Shown:
    read = rollout_spec.read({"to": "v2", "from": "v1", "by": "version", **(spec or {})})
    record = rollout_states.start("a.test", read, None, 0.0, "ada", "", 7, "00" * 16, "")
    return Shown(record, read, 0.0, (1_000_000,), True, **more)


def sampled(*names: str) -> list[tuple[int, str]]:
    return [(hash(name) | 1, name) for name in names]


def test_trap_g_the_busiest_client_is_named() -> None:
    """One tenant makes most of the canary's requests: `why` says who, and how much of it."""
    stable, canary = sampled(*[f"tenant-{n}" for n in range(40)]), sampled(*["tenant-7"] * 30, *"abcdefghij")
    rows = rollout_view.why(shown(clients=[stable, canary]))["clients"]
    assert [(row["version"], row["share"], row["sampled"]) for row in rows] == [("v1", 2.5, 40), ("v2", 75.0, 40)]
    assert (rows[1]["client"], rows[1]["users"]) == ("tenant-7", 1)
    assert rollout_view.why(shown(clients=[sampled("a"), []]))["clients"] == []  # too few to say


def test_trap_g_unequal_traffic_is_a_note_whatever_the_verdict_says() -> None:
    verdict = Verdict(0.01)
    verdict.exposed(0.05, 0.0)
    verdict.seen(1.0, Seen(1000, 0, 1000), Seen(1000, 0, 10))
    assert verdict.state == "undecided"
    (note,) = rollout_view.document(shown(verdict=verdict))["notes"]
    assert "a canary user makes 1e+02 times as many requests" in note


def failing(addresses: Sequence[str]) -> list[dict[str, Any]]:
    return [{"address": address} for address in addresses]


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        (["10.0.0.1"] * 4, False),  # too few to mean anything
        (["10.0.0.1"] * 5 + list("abcdef"), False),
        (["10.0.0.1"] * 6 + list("abcdef"), True),
    ],
)
def test_failing_users_of_one_address_are_told_of(addresses: list[str], said: bool) -> None:
    notes = rollout_view.why(shown(evidence=failing(addresses)))["notes"]
    assert [note for note in notes if "failing users of v2 have the address 10.0.0.1" in note] == notes
    assert bool(notes) is said


def test_an_address_cap_that_is_reached_is_told_of() -> None:
    """Behind a load balancer that makes the verdict blind, so it names the way out."""
    verdict = Verdict(0.01)
    verdict.exposed(0.5, 0.0)
    rows = [{**NOTHING, "excluded": 9}, NOTHING]
    numbers: Any = {"versions": rows}
    for _ in range(3):
        verdict.outcome("errors", False, 0.0)
    assert rollout_view.notes(shown({"address_cap": 4}, verdict=verdict, numbers=numbers)) == []
    (note,) = rollout_view.notes(shown({"address_cap": 3}, verdict=verdict, numbers=numbers))
    assert note.startswith("9 failures did not count") and "3 of one client address" in note and "forwarded_for" in note
    (note,) = rollout_view.notes(shown({"address_cap": 3, "forwarded_for": True}, verdict=verdict, numbers=numbers))
    assert "load balancer" not in note
    assert rollout_view.notes(shown({"address_cap": 0}, verdict=verdict, numbers=numbers)) == []

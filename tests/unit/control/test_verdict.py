"""The sequential test of the canary: what it computes, and what it says when."""

import json
import math

import pytest

from gorouter_py.control import verdict
from gorouter_py.control.verdict import Numbers, Seen, Slo, Verdict, evaluate_slo


def begun(share: float = 0.1, *metrics: str, alpha: float = 0.01) -> Verdict:
    made = Verdict(alpha, metrics or ("errors", "latency"))
    made.exposed(share, 0.0)
    return made


def feed(judge: Verdict, failures: str, metric: str = "errors") -> None:
    """c: a canary user failed for the first time; s: a stable one."""
    for letter in failures:
        judge.outcome(metric, letter == "c", 0.0)


def by_the_book(failures: str, share: float) -> float:
    """Log E of the reference formula: one gambler who remembers all."""
    log_e, canary = 0.0, 0
    for n, letter in enumerate(failures):
        theta = min(0.95, max((canary + share) / (n + 1), share))
        log_e += math.log(theta / share) if letter == "c" else math.log((1 - theta) / (1 - share))
        canary += letter == "c"
    return log_e


@pytest.mark.parametrize("failures", ["c", "cc", "ccs", "sscsccs", "cccccccc", "ssssssss"])
def test_the_first_gambler_bets_as_the_formula_says(failures: str) -> None:
    past, log_e = verdict._Past(), 0.0
    for letter in failures:
        theta = past.theta(0.1)
        log_e += math.log(theta / 0.1) if letter == "c" else math.log((1 - theta) / 0.9)
        past.add(letter == "c", 0.1)
    assert log_e == pytest.approx(by_the_book(failures, 0.1))


@pytest.mark.parametrize(("share", "at_most"), [(0.001, 5), (0.01, 5), (0.05, 5), (0.1, 5), (0.25, 6), (0.5, 10)])
@pytest.mark.parametrize("metrics", [("errors",), ("errors", "latency"), ("errors", "latency", "client_errors")])
def test_a_dead_canary_is_seen_after_a_handful_of_users(share: float, at_most: int, metrics: tuple[str, ...]) -> None:
    judge = begun(share, *metrics)
    count = 0
    while judge.state != "worse":
        feed(judge, "c")
        count += 1
    assert count <= at_most
    assert f"errors: {count} of {count} users that failed are the canary's" in judge.reason


def test_a_canary_that_dies_late_is_seen_nearly_as_fast() -> None:
    judge = begun(0.05)
    feed(judge, ("s" * 19 + "c") * 20)  # 400 failures as they should be
    assert judge.state != "worse"
    count = 0
    while judge.state != "worse":
        feed(judge, "c")
        count += 1
    assert count <= 12


def test_evidence_is_a_fair_game() -> None:
    """Under "no worse" the expected capital after any number of failures is 1: over all courses, exactly."""
    share, depth = 0.3, 7
    for changes in ({}, {3: 0.6}):
        expected = 0.0
        for course in range(2**depth):
            judge, weight = Verdict(0.01, ("errors",)), 1.0
            for n in range(depth):
                now = changes.get(n, judge.share or share)
                judge.exposed(now, 0.0)
                is_canary = bool(course >> n & 1)
                weight *= now if is_canary else 1 - now
                judge.outcome("errors", is_canary, 0.0)
            expected += weight * math.exp(judge.log_e)
        assert expected == pytest.approx(1.0)


def test_crossing_the_limit_once_is_enough() -> None:
    judge = begun()
    feed(judge, "ccccc" + "s" * 300)
    assert judge.log_e < judge.limit and judge.state == "worse"


def test_metrics_are_averaged() -> None:
    judge = begun(0.1, "errors", "latency")
    feed(judge, "cccc", "latency")
    latency = judge.metrics["latency"]["log_e"]
    assert judge.log_e == pytest.approx(math.log(0.8 + 0.2 * math.exp(latency)))
    assert judge.metrics["latency"] == {"log_e": latency, "canary": 4, "stable": 0, "theta0": 0.1}
    feed(judge, "cc", "latency")
    assert judge.state == "worse" and judge.reason.startswith("latency:")


def test_a_metric_that_is_not_tested_is_refused() -> None:
    with pytest.raises(KeyError):
        feed(begun(0.1, "errors"), "c", "latency")


@pytest.mark.parametrize("alpha", [0, 1, -1, 2])
def test_alpha_is_a_probability(alpha: float) -> None:
    with pytest.raises(ValueError, match="no probability"):
        Verdict(alpha)


def test_a_share_is_a_share() -> None:
    with pytest.raises(ValueError, match="valid is 0 to 1"):
        begun(7.5)


# -- states ------------------------------------------------------------------------------------------------


def test_undecided_until_somebody_came_and_fine_then() -> None:
    judge = begun(0.05)
    assert judge.state == "undecided" and "0 users" in judge.reason
    judge.seen(1.0, Seen(400, 0, 400), Seen(19, 0, 19))
    assert judge.state == "undecided"
    judge.seen(2.0, Seen(4000, 0, 3000), Seen(200, 0, 150))
    assert judge.state == "fine" and "no sign" in judge.reason
    judge.exposed(0.25, 3.0)
    assert judge.state == "undecided" and "0 requests at this share" in judge.reason
    judge.seen(4.0, Seen(5000, 0, 3000), Seen(220, 0, 160))
    assert judge.state == "fine"


def test_evidence_that_mounts_is_waited_for() -> None:
    judge = begun(0.1)
    judge.seen(1.0, Seen(4000, 0, 3000), Seen(200, 2, 150))
    feed(judge, "ccc")
    assert judge.limit / 2 < judge.log_e < judge.limit
    assert judge.state == "undecided" and "not enough yet" in judge.reason


def test_an_upper_bound_of_the_ratio() -> None:
    judge = begun(0.5)
    assert judge.safe() == verdict.RATIOS[-1]
    feed(judge, "cs" * 200)
    assert 1.0 < judge.safe() < 2.0
    judge.exposed(0.25, 0.0)
    feed(judge, "cssssss" * 40)  # half as often
    assert 0.4 < judge.safe() < 1.2
    assert judge.safe("latency") == verdict.RATIOS[-1]
    judge.seen(1.0, Seen(4000, 0, 3000), Seen(1200, 0, 1150))
    assert "at most" in judge.reason


# -- restart -----------------------------------------------------------------------------------------------


def test_a_restart_changes_nothing() -> None:
    judge = begun(0.1)
    feed(judge, "csscssss" * 5)
    judge.exposed(0.25, 1.0)
    feed(judge, "cssc")
    feed(judge, "sc", "latency")
    again = Verdict.from_state(json.loads(json.dumps(judge.to_state())))
    for verdicts in (judge, again):
        feed(verdicts, "ccs")
    assert again.to_state() == judge.to_state()
    assert (again.metrics, again.log_e, again.safe()) == (judge.metrics, judge.log_e, judge.safe())
    feed(again, "c" * 20)
    assert Verdict.from_state(again.to_state()).state == "worse"


def test_a_state_of_another_version_is_refused() -> None:
    state = begun().to_state()
    state["metrics"]["errors"]["capital"] = [1.0]
    with pytest.raises(ValueError, match="another version"):
        Verdict.from_state(state)


# -- thresholds --------------------------------------------------------------------------------------------

SLO = Slo(error_rate=0.01, p95_ms=200, p99_ms=500)


@pytest.mark.parametrize(
    ("canary", "stable", "state", "words"),
    [
        (Numbers(99, 99), None, "undecided", "99 requests; 100 are wanted"),
        (Numbers(1000, 10, 100, 499), None, "fine", "within"),
        (Numbers(1000, 11, 100, 499), None, "worse", "error_rate of 1.1% is above 1%"),
        (Numbers(1000, 11, 100, 499), Numbers(99, 99), "worse", "error_rate"),
        (Numbers(1000, 0, 100, 501), Numbers(1000, 0, 90, 400), "worse", "p99 of 501 ms is above 500 ms"),
        (Numbers(1000, 0, 201, 400), Numbers(1000, 0, 90, 400), "worse", "p95 of 201 ms"),
        (Numbers(1000, 30), Numbers(1000, 20), "frozen", "and so is stable's (2%)"),
        (Numbers(1000, 50), Numbers(1000, 20), "worse", "error_rate of 5%"),
        (Numbers(1000, 30, 0, 900), Numbers(1000, 20, 0, 100), "worse", "p99 of 900 ms"),
    ],
)
def test_thresholds(canary: Numbers, stable: Numbers | None, state: str, words: str) -> None:
    said, reason = evaluate_slo(SLO, canary, stable)
    assert said == state and words in reason


def test_no_thresholds_no_complaint() -> None:
    assert evaluate_slo(Slo(), Numbers(1000, 1000, 9e9, 9e9)) == ("fine", "within its limits")

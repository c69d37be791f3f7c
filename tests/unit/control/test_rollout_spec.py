"""What an operator may say about a rollout, and every way to say it wrong."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorouter_py.control import config, rollout_spec
from gorouter_py.control.rollout_spec import Unfit, body, read
from gorouter_py.control.verdict import Slo

WHOLE: dict[str, Any] = {
    "to": "v2",
    "from": "v1",
    "by": "tag:release",
    "steps": ["1%", 5, "25", 62.5, "90%"],
    "hold": "90s",
    "pause_at": ["25%"],
    "max_hold": "2h",
    "on_undecided": "pause",
    "cohort": {"mode": "identity", "identity": "header:x-tenant", "sign": "hmac", "new_sessions_only": True, "salt": 7},
    "sticky": "keep",
    "override": {"allow": True, "secret_file": "/run/secret"},
    "rules": [
        {"kind": "header", "name": "x-beta", "op": "present", "version": "v2"},
        {"kind": "cohort", "name": "beta", "value": 20, "version": "v3"},
    ],
    "abort_if": {
        "errors": True,
        "latency": "p99",
        "client_errors": True,
        "alpha": 0.001,
        "slo": {"error_rate": "1%", "p99": "500ms"},
    },
    "checks": [
        {"kind": "webhook", "url": "http://127.0.0.1:9/ok", "failures": 1},
        {"kind": "prometheus", "url": "http://prom:9090", "query": "up", "min": 1, "interval": "5s"},
    ],
    "mirror": {"version": "v2", "share": "10%"},
    "extra_versions": {"v3": "10%"},
    "propagate": True,
    "address_cap": 5,
    "forwarded_for": True,
    "who": "ada",
    "why": "because",
}


def test_all_of_it() -> None:
    spec = read(WHOLE)
    assert (spec.to, spec.from_, spec.by, spec.names) == ("v2", "v1", "tag:release", ("v1", "v2", "v3"))
    assert spec.steps == (1, 5, 25, 62.5, 90) and spec.hold_s == 90 and spec.max_hold_s == 7200
    assert (spec.mode, spec.identity, spec.sign, spec.salt) == ("identity", "header:x-tenant", True, 7)
    assert spec.metrics == ("errors", "latency", "client_errors") and spec.alpha == 0.001
    assert spec.slo == Slo(error_rate=0.01, p99_ms=500.0)
    assert [check.kind for check in spec.checks] == ["webhook", "prometheus"] and spec.checks[1].interval_s == 5
    assert spec.rules[1].value == "20" and spec.mirror == ("v2", 10.0) and spec.top == 90


def test_the_shortest() -> None:
    spec = read({"to": "v2"})
    assert spec == rollout_spec.Spec("v2")
    assert spec.metrics == ("errors", "latency") and not spec.override


@pytest.mark.parametrize("given", [{"to": "v2"}, WHOLE, {"to": "v2", "cohort": {"identity": "address"}}])
def test_what_is_kept_reads_back(given: dict[str, Any]) -> None:
    spec = read(given)
    assert read(body(spec)) == spec
    assert read({**body(spec), "from": None}).from_ == ""


@pytest.mark.parametrize(
    ("given", "path", "said"),
    [
        ({}, "to", "name the new version"),
        ({"to": 5}, "to", "in quotes"),
        ({"to": "v2", "from": "v2"}, "to", "name two versions"),
        ({"to": "v2", "stpes": []}, "stpes", "did you mean steps"),
        ({"to": "v2", "steps": []}, "steps", "at least one"),
        ({"to": "v2", "steps": "5%"}, "steps", "no list"),
        ({"to": "v2", "steps": ["5%", "x"]}, "steps[1]", "'x' is no weight"),
        ({"to": "v2", "steps": ["5%", "5%"]}, "steps[1]", "growing"),
        ({"to": "v2", "steps": ["0%"]}, "steps[0]", "growing"),
        ({"to": "v2", "steps": [True]}, "steps[0]", "no weight"),
        ({"to": "v2", "steps": ["101%"]}, "steps[0]", "valid: 0 to 100"),
        ({"to": "v2", "hold": 10}, "hold", "no duration"),
        ({"to": "v2", "hold": "10"}, "hold", "no duration"),
        ({"to": "v2", "max_hold": "-1s"}, "max_hold", "no duration"),
        ({"to": "v2", "pause_at": ["7%"]}, "pause_at[0]", "no step"),
        ({"to": "v2", "on_undecided": "stop"}, "on_undecided", "wait, promote, pause, abort"),
        ({"to": "v2", "by": "label"}, "by", "process_id"),
        ({"to": "v2", "cohort": []}, "cohort", "no object"),
        ({"to": "v2", "cohort": {"mode": "cookies"}}, "cohort.mode", "did you mean cookie"),
        ({"to": "v2", "cohort": {"mode": "identity"}}, "cohort.identity", "needs one"),
        ({"to": "v2", "cohort": {"identity": "jwt:sub"}}, "cohort.identity", "header:NAME"),
        ({"to": "v2", "cohort": {"identity": "address:33/64"}}, "cohort.identity", "prefix bits"),
        ({"to": "v2", "cohort": {"sign": "rsa"}}, "cohort.sign", "hmac"),
        ({"to": "v2", "cohort": {"salt": 65536}}, "cohort.salt", "0 to 65535"),
        ({"to": "v2", "sticky": "stay"}, "sticky", "move, keep"),
        ({"to": "v2", "override": {"allow": "yes"}}, "override.allow", "true or false"),
        ({"to": "v2", "rules": [{"kind": "header", "name": "a b", "value": "x", "version": "v2"}]}, "rules[0].name",
         "no name of a header"),
        ({"to": "v2", "rules": [{"kind": "address", "version": "v2"}]}, "rules[0].value", "missing"),
        ({"to": "v2", "rules": [{"kind": "user_agent", "op": "present", "version": "v2"}]}, "rules[0].op", "present"),
        ({"to": "v2", "from": "v1", "rules": [{"kind": "cookie", "name": "b", "op": "present", "version": "v9"}]},
         "rules[0].version", "not in this rollout"),
        ({"to": "v2", "rules": [{"kind": "cookie", "name": "b", "op": "present"}]}, "rules[0].version", "missing"),
        ({"to": "v2", "abort_if": {"alpha": 0}}, "abort_if.alpha", "number"),
        ({"to": "v2", "abort_if": {"latency": "p50"}}, "abort_if.latency", "p95, p99"),
        ({"to": "v2", "abort_if": {"slo": {"error_rate": "many"}}}, "abort_if.slo.error_rate", "percent"),
        ({"to": "v2", "abort_if": {"slo": {"p99": "0s"}}}, "abort_if.slo.p99", "at least"),
        ({"to": "v2", "checks": [{"kind": "webhook", "url": "ftp://x"}]}, "checks[0].url", "http://"),
        ({"to": "v2", "checks": [{"kind": "prometheus", "url": "http://x"}]}, "checks[0]", "query"),
        ({"to": "v2", "mirror": {"version": "v2"}}, "mirror.share[0]", "no weight"),
        ({"to": "v2", "mirror": {"share": "5%"}}, "mirror.version", "missing"),
        ({"to": "v2", "from": "v1", "mirror": {"version": "v9", "share": "5%"}}, "mirror.version", "not in this"),
        ({"to": "v2", "extra_versions": {"v2": "5%"}}, "extra_versions.v2", "another version"),
        ({"to": "v2", "extra_versions": {"v3": "60%", "v4": "40%"}}, "extra_versions", "less than 100%"),
        ({"to": "v2", "extra_versions": {"v3": "60%"}, "steps": ["50%"]}, "steps[0]", "up to 40%"),
        ({"to": "v2", "address_cap": 1.5}, "address_cap", "whole number"),
        ({"to": "v2", "forwarded_for": "yes"}, "forwarded_for", "true or false"),
        ({"to": "v2", "who": "a\nb"}, "who", "one line"),
        ("v2", "", "no object"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(given: Any, path: str, said: str) -> None:
    with pytest.raises(Unfit) as caught:
        read(given)
    assert path in [fault.path for fault in caught.value.faults]
    assert said in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(Unfit) as caught:
        read({"steps": ["x"], "hold": 1, "sticky": 1})
    assert [fault.path for fault in caught.value.faults] == ["to", "steps[0]", "hold", "sticky"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*WHOLE, "mode", "kind", "url"]), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(list(WHOLE)), JSON, max_size=4))
def test_whatever_is_sent_is_read_or_refused(changes: dict[str, Any]) -> None:
    try:
        spec = read({**WHOLE, **changes})
    except Unfit as error:
        assert all(str(fault) for fault in error.faults)
    else:
        assert read(body(spec)) == spec


def test_the_file_may_have_it_in_yaml(tmp_path: Path) -> None:
    path = tmp_path / "router.yml"
    path.write_text(
        "gorouter_py:\n"
        "  rollouts:\n"
        "    - route: shop.test\n"
        "      to: v2\n"
        "      steps: [5%, 25, 62.5]\n"
        "      hold: 5m\n"
        "      abort_if: {latency: false, alpha: 0.001}\n"
        "      extra_versions: {v3: 10%}\n"
    )
    (entry,) = config.load(str(path)).config.gorouter_py.rollouts
    assert isinstance(entry, dict) and entry["steps"] == ["5%", 25, 62.5]
    spec = read({key: value for key, value in entry.items() if key != "route"})
    assert (spec.steps, spec.latency, spec.alpha, spec.extras) == ((5, 25, 62.5), "", 0.001, {"v3": 10.0})


@pytest.mark.parametrize(
    ("entry", "place", "said"),
    [
        ("- shop.test", "3:", "this is no section"),
        ("- {to: v2}", "3:", "no route"),
        ("- {route: a.test, to: v2}\n    - {route: a.test, to: v2}", "4:", "named twice"),
        ("- route: a.test\n      to: v2\n      hold: soon", "5:13", "no duration"),
        ("- {route: a.test, to: v2, rules: [{kind: header, name: x, value: y}]}", "3:", "rules[0].version"),
        ("- &a {route: a.test, to: v2, rules: [*a]}", "3:", "too large or nested"),
    ],
)
def test_a_fault_in_the_file_has_its_place(tmp_path: Path, entry: str, place: str, said: str) -> None:
    path = tmp_path / "router.yml"
    path.write_text(f"gorouter_py:\n  rollouts:\n    {entry}\n")
    with pytest.raises(config.ConfigError) as caught:
        config.load(str(path))
    text = "\n".join(str(problem) for problem in caught.value.problems)
    assert f"{path}:{place}" in text and said in text

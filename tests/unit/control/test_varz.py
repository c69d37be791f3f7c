"""/varz: rates, percentiles, top applications and the keys of the document."""

import json
import re

import pytest

from gorouter_py.control import varz
from gorouter_py.control.traffic import Flow, Taken

BOUNDS_NS = (1_000_000, 10_000_000, 100_000_000)


def flow(groups: tuple[int, ...] = (0, 0, 0, 0, 0), buckets: tuple[int, ...] = (0, 0, 0, 0)) -> Flow:
    return Flow(list(groups), list(buckets))


def taken(whole: Flow | None = None, components: dict[str, Flow] | None = None, **apps: int) -> Taken:
    return Taken(whole or flow(), components or {}, {}, apps)


def page(it: varz.Varz, now: Taken, **fields: object) -> dict[str, object]:
    zeros = dict.fromkeys(("requests", "bad_requests", "bad_gateways", "urls", "droplets"), 0)
    moment = {**zeros, "since_update_ms": None, **fields}
    found: dict[str, object] = json.loads(it.document(varz.Moment(**moment), now, 93784.5))  # type: ignore[arg-type]
    return found


@pytest.fixture
def it() -> varz.Varz:
    return varz.Varz("3-abc", 3, "0.0.0.0:8080", ("admin", "pass"), BOUNDS_NS, 1_700_000_000.0)


KEYS = {
    "type", "index", "host", "credentials", "uuid", "start", "uptime", "num_cores", "mem", "cpu", "log_counts",
    "requests", "rate", "responses_2xx", "responses_3xx", "responses_4xx", "responses_5xx", "responses_xxx", "latency",
    "tags", "urls", "droplets", "bad_requests", "bad_gateways", "requests_per_sec", "top10_app_requests",
    "ms_since_last_registry_update",
}  # fmt: skip


def test_before_anything_happened(it: varz.Varz) -> None:
    found = page(it, taken())
    assert set(found) == KEYS
    assert list(found) == sorted(KEYS)
    assert found["type"] == "Router" and found["index"] == 3 and found["uuid"] == "3-abc"
    assert found["credentials"] == ["admin", "pass"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", str(found["start"]))
    assert found["uptime"] == "1d:2h:3m:4s"
    assert found["ms_since_last_registry_update"] == 9223372036854
    assert found["rate"] == [0, 0, 0] and found["tags"] == {"component": {}} and found["top10_app_requests"] == []
    assert found["latency"] == {"50": 0, "75": 0, "90": 0, "95": 0, "99": 0, "value": 5e-7, "samples": 1}


def test_rates_start_with_the_first_and_then_follow(it: varz.Varz) -> None:
    it.tick(50, taken(), 5.0)  # ten a second
    assert page(it, taken())["rate"] == [10.0, 10.0, 10.0]
    it.tick(50, taken(), 10.0)  # none
    one, five, fifteen = page(it, taken())["rate"]  # type: ignore[misc]
    # e^(-5/60), e^(-5/300), e^(-5/900) of the former average are left
    assert (one, five, fifteen) == pytest.approx((9.2004, 9.8347, 9.9446), abs=1e-4)
    assert page(it, taken())["requests_per_sec"] == one


def test_percentiles_lie_within_their_bucket(it: varz.Varz) -> None:
    it.tick(100, taken(flow(buckets=(90, 9, 1, 0))), 5.0)
    latency = page(it, taken())["latency"]
    assert latency["50"] == pytest.approx(0.001 * 50 / 90)  # type: ignore[index]
    assert latency["90"] == pytest.approx(0.001)  # type: ignore[index]
    assert latency["95"] == pytest.approx(0.001 + 0.009 * 5 / 9)  # type: ignore[index]
    assert 0.001 < latency["99"] <= 0.010 + 1e-12  # type: ignore[index]


def test_old_latencies_fade(it: varz.Varz) -> None:
    it.tick(0, taken(flow(buckets=(0, 0, 100, 0))), 0.0)
    for number in range(1, 61):  # five minutes of few, fast requests
        it.tick(0, taken(flow(buckets=(number, 0, 100, 0))), number * 5.0)
    assert page(it, taken())["latency"]["75"] < 0.001  # type: ignore[index]


def test_beyond_the_last_bound_the_bound_is_shown(it: varz.Varz) -> None:
    it.tick(0, taken(flow(buckets=(0, 0, 0, 5))), 0.0)
    assert page(it, taken())["latency"]["50"] == 0.1  # type: ignore[index]


def test_components_have_their_own_numbers(it: varz.Varz) -> None:
    api = flow((4, 0, 1, 0, 0), (5, 0, 0, 0))
    now = taken(flow((6, 0, 1, 0, 0), (7, 0, 0, 0)), {"api": api})
    it.tick(7, now, 5.0)
    found = page(it, now, requests=9)
    mine = found["tags"]["component"]["api"]  # type: ignore[index]
    assert mine["requests"] == 5 and mine["responses_2xx"] == 4 and mine["responses_4xx"] == 1
    assert mine["rate"] == [1.0, 1.0, 1.0] and mine["latency"]["50"] > 0
    assert found["requests"] == 9 and found["responses_2xx"] == 6


def test_the_busiest_applications_of_the_last_minute(it: varz.Varz) -> None:
    for number in range(13):  # one minute: "old" came before, "busy" all the time
        it.tick(0, taken(old=500, busy=number * 60), number * 5.0)
    apps = {f"app{number}": number for number in range(1, 15)}
    found = it.top({"old": 500, "busy": 12 * 60, **apps})
    assert found[0] == {"application_id": "busy", "rps": 12, "rpm": 720}
    assert [each["application_id"] for each in found[1:]] == [f"app{number}" for number in range(14, 5, -1)]


def test_numbers_from_elsewhere(it: varz.Varz) -> None:
    found = page(it, taken(), bad_requests=1, bad_gateways=2, urls=3, droplets=4, since_update_ms=12.9)
    assert (found["bad_requests"], found["bad_gateways"], found["urls"], found["droplets"]) == (1, 2, 3, 4)
    assert found["ms_since_last_registry_update"] == 12

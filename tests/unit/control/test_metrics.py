"""Prometheus text: names, labels, cumulated buckets; read back with the parser of prometheus_client."""

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from gorouter_py.control import metrics
from gorouter_py.control.metrics import Readings


def scrape(readings: Readings) -> dict[str, list[Sample]]:
    text = metrics.render(readings).decode()
    found: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def readings(**fields: object) -> Readings:
    return Readings(**{"counters": {}, "series": [], "bounds_ns": BOUNDS_NS, **fields})  # type: ignore[arg-type]


BOUNDS_NS = tuple(250_000 * n for n in range(1, 12))  # 0.25 ms to 2.75 ms
BUCKETS = (1, 1, 1, 1, 0, 0, 3, 0, 0, 0, 0, 1)  # one more than bounds
SERIES = {"route": 'a.test/"x"\n', "requests": (0, 0, 5, 1, 2, 0), "buckets": BUCKETS, "sum_ns": 1_500_000_000}


def test_requests_by_route_and_class() -> None:
    samples = scrape(readings(series=[SERIES]))["gorouter_requests_total"]
    assert {(s.labels["route"], s.labels["code_class"]): s.value for s in samples} == {
        ('a.test/"x"\n', "2xx"): 5.0,
        ('a.test/"x"\n', "3xx"): 1.0,
        ('a.test/"x"\n', "4xx"): 2.0,
    }


def test_the_histogram_is_cumulated() -> None:
    found = scrape(readings(series=[SERIES]))
    buckets = found["gorouter_request_duration_seconds_bucket"]
    assert [(s.labels["le"], s.value) for s in buckets] == [("0.001", 4.0), ("0.002", 7.0), ("+Inf", 8.0)]
    assert found["gorouter_request_duration_seconds_count"][0].value == 8.0
    assert found["gorouter_request_duration_seconds_sum"][0].value == 1.5


def test_counters_and_gauges_of_the_data_plane() -> None:
    found = scrape(readings(counters={"bad_gateways": 3, "connections_open": 7, "requests": 9}, series=[SERIES]))
    assert found["gorouter_bad_gateways_total"][0].value == 3.0
    assert found["gorouter_connections_open"][0].value == 7.0
    assert found["gorouter_requests_received_total"][0].value == 9.0
    assert len(found["gorouter_requests_total"]) == 3  # the labelled family alone


def test_numbers_of_the_control_plane() -> None:
    found = scrape(
        readings(
            totals={"routes_pruned": 2},
            gauges={"nats_connected": True, "routes": 4},
            actions={"added": 1, "updated": 0},
            info={"version": "1", "build": "dev"},
        )
    )
    assert found["gorouter_routes_pruned_total"][0].value == 2.0
    assert found["gorouter_nats_connected"][0].value == 1.0
    actions = {s.labels["action"]: s.value for s in found["gorouter_registry_messages_total"]}
    assert actions == {"added": 1, "updated": 0}
    assert found["gorouter_build_info"][0].labels == {"version": "1", "build": "dev"}

"""Prometheus text: names, labels, cumulated buckets; read back with the parser of prometheus_client."""

from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from gorouter_py.control import metrics
from gorouter_py.control.metrics import Readings
from gorouter_py.control.traffic import Flow, Histogram, Taken


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


# -- gorouter's names ------------------------------------------------------------------------------------------

MS = 1_000_000


def gorouter(**fields: object) -> Readings:
    whole = {
        "taken": Taken(Flow([0] * 5, [0] * 12), {}, {}, {}),
        "messages": {},
        "registrations_ms": Histogram([0.5, 1.0]),
        "routes": 3,
        "routes_pruned": 2,
        "since_update_ms": -1.0,
        "buffered_messages": 5,
        "dropped_messages": 6,
        "descriptors": lambda: 77,
        "errors": {"encoding": 0, "gathering": 1},
        **fields,
    }
    counters = {"attempts": 20, "bad_gateways": 3, "rejected_requests": 4}
    return readings(counters=counters, gorouter=metrics.Gorouter(**whole))  # type: ignore[arg-type]


def labelled(samples: list[Sample]) -> dict[tuple[str, ...], float]:
    return {tuple(sample.labels.values()): sample.value for sample in samples}


def test_plain_numbers_of_gorouter() -> None:
    text = metrics.render(gorouter()).decode()
    lines = text.splitlines()
    for line in (
        "routes_pruned 2", "total_routes 3", "ms_since_last_registry_update -1", 'total_requests{component=""} 20',
        "rejected_requests 4", "bad_gateways 3", "empty_content_length_header 0", "backend_invalid_id 0",
        "backend_invalid_tls_cert 0", "backend_tls_handshake_failed 0", "backend_exhausted_conns 0",
        "websocket_upgrades 0", "websocket_failures 0", 'responses{status_group="2xx"} 0', "file_descriptors 77",
        "buffered_messages 5", "total_dropped_messages 6",
        'promhttp_metric_handler_errors_total{cause="gathering"} 1',
    ):  # fmt: skip
        assert line in lines
    assert "# TYPE total_requests counter" in lines
    assert "# TYPE total_routes gauge" in lines
    assert "registry_message" not in text  # Go shows no family without samples
    assert "latency_count" not in text.replace("route_registration_latency_count", "")


def test_measured_histograms_have_the_configured_bounds() -> None:
    meter: Any = {"bounds_ns": (5_000, 2_000_000_000), "counts": (1, 2, 3), "sum_ns": 7_000_000_500}
    text = metrics.render(
        gorouter(lookup_ns=Histogram.measured(meter, 1), gorouter_s=Histogram.measured(meter, 10**9))
    ).decode()
    for line in (
        "# TYPE route_lookup_time histogram", 'route_lookup_time_bucket{le="5000"} 1',
        'route_lookup_time_bucket{le="2000000000"} 3', 'route_lookup_time_bucket{le="+Inf"} 6',
        "route_lookup_time_sum 7000000500", "route_lookup_time_count 6",
        'gorouter_time_bucket{le="5e-06"} 1', 'gorouter_time_bucket{le="2"} 3', "gorouter_time_sum 7.0000005",
    ):  # fmt: skip
        assert line in text.splitlines(), line


def test_numbers_by_component() -> None:
    api = Flow([2, 0, 0, 1, 0], [1] * 3 + [0] * 9, 3 * MS)
    taken = Taken(Flow([4, 0, 0, 1, 0], [2] + [1] * 3 + [0] * 8, 10 * MS), {'a"p\\i\n': api}, {"gorouter": api}, {})
    messages = {("", "added"): 1, ("api", "updated"): 2, ("api", "unregistered"): 3}
    found = scrape(gorouter(taken=taken, messages=messages, latency_bounds_ms=[1.0, 0.6], http_latency_bounds_s=[1.0]))
    # the parser adds _total to the names of counters
    assert labelled(found["registry_message_total"]) == {("added", ""): 1, ("updated", "api"): 2}
    assert labelled(found["unregistry_message_total"]) == {("api",): 3}
    assert labelled(found["total_requests_total"]) == {("",): 17, ('a"p\\i\n',): 3}
    assert labelled(found["responses_total"]) == {("2xx",): 4, ("3xx",): 0, ("4xx",): 0, ("5xx",): 1, ("xxx",): 0}
    # bounds of the data plane are 0.25, 0.5, 0.75, 1 ms: 0.6 is nearest to 0.5
    assert labelled(found["latency_bucket"]) == {
        ("", "0.6"): 1, ("", "1"): 2, ("", "+Inf"): 2,
        ('a"p\\i\n', "0.6"): 2, ('a"p\\i\n', "1"): 3, ('a"p\\i\n', "+Inf"): 3,
    }  # fmt: skip
    assert labelled(found["latency_sum"]) == {("",): 7, ('a"p\\i\n',): 3}
    assert labelled(found["latency_count"]) == {("",): 2, ('a"p\\i\n',): 3}
    assert labelled(found["http_latency_seconds_sum"]) == {("gorouter",): 0.003}


def test_registration_latencies_are_exact() -> None:
    histogram = Histogram([1.0, 0.5])
    for value in (0.5, 0.7, 9.0):
        histogram.observe(value)
    found = scrape(gorouter(registrations_ms=histogram))
    assert [s.value for s in found["route_registration_latency_bucket"]] == [1, 2, 3]
    assert found["route_registration_latency_sum"][0].value == 10.2


def test_the_nearest_bound() -> None:
    bounds = (10, 20, 40)
    assert [metrics.nearest(bounds, wanted) for wanted in (1, 9, 14, 16, 29, 31, 1000)] == [-1, 0, 0, 1, 1, 2, 2]

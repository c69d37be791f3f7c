"""Envelopes as the public protocol describes them, read back by protobuf; batches of counters; the socket."""

import socket
from typing import Any

import pytest

from gorouter_py.control import dropsonde, sonde
from gorouter_py.control.traffic import Flow, Histogram, Taken
from tests.support.envelopes import read

NOW_NS = 1_763_870_837_621_273_685


@pytest.mark.parametrize("delta", [0, 1, 127, 128, 300, 2**32, 2**64 - 1])
def test_a_counter(delta: int) -> None:
    envelope = read(sonde.counter_event("responses.2xx", delta, NOW_NS))
    assert (envelope.origin, envelope.eventType, envelope.timestamp) == ("gorouter", 7, NOW_NS)
    assert (envelope.counterEvent.name, envelope.counterEvent.delta) == ("responses.2xx", delta)
    assert not envelope.HasField("valueMetric")


@pytest.mark.parametrize("value", [0.0, 12.5, -1.0, 1e300])
def test_a_value(value: float) -> None:
    envelope = read(sonde.value_metric("latency.ü" + "x" * 200, value, "ms", NOW_NS))
    assert envelope.eventType == 6
    metric = envelope.valueMetric
    assert (metric.name, metric.value, metric.unit) == ("latency.ü" + "x" * 200, value, "ms")


class Sent:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.values: dict[str, tuple[float, str]] = {}

    def clear(self) -> None:
        self.counts.clear()
        self.values.clear()

    def count(self, name: str, delta: int) -> None:
        assert name not in self.counts
        self.counts[name] = delta

    def value(self, name: str, value: float, unit: str) -> None:
        self.values[name] = (value, unit)


def taken(count: int, sum_ms: float, **components: Flow) -> Taken:
    return Taken(Flow([count, 0, 0, 0, 0], [count], int(sum_ms * 1e6)), components, {}, {})


def test_a_batch_holds_differences() -> None:
    sent = Sent()
    batch = dropsonde.Batch(sent)
    batch.flush({"bad_gateways": 3, "registry_message": 5}, taken(0, 0), Histogram([1.0]), muzzled=False)
    assert set(sent.counts) == {*dropsonde.ALWAYS, "registry_message"}
    assert (sent.counts["bad_gateways"], sent.counts["registry_message"], sent.counts["responses"]) == (3, 5, 0)
    sent.clear()
    batch.flush({"bad_gateways": 4, "registry_message": 5}, taken(0, 0), Histogram([1.0]), muzzled=False)
    assert set(sent.counts) == set(dropsonde.ALWAYS)  # gorouter: the others only when there is something
    assert sent.counts["bad_gateways"] == 1
    assert sent.values == {}


def test_latencies_are_means_in_whole_milliseconds() -> None:
    sent = Sent()
    batch = dropsonde.Batch(sent)
    registrations = Histogram([1.0])
    batch.flush({}, taken(4, 10.0, api=Flow([1, 0, 0, 0, 0], [1], 5_900_000)), registrations, muzzled=False)
    assert sent.values == {"latency": (2.0, "ms"), "latency.api": (5.0, "ms")}
    sent.clear()
    registrations.since(NOW_NS, NOW_NS + 7_000_000)
    batch.flush({}, taken(4, 10.0), registrations, muzzled=True)
    assert sent.values == {}
    sent.clear()
    registrations.since(NOW_NS, NOW_NS + 9_000_000)
    batch.flush({}, taken(5, 30.0), registrations, muzzled=False)
    assert sent.values == {"latency": (20.0, "ms"), "route_registration_latency": (9.0, "ms")}


def test_without_latencies() -> None:
    sent = Sent()
    dropsonde.Batch(sent, latencies=False).flush({}, taken(4, 10.0), Histogram([1.0]), muzzled=False)
    assert sent.values == {}


def test_what_the_data_plane_measured() -> None:
    sent = Sent()
    batch = dropsonde.Batch(sent, latencies=False)

    def flush(count: int, lookup_ns: int, own_ns: int) -> None:
        sent.clear()
        meters: Any = {
            "lookup_time": {"bounds_ns": (1,), "counts": (count, 0), "sum_ns": lookup_ns},
            "gorouter_time": {"bounds_ns": (), "counts": (count,), "sum_ns": own_ns},
        }
        batch.flush({}, taken(0, 0), Histogram([1.0]), muzzled=False, meters=meters)

    flush(0, 0, 0)
    assert sent.values == {}
    flush(4, 4 * 1_500, 4 * 250_000)
    assert sent.values == {"route_lookup_time": (1500.0, "ns"), "gorouter_time": (0.25, "ms")}
    flush(4, 4 * 1_500, 4 * 250_000)
    assert sent.values == {}
    flush(6, 4 * 1_500 + 2 * 700, 4 * 250_000 + 1)
    assert sent.values["route_lookup_time"] == (700.0, "ns")


def test_names_of_totals() -> None:
    flows = {"dea-1": Flow([2, 0, 1, 0, 0], [3]), "api": Flow([1, 0, 0, 0, 0], [1])}
    messages = {("", "added"): 2, ("", "updated"): 1, ("api", "added"): 4, ("api", "unregistered"): 5}
    now = Taken(Flow([3, 4, 5, 6, 7], [25]), flows, {}, {})
    found = dropsonde.totals({"attempts": 30, "bad_gateways": 2, "connections": 9}, now, messages, 8)
    assert found == {
        **dict.fromkeys(dropsonde.FROM_DATA_PLANE, 0),
        "bad_gateways": 2, "total_requests": 30, "routes_pruned": 8, "responses": 25, "responses.2xx": 3,
        "responses.3xx": 4, "responses.4xx": 5, "responses.5xx": 6, "responses.xxx": 7, "routed_app_requests": 3,
        "requests.dea-1": 3, "requests.api": 1, "registry_message": 3, "registry_message.api": 4,
        "unregistry_message.api": 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("", "destination variable not set"),
        ("localhost", "missing port in address"),
        ("localhost:x", "invalid port"),
        ("localhost:70000", "invalid port"),
        ("no-such-host.invalid:3457", "lookup no-such-host.invalid"),
    ],
)
def test_addresses_that_are_no_use(address: str, error: str) -> None:
    with pytest.raises(dropsonde.CannotInitialize, match="Failed to initialize dropsonde: .*" + error):
        dropsonde.Emitter(address)


def test_datagrams_arrive_and_a_deaf_agent_is_no_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        agent.settimeout(60)
        port = agent.getsockname()[1]
        emitter = dropsonde.Emitter(f"127.0.0.1:{port}", lambda: NOW_NS)
        emitter.count("bad_gateways", 2)
        emitter.value("uptime", 3.0, "seconds")
        assert read(agent.recv(65536)).counterEvent.name == "bad_gateways"
        assert read(agent.recv(65536)).valueMetric.unit == "seconds"
    for _ in range(3):
        emitter.count("bad_gateways", 1)
    assert emitter.sent + emitter.failed == 5
    emitter.close()


def test_open_descriptors() -> None:
    before = dropsonde.open_descriptors()
    with socket.socket():
        assert dropsonde.open_descriptors() == before + 1

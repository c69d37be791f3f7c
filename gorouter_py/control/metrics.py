"""Prometheus text from numbers that were read before: rendering touches neither data plane nor registry.

`Readings` is filled on the control thread (short), `render` runs on the status thread (as long as it takes).
Counters of the data plane appear as gorouter_<name>_total, its gauges (*_open, *_active, *_idle) as gorouter_<name>.
One name differs: its `requests` is gorouter_requests_received_total, since gorouter_requests_total has labels.

The number of series is bounded by the data plane: routes beyond its cap share the series with route="".

Beside them come gorouter's own names (`_gorouter`), with its labels and units, so that its dashboards go on. Their
histograms have the configured bounds; those that are kept per route are cumulated at the data plane's own bound nearest
to each.
"""

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gorouter_py.control.rollout_view import Reading
from gorouter_py.control.traffic import STATUS_GROUPS, UNREGISTERED, Flow, Histogram, Taken

if TYPE_CHECKING:
    from gorouter_py._fastpath import Series

CODE_CLASSES: Final = ("xxx", "1xx", "2xx", "3xx", "4xx", "5xx")
GAUGE_SUFFIXES: Final = ("_open", "_active", "_idle")
BUCKETS_PER_SHOWN: Final = 4  # an octave: 2,048 routes with all 96 buckets would be 200,000 lines a scrape
RENAMED: Final = {"requests": "requests_received"}
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Gorouter:
    """What gorouter's own names show. messages: by component and action; errors: of this page, by cause."""

    taken: Taken
    messages: Mapping[tuple[str, str], int]
    registrations_ms: Histogram
    routes: int
    routes_pruned: int
    since_update_ms: float
    buffered_messages: int
    dropped_messages: int
    descriptors: Callable[[], int]  # called while rendering: it may take its time
    errors: Mapping[str, int]
    lookup_ns: Histogram | None = None
    gorouter_s: Histogram | None = None
    latency_bounds_ms: Sequence[float] = ()  # empty: no latencies
    http_latency_bounds_s: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Readings:
    """One moment of everything that is exported. Keys of `totals` and `gauges` are names without the prefix."""

    counters: Mapping[str, int]
    series: Sequence["Series"]
    bounds_ns: Sequence[int]
    totals: Mapping[str, float] = field(default_factory=dict)
    gauges: Mapping[str, float] = field(default_factory=dict)
    actions: Mapping[str, int] = field(default_factory=dict)  # registry messages by what they did
    info: Mapping[str, str] = field(default_factory=dict)
    gorouter: Gorouter | None = None
    rollouts: Sequence[Reading] = ()
    decisions: Mapping[str, int] = field(default_factory=dict)  # about rollouts, by action


def render(readings: Readings) -> bytes:
    """The text exposition format, version 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(readings))
    text = generate_latest(registry)
    if readings.gorouter is not None:
        text += "".join(_gorouter(readings, readings.gorouter)).encode()
    return text


# -- gorouter's names ------------------------------------------------------------------------------------------
# Written by hand: the library ends the name of every counter with _total, Go's does not.

Labels = Mapping[str, str]
PLAIN_COUNTERS: Final = {
    "rejected_requests": "Requests without a usable host, for an unknown route or a bad instance header",
    "bad_gateways": "Requests answered 502 because no endpoint answered",
    "empty_content_length_header": "Requests with an empty Content-Length, where they are let in",
    "backend_invalid_id": "Endpoints whose certificate is for another name",
    "backend_invalid_tls_cert": "Endpoints whose certificate is not trusted",
    "backend_tls_handshake_failed": "TLS handshakes with endpoints that failed",
    "backend_exhausted_conns": "Requests whose route had all endpoints at their connection limit",
    "websocket_upgrades": "Upgrades to websocket",
    "websocket_failures": "Upgrades to websocket that failed",
}


def _gorouter(readings: Readings, it: Gorouter) -> Iterator[str]:
    taken, counters = it.taken, readings.counters
    actions = [(key, count) for key, count in it.messages.items() if key[1] != UNREGISTERED]
    yield from _family(
        "registry_message", "counter", "Registrations by component and what they did",
        (({"action": action, "component": component}, count) for (component, action), count in actions),
    )  # fmt: skip
    yield from _family(
        "unregistry_message", "counter", "Withdrawn registrations by component",
        (({"component": key[0]}, count) for key, count in it.messages.items() if key[1] == UNREGISTERED),
    )  # fmt: skip
    yield from _family("routes_pruned", "counter", "Stale endpoints dropped", [({}, it.routes_pruned)])
    yield from _family("total_routes", "gauge", "Routes", [({}, it.routes)])
    yield from _family(
        "ms_since_last_registry_update", "gauge", "Milliseconds since the latest message; -1: none came",
        [({}, it.since_update_ms)],
    )  # fmt: skip
    tagged = {name: flow.requests for name, flow in taken.components.items()}
    attempts = {"": max(counters.get("attempts", 0) - sum(tagged.values()), 0), **tagged}
    yield from _family(
        "total_requests", "counter", "Attempts to have a request answered, by component",
        (({"component": component}, count) for component, count in attempts.items()),
    )  # fmt: skip
    for name, text in PLAIN_COUNTERS.items():
        yield from _family(name, "counter", text, [({}, counters.get(name, 0))])
    yield from _family(
        "responses", "counter", "Answers of endpoints by group of status codes",
        (({"status_group": group}, count) for group, count in zip(STATUS_GROUPS, taken.whole.groups, strict=True)),
    )  # fmt: skip
    yield from _family("file_descriptors", "gauge", "Open descriptors", [({}, it.descriptors())])
    yield from _family("buffered_messages", "gauge", "Messages that wait to be handled", [({}, it.buffered_messages)])
    yield from _family(
        "total_dropped_messages", "gauge", "Messages dropped because too many waited", [({}, it.dropped_messages)]
    )
    yield from _family(
        "promhttp_metric_handler_errors_total", "counter", "Failures of this page by cause",
        (({"cause": cause}, count) for cause, count in it.errors.items()),
    )  # fmt: skip
    histogram = it.registrations_ms
    yield from _histograms(
        "route_registration_latency", "From the change of an endpoint to its registration here, in milliseconds",
        [({}, histogram.bounds, histogram.counts, histogram.total)],
    )  # fmt: skip
    for name, text, measured in (
        ("route_lookup_time", "From request head to the choice of an instance, in nanoseconds", it.lookup_ns),
        ("gorouter_time", "What the router itself took of a request, in seconds", it.gorouter_s),
    ):
        if measured is not None:
            yield from _histograms(name, text, [({}, measured.bounds, measured.counts, measured.total)])
    if it.latency_bounds_ms:
        flows = {"": _without(taken.whole, taken.components.values()), **taken.components}
        yield from _histograms(
            "latency", "From request head to the end of its answer, in milliseconds",
            (
                ({"component": name}, *_rebound(flow, readings.bounds_ns, it.latency_bounds_ms, 1e6))
                for name, flow in flows.items()
            ),
        )  # fmt: skip
    if it.http_latency_bounds_s:
        yield from _histograms(
            "http_latency_seconds", "From request head to the end of its answer, in seconds",
            (
                ({"source_id": name}, *_rebound(flow, readings.bounds_ns, it.http_latency_bounds_s, 1e9))
                for name, flow in taken.sources.items()
            ),
        )  # fmt: skip


def _family(name: str, kind: str, text: str, samples: Iterable[tuple[Labels, float]]) -> Iterator[str]:
    """Go leaves out a family without samples."""
    head = f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        yield f"{head}{name}{_labels(labels)} {_value(value)}\n"
        head = ""


def _histograms(
    name: str, text: str, samples: Iterable[tuple[Labels, Sequence[float], Sequence[int], float]]
) -> Iterator[str]:
    """samples: labels, bounds, counts per bucket (one more than bounds), sum."""
    head = f"# HELP {name} {text}\n# TYPE {name} histogram\n"
    for labels, bounds, counts, total in samples:
        cumulated = 0
        yield head
        head = ""
        for bound, count in zip((*bounds, float("inf")), counts, strict=True):
            cumulated += count
            yield f"{name}_bucket{_labels({**labels, 'le': _value(bound)})} {cumulated}\n"
        yield f"{name}_sum{_labels(labels)} {_value(total)}\n{name}_count{_labels(labels)} {cumulated}\n"


def _rebound(
    flow: Flow, bounds_ns: Sequence[int], wanted: Sequence[float], unit_ns: float
) -> tuple[list[float], list[int], float]:
    """Bounds, counts and sum of a flow with other bounds; each takes what is below the nearest bound there is."""
    bounds = sorted(set(wanted))
    counts: list[int] = []
    start = 0
    for bound in bounds:
        end = max(nearest(bounds_ns, bound * unit_ns) + 1, start)
        counts.append(sum(flow.buckets[start:end]))
        start = end
    counts.append(sum(flow.buckets[start:]))
    return bounds, counts, flow.sum_ns / unit_ns


def nearest(bounds: Sequence[float], wanted: float) -> int:
    """Index of the bound nearest to `wanted`; -1 if even the first is more than twice as large."""
    if wanted * 2 < bounds[0]:
        return -1
    above = bisect.bisect_left(bounds, wanted)
    if above == 0:
        return 0
    if above == len(bounds):
        return above - 1
    return above if bounds[above] - wanted < wanted - bounds[above - 1] else above - 1


def _without(whole: Flow, parts: Iterable[Flow]) -> Flow:
    rest = Flow(list(whole.groups), list(whole.buckets), whole.sum_ns)
    for part in parts:
        rest.groups = [mine - theirs for mine, theirs in zip(rest.groups, part.groups, strict=True)]
        rest.buckets = [mine - theirs for mine, theirs in zip(rest.buckets, part.buckets, strict=True)]
        rest.sum_ns -= part.sum_ns
    return rest


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _value(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(float(value))


# -- our names -------------------------------------------------------------------------------------------------


class _Collector(Collector):
    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def describe(self) -> Iterable[Metric]:
        return ()  # names need no check against others: the registry holds this collector alone

    def collect(self) -> Iterator[Metric]:
        readings = self._readings
        if readings.info:
            info = GaugeMetricFamily("gorouter_build_info", "What runs here; always 1", labels=list(readings.info))
            info.add_metric(list(readings.info.values()), 1)
            yield info
        yield from self._requests()
        yield from self._rollouts()
        for name, value in readings.counters.items():
            text = name.replace("_", " ")
            if name.endswith(GAUGE_SUFFIXES):
                yield GaugeMetricFamily(f"gorouter_{name}", f"Data plane: {text} now", value=value)
            else:
                shown = RENAMED.get(name, name)
                yield CounterMetricFamily(f"gorouter_{shown}", f"Data plane: {text}", value=value)
        if readings.actions:
            messages = CounterMetricFamily(
                "gorouter_registry_messages", "Registrations by what they did", labels=["action"]
            )
            for action, count in readings.actions.items():
                messages.add_metric([action], count)
            yield messages
        for name, total in readings.totals.items():
            yield CounterMetricFamily(f"gorouter_{name}", f"Control plane: {name.replace('_', ' ')}", value=total)
        for name, gauge in readings.gauges.items():
            yield GaugeMetricFamily(f"gorouter_{name}", f"Control plane: {name.replace('_', ' ')}", value=gauge)

    def _rollouts(self) -> Iterator[Metric]:
        """By route and version; numbers begin anew with each rollout, weights and shares are percent."""
        of_version = ["route", "version"]
        weight = GaugeMetricFamily("gorouter_canary_weight", "Wanted share of the users, percent", labels=of_version)
        share = GaugeMetricFamily("gorouter_canary_share", "Actual share of the users, percent", labels=of_version)
        requests = CounterMetricFamily("gorouter_canary_requests", "Requests by version", labels=of_version)
        failures = CounterMetricFamily(
            "gorouter_canary_failures", "Failed requests by version and cause", labels=[*of_version, "cause"]
        )
        log_e = GaugeMetricFamily(
            "gorouter_canary_log_evalue", "Evidence against the canary, natural logarithm", labels=["route"]
        )
        durations = HistogramMetricFamily(
            "gorouter_canary_response_head_seconds", "From request head to response head", labels=of_version
        )
        for rollout in self._readings.rollouts:
            if rollout.log_e is not None:
                log_e.add_metric([rollout.route], rollout.log_e)
            for version in rollout.versions:
                labels = [rollout.route, version.name]
                weight.add_metric(labels, version.weight)
                share.add_metric(labels, version.share)
                requests.add_metric(labels, version.requests)
                for cause, count in version.failures.items():
                    failures.add_metric([*labels, cause], count)
                durations.add_metric(labels, self._cumulated(version.buckets), sum_value=version.sum_ns / 1e9)
        decisions = CounterMetricFamily("gorouter_canary_decision", "Changes of rollouts by action", labels=["action"])
        for action, count in self._readings.decisions.items():
            decisions.add_metric([action], count)
        families = (weight, share, requests, failures, log_e, durations, decisions)
        yield from (family for family in families if family.samples)

    def _requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "gorouter_requests", "Requests by route and class of status code", labels=["route", "code_class"]
        )
        durations = HistogramMetricFamily(
            "gorouter_request_duration_seconds", "From request head to the end of its answer", labels=["route"]
        )
        for series in self._readings.series:
            route = series["route"]
            for code_class, count in zip(CODE_CLASSES, series["requests"], strict=True):
                if count:
                    requests.add_metric([route, code_class], count)
            durations.add_metric([route], self._cumulated(series["buckets"]), sum_value=series["sum_ns"] / 1e9)
        yield requests
        yield durations

    def _cumulated(self, buckets: Sequence[int]) -> list[tuple[str, float]]:
        """Buckets as they are shown: one per octave, cumulated."""
        bounds_ns = self._readings.bounds_ns
        cumulated = 0
        shown: list[tuple[str, float]] = []
        for index, count in enumerate(buckets):
            cumulated += count
            if index < len(bounds_ns) and index % BUCKETS_PER_SHOWN == BUCKETS_PER_SHOWN - 1:
                shown.append((f"{bounds_ns[index] / 1e9:.9g}", cumulated))
        return [*shown, ("+Inf", cumulated)]

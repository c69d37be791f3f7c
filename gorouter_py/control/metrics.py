"""Prometheus text from numbers that were read before: rendering touches neither data plane nor registry.

`Readings` is filled on the control thread (short), `render` runs on the status thread (as long as it takes).
Counters of the data plane appear as gorouter_<name>_total, its gauges (*_open, *_active, *_idle) as gorouter_<name>.
One name differs: its `requests` is gorouter_requests_received_total, since gorouter_requests_total has labels.

The number of series is bounded by the data plane: routes beyond its cap share the series with route="".
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from gorouter_py._fastpath import Series

CODE_CLASSES: Final = ("xxx", "1xx", "2xx", "3xx", "4xx", "5xx")
GAUGE_SUFFIXES: Final = ("_open", "_active", "_idle")
BUCKETS_PER_SHOWN: Final = 4  # an octave: 2,048 routes with all 96 buckets would be 200,000 lines a scrape
RENAMED: Final = {"requests": "requests_received"}
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


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


def render(readings: Readings) -> bytes:
    """The text exposition format, version 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(readings))
    return generate_latest(registry)


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

    def _requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "gorouter_requests", "Requests by route and class of status code", labels=["route", "code_class"]
        )
        durations = HistogramMetricFamily(
            "gorouter_request_duration_seconds", "From request head to the end of its answer", labels=["route"]
        )
        bounds_ns = self._readings.bounds_ns
        shown = [index for index in range(len(bounds_ns)) if index % BUCKETS_PER_SHOWN == BUCKETS_PER_SHOWN - 1]
        bounds = {index: f"{bounds_ns[index] / 1e9:.9g}" for index in shown}
        for series in self._readings.series:
            route = series["route"]
            for code_class, count in zip(CODE_CLASSES, series["requests"], strict=True):
                if count:
                    requests.add_metric([route, code_class], count)
            cumulated = 0
            buckets: list[tuple[str, float]] = []
            for index, count in enumerate(series["buckets"]):
                cumulated += count
                if index in bounds:
                    buckets.append((bounds[index], cumulated))
            buckets.append(("+Inf", cumulated))
            durations.add_metric([route], buckets, sum_value=series["sum_ns"] / 1e9)
        yield requests
        yield durations

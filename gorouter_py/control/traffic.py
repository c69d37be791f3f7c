"""What went through, added up the way gorouter counts it: in all, and by the tags of the registrations behind a route.

The data plane counts per route (`series`). Which component, source and application a route belongs to is known by its
registrations: `Traffic` asks for them. It is owned by the control thread; what `take` returns may be read by any.

gorouter: only requests for which an endpoint was chosen are in here, and 1xx counts as "xxx".

Approximate where the data are: a request is counted when it ends and to the component its route had when traffic
began; an application gets the requests of the route its first endpoint serves. Does not render, send or keep time.
"""

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gorouter_py.control.messages import Registration

if TYPE_CHECKING:
    from gorouter_py._fastpath import Meter, Series

STATUS_GROUPS: Final = ("2xx", "3xx", "4xx", "5xx", "xxx")
ACTIONS: Final = ("added", "updated", "unmodified")
UNREGISTERED: Final = "unregistered"
Facts = Callable[[Iterable[str]], Iterator[tuple[str, Registration]]]


@dataclass(slots=True)
class Flow:
    """Requests that ended: by status group, by latency bucket (not cumulated), and their time in all."""

    groups: list[int]
    buckets: list[int]
    sum_ns: int = 0

    @property
    def requests(self) -> int:
        return sum(self.groups)

    @classmethod
    def of(cls, series: Sequence["Series"], bucket_count: int) -> "Flow":
        """The sum of some series. By columns: that is C code, and there may be 2,048 series with 96 buckets each."""
        xxx, interim, two, three, four, five = map(sum, zip(*(one["requests"] for one in series), strict=True))
        buckets = map(sum, zip(*(one["buckets"] for one in series), strict=True))
        groups = [two, three, four, five, xxx + interim]
        return cls(groups, list(buckets) or [0] * bucket_count, sum(one["sum_ns"] for one in series))

    @classmethod
    def sum(cls, flows: Sequence["Flow"], bucket_count: int) -> "Flow":
        if not flows:
            return cls([0] * len(STATUS_GROUPS), [0] * bucket_count)
        groups = [sum(column) for column in zip(*(flow.groups for flow in flows), strict=True)]
        buckets = [sum(column) for column in zip(*(flow.buckets for flow in flows), strict=True)]
        return cls(groups, buckets, sum(flow.sum_ns for flow in flows))


@dataclass(frozen=True, slots=True)
class Taken:
    """The traffic since the start, at one moment. Routes without a component tag are in `whole` alone."""

    whole: Flow
    components: Mapping[str, Flow]
    sources: Mapping[str, Flow]  # by tag source_id, "gorouter" without one
    apps: Mapping[str, int]  # requests by application id


class Traffic:
    """Adds up the series of routes; see the head of the file."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._labels: dict[str, tuple[str, str]] = {}  # route -> component, source; kept, so that no sum ever shrinks
        self._seen: dict[str, int] = {}  # route -> requests at the latest look
        self._apps: dict[str, int] = {}

    def take(self, series: Sequence["Series"], bucket_count: int) -> Taken:
        """Adds up. bucket_count: latency buckets of each series, the one without a bound included."""

        apps = self._look([one["route"] for one in series])
        groups: dict[tuple[str, str], list[Series]] = {}
        for one in series:
            route = one["route"]
            groups.setdefault(self._labels.get(route, ("", "gorouter")), []).append(one)
            count = sum(one["requests"])
            new = count - self._seen.get(route, 0)
            self._seen[route] = count
            app = apps.get(route)
            if app and new:
                self._apps[app] = self._apps.get(app, 0) + new
        flows = {labels: Flow.of(members, bucket_count) for labels, members in groups.items()}
        components: dict[str, list[Flow]] = {}
        sources: dict[str, list[Flow]] = {}
        for (component, source), flow in flows.items():
            sources.setdefault(source, []).append(flow)
            if component:
                components.setdefault(component, []).append(flow)
        return Taken(
            Flow.sum(list(flows.values()), bucket_count),
            {name: Flow.sum(parts, bucket_count) for name, parts in components.items()},
            {name: Flow.sum(parts, bucket_count) for name, parts in sources.items()},
            dict(self._apps),
        )

    def _look(self, routes: list[str]) -> dict[str, str]:
        """Notes the labels of routes that are new here; the applications of all, as they are registered now."""
        apps: dict[str, str] = {}
        for route, facts in self._facts(routes):
            apps.setdefault(route, facts.app)
            if route not in self._labels:
                tags = facts.tags or {}
                self._labels[route] = (tags.get("component", ""), tags.get("source_id", "") or "gorouter")
        return apps


@dataclass(slots=True)
class Histogram:
    """Counts of values up to each bound (Prometheus: le), the last without one."""

    bounds: Sequence[float]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.bounds = sorted(set(self.bounds))
        self.counts = [0] * (len(self.bounds) + 1)

    @classmethod
    def measured(cls, meter: "Meter", unit_ns: int) -> "Histogram":
        """What the data plane measured, in other units."""
        made = cls([bound / unit_ns for bound in meter["bounds_ns"]])
        made.counts = list(meter["counts"])
        made.total = meter["sum_ns"] / unit_ns
        return made

    @property
    def count(self) -> int:
        return sum(self.counts)

    def observe(self, value: float) -> None:
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.total += value

    def since(self, stamp_ns: int, now_ns: int) -> None:
        """Observes the milliseconds between two readings of the wall clock."""
        self.observe((now_ns - stamp_ns) / 1e6)

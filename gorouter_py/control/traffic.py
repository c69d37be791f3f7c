"""What went through, added up the way gorouter counts it: in all, and by the tags of the registrations behind a route.

The data plane counts per route (`series`). Which component, source and application a route belongs to is known by its
registrations: `Traffic` asks for them once per route with traffic. `Messages` stands between intake and registry and
counts registrations by component. Both are owned by the control thread; what `Traffic.take` returns may be read by any.

gorouter: only requests for which an endpoint was chosen are in here, and 1xx counts as "xxx".

Approximate where the data are: a request is counted when it ends and to the component its route had when traffic
began; an application gets the requests of the route its first endpoint serves. Does not render, send or keep time.
"""

import bisect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from gorouter_py.control.messages import Registration

if TYPE_CHECKING:
    from gorouter_py._fastpath import Series

STATUS_GROUPS: Final = ("2xx", "3xx", "4xx", "5xx", "xxx")
COMPONENTS_MAX: Final = 1024  # a client of the bus can invent tags; what is beyond is counted without one
ACTIONS: Final = ("added", "updated", "unmodified")
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

    def add(self, series: "Series") -> None:
        xxx, interim, two, three, four, five = series["requests"]
        groups = self.groups
        for number, count in enumerate((two, three, four, five, xxx + interim)):
            groups[number] += count
        self.buckets = [mine + more for mine, more in zip(self.buckets, series["buckets"], strict=True)]
        self.sum_ns += series["sum_ns"]


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

        def empty() -> Flow:
            return Flow([0] * len(STATUS_GROUPS), [0] * bucket_count)

        whole = empty()
        components: dict[str, Flow] = {}
        sources: dict[str, Flow] = {}
        apps = self._look([one["route"] for one in series])
        for one in series:
            route = one["route"]
            whole.add(one)
            component, source = self._labels.get(route, ("", "gorouter"))
            if component:
                components.setdefault(component, empty()).add(one)
            sources.setdefault(source, empty()).add(one)
            count = sum(one["requests"])
            new = count - self._seen.get(route, 0)
            self._seen[route] = count
            app = apps.get(route)
            if app and new:
                self._apps[app] = self._apps.get(app, 0) + new
        return Taken(whole, components, sources, dict(self._apps))

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

    def observe(self, value: float) -> None:
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.total += value


class Counts(Protocol):
    added: int
    updated: int
    unmodified: int
    unregistered: int


class Registry(Protocol):
    @property
    def counts(self) -> Counts: ...
    @property
    def last_update(self) -> float | None: ...
    def register(self, message: Registration, now: float) -> None: ...
    def unregister(self, message: Registration, now: float) -> None: ...


class Messages:
    """Passes messages on to the registry and counts, per uri and component, what they did.

    gorouter: a registration that changes nothing is "updated"; "unmodified" is one that came too late."""

    def __init__(self, registry: Registry, latency_bounds_ms: Sequence[float], wall: Callable[[], int] = time.time_ns):
        self._registry = registry
        self._wall = wall
        self.registered: dict[str, list[int]] = {}  # component -> number per action
        self.unregistered: dict[str, int] = {}
        self.latency_ms = Histogram(latency_bounds_ms)  # from endpoint_updated_at_ns to the first registration

    def register(self, message: Registration, now: float) -> None:
        counts = self._registry.counts
        added, updated, unmodified = counts.added, counts.updated, counts.unmodified
        self._registry.register(message, now)
        new = counts.added - added
        kept = counts.updated - updated + counts.unmodified - unmodified
        if not (new or kept):
            return
        component = self._component(message, self.registered)
        numbers = self.registered.get(component)
        if numbers is None:
            numbers = self.registered[component] = [0, 0, 0]
        numbers[0] += new
        numbers[1] += kept
        stamp = message.endpoint_updated_at_ns
        if new and stamp > 0:
            latency = (self._wall() - stamp) / 1e6
            for _ in range(new):
                self.latency_ms.observe(latency)

    def unregister(self, message: Registration, now: float) -> None:
        self._registry.unregister(message, now)
        if self._registry.last_update == now:  # else it belongs to another router's segment
            component = self._component(message, self.unregistered)
            self.unregistered[component] = self.unregistered.get(component, 0) + len(message.uris)

    def _component(self, message: Registration, known: Mapping[str, object]) -> str:
        tags = message.tags
        component = tags.get("component", "") if tags else ""
        return component if component in known or len(known) < COMPONENTS_MAX else ""

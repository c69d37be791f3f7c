"""The numbers of the deprecated /varz page: rates, latency percentiles and the busiest applications.

`tick` is called every TICK_S seconds with the totals of that moment; rates are exponentially weighted averages over 1,
5 and 15 minutes of what came in between. Latencies are kept as a histogram whose older part fades by DECAY a second,
so percentiles are those of the recent past, as exact as the buckets of the data plane.

`document` is one JSON object with gorouter's keys. Control thread; no clock and no socket of its own.
"""

import math
import os
import resource
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from gorouter_py.control.traffic import STATUS_GROUPS, Flow, Taken

TICK_S: Final = 5.0
MINUTES: Final = (1, 5, 15)
PERCENTILES: Final = (50, 75, 90, 95, 99)
DECAY: Final = 0.015  # gorouter: the decay of its sample
TOP_WINDOW_S: Final = 60.0
TOP_COUNT: Final = 10
NEVER_MS: Final = 9223372036854  # gorouter: the longest Go duration, since nothing ever came


class Meter:
    """Events per second, averaged over 1, 5 and 15 minutes."""

    def __init__(self) -> None:
        self._total = 0
        self.rates: list[float] | None = None

    def tick(self, total: int) -> None:
        now = max(total - self._total, 0) / TICK_S
        self._total = total
        if self.rates is None:
            self.rates = [now] * len(MINUTES)
            return
        for number, minutes in enumerate(MINUTES):
            weight = 1 - math.exp(-TICK_S / 60 / minutes)
            self.rates[number] += weight * (now - self.rates[number])


class Fading:
    """A latency histogram in which what is older counts less."""

    def __init__(self) -> None:
        self._seen: Sequence[int] = ()
        self._weights: list[float] = []

    def tick(self, buckets: Sequence[int]) -> None:
        before = self._seen or [0] * len(buckets)
        kept = math.exp(-DECAY * TICK_S)
        old = self._weights or [0.0] * len(buckets)
        self._weights = [
            weight * kept + (now - then) for weight, now, then in zip(old, buckets, before, strict=True)
        ]
        self._seen = list(buckets)

    def percentile(self, percent: float, bounds_ns: Sequence[int]) -> float:
        """Seconds, straight between the bounds of its bucket; 0 if there was nothing."""
        whole = sum(self._weights)
        if whole <= 0:
            return 0.0
        wanted = whole * percent / 100
        below = 0.0
        for number, weight in enumerate(self._weights):
            if weight > 0 and below + weight >= wanted:
                low = bounds_ns[number - 1] if number else 0
                high = bounds_ns[number] if number < len(bounds_ns) else low
                return (low + (high - low) * (wanted - below) / weight) / 1e9
            below += weight
        return bounds_ns[-1] / 1e9


class _Part:
    """One set of numbers: of all requests, or of one component."""

    def __init__(self) -> None:
        self._meter = Meter()
        self._fading = Fading()

    def tick(self, requests: int, flow: Flow) -> None:
        self._meter.tick(requests)
        self._fading.tick(flow.buckets)

    def shown(self, requests: int, flow: Flow, bounds_ns: Sequence[int]) -> dict[str, object]:
        latency = {str(percent): self._fading.percentile(percent, bounds_ns) for percent in PERCENTILES}
        # gorouter: two constants for an old collector
        latency |= {"value": 5e-7, "samples": 1}
        return {
            "requests": requests,
            "rate": self._meter.rates or [0.0] * len(MINUTES),
            **{f"responses_{group}": count for group, count in zip(STATUS_GROUPS, flow.groups, strict=True)},
            "latency": latency,
        }


@dataclass(frozen=True)
class Moment:
    """What is known elsewhere at the time of the page. Times in seconds."""

    requests: int  # attempts
    bad_requests: int
    bad_gateways: int
    urls: int
    droplets: int
    since_update_ms: float | None


class Varz:
    """See the head of the file. started: wall clock."""

    def __init__(
        self,
        identity: str,
        index: int,
        host: str,
        credentials: tuple[str, str],
        bounds_ns: Sequence[int],
        started: float,
    ) -> None:
        self._fixed: dict[str, object] = {
            "type": "Router",
            "index": index,
            "host": host,
            "credentials": list(credentials),
            "uuid": identity,
            "start": time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(started)),
            "num_cores": os.cpu_count() or 1,
            "log_counts": {},
        }
        self._bounds_ns = bounds_ns
        self._whole = _Part()
        self._components: dict[str, _Part] = {}
        self._apps: deque[tuple[float, Mapping[str, int]]] = deque()
        self._cpu = (_cpu_seconds(), 0.0)

    def tick(self, requests: int, taken: Taken, now: float) -> None:
        """Call it every TICK_S; now: monotonic."""
        self._whole.tick(requests, taken.whole)
        for component, flow in taken.components.items():
            self._components.setdefault(component, _Part()).tick(flow.requests, flow)
        self._apps.append((now, taken.apps))
        while len(self._apps) > 1 and self._apps[1][0] <= now - TOP_WINDOW_S:
            self._apps.popleft()
        used = _cpu_seconds()
        self._cpu = (used, (used - self._cpu[0]) / TICK_S)

    def top(self, apps: Mapping[str, int]) -> list[dict[str, object]]:
        """The applications with most requests in the last minute."""
        before = self._apps[0][1] if self._apps and len(self._apps) * TICK_S > TOP_WINDOW_S else {}
        counts = [(count - before.get(app, 0), app) for app, count in apps.items()]
        busiest = sorted((each for each in counts if each[0] > 0), key=lambda each: (-each[0], each[1]))[:TOP_COUNT]
        return [
            {"application_id": app, "rps": count // int(TOP_WINDOW_S), "rpm": count} for count, app in busiest
        ]

    def document(self, moment: Moment, taken: Taken, uptime_s: float) -> bytes:
        """The page. Keys in order of the alphabet, as Go writes those of a map."""
        whole = self._whole.shown(moment.requests, taken.whole, self._bounds_ns)
        rates = whole["rate"]
        assert isinstance(rates, list)
        components = {
            name: self._components.get(name, _Part()).shown(flow.requests, flow, self._bounds_ns)
            for name, flow in taken.components.items()
        }
        since = moment.since_update_ms
        return msgspec.json.encode(
            {
                **self._fixed,
                **whole,
                "uptime": uptime(uptime_s),
                "mem": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
                "cpu": self._cpu[1],
                "tags": {"component": components},
                "urls": moment.urls,
                "droplets": moment.droplets,
                "bad_requests": moment.bad_requests,
                "bad_gateways": moment.bad_gateways,
                "requests_per_sec": rates[0],
                "top10_app_requests": self.top(taken.apps),
                "ms_since_last_registry_update": NEVER_MS if since is None else int(since),
            },
            order="sorted",
        )


def uptime(seconds: float) -> str:
    """gorouter: "0d:0h:1m:5s"."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    return f"{day}d:{hour}h:{minute}m:{second}s"


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime

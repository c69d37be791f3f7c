"""Is the canary worse? A sequential test that may be looked at after every single failure, for as long as one likes.

Under "no worse" the next unit (user) to fail for the first time belongs to the canary with at most the canary's share
of exposed units, which the router knows. Each such failure is a bet against that: a gambler who starts with 1 and may
not borrow multiplies it by theta/share if the canary's user failed and by (1-theta)/(1-share) if a stable one did.
Capital E >= 1/alpha has a probability of at most alpha under "no worse", whenever one stops (Ville's inequality).

The capital of a metric is spread over gamblers that estimate theta from different pasts (the whole rollout, since the
share changed, of late). After each bet a little of it is shared out anew, so a canary that falls ill late is noticed
nearly as fast as one that was born so. Capital is moved, never made: the total stays a test martingale. The metrics'
capitals are averaged, with fixed weights, which needs no correction for looking at several.

always true: E >= 0, sum of a metric's shares of capital = 1, memory is bounded whatever happens.
Pure: no clock, no I/O; `now` is any clock in seconds that does not run backwards. Knows neither routes nor requests.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

GAMBLERS: Final = ("whole", "step", "recent")
RECENT_MEMORY: Final = 12.0  # failures that "recent" remembers
SHARING: Final = 0.3  # of the capital is shared out anew at a metric's first failure, a third of that at the third, ...
THETA_MAX: Final = 0.95  # a single stable failure must not cost all capital
MAIN_WEIGHT: Final = 0.8  # of the first metric in the average; the others have the rest
MIN_UNITS: Final = 20  # canary users, and canary requests at this share, before "fine" may be said
DOUBT: Final = 0.5  # of the limit: with more evidence than this one waits rather than goes on
MIX_FACTOR: Final = 2.0  # requests per user of one version against the other
FILL_MAX: Final = 0.3  # of the bits of "has failed before": more, and too many new users look like old ones
# Stable degrades: in WINDOW_S it failed DEGRADED times as often as before, and at least DEGRADED_MIN times.
WINDOW_S: Final = 30.0
WINDOW_STEP_S: Final = 3.0
DEGRADED: Final = 4.0
RECOVERED: Final = 2.0
DEGRADED_MIN: Final = 10
# Ratios the confidence sequence weighs: canary fails r times as often as stable, r = 1/64 .. 64 in steps of 8 %.
RATIOS: Final[tuple[float, ...]] = tuple(2.0 ** (exponent / 9) for exponent in range(-54, 55))


class Seen(NamedTuple):
    """What a version has had since the rollout began. users: distinct ones, an estimate will do."""

    requests: int = 0
    failures: int = 0
    users: int = 0


@dataclass
class _Past:
    """What a gambler remembers. With one share all along, theta() is (canary + share) / (failures + 1); with several
    shares it goes by the Mantel-Haenszel estimate of the ratio of risks, which weighs each failure by its share."""

    canary: float = 0.0  # sum of 1 - share over canary failures
    stable: float = 0.0  # sum of share over stable failures

    def theta(self, share: float) -> float:
        prior = share * (1 - share)
        ratio = (self.canary + prior) / (self.stable + prior)
        theta = ratio * share / (ratio * share + 1 - share)
        return min(max(THETA_MAX, (1 + share) / 2), max(theta, share))

    def add(self, is_canary: bool, share: float, memory: float = math.inf) -> None:
        kept = 1 - 1 / memory
        self.canary = self.canary * kept + (1 - share if is_canary else 0.0)
        self.stable = self.stable * kept + (0.0 if is_canary else share)


@dataclass
class _Metric:
    log_e: float = 0.0
    others: float = 0.0  # sum of log E of other routers
    canary: int = 0
    stable: int = 0
    capital: list[float] = field(default_factory=lambda: [1 / len(GAMBLERS)] * len(GAMBLERS))
    pasts: list[_Past] = field(default_factory=lambda: [_Past() for _ in GAMBLERS])
    # of the confidence sequence: log likelihood of each ratio, without the failures at the present share
    likelihood: list[float] = field(default_factory=lambda: [0.0] * len(RATIOS))
    canary_now: int = 0
    stable_now: int = 0

    def failed(self, is_canary: bool, share: float) -> None:
        grown = []
        for capital, past in zip(self.capital, self.pasts, strict=True):
            theta = past.theta(share)
            grown.append(capital * (theta / share if is_canary else (1 - theta) / (1 - share)))
        total = sum(grown)
        self.log_e += math.log(total)
        shared = SHARING / (self.canary + self.stable + 1)
        self.capital = [part / total * (1 - shared) + shared / len(grown) for part in grown]
        for name, past in zip(GAMBLERS, self.pasts, strict=True):
            past.add(is_canary, share, RECENT_MEMORY if name == "recent" else math.inf)
        self.canary, self.stable = self.canary + is_canary, self.stable + (not is_canary)
        self.canary_now, self.stable_now = self.canary_now + is_canary, self.stable_now + (not is_canary)

    def share_changes(self, old: float) -> None:
        self.likelihood = self.likelihoods(old)
        self.canary_now = self.stable_now = 0
        self.pasts[GAMBLERS.index("step")] = _Past()

    def likelihoods(self, share: float) -> list[float]:
        """Log likelihood of each ratio, all failures included; `share` is the present one."""
        if not 0 < share < 1:
            return self.likelihood
        found = []
        for before, ratio in zip(self.likelihood, RATIOS, strict=True):
            theta = ratio * share / (ratio * share + 1 - share)
            found.append(before + self.canary_now * math.log(theta) + self.stable_now * math.log1p(-theta))
        return found


class Verdict:
    """See the head of the file. metrics: names as the caller likes, the most telling first.

    alpha: the probability of calling a canary worse that is not, over the whole life of the rollout."""

    def __init__(
        self,
        alpha: float = 0.01,
        metrics: Sequence[str] = ("errors", "latency"),
        *,
        min_units: int = MIN_UNITS,
    ) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"alpha {alpha!r} is no probability; valid: above 0 and below 1, usually 0.01")
        if not metrics or len(set(metrics)) < len(metrics):
            raise ValueError(f"metrics {list(metrics)!r}: there must be at least one, and none twice")
        self.alpha = alpha
        self.limit = math.log(1 / alpha)
        self.share = 0.0
        self._min_units = min_units
        self._metrics = {name: _Metric() for name in metrics}
        self._peak = -math.inf  # highest log E ever: crossing the limit once is enough
        self._now = 0.0
        self._stable, self._canary = Seen(), Seen()
        self._requests_before = 0  # of the canary, when the share became what it is
        self._fill = 0.0
        self._window: deque[tuple[float, Seen]] = deque()
        self._degraded_since: Seen | None = None  # stable's numbers when it began to degrade

    # -- what happens --------------------------------------------------------------------------------------

    def exposed(self, share: float, now: float) -> None:
        """The canary's share of exposed units is now this. 0 and 1 leave nothing to compare: failures are not bet
        on until the share changes again. ValueError if it is no share."""
        if not 0 <= share <= 1:
            raise ValueError(f"share {share!r}: valid is 0 to 1")
        self._now = max(self._now, now)
        if share == self.share:
            return
        for metric in self._metrics.values():
            metric.share_changes(self.share)
        self.share = share
        self._requests_before = self._canary.requests

    def outcome(self, metric: str, is_canary: bool, now: float) -> None:
        """A unit failed for the first time in this metric. KeyError for a metric that is not tested."""
        self._now = max(self._now, now)
        if 0 < self.share < 1:
            self._metrics[metric].failed(is_canary, self.share)
            self._peak = max(self._peak, self.log_e)

    def seen(self, now: float, stable: Seen, canary: Seen, fill: float = 0.0) -> None:
        """The versions' numbers so far; call it every second or so. fill: how much of the bitmap of units that have
        failed is set. Tells "nothing to see" from "nothing wrong", and a stable version that degrades."""
        self._now = max(self._now, now)
        self._stable, self._canary, self._fill = stable, canary, fill
        if not self._window or now - self._window[-1][0] >= WINDOW_STEP_S:
            self._window.append((now, stable))
        while len(self._window) > 1 and self._window[1][0] <= now - WINDOW_S:
            self._window.popleft()
        self._judge_stable(self._window[0][1])

    def _judge_stable(self, window_began: Seen) -> None:
        base = self._degraded_since or window_began
        requests = self._stable.requests - window_began.requests
        failures = self._stable.failures - window_began.failures
        if base.requests < self._min_units or requests <= 0:
            return
        expected = requests * (base.failures + 1) / base.requests
        if self._degraded_since is None and failures >= max(DEGRADED_MIN, DEGRADED * expected):
            self._degraded_since = window_began
        elif self._degraded_since is not None and failures < RECOVERED * expected:
            self._degraded_since = None

    def merge(self, others: Mapping[str, Mapping[str, float]]) -> None:
        """Log E per metric of each other router, newest values: their users are others, so the e-values multiply."""
        for name, metric in self._metrics.items():
            metric.others = sum(values.get(name, 0.0) for values in others.values())
        self._peak = max(self._peak, self.log_e)

    # -- what it says --------------------------------------------------------------------------------------

    def own(self) -> dict[str, float]:
        """Log E per metric of this router alone: what it tells the others."""
        return {name: metric.log_e for name, metric in self._metrics.items()}

    @property
    def log_e(self) -> float:
        """Logarithm of the capital over all metrics and routers; the canary is worse from `limit` on."""
        weighed = [
            math.log(weight) + metric.log_e + metric.others
            for weight, metric in zip(self._weights(), self._metrics.values(), strict=True)
        ]
        top = max(weighed)
        return top + math.log(sum(math.exp(value - top) for value in weighed))

    def _weights(self) -> list[float]:
        rest = len(self._metrics) - 1
        return [MAIN_WEIGHT, *[(1 - MAIN_WEIGHT) / rest] * rest] if rest else [1.0]

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Per metric: log_e (all routers), first failures of canary and stable here, theta0 (the share tested)."""
        return {
            name: {
                "log_e": metric.log_e + metric.others,
                "canary": metric.canary,
                "stable": metric.stable,
                "theta0": self.share,
            }
            for name, metric in self._metrics.items()
        }

    @property
    def state(self) -> str:
        """disabled | worse | frozen | undecided | fine"""
        return self._judge()[0]

    @property
    def reason(self) -> str:
        return self._judge()[1]

    def _judge(self) -> tuple[str, str]:
        if self._peak >= self.limit:
            return "worse", self._say_worse()
        if not 0 < self.share < 1:
            return "disabled", f"at {self.share:.0%} there is nothing to compare with; thresholds alone decide"
        if self._degraded_since is not None:
            return "frozen", "the stable version fails more often than before, too: look for what both depend on"
        if self._fill > FILL_MAX:
            return "undecided", f"{self._fill:.0%} of all users have failed already: too few new ones to compare"
        users, requests = self._canary.users, self._canary.requests - self._requests_before
        if users < self._min_units or requests < self._min_units:
            return "undecided", (
                f"the canary has had {users} users, and {requests} requests at this share; {self._min_units} are wanted"
            )
        if self.log_e > DOUBT * self.limit:
            return "undecided", f"evidence {self.log_e:.1f} of {self.limit:.1f} against the canary: not enough yet"
        return "fine", self._say_fine()

    def _say_worse(self) -> str:
        name, worst = max(self._metrics.items(), key=lambda item: item[1].log_e + item[1].others)
        return (
            f"{name}: {worst.canary} of {worst.canary + worst.stable} users that failed are the canary's, at a share "
            f"of {self.share:.3%}; evidence {self._peak:.1f} reached {self.limit:.1f} (alpha {self.alpha:g})"
        )

    def _say_fine(self) -> str:
        bound = self.safe()
        said = "no sign that the canary is worse"
        if bound < RATIOS[-1]:
            said += f"; it fails at most {bound:.2g} times as often as stable"
        return said

    def mix(self) -> str:
        """Non-empty if the canary's users ask much more or less often than stable's: one large tenant, perhaps."""
        stable, canary = self._stable, self._canary
        if min(stable.users, canary.users) < 1 or min(stable.requests, canary.requests) < self._min_units:
            return ""
        factor = canary.requests / canary.users / (stable.requests / stable.users)
        if 1 / MIX_FACTOR <= factor <= MIX_FACTOR:
            return ""
        return f"traffic differs: a canary user makes {factor:.2g} times as many requests as a stable one"

    def safe(self, metric: str | None = None) -> float:
        """Upper end, valid at all times with probability 1 - alpha, of the ratio of risks canary / stable.

        RATIOS[-1] means "unknown". metric: the first one if not given. From this router's failures alone."""
        chosen = self._metrics[metric] if metric is not None else next(iter(self._metrics.values()))
        likelihoods = chosen.likelihoods(self.share)
        top = max(likelihoods)
        mean = top + math.log(sum(math.exp(value - top) for value in likelihoods) / len(likelihoods))
        # A ratio is out once the mixture of all has 1/alpha times its likelihood.
        return max(
            ratio for ratio, value in zip(RATIOS, likelihoods, strict=True) if mean - value < self.limit or value == top
        )

    # -- over a restart ------------------------------------------------------------------------------------

    def to_state(self) -> dict[str, Any]:
        """All of it in JSON's types. `now` and the window of stable's rate are left out: the clock may be another."""
        return {
            "alpha": self.alpha,
            "min_units": self._min_units,
            "share": self.share,
            "peak": self._peak if self._peak > -math.inf else None,
            "metrics": {name: asdict(metric) for name, metric in self._metrics.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Verdict":
        """What to_state gave. KeyError, TypeError or ValueError if it is not that."""
        made = cls(state["alpha"], list(state["metrics"]), min_units=state["min_units"])
        made.share = float(state["share"])
        made._peak = -math.inf if state["peak"] is None else float(state["peak"])
        for name, facts in state["metrics"].items():
            made._metrics[name] = _Metric(**{**facts, "pasts": [_Past(**past) for past in facts["pasts"]]})
            if len(made._metrics[name].likelihood) != len(RATIOS) or len(facts["capital"]) != len(GAMBLERS):
                raise ValueError(f"state of metric {name!r} is of another version")
        return made


# -- thresholds, the simpler alternative ----------------------------------------------------------------------


@dataclass(frozen=True)
class Slo:
    """Limits for the canary alone; None: not limited. Nothing is said before min_requests."""

    error_rate: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    min_requests: int = 100


@dataclass(frozen=True)
class Numbers:
    """Of one version, since its share became what it is."""

    requests: int = 0
    failures: int = 0
    p95_ms: float = 0.0
    p99_ms: float = 0.0

    @property
    def error_rate(self) -> float:
        return self.failures / self.requests if self.requests else 0.0


def evaluate_slo(slo: Slo, canary: Numbers, stable: Numbers | None = None) -> tuple[str, str]:
    """(worse | frozen | undecided | fine, reason). frozen: stable breaks the same limit, and the canary is not twice
    as bad: what both depend on is to blame, and a rollback would not help."""
    if canary.requests < slo.min_requests:
        return "undecided", f"the canary has had {canary.requests} requests; {slo.min_requests} are wanted"
    frozen = ""
    for name, unit in (("error_rate", "%"), ("p95_ms", " ms"), ("p99_ms", " ms")):
        limit = getattr(slo, name)
        value = getattr(canary, name)
        if limit is None or value <= limit:
            continue
        scale = 100 if unit == "%" else 1
        said = f"{name.removesuffix('_ms')} of {value * scale:.3g}{unit} is above {limit * scale:.3g}{unit}"
        control = getattr(stable, name) if stable is not None and stable.requests >= slo.min_requests else None
        if control is None or control <= limit or value > 2 * control:
            return "worse", f"the canary's {said}"
        frozen = frozen or f"the canary's {said}, and so is stable's ({control * scale:.3g}{unit})"
    return ("frozen", frozen) if frozen else ("fine", "within its limits")

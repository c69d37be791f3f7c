"""What an operator says about a rollout: the body of PUT, of the bus and of the configuration file, read and checked.

`read` gives a Spec or raises Unfit with every fault, each with its path in the body and what would be valid.
`body` writes a Spec as the same JSON again, with all defaults; that is what is kept and shown. Weights are percent,
durations seconds. Pure; knows nothing of the route's present versions.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gorouter_py.component import format_duration, is_url, nearest, parse_duration
from gorouter_py.control.messages import is_token
from gorouter_py.control.verdict import Slo

STEPS: Final = (1.0, 5.0, 25.0, 50.0, 100.0)
STEPS_MAX, RULES_MAX, CHECKS_MAX, EXTRAS_MAX = 100, 64, 8, 252
NAME_BYTES_MAX: Final = 128
TEXT_BYTES_MAX: Final = 512
POLICIES: Final = ("wait", "promote", "pause", "abort")
MODES: Final = ("cookie", "identity", "request")
RULE_KINDS: Final = ("header", "cookie", "user_agent", "address", "cohort")
RULE_OPS: Final = ("equals", "prefix", "contains", "present")
BY: Final = "app, process_id, version, or tag:NAME"
KEYS: Final = (
    "to", "from", "by", "steps", "hold", "pause_at", "max_hold", "on_undecided", "cohort", "sticky", "override",
    "rules", "abort_if", "checks", "mirror", "extra_versions", "propagate", "address_cap",
    "forwarded_for", "who", "why",
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """path: in the body, "steps[1]"; text: what is wrong, with the value; valid: what would be right."""

    path: str
    text: str
    valid: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}; {self.valid}" if self.path else f"{self.text}; {self.valid}"


class Unfit(ValueError):
    """A body that says something impossible; str() has all faults."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; and ".join(str(fault) for fault in faults))
        self.faults = list(faults)


@dataclass(frozen=True)
class Rule:
    kind: str
    version: str
    name: str = ""
    op: str = "equals"
    value: str = ""


@dataclass(frozen=True)
class Check:
    """A question to somebody else. webhook: POST of the rollout; prometheus: the query's value against the limits."""

    kind: str
    url: str
    interval_s: float = 30.0
    timeout_s: float = 5.0
    failures: int = 3  # so many in a row abort
    query: str = ""
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True)
class Spec:
    """See the head of the file. from_, by: "" until the router has looked at the route's instances."""

    to: str
    from_: str = ""
    by: str = ""
    steps: tuple[float, ...] = STEPS
    hold_s: float = 600.0
    pause_at: tuple[float, ...] = ()
    max_hold_s: float = 3600.0
    on_undecided: str = "wait"
    mode: str = "cookie"
    identity: str = ""
    sign: bool = False
    new_sessions_only: bool = False
    salt: str | int = ""  # "": drawn; "keep": of the rollout before
    sticky: str = "move"
    override: bool = False
    secret_file: str = ""
    rules: tuple[Rule, ...] = ()
    errors: bool = True
    latency: str = "p95"  # or "p99"; "": not compared
    client_errors: bool = False
    alpha: float = 0.01
    slo: Slo | None = None
    checks: tuple[Check, ...] = ()
    mirror: tuple[str, float] | None = None
    extras: Mapping[str, float] = field(default_factory=dict)
    propagate: bool = False
    address_cap: int = 64
    forwarded_for: bool = False  # a client's address is the last one of X-Forwarded-For

    @property
    def metrics(self) -> tuple[str, ...]:
        """Of the verdict, the most telling first; empty: nothing is compared."""
        named = (("errors", self.errors), ("latency", self.latency), ("client_errors", self.client_errors))
        return tuple(name for name, wanted in named if wanted)

    @property
    def names(self) -> tuple[str, ...]:
        """All versions: stable, canary, the others."""
        return (self.from_, self.to, *self.extras)

    @property
    def top(self) -> float:
        """The weight at which stable has nothing any more."""
        return 100.0 - sum(self.extras.values())


def read(body: Any) -> Spec:
    """The Spec of a body. Unfit."""
    reader = _Reader()
    spec = reader.spec(body)
    if reader.faults:
        raise Unfit(reader.faults)
    return spec


def body(spec: Spec) -> dict[str, Any]:
    """The body that `read` makes the same Spec of."""
    slo = None
    if spec.slo is not None:
        slo = {
            "error_rate": None if spec.slo.error_rate is None else percent(spec.slo.error_rate * 100),
            "p95": None if spec.slo.p95_ms is None else format_duration(spec.slo.p95_ms / 1000),
            "p99": None if spec.slo.p99_ms is None else format_duration(spec.slo.p99_ms / 1000),
            "min_requests": spec.slo.min_requests,
        }
    return {
        "to": spec.to,
        "from": spec.from_ or None,
        "by": spec.by or None,
        "steps": [percent(step) for step in spec.steps],
        "hold": format_duration(spec.hold_s),
        "pause_at": [percent(step) for step in spec.pause_at],
        "max_hold": format_duration(spec.max_hold_s),
        "on_undecided": spec.on_undecided,
        "cohort": {
            "mode": spec.mode,
            "identity": spec.identity or None,
            "sign": "hmac" if spec.sign else None,
            "new_sessions_only": spec.new_sessions_only,
            "salt": None if spec.salt == "" else spec.salt,
        },
        "sticky": spec.sticky,
        "override": {"allow": spec.override, "secret_file": spec.secret_file or None},
        "rules": [
            {"kind": rule.kind, "name": rule.name, "op": rule.op, "value": rule.value, "version": rule.version}
            for rule in spec.rules
        ],
        "abort_if": {
            "errors": spec.errors,
            "latency": spec.latency or False,
            "client_errors": spec.client_errors,
            "alpha": spec.alpha,
            "slo": slo,
        },
        "checks": [_check_body(check) for check in spec.checks],
        "mirror": None if spec.mirror is None else {"version": spec.mirror[0], "share": percent(spec.mirror[1])},
        "extra_versions": {name: percent(share) for name, share in spec.extras.items()},
        "propagate": spec.propagate,
        "address_cap": spec.address_cap,
        "forwarded_for": spec.forwarded_for,
    }


def _check_body(check: Check) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": check.kind,
        "url": check.url,
        "interval": format_duration(check.interval_s),
        "timeout": format_duration(check.timeout_s),
        "failures": check.failures,
    }
    if check.kind == "prometheus":
        found |= {"query": check.query, "min": check.min, "max": check.max}
    return found


def percent(value: float) -> str:
    """ "7.5%" """
    return f"{value:.12g}%"


def read_percent(value: Any) -> float:
    """Percent of "7.5%", "7.5" or 7.5. ValueError."""
    text = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*%?", text)
    if match is None or float(match[1]) > 100:
        raise ValueError(f'{value!r} is no weight; valid: 0 to 100, for example "7.5%"')
    return float(match[1])


class _Reader:
    """Reads and notes faults; what is unfit becomes the default, so that all faults are found at once."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fault(self, path: str, text: str, valid: str) -> None:
        self.faults.append(Fault(path, text, valid))

    def spec(self, given: Any) -> Spec:
        top = self.section(given, "", KEYS)
        default = Spec("")
        cohort = self.section(top.get("cohort"), "cohort", ("mode", "identity", "sign", "new_sessions_only", "salt"))
        override = self.section(top.get("override"), "override", ("allow", "secret_file"))
        abort_if = self.section(top.get("abort_if"), "abort_if", ("errors", "latency", "client_errors", "alpha", "slo"))
        identity = self.identity(cohort.get("identity"))
        mode = self.choice(cohort, "mode", "cohort.mode", MODES, "identity" if identity else default.mode)
        spec = Spec(
            to=self.name(top.get("to"), "to", needed=True),
            from_=self.name(top.get("from"), "from"),
            by=self.by(top.get("by")),
            steps=self.steps(top),
            hold_s=self.duration(top, "hold", "hold", default.hold_s),
            pause_at=tuple(self.percents(top.get("pause_at"), "pause_at")),
            max_hold_s=self.duration(top, "max_hold", "max_hold", default.max_hold_s),
            on_undecided=self.choice(top, "on_undecided", "on_undecided", POLICIES, default.on_undecided),
            mode=mode,
            identity=identity,
            sign=self.sign(cohort.get("sign")),
            new_sessions_only=self.flag(cohort, "new_sessions_only", "cohort.new_sessions_only", False),
            salt=self.salt(cohort.get("salt")),
            sticky=self.choice(top, "sticky", "sticky", ("move", "keep"), default.sticky),
            override=self.flag(override, "allow", "override.allow", bool(override.get("secret_file"))),
            secret_file=self.text(override.get("secret_file"), "override.secret_file"),
            rules=tuple(self.rules(top.get("rules"))),
            errors=self.flag(abort_if, "errors", "abort_if.errors", True),
            latency=self.latency(abort_if.get("latency", default.latency)),
            client_errors=self.flag(abort_if, "client_errors", "abort_if.client_errors", False),
            alpha=self.number(abort_if, "alpha", "abort_if.alpha", default.alpha, 1e-9, 0.5),
            slo=self.slo(abort_if.get("slo")),
            checks=tuple(self.checks(top.get("checks"))),
            mirror=self.mirror(top.get("mirror")),
            extras=self.extras(top.get("extra_versions")),
            propagate=self.flag(top, "propagate", "propagate", False),
            address_cap=int(self.number(top, "address_cap", "address_cap", 64, 0, 65535, whole=True)),
            forwarded_for=self.flag(top, "forwarded_for", "forwarded_for", False),
        )
        for name in ("who", "why"):
            self.text(top.get(name), name)
        if not self.faults:
            self.agree(spec)
        return spec

    def agree(self, spec: Spec) -> None:
        """Rules between values."""
        if spec.to == spec.from_:
            self.fault("to", f"{spec.to!r} is also the version to come from", "name two versions")
        for name in spec.extras:
            if name in (spec.to, spec.from_):
                self.fault(f"extra_versions.{name}", "it has its part in the rollout already", "name another version")
        if spec.top <= 0:
            self.fault("extra_versions", "they leave nothing for the others", "valid: less than 100% together")
        for number, step in enumerate(spec.steps):
            if spec.top < step < 100:
                text = f"{percent(step)} and the extra versions are more than 100%"
                self.fault(f"steps[{number}]", text, f"valid: up to {percent(spec.top)}, or 100% for all the rest")
        for number, step in enumerate(spec.pause_at):
            if step not in spec.steps:
                steps = ", ".join(percent(each) for each in spec.steps)
                self.fault(f"pause_at[{number}]", f"{percent(step)} is no step", f"valid: {steps}")
        if spec.mode == "identity" and not spec.identity:
            self.fault("cohort.identity", "mode identity needs one", "write header:NAME, cookie:NAME or address:32/64")
        known = {spec.to, spec.from_, *spec.extras} - {""}
        for number, rule in enumerate(spec.rules):
            if spec.from_ and rule.version not in known:
                valid = f"valid: {', '.join(sorted(known))}"
                self.fault(f"rules[{number}].version", f"{rule.version!r} is not in this rollout", valid)
        if spec.mirror is not None and spec.from_ and spec.mirror[0] not in known:
            self.fault("mirror.version", f"{spec.mirror[0]!r} is not in this rollout", f"valid: {', '.join(known)}")

    # -- shapes --------------------------------------------------------------------------------------------

    def section(self, given: Any, path: str, known: Sequence[str]) -> dict[str, Any]:
        """An object without the keys that are null."""
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            self.fault(path, f"{given!r:.60} is no object", "write keys and values in braces")
            return {}
        found = {}
        for key, value in given.items():
            here = f"{path}.{key}" if path else str(key)
            if key not in known:
                guess = nearest(str(key), list(known))
                self.fault(here, "unknown key", f"did you mean {guess}?" if guess else f"valid: {', '.join(known)}")
            elif value is not None:
                found[str(key)] = value
        return found

    def items(self, given: Any, path: str, count_max: int) -> Iterator[tuple[str, Any]]:
        if given is None:
            return
        if not isinstance(given, list | tuple):
            self.fault(path, f"{given!r:.60} is no list", "write items in brackets")
            return
        if len(given) > count_max:
            self.fault(path, f"{len(given)} items are too many", f"valid: at most {count_max}")
            return
        for number, item in enumerate(given):
            yield f"{path}[{number}]", item

    def text(self, given: Any, path: str, bytes_max: int = TEXT_BYTES_MAX) -> str:
        if given is None:
            return ""
        if not isinstance(given, str):
            self.fault(path, f"{given!r:.60} is no text", "write it in quotes")
            return ""
        if len(given.encode(errors="replace")) > bytes_max or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", given):
            self.fault(
                path, f"{given!r:.60} is too long or has control characters", f"valid: {bytes_max} bytes, one line"
            )
            return ""
        return given

    def name(self, given: Any, path: str, *, needed: bool = False) -> str:
        name = self.text(given, path, NAME_BYTES_MAX)
        if needed and not name and not any(fault.path == path for fault in self.faults):
            self.fault(path, "it is missing", f"name {'the new version' if path == 'to' else 'a version'}")
        return name

    def flag(self, section: Mapping[str, Any], key: str, path: str, default: bool) -> bool:
        given: Any = section.get(key, default)
        if not isinstance(given, bool):
            self.fault(path, f"{given!r:.60} is neither true nor false", "write true or false")
            return default
        return given

    def choice(self, section: Mapping[str, Any], key: str, path: str, valid: Sequence[str], default: str) -> str:
        given = section.get(key, default)
        if given not in valid:
            guess = nearest(str(given), list(valid))
            hint = f" (did you mean {guess}?)" if guess else ""
            self.fault(path, f"{given!r:.60} is not known", f"valid: {', '.join(valid)}{hint}")
            return default
        return str(given)

    def number(
        self, section: Mapping[str, Any], key: str, path: str, default: float, low: float, high: float, *,
        whole: bool = False,
    ) -> float:  # fmt: skip
        given = section.get(key, default)
        kinds = (int,) if whole else (int, float)
        if isinstance(given, bool) or not isinstance(given, kinds) or not low <= given <= high:
            what = "whole number" if whole else "number"
            self.fault(path, f"{given!r:.60} does not fit", f"valid: a {what} from {low:g} to {high:g}")
            return default
        return given

    def duration(self, section: Mapping[str, Any], key: str, path: str, default: float, low: float = 0.0) -> float:
        given = section.get(key)
        if given is None:
            return default
        try:
            seconds = parse_duration(given) if isinstance(given, str) else math.nan
        except ValueError:
            seconds = math.nan
        if not low <= seconds <= 365 * 86400:
            least = f" of at least {format_duration(low)}" if low else ""
            self.fault(
                path, f"{given!r:.60} is no duration{least}", 'write a number with a unit, such as "10m" or "30s"'
            )
            return default
        return seconds

    def percents(self, given: Any, path: str) -> Iterator[float]:
        for here, item in self.items(given, path, STEPS_MAX):
            try:
                yield read_percent(item)
            except ValueError as error:
                text, _, valid = str(error).partition("; ")
                self.fault(here, text, valid)

    # -- single keys ---------------------------------------------------------------------------------------

    def steps(self, top: Mapping[str, Any]) -> tuple[float, ...]:
        if "steps" not in top:
            return STEPS
        steps = tuple(self.percents(top["steps"], "steps"))
        if any(fault.path.startswith("steps") for fault in self.faults):
            return STEPS
        if not steps:
            self.fault("steps", "there are none", 'write at least one, for example ["5%", "100%"]')
        for number, (before, step) in enumerate(itertools.pairwise((0.0, *steps))):
            if step <= before:
                text = f"{percent(step)} is not more than {percent(before)}"
                self.fault(f"steps[{number}]", text, "valid: growing weights above 0%")
        return steps

    def by(self, given: Any) -> str:
        by = self.text(given, "by")
        if by and by not in ("app", "process_id", "version") and not re.fullmatch(r"tag:.+", by):
            self.fault("by", f"{by!r} is not known", f"valid: {BY}")
        return by

    def identity(self, given: Any) -> str:
        text = self.text(given, "cohort.identity")
        kind, _, name = text.partition(":")
        valid = "valid: header:NAME, cookie:NAME, or address:32/64 with the prefix bits of IPv4 and IPv6"
        if kind == "address":
            match = re.fullmatch(r"([0-9]{1,2})/([0-9]{1,3})", name or "32/64")
            if match is None or int(match[1]) > 32 or int(match[2]) > 128:
                self.fault("cohort.identity", f"{text!r} has no prefix bits", valid)
                return ""
            return f"address:{match[0]}"
        if text and (kind not in ("header", "cookie") or not is_token(name)):
            self.fault("cohort.identity", f"{text!r} names nothing", valid)
            return ""
        return text

    def sign(self, given: Any) -> bool:
        if given not in (None, False, "hmac"):
            self.fault("cohort.sign", f"{given!r:.60} is not known", 'valid: "hmac", or leave it out')
        return bool(given == "hmac")

    def salt(self, given: Any) -> str | int:
        if given is None or given == "keep":
            return given or ""
        if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < 65536:
            self.fault("cohort.salt", f"{given!r:.60} does not fit", 'valid: "keep", or 0 to 65535')
            return ""
        return given

    def latency(self, given: Any) -> str:
        if given not in ("p95", "p99", False):
            self.fault("abort_if.latency", f"{given!r:.60} is not known", "valid: p95, p99 or false")
        return given or ""

    def rules(self, given: Any) -> Iterator[Rule]:
        for here, item in self.items(given, "rules", RULES_MAX):
            rule = self.section(item, here, ("kind", "name", "op", "value", "version"))
            kind = self.choice(rule, "kind", f"{here}.kind", RULE_KINDS, "")
            op = self.choice(rule, "op", f"{here}.op", RULE_OPS, "equals")
            name = self.text(rule.get("name"), f"{here}.name")
            value = rule.get("value")
            if isinstance(value, int | float) and not isinstance(value, bool):
                value = f"{value:g}"
            value = self.text(value, f"{here}.value")
            if kind in ("header", "cookie") and not is_token(name):
                self.fault(f"{here}.name", f"{name!r} is no name of a {kind}", "valid: letters, digits and -")
            if op == "present" and kind not in ("header", "cookie"):
                self.fault(f"{here}.op", f"present says nothing of a {kind}", "valid: equals, prefix or contains")
            if not value and op != "present":
                self.fault(f"{here}.value", "it is missing", "write what to compare with")
            yield Rule(kind, self.name(rule.get("version"), f"{here}.version", needed=True), name, op, value)

    def slo(self, given: Any) -> Slo | None:
        slo = self.section(given, "abort_if.slo", ("error_rate", "p95", "p99", "min_requests"))
        if not slo:
            return None
        rate = None
        if "error_rate" in slo:
            try:
                rate = read_percent(slo["error_rate"]) / 100
            except ValueError:
                self.fault(
                    "abort_if.slo.error_rate", f"{slo['error_rate']!r} is no rate", 'write percent, such as "1%"'
                )
        p95, p99 = (
            self.duration(slo, key, f"abort_if.slo.{key}", 0.0, 0.001) * 1000 if key in slo else None
            for key in ("p95", "p99")
        )
        count = self.number(slo, "min_requests", "abort_if.slo.min_requests", 100, 1, 1e9, whole=True)
        return Slo(rate, p95, p99, int(count))

    def checks(self, given: Any) -> Iterator[Check]:
        keys = ("kind", "url", "interval", "timeout", "failures", "query", "min", "max")
        for here, item in self.items(given, "checks", CHECKS_MAX):
            check = self.section(item, here, keys)
            kind = self.choice(check, "kind", f"{here}.kind", ("webhook", "prometheus"), "")
            url = self.text(check.get("url"), f"{here}.url", 2048)
            if not is_url(url):
                self.fault(f"{here}.url", f"{url!r} is no address", "write http://HOST:PORT/PATH or https://...")
            query = self.text(check.get("query"), f"{here}.query", 4096)
            limits = [
                self.number(check, key, f"{here}.{key}", 0, -1e300, 1e300) if key in check else None
                for key in ("min", "max")
            ]
            if kind == "prometheus" and (not query or limits == [None, None]):
                self.fault(here, "a prometheus check has a query and a limit", 'write "query" and "max" (or "min")')
            yield Check(
                kind,
                url,
                self.duration(check, "interval", f"{here}.interval", 30.0, 0.1),
                self.duration(check, "timeout", f"{here}.timeout", 5.0, 0.1),
                int(self.number(check, "failures", f"{here}.failures", 3, 1, 1000, whole=True)),
                query,
                *limits,
            )

    def mirror(self, given: Any) -> tuple[str, float] | None:
        mirror = self.section(given, "mirror", ("version", "share"))
        if not mirror:
            return None
        (share,) = list(self.percents([mirror.get("share")], "mirror.share")) or [0.0]
        return self.name(mirror.get("version"), "mirror.version", needed=True), share

    def extras(self, given: Any) -> dict[str, float]:
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            self.fault("extra_versions", f"{given!r:.60} is no object", 'write {"v3": "10%"}')
            return {}
        found = {}
        if len(given) > EXTRAS_MAX:
            self.fault("extra_versions", f"{len(given)} are too many", f"valid: at most {EXTRAS_MAX}")
            return {}
        for name, share in given.items():
            path = f"extra_versions.{name}"
            weight = list(self.percents([share], path))
            if self.name(name, path, needed=True) and weight:
                found[str(name)] = weight[0]
        return found

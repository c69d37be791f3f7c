"""Values of the flags of `gorouter-py canary`: weights, conditions, rules, checks.

The parse functions raise ValueError with a whole sentence that names the value and what would be valid; the click types
wrap them (wrong value: exit code 2). Values are in the form that the body of PUT /v1/rollouts/ROUTE takes.
"""

import itertools
import re
from typing import Any

from gorouter_py.component import is_url, parse_duration
from gorouter_py.control import flags


def percent(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*%?", text.strip())
    if not match or float(match[1]) > 100:
        raise ValueError(f"{text!r} is no weight; valid: 0% to 100%, for example 7.5%")
    return float(match[1])


def _percents(text: str) -> list[str]:
    steps = [percent(part) for part in text.split(",")]
    if any(later <= earlier for earlier, later in itertools.pairwise(steps)):
        raise ValueError(f"{text!r}: each step must be larger than the one before; for example 1%,5%,25%,50%,100%")
    return [f"{step:g}%" for step in steps]


def _duration(text: str) -> str:
    if parse_duration(text) < 0:
        raise ValueError(f"{text!r} is negative; valid: 0s or more")
    return text


_COMPARED = {"errors": ("errors", True), "client-errors": ("client_errors", True)} | {
    quantile: ("latency", quantile) for quantile in ("p95", "p99")
}


def _abort_if(text: str) -> dict[str, Any]:
    """ "errors>stable" compares, "errors>1%" and "p99>500ms" are limits; "never" switches comparing off."""
    if text == "never":
        return {"errors": False, "latency": False}
    name, separator, limit = text.replace(" ", "").partition(">")
    try:
        if separator and limit == "stable":
            key, value = _COMPARED[name]
            return {key: value}
        if separator and name == "errors":
            return {"slo": {"error_rate": f"{percent(limit):g}%"}}
        if separator and name in ("p95", "p99"):
            return {"slo": {name: _duration(limit)}}
    except (KeyError, ValueError):
        pass
    raise ValueError(
        f"{text!r} is no condition; valid: errors>stable, p95>stable, p99>stable, client-errors>stable, errors>1%, "
        "p95>200ms, p99>500ms, never"
    )


def _rule(text: str) -> dict[str, str]:
    """ "header:x-beta=yes->v2", "user_agent:~Firefox->v2", "address:=10.0.0.0/8->v2", "cohort:beta=20->v2"."""
    match = re.fullmatch(r"(header|cookie|user_agent|address|cohort):([^=^~]*)(=|\^|~|)(.*)->(\S+)", text)
    if not match:
        raise ValueError(
            f"{text!r} is no rule; write KIND:NAME=VALUE->VERSION, for example header:x-beta=yes->v2, "
            "cookie:beta->v2 (is there), user_agent:~Firefox->v2 (contains), address:=10.0.0.0/8->v2, "
            "cohort:beta=20->v2"
        )
    op = {"=": "equals", "^": "prefix", "~": "contains", "": "present"}[match[3]]
    return {"kind": match[1], "name": match[2], "op": op, "value": match[4], "version": match[5]}


def _pair(text: str) -> tuple[str, str]:
    name, equals, share = text.partition("=")
    if not name or not equals:
        raise ValueError(f"{text!r}: write VERSION=SHARE, for example v2=10%")
    return name, f"{percent(share):g}%"


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or re.search(r"[\r\n\x00]", value):
        raise ValueError(f"{text!r} is no header; write 'Name: value'")
    return name, value.strip()


def _url(text: str) -> str:
    if not is_url(text):
        raise ValueError(f"{text!r} is no address; write http://HOST[:PORT]/PATH or https://...")
    return text


def _prometheus(text: str) -> dict[str, Any]:
    """ "http://prometheus:9090 sum(rate(errors_total[1m])) <= 0.5": the comparison at the end is the limit."""
    match = re.fullmatch(r"(\S+)\s+(.+?)\s*(<=|>=)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)", text.strip(), re.DOTALL)
    try:
        if match and is_url(match[1]):
            limit = {"max" if match[3] == "<=" else "min": float(match[4])}
            return {"kind": "prometheus", "url": match[1], "query": match[2], **limit}
    except ValueError:
        pass
    raise ValueError(
        f"{text!r} is no check; write 'URL QUERY <= LIMIT' or 'URL QUERY >= LIMIT', for example "
        "'http://prometheus:9090 sum(rate(shop_errors_total{version=\"v2\"}[1m])) <= 0.5'"
    )


STEPS = flags.Parsed(_percents, "PERCENT,...")
DURATION = flags.Parsed(_duration, "DURATION")
CONDITION = flags.Parsed(_abort_if, "CONDITION")
RULE = flags.Parsed(_rule, "RULE")
PAIR = flags.Parsed(_pair, "VERSION=SHARE")
HEADER = flags.Parsed(_header, "'NAME: VALUE'")
URL = flags.Parsed(_url, "URL")
PROMETHEUS = flags.Parsed(_prometheus, "'URL QUERY <= LIMIT'")

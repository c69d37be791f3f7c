"""What a version of a route is: the group an instance belongs to, read off its registration.

"app" (the application's id), "process_id" (a tag; an unmodified Cloud Foundry has one per revision), "tag:NAME", or
"version" (options.version of the registration). An instance without the value has the version "unnamed". Pure.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from gorouter_py.control.messages import Registration

UNNAMED = "unnamed"


def naming(by: str) -> Callable[[Registration], str]:
    """The function that gives an instance's version. ValueError for what is no such way."""
    if by == "app":
        return lambda facts: facts.app or UNNAMED
    if by == "version":
        return lambda facts: (facts.options.version if facts.options is not None else "") or UNNAMED
    tag = "process_id" if by == "process_id" else by.removeprefix("tag:")
    if by != "process_id" and (not by.startswith("tag:") or not tag):
        raise ValueError(f"{by!r} is not known; valid: app, process_id, version, or tag:NAME")
    return lambda facts: (facts.tags.get(tag) if facts.tags else "") or UNNAMED


def guess(instances: Iterable[Registration]) -> str:
    """By what to tell the versions of a route if nobody says: version, process_id or app, the first that any has."""
    known = list(instances)
    for by in ("version", "process_id"):
        name = naming(by)
        if any(name(facts) != UNNAMED for facts in known):
            return by
    return "app"


def count(by: str, instances: Iterable[Registration]) -> Counter[str]:
    """Instances by version."""
    name = naming(by)
    return Counter(name(facts) for facts in instances)

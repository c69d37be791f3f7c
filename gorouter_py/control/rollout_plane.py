"""A rollout as the data plane takes it: which version an instance belongs to, and the split of the requests.

While a rollout runs, instances of versions it does not name belong to none of its versions. Once it has ended they
belong to the winner: what is deployed next must not starve behind a rollout that is over, and the loser alone stays
without users. Rules for an aborted canary end with it; its overrides stay, for testers.
Pure.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from gorouter_py.control import versions
from gorouter_py.control.intervals import SLOTS
from gorouter_py.control.messages import Registration
from gorouter_py.control.rollout_spec import Spec
from gorouter_py.control.rollout_states import CANARY, ENDED, STABLE, Record

if TYPE_CHECKING:
    from gorouter_py._fastpath import RolloutSpec

NO_VERSION: Final = 255
TOKEN_CHARACTERS: Final = 32  # of the signature of an override
UNSAFE: Final = frozenset(' ",;\\')  # in the value of a cookie, RFC 6265 4.1.1


def label(record: Record, spec: Spec) -> Callable[[Registration], int]:
    """The number of the version of an instance of the route."""
    name = versions.naming(spec.by)
    numbers = {each: number for number, each in enumerate(spec.names)}
    others = NO_VERSION
    if record.state in ENDED:
        others = CANARY if record.state in ("promoting", "done") else STABLE
    return lambda facts: numbers.get(name(facts), others)


def overrides(record: Record, spec: Spec, secret: bytes) -> dict[str, str]:
    """By version what a tester sends as X-Canary or in the cookie gr_v; empty if nobody may choose.

    secret: b"" lets everybody choose by name; else the name is followed by its signature."""
    if not spec.override:
        return {}
    found = {}
    for name in spec.names:
        if name.isascii() and name.isprintable() and not UNSAFE & set(name):
            found[name] = f"{name}.{_signature(record.route, name, secret)}" if secret else name
    return found


def _signature(route: str, name: str, secret: bytes) -> str:
    return hmac.new(secret, f"{route}\n{name}".encode(), hashlib.sha256).hexdigest()[:TOKEN_CHARACTERS]


def split(record: Record, spec: Spec, number: int, secret: bytes = b"") -> "RolloutSpec":
    """What DataPlane.set_rollout takes. number: the id there, another one for each rollout and id of a record;
    secret: of the overrides, if the Spec names a file with one."""
    over = record.state in ENDED
    lost = record.state in ("aborting", "aborted")
    numbers = {name: index for index, name in enumerate(spec.names)}
    # With one version for everybody nobody needs a coordinate, so nobody gets a cookie any more.
    mode = "request" if over and not spec.extras and spec.sticky == "move" else spec.mode
    found: dict[str, Any] = {
        "id": number,
        "versions": list(spec.names),
        "stable": STABLE,
        "intervals": list(record.plan),
        "salt": record.salt,
        "mode": mode,
        "sessions_new_only": spec.new_sessions_only and not over,
        "cookie_key": bytes.fromhex(record.key) if spec.sign else b"",
        "rules": [
            {
                "kind": rule.kind,
                "name": rule.name,
                "op": rule.op,
                "value": rule.value,
                "version": numbers[rule.version],
            }
            for rule in spec.rules
            if not over and rule.version in numbers
        ],
        "overrides": [(token, numbers[name]) for name, token in overrides(record, spec, secret).items()],
        "sticky": spec.sticky,
        "keep_versions": [each for each in numbers.values() if not (lost and each == CANARY)],
        "address_cap": spec.address_cap,
        "forwarded_for": spec.forwarded_for,
        "count_4xx": spec.client_errors,
        "propagate": spec.propagate,
    }
    if spec.identity and mode == "identity":
        kind, _, name = spec.identity.partition(":")
        found["identity"] = (kind, name)
    if spec.mirror is not None and not over:
        found["mirror_version"] = numbers[spec.mirror[0]]
        found["mirror_share"] = round(spec.mirror[1] * SLOTS / 100)
    return found  # type: ignore[return-value]

"""What travels on the bus: decoding of router.register and router.unregister, encoding of router.start.

Owns the shape of the messages and nothing else: no socket, no clock, no log. Every function is pure.

Keys match without regard to case, as Go's encoding/json does. The decoder first tries the spelling that every known
component sends (exact lower-case keys, nothing unknown); only if that fails is the message read a second time with
folded keys, unknown ones left out and null meaning absent. Types are strict in both readings: a number where a string
belongs rejects the message, as it does in gorouter.

A decoded Registration doubles as the registry's record of an endpoint, so a re-registration is compared with what is
known by one C-level ==. For that the registry takes the uris out (they name routes, not the endpoint).
"""

import math
import sys
import zlib
from typing import Annotated, Any, Final, NamedTuple

import msgspec

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class InvalidMessage(ValueError):
    """The message is not one that gorouter would accept; str() says why."""


class Options(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """Per-route options; `lb_algo` is the older name of `loadbalancing`."""

    lb_algo: str = ""
    loadbalancing: str = ""
    hash_header: str = ""
    hash_balance: float | str = 0.0  # as a number, or as the text the API server keeps
    version: str = ""  # ours: of the app; rollouts may go by it


class Tag(NamedTuple):
    """A modification tag: which of two registrations of an address is the newer. NATS has none, which is ("", 0)."""

    guid: str = ""
    number: int = 0

    def succeeded_by(self, newer: "Tag") -> bool:
        """gorouter: SucceededBy. Only within one guid is there an order."""
        return not self.guid or not newer.guid or self.guid != newer.guid or self.number < newer.number


class Balancing(NamedTuple):
    """What a registration asks of its route's balancer; algorithm "" leaves it as it is."""

    algorithm: str = ""
    header: str = ""
    factor: float = 0.0


NO_TAG: Final = Tag()
NO_BALANCING: Final = Balancing()
ALGORITHMS: Final = ("round-robin", "least-connection", "hash")
HASH_HEADER_BYTES_MAX: Final = 63
FACTOR_MIN, FACTOR_MAX = 1.1, 10.0  # or 0: no limit


class Registration(msgspec.Struct, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """One router.register or router.unregister message, and the registry's record of an endpoint.

    gc=False is safe because nothing in here can refer back to the struct; it keeps 250,000 of them out of collections.
    """

    host: str = ""
    port: Port = 0
    tls_port: Port = 0  # if not 0 it is used instead of port, and the endpoint speaks TLS
    uris: list[str] = []
    app: str = ""
    private_instance_id: str = ""
    private_instance_index: str = ""
    protocol: str = ""
    server_cert_domain_san: str = ""
    stale_threshold_in_seconds: Int64 = 0
    route_service_url: str = ""
    tags: dict[str, str] | None = None
    availability_zone: str = ""
    isolation_segment: str = ""
    endpoint_updated_at_ns: Int64 = 0
    options: Options | None = None

    @property
    def is_tls(self) -> bool:
        return self.tls_port != 0

    @property
    def address(self) -> str:
        """host:port as gorouter writes it: the identity of the endpoint within a route."""
        return f"{self.host}:{self.tls_port or self.port}"

    @property
    def lb_algorithm(self) -> str:
        """The balancing algorithm the message asks for; "" leaves the route's."""
        return (self.options.loadbalancing or self.options.lb_algo) if self.options is not None else ""

    @property
    def balancing(self) -> Balancing:
        """The options, checked. ValueError says which one cannot be used."""
        options, algorithm = self.options, self.lb_algorithm
        if options is None or not algorithm:
            return NO_BALANCING
        if algorithm not in ALGORITHMS:
            raise ValueError(f"valid: {', '.join(ALGORITHMS)}")
        if algorithm != "hash":
            return Balancing(algorithm)
        header = options.hash_header
        if not is_token(header) or len(header) > HASH_HEADER_BYTES_MAX:
            raise ValueError(f"hash needs hash_header, a header's name of at most {HASH_HEADER_BYTES_MAX} bytes")
        return Balancing(algorithm, header, _factor(options.hash_balance))

    @property
    def tag(self) -> Tag:
        return NO_TAG


class StaticRegistration(Registration, gc=False, omit_defaults=True):
    """A route given by file or flag: it never goes stale and the bus cannot change it.

    A type of its own, because structs of different types are never equal: a bus message for the same address thus
    never takes the registry's short path.
    """


class RoutingApiRegistration(Registration, gc=False, omit_defaults=True):
    """A route of the routing API: it has a modification tag, and the bus's word for the same address is another."""

    tag_guid: str = ""
    tag_index: int = 0

    @property
    def tag(self) -> Tag:
        return Tag(self.tag_guid, self.tag_index)


def is_token(name: str) -> bool:
    """Whether this can be the name of a header. RFC 9110 5.6.2"""
    return bool(name) and name.isascii() and all(each.isalnum() or each in "!#$%&'*+-.^_`|~" for each in name)


def _factor(given: float | str) -> float:
    try:
        factor = float(given)
    except ValueError:
        factor = math.nan
    if factor == 0 or FACTOR_MIN <= factor <= FACTOR_MAX:
        return factor
    raise ValueError(f"hash_balance {given!r}: valid: 0, or {FACTOR_MIN} to {FACTOR_MAX}")


_FIELDS: Final = frozenset(Registration.__struct_fields__)
_OPTION_FIELDS: Final = frozenset(Options.__struct_fields__)
_decode_exact = msgspec.json.Decoder(Registration).decode
_decode_any = msgspec.json.Decoder().decode


def decode(payload: bytes) -> Registration:
    """Reads a registration or its withdrawal.

    Raises InvalidMessage for what is not JSON, has a wrong type, names no host or port (gorouter would dial its own
    machine for an empty host), or has a route service that is not https.
    """
    message = parse(payload)
    if not message.host:
        raise InvalidMessage("host must not be empty")
    if not (message.port or message.tls_port):
        raise InvalidMessage("port must not be 0")
    if message.route_service_url and not message.route_service_url.startswith("https"):
        # gorouter: the whole message is dropped, with this text
        raise InvalidMessage("Unable to validate message. route_service_url must be https")
    return message


def parse(payload: bytes) -> Registration:
    """Reads the shape alone, as gorouter does with every message on `router.*`. Raises InvalidMessage."""
    try:
        return _decode_exact(payload)
    except msgspec.MsgspecError:
        return _decode_folded(payload)


def _decode_folded(payload: bytes) -> Registration:
    try:
        raw = _decode_any(payload)
        if not isinstance(raw, dict):
            raise InvalidMessage(f"Expected `object`, got `{type(raw).__name__}`")
        fields = _fold(raw, _FIELDS)
        options = fields.get("options")
        if isinstance(options, dict):
            fields["options"] = _fold(options, _OPTION_FIELDS)
        return msgspec.convert(fields, Registration)
    except msgspec.MsgspecError as error:
        raise InvalidMessage(str(error)) from None


def _fold(raw: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Known keys in their own spelling; of two that differ only in case the later one counts."""
    fields: dict[str, Any] = {}
    for key, value in raw.items():
        name = key.casefold()
        if name in known and value is not None:
            fields[name] = value
    return fields


def share(message: Registration, ports: dict[int, int]) -> None:
    """Makes a record that will be kept refer to one copy of every string that many records have in common.

    Instance ids are left alone: they are unique, and an interned string costs a table entry of its own.
    """
    intern = sys.intern
    message.host = intern(message.host)
    message.port = ports.setdefault(message.port, message.port)
    message.tls_port = ports.setdefault(message.tls_port, message.tls_port)
    message.app = intern(message.app)
    message.private_instance_index = intern(message.private_instance_index)
    message.protocol = intern(message.protocol)
    message.route_service_url = intern(message.route_service_url)
    message.availability_zone = intern(message.availability_zone)
    message.isolation_segment = intern(message.isolation_segment)
    instance = message.private_instance_id
    if message.server_cert_domain_san == instance:  # Diego verifies instances by their id
        message.server_cert_domain_san = instance
    if message.tags is not None:
        message.tags = {
            intern(name): instance if value == instance else intern(value) for name, value in message.tags.items()
        }


def encode_start(identity: str, hosts: list[str], register_interval_s: int, prune_threshold_s: int) -> bytes:
    """The body of router.start and of the answer to router.greet."""
    return msgspec.json.encode(
        {
            "id": identity,
            "hosts": hosts,
            "minimumRegisterIntervalInSeconds": register_interval_s,
            "pruneThresholdInSeconds": prune_threshold_s,
        }
    )


def encode_active_apps(apps: list[str]) -> bytes:
    """The body of router.active_apps: application ids, compressed."""
    return zlib.compress(msgspec.json.encode(apps))

"""The registry: who serves which route, and until when. The one writer of the data plane's route table.

Owns what the table does not hold: the registration of every endpoint, when it goes stale, and host names. An endpoint
is known by its address "host:port" within a route (gorouter: identity inside a pool). It lives in a *slot*, an index
into parallel arrays; a route with one endpoint, the usual case, is a bare slot number, so 250,000 routes stay small.

Always true: handles[s] >= 0 if and only if the table holds the endpoint of slot s under that handle;
NAMED: its handles, one per address of the name, are in _named[s]; UNROUTED: the table does not hold it.

Called on the control thread only. A re-registration that changes nothing costs a comparison and one store. What walks
everything (prune, export, rows) comes in portions; the caller yields to its loop between them.

Endpoints that this router must not speak to in plain text (tls_port), and routes whose requests must pass a route
service first (the latest registration decides for the whole route), are kept and listed but not routed. A route that
has endpoints and none to route to is *held*: the table has it without an endpoint, so that its requests do not fall
to a wildcard route, which may be another tenant's.

The table raises ValueError for what it cannot hold, and BlockingIOError while workers lag hopelessly behind: then the
endpoint is forgotten, complained about, and taken anew with its next registration.

Does not: decode messages, resolve names, keep time (the caller passes it), touch files.
"""

import contextlib
import math
import socket
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from gorouter_py.control import messages
from gorouter_py.control.messages import Registration, StaticRegistration
from gorouter_py.control.sonde import encode_tags
from gorouter_py.control.throttle import Throttle

NEVER: Final = math.inf
UNROUTED: Final = -1
NAMED: Final = -2
NO_URIS: Final[list[str]] = []
SCAN_STEP: Final = 8192  # slots looked at in one portion: about 0.5 ms
CHANGE_STEP: Final = 256  # table changes in one portion: about 1 ms
COMPONENTS_MAX: Final = 256  # names of senders counted apart; they come from outside
REJECTED_LINES_PER_S: Final = 10
NO_VERSION: Final = 255  # of an endpoint that no rollout has a name for


class Table(Protocol):
    """What the registry needs of the data plane."""

    def add(
        self,
        uri: str,
        ip: str,
        port: int,
        *,
        app: str = "",
        instance_id: str = "",
        instance_index: str = "",
        process_id: str = "",
        local: bool = False,
        tags: bytes = b"",
        balancing: str = "",
        hash_header: str = "",
        hash_balance: float = 0.0,
        version: int = NO_VERSION,
    ) -> int: ...
    def replace(
        self,
        handle: int,
        *,
        app: str = "",
        instance_id: str = "",
        instance_index: str = "",
        process_id: str = "",
        local: bool = False,
        tags: bytes = b"",
        balancing: str = "",
        hash_header: str = "",
        hash_balance: float = 0.0,
        version: int = NO_VERSION,
    ) -> int: ...
    def remove(self, handle: int, *, keep_empty: bool = False) -> None: ...
    def vacate(self, uri: str) -> None: ...
    def drop_empty(self, uri: str) -> bool: ...
    def endpoint_serial(self, handle: int) -> int: ...


class Names(Protocol):
    """What the registry needs of the resolver."""

    def watch(self, host: str) -> tuple[str, ...]: ...
    def unwatch(self, host: str) -> None: ...


class Log(Protocol):
    """What the registry needs of the component log."""

    def enabled(self, level: str) -> bool: ...
    def debug(self, message: str, /, **data: Any) -> None: ...
    def info(self, message: str, /, **data: Any) -> None: ...
    def warn(self, message: str, /, **data: Any) -> None: ...
    def error(self, message: str, /, **data: Any) -> None: ...


@dataclass(frozen=True)
class Limits:
    """How long endpoints live, and which are taken at all. Durations in seconds."""

    stale_s: float = 120.0
    suspend_pruning: bool = False  # keep everything while the bus is away
    keep_empty_s: float = 0.0  # how long a route without endpoints stays in the table; 0: not at all
    sharding_mode: str = "all"
    isolation_segments: frozenset[str] = frozenset()
    zone: str = ""  # of this router
    tags: bool = False  # the table is told an instance's tags


@dataclass
class Counts:
    """Counters for metrics; they only grow. Per uri of a message."""

    added: int = 0
    updated: int = 0  # known and unequal
    refreshed: int = 0  # known and equal; gorouter counts it as updated
    unmodified: int = 0  # older than what is known
    unregistered: int = 0
    by_component: dict[tuple[str, str], int] = field(default_factory=dict)  # tag "component", gorouter's action
    pruned: int = 0
    rejected: int = 0
    tls_endpoints_unsupported: int = 0
    route_services_unsupported: int = 0


def route_key(uri: str) -> str:
    """The table's key of a uri (gorouter: lower case, cut at "?", one trailing and one leading "/" removed)."""
    key = uri.partition("?")[0].lower()
    if key.endswith("/"):
        key = key[:-1]
    return key.removeprefix("/")


def is_address(host: str) -> bool:
    """Whether host is an IPv4 or IPv6 address and not a name."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except (OSError, ValueError):  # ValueError: a NUL within
        return False
    return True


class Registry:
    """See the head of the file."""

    def __init__(self, table: Table, names: Names, log: Log, limits: Limits) -> None:
        self._table = table
        self._names = names
        self._log = log
        self._limits = limits
        self._facts: list[Registration | None] = []  # per slot
        self._keys: list[str] = []
        self._until = array("d")  # monotonic seconds
        self._handles = array("q")
        self._free: list[int] = []
        self._pools: dict[str, int | dict[str, int]] = {}  # route key -> slot, or address -> slot
        self._spelling: dict[str, str] = {}  # keys whose uri came in other spelling: it makes the cookies' Path
        self._named: dict[int, dict[str, int]] = {}  # slot -> ip -> handle
        self._by_name: dict[str, set[int]] = {}  # host name -> slots
        self._empty: dict[str, float] = {}  # routes kept without endpoints -> when they go
        self._held: set[str] = set()  # routes with endpoints, none of them in the table; the table has the route
        self._services: dict[str, str] = {}  # routes with a route service -> its url
        self._splits: dict[str, Callable[[Registration], int]] = {}  # routes with a rollout -> version of an instance
        self._ports: dict[int, int] = {}
        self._rejected_lines = Throttle(REJECTED_LINES_PER_S)
        self._suspended = False
        self._quiet = False
        self.counts = Counts()
        self.changes = 0  # grows whenever something that a snapshot holds did
        self.last_update: float | None = None  # monotonic seconds of the latest message
        self.on_added: Callable[[int], None] = lambda stamp: None  # told the endpoint_updated_at_ns of what is new
        self.on_split_route: Callable[[str], None] = lambda key: None  # a route with a rollout is (back) in the table

    # -- sizes ---------------------------------------------------------------------------------------------

    @property
    def routes(self) -> int:
        return len(self._pools)

    @property
    def endpoints(self) -> int:
        return len(self._facts) - len(self._free)

    # -- messages ------------------------------------------------------------------------------------------

    def register(self, message: Registration, now: float) -> None:
        """Takes a decoded router.register; `now` in monotonic seconds."""
        if self._limits.sharding_mode != "all" and not self._is_mine(message):
            return
        self.last_update = now
        uris = message.uris
        message.uris = NO_URIS
        until = NEVER if message.tls_port else now + self._ttl(message)
        pools = self._pools
        facts = self._facts
        services, service = self._services, message.route_service_url
        chatty = self._log.enabled("debug")
        for uri in uris:
            pool = pools.get(uri)
            slot = pool.get(message.address) if isinstance(pool, dict) else pool
            if slot is None or facts[slot] != message or ((services or service) and services.get(uri, "") != service):
                self._put(uri, message, until)
                continue
            self._until[slot] = until
            self.counts.refreshed += 1
            self._count(message, "updated")
            if chatty:
                self._log.debug("endpoint-registered", **self._describe(uri, message))

    def unregister(self, message: Registration, now: float) -> None:
        """Takes a decoded router.unregister. Only address, uris and tag count (gorouter: not the instance id)."""
        if self._limits.sharding_mode != "all" and not self._is_mine(message):
            return
        self.last_update = now
        address = message.address
        for uri in message.uris:
            key = route_key(uri)
            self.counts.unregistered += 1
            self._count(message, "unregistered")
            if key not in self._pools:
                continue
            slot = self._find(key, address)
            known = self._facts[slot] if slot is not None else None
            if slot is None or known is None or not _may_withdraw(known, message):
                self._log.info("endpoint-not-unregistered", **self._describe(key, message))
                continue
            self._drop(slot, key, address, now)
            self._log.info("endpoint-unregistered", **self._describe(key, known))
            if key not in self._pools and key not in self._empty:
                self._log.info("route-unregistered", uri=key)

    def add_static(self, uri: str, host: str, port: int) -> None:
        """Takes a route that no message can change and that never goes stale. ValueError if it is not one."""
        if not route_key(uri) or not host or not 0 < port < 65536:
            raise ValueError(f"not a route: {uri}={host}:{port}")
        before = self.counts.rejected
        self._put(uri, StaticRegistration(host=host, port=port), NEVER)
        if self.counts.rejected != before:
            raise ValueError(f"not a route: {uri}={host}:{port}")

    def restore(self, uri: str, message: Registration, until: float) -> None:
        """Takes an endpoint from a snapshot, without a log line; what is known already stays as it is."""
        if self._limits.sharding_mode != "all" and not self._is_mine(message):
            return
        if self._find(route_key(uri), message.address) is None:
            self._quiet = True
            try:
                self._put(uri, message, until)
            finally:
                self._quiet = False

    def resolved(self, host: str, addresses: tuple[str, ...]) -> None:
        """The addresses of a name have changed."""
        for slot in tuple(self._by_name.get(host, ())):
            try:
                self._publish_name(slot, addresses)
            except (ValueError, BlockingIOError) as error:
                facts = self._facts[slot]
                assert facts is not None
                self._reject(self._keys[slot], facts, str(error))

    # -- versions ------------------------------------------------------------------------------------------

    def set_split(self, key: str, version: Callable[[Registration], int] | None) -> dict[int, int]:
        """From now on the endpoints of a route are published with the version this gives; None: with none.

        The route need not be there. Returns the version by handle of all endpoints that are in the table."""
        if version is None:
            self._splits.pop(key, None)
        else:
            self._splits[key] = version
        return self.members(key)

    def members(self, key: str) -> dict[int, int]:
        """Version by handle of the endpoints of a route that are in the table."""
        version = self._splits.get(key)
        found: dict[int, int] = {}
        for slot in self._slots(key):
            facts, handle = self._facts[slot], self._handles[slot]
            assert facts is not None
            number = NO_VERSION if version is None else version(facts)
            if handle >= 0:
                found[handle] = number
            elif handle == NAMED:
                found.update(dict.fromkeys(self._named[slot].values(), number))
        return found

    def spelling(self, key: str) -> str | None:
        """The uri a route was registered with; None if there is no such route."""
        return self._spelling.get(key, key) if key in self._pools else None

    # -- time ----------------------------------------------------------------------------------------------

    def prune(self, now: float, bus_up: bool) -> Iterator[None]:
        """Drops what is stale; yields after each portion. TLS endpoints never go stale (gorouter)."""
        if self._limits.suspend_pruning:
            if not bus_up:
                self._suspended = True
                self._log.info("prune-suspended")
                return
            if self._suspended:  # nobody could refresh anything: everyone gets a full life again
                self._suspended = False
                yield from self._refresh_all(now)
        until = self._until
        for start in range(0, len(until), SCAN_STEP):
            stale = [slot for slot, end in enumerate(until[start : start + SCAN_STEP], start) if end < now]
            for first in range(0, len(stale), CHANGE_STEP):
                self._drop_stale(stale[first : first + CHANGE_STEP], now)
                yield
            yield
        self.drop_empty(now)

    def _drop_stale(self, slots: list[int], now: float) -> None:
        gone: dict[str, list[str]] = {}
        segments: dict[str, str] = {}
        for slot in slots:
            facts = self._facts[slot]
            if facts is None or self._until[slot] >= now:  # withdrawn or refreshed while we yielded
                continue
            key, address = self._keys[slot], facts.address
            gone.setdefault(key, []).append(address)
            segments[key] = facts.isolation_segment
            self._drop(slot, key, address, now)
            self.counts.pruned += 1
        for key, addresses in gone.items():
            self._log.info("pruned-route", uri=key, endpoints=addresses, isolation_segment=segments[key] or "-")

    def drop_empty(self, now: float) -> None:
        """Lets routes go that were kept without endpoints long enough. Cheap; call it each second."""
        for key in [key for key, end in self._empty.items() if end <= now][:CHANGE_STEP]:
            del self._empty[key]
            self._table.drop_empty(key)

    def _refresh_all(self, now: float) -> Iterator[None]:
        for start in range(0, len(self._facts), SCAN_STEP):
            for slot, facts in enumerate(self._facts[start : start + SCAN_STEP], start):
                if facts is not None and self._until[slot] != NEVER:
                    self._until[slot] = now + self._ttl(facts)
            yield

    # -- reading -------------------------------------------------------------------------------------------

    def export(self) -> Iterator[list[tuple[str, float, Registration]]]:
        """Portions of (uri, monotonic end of life, facts) for a snapshot.

        Left out: static routes, those of the routing API, which keeps them itself, and endpoints without an end of
        life, which nothing could drop after a start.
        """
        for start in range(0, len(self._facts), 1024):
            portion = []
            for slot, facts in enumerate(self._facts[start : start + 1024], start):
                if type(facts) is Registration and self._until[slot] != NEVER:
                    key = self._keys[slot]
                    portion.append((self._spelling.get(key, key), self._until[slot], facts))
            yield portion

    def keys(self) -> list[str]:
        """All route keys, those kept without endpoints included."""
        return [*self._pools, *(key for key in self._empty if key not in self._pools)]

    def facts(self, keys: Iterable[str]) -> Iterator[tuple[str, Registration]]:
        """(route key, registration) of each endpoint of those routes among `keys` that are still there."""
        for key in keys:
            for slot in self._slots(key):
                known = self._facts[slot]
                assert known is not None
                yield key, known

    def registration_of(self, key: str, serial: int) -> Registration | None:
        """The registration behind an endpoint of a route, by the number the table gave it; None if it has gone."""
        for slot in self._slots(key):
            handle = self._handles[slot]
            for each in [handle] if handle >= 0 else self._named.get(slot, {}).values():
                if self._table.endpoint_serial(each) == serial:
                    return self._facts[slot]
        return None

    def rows(self, keys: Iterable[str]) -> dict[str, list[dict[str, object]]]:
        """The routes among `keys` that are still there, as /routes shows them."""
        shown: dict[str, list[dict[str, object]]] = {}
        for key in keys:
            slots = self._slots(key)
            if slots or key in self._empty:
                shown[key] = [self._row(slot) for slot in slots]
        return shown

    def _row(self, slot: int) -> dict[str, object]:
        facts = self._facts[slot]
        assert facts is not None
        row: dict[str, object] = {
            "address": facts.address,
            "availability_zone": facts.availability_zone,
            "protocol": facts.protocol or "http1",
            "tls": facts.is_tls,
            "ttl": int(self._ttl(facts)),
            "tags": facts.tags,
        }
        for name, value in (
            ("route_service_url", facts.route_service_url),
            ("isolation_segment", facts.isolation_segment),
            ("private_instance_id", facts.private_instance_id),
            ("server_cert_domain_san", facts.server_cert_domain_san),
            ("load_balancing_algorithm", facts.lb_algorithm),
        ):
            if value:
                row[name] = value
        if facts.lb_algorithm == "hash" and facts.options is not None:
            row["hash_header"] = facts.options.hash_header
            row["hash_balance"] = facts.options.hash_balance
        return row

    # -- inside --------------------------------------------------------------------------------------------

    def _is_mine(self, message: Registration) -> bool:
        segment = message.isolation_segment
        if self._limits.sharding_mode == "shared-and-segments" and not segment:
            return True
        return segment in self._limits.isolation_segments

    def _ttl(self, facts: Registration) -> float:
        own = facts.stale_threshold_in_seconds
        return own if 0 < own < self._limits.stale_s else self._limits.stale_s

    def _slots(self, key: str) -> list[int]:
        pool = self._pools.get(key)
        if pool is None:
            return []
        return [pool] if isinstance(pool, int) else list(pool.values())

    def _find(self, key: str, address: str) -> int | None:
        pool = self._pools.get(key)
        if isinstance(pool, int):
            facts = self._facts[pool]
            assert facts is not None
            return pool if facts.address == address else None
        return pool.get(address) if pool is not None else None

    def _put(self, uri: str, message: Registration, until: float) -> None:
        key = route_key(uri)
        address = message.address
        slot = self._find(key, address)
        if slot is None:
            self._turn_service(key, message.route_service_url)
            self._add(uri, key, address, message, until)
            if key not in self._pools:
                self._services.pop(key, None)
            return
        known = self._facts[slot]
        assert known is not None
        if known == message:  # another spelling of the same uri, or another instance changed the route service
            self._turn_service(key, message.route_service_url)
            self._until[slot] = until
            self.counts.refreshed += 1
            self._count(message, "updated")
            self._log.debug("endpoint-registered", **self._describe(key, message))
        elif isinstance(known, StaticRegistration) or not known.tag.succeeded_by(message.tag):
            self.counts.unmodified += 1
            self._count(message, "unmodified")
            self._log.debug("endpoint-not-registered", **self._describe(key, message))
        else:
            self._turn_service(key, message.route_service_url, spared=slot)
            self._update(slot, key, message, until)

    def _turn_service(self, key: str, url: str, spared: int = UNROUTED) -> None:
        """gorouter: the latest registration of any instance says which route service the whole route has."""
        had = self._services.get(key, "")
        if had == url:
            return
        if url:
            self._services[key] = url
        else:
            del self._services[key]
        if bool(had) == bool(url):
            return
        if url:
            self._bar(key)
            return
        for slot in self._slots(key):
            facts = self._facts[slot]
            if slot == spared or facts is None:
                continue
            try:
                self._publish(slot, self._spelling.get(key, key))
            except (ValueError, BlockingIOError) as error:
                self._drop(slot, key, facts.address, self.last_update or 0.0)
                self._reject(key, facts, str(error))
        self._hold_if_bare(key, self._slots(key))

    def _bar(self, key: str) -> None:
        """Takes a route's endpoints out of the table, all in one step: from here on no request reaches any of them."""
        slots = [slot for slot in self._slots(key) if self._handles[slot] != UNROUTED]
        if not slots:
            return
        self._table.vacate(self._spelling.get(key, key))
        for slot in slots:
            facts = self._facts[slot]
            assert facts is not None
            if self._handles[slot] == NAMED:
                self._forget_name(slot, facts.host)
            self._handles[slot] = UNROUTED
        self._held.add(key)

    def _count(self, message: Registration, action: str) -> None:
        counts = self.counts.by_component
        component = message.tags.get("component", "") if message.tags else ""
        pair = (component, action)
        if pair not in counts and len(counts) >= COMPONENTS_MAX:
            pair = ("", action)
        counts[pair] = counts.get(pair, 0) + 1

    def _add(self, uri: str, key: str, address: str, message: Registration, until: float) -> None:
        if not key:
            self._reject(uri, message, "the uri is empty")
            return
        messages.share(message, self._ports)
        slot = self._take_slot()
        self._keys[slot] = key
        self._facts[slot] = message
        self._until[slot] = until
        new_route = key not in self._pools
        if new_route and key != uri:
            self._spelling[key] = uri
        spelling = self._spelling.get(key, key)
        try:
            self._publish(slot, spelling)
            if new_route and not self._is_published(slot):
                self._hold(key, spelling)
        except (ValueError, BlockingIOError) as error:
            if self._handles[slot] == NAMED:
                self._forget_name(slot, message.host)
            self._give_slot(slot)
            if new_route:
                self._spelling.pop(key, None)
            self._reject(uri, message, str(error))
            return
        self._join(key, address, slot)
        self._empty.pop(key, None)
        if new_route and key in self._splits:
            self.on_split_route(key)
        self._hold_if_bare(key, (slot,))
        self.counts.added += 1
        self._count(message, "added")
        self.changes += 1
        if self._quiet:
            return
        if message.endpoint_updated_at_ns > 0:
            self.on_added(message.endpoint_updated_at_ns)
        if new_route:
            self._log.info("route-registered", uri=key)
            self._log.debug("uri-added", uri=key)
        self._log.info("endpoint-registered", **self._describe(key, message))
        self._warn_if_unfit(key, message)

    def _update(self, slot: int, key: str, message: Registration, until: float) -> None:
        """An unequal registration of a known address is a new endpoint: the address may be another tenant's now."""
        messages.share(message, self._ports)
        known = self._facts[slot]
        assert known is not None
        self._until[slot] = until
        handle = self._handles[slot]
        if handle != UNROUTED and self._is_routable(key, message):
            try:
                self._replace(slot, handle, message)
            except (ValueError, BlockingIOError) as error:
                # What was there may be another tenant's by now; without it the next registration is a new one.
                self._drop(slot, key, message.address, self.last_update or 0.0)
                self._reject(key, message, str(error))
                return
            self._facts[slot] = message
        elif handle != UNROUTED or self._is_routable(key, message):
            self._unpublish(slot, keep=True)
            self._facts[slot] = message
            try:
                self._publish(slot, self._spelling.get(key, key))
            except (ValueError, BlockingIOError) as error:
                self._drop(slot, key, message.address, self.last_update or 0.0)
                self._reject(key, message, str(error))
                return
        else:
            self._facts[slot] = message
        self._hold_if_bare(key, (slot,))
        self.counts.updated += 1
        self._count(message, "updated")
        self.changes += 1
        self._log.debug("endpoint-registered", **self._describe(key, message))
        self._warn_if_unfit(key, message)

    def _drop(self, slot: int, key: str, address: str, now: float) -> None:
        pool = self._pools[key]
        is_last = isinstance(pool, int) or len(pool) == 1
        keeps = self._limits.keep_empty_s > 0
        self._unpublish(slot, keep=keeps or not is_last)
        if isinstance(pool, dict):
            del pool[address]
        if is_last:
            del self._pools[key]
            self._spelling.pop(key, None)
            self._services.pop(key, None)
            if keeps:
                self._held.discard(key)
                self._empty[key] = now + self._limits.keep_empty_s
            elif key in self._held:
                self._held.discard(key)
                self._table.drop_empty(key)
        else:
            self._hold_if_bare(key, ())
        self._give_slot(slot)
        self.changes += 1

    def _join(self, key: str, address: str, slot: int) -> None:
        pool = self._pools.get(key)
        if pool is None:
            self._pools[key] = slot
        elif isinstance(pool, dict):
            pool[address] = slot
        else:
            first = self._facts[pool]
            assert first is not None
            self._pools[key] = {first.address: pool, address: slot}

    def _take_slot(self) -> int:
        if self._free:
            return self._free.pop()
        self._facts.append(None)
        self._keys.append("")
        self._until.append(NEVER)
        self._handles.append(UNROUTED)
        return len(self._facts) - 1

    def _give_slot(self, slot: int) -> None:
        self._facts[slot] = None
        self._keys[slot] = ""
        self._until[slot] = NEVER
        self._handles[slot] = UNROUTED
        self._free.append(slot)

    # -- the table -----------------------------------------------------------------------------------------

    def _publish(self, slot: int, uri: str) -> None:
        """ValueError if the table does not take the uri."""
        facts = self._facts[slot]
        assert facts is not None
        if not self._is_routable(self._keys[slot], facts):
            self._handles[slot] = UNROUTED
            return
        host = facts.host.removeprefix("[").removesuffix("]")
        if is_address(host):
            self._handles[slot] = self._table.add(uri, host, facts.port, **self._identity(self._keys[slot], facts))
            return
        self._handles[slot] = NAMED
        self._named[slot] = {}
        self._by_name.setdefault(facts.host, set()).add(slot)
        try:
            self._publish_name(slot, self._names.watch(facts.host))
        except (ValueError, BlockingIOError):
            for handle in self._named[slot].values():
                self._table.remove(handle, keep_empty=self._keys[slot] in self._pools)
            self._forget_name(slot, facts.host)
            self._handles[slot] = UNROUTED
            raise

    def _publish_name(self, slot: int, addresses: tuple[str, ...]) -> None:
        """Brings the table in line with a name's addresses; new ones come before old ones go."""
        facts = self._facts[slot]
        assert facts is not None
        key = self._keys[slot]
        handles = self._named[slot]
        wanted = addresses
        if not isinstance(facts, StaticRegistration):
            # One instance is one socket: without a reason (no IPv4 address) it is not tried over IPv6 as well.
            wanted = tuple(address for address in addresses if ":" not in address) or addresses
        for address in wanted:
            if address not in handles:
                uri = self._spelling.get(key, key)
                handles[address] = self._table.add(uri, address, facts.port, **self._identity(key, facts))
        for address in [address for address in handles if address not in wanted]:
            self._table.remove(handles.pop(address), keep_empty=True)
        if key in self._pools:
            self._hold_if_bare(key, (slot,))

    def _forget_name(self, slot: int, host: str) -> None:
        del self._named[slot]
        slots = self._by_name[host]
        slots.discard(slot)
        if not slots:
            del self._by_name[host]
        self._names.unwatch(host)

    def _replace(self, slot: int, handle: int, facts: Registration) -> None:
        key = self._keys[slot]
        if handle >= 0:
            self._handles[slot] = self._table.replace(handle, **self._identity(key, facts))
            return
        handles = self._named[slot]
        for address in handles:
            handles[address] = self._table.replace(handles[address], **self._identity(key, facts))

    def _unpublish(self, slot: int, *, keep: bool) -> None:
        """Takes a slot's endpoints out of the table. keep: the route stays there, even without any."""
        handle = self._handles[slot]
        if handle == UNROUTED:
            return
        facts = self._facts[slot]
        assert facts is not None
        for each in [handle] if handle >= 0 else self._named[slot].values():
            self._table.remove(each, keep_empty=keep)
        if handle == NAMED:
            self._forget_name(slot, facts.host)
        self._handles[slot] = UNROUTED

    def _is_published(self, slot: int) -> bool:
        handle = self._handles[slot]
        return handle >= 0 or (handle == NAMED and bool(self._named[slot]))

    def _hold_if_bare(self, key: str, changed: Iterable[int]) -> None:
        """Keeps the note of held routes right after slots changed. The table has the route, whether held or not."""
        if any(self._is_published(slot) for slot in changed):
            self._held.discard(key)
            return
        known = key in self._held or key not in self._pools
        if not known and not any(self._is_published(slot) for slot in self._slots(key)):
            self._held.add(key)

    def _hold(self, key: str, uri: str) -> None:
        """Makes a route without endpoints in the table; ValueError and BlockingIOError as of vacate."""
        if key not in self._empty:
            self._table.vacate(uri)

    def _is_routable(self, key: str, facts: Registration) -> bool:
        return not facts.tls_port and key not in self._services

    def _identity(self, key: str, facts: Registration) -> dict[str, Any]:
        identity: dict[str, Any] = {
            "app": facts.app,
            "instance_id": facts.private_instance_id,
            "instance_index": facts.private_instance_index,
        }
        if self._splits and (version := self._splits.get(key)) is not None:
            identity["version"] = version(facts)
        if facts.tags:
            identity["process_id"] = facts.tags.get("process_id", "")
            if self._limits.tags:
                identity["tags"] = encode_tags(facts.tags)
        if self._limits.zone and facts.availability_zone == self._limits.zone:
            identity["local"] = True
        if facts.options is not None:
            with contextlib.suppress(ValueError):  # complained about by _warn_if_unfit
                balancing = facts.balancing
                identity["balancing"] = balancing.algorithm
                identity["hash_header"] = balancing.header
                identity["hash_balance"] = balancing.factor
        return identity

    # -- the log -------------------------------------------------------------------------------------------

    def _describe(self, key: str, facts: Registration) -> dict[str, object]:
        return {
            "uri": key,
            "route_service_url": facts.route_service_url,
            "backend": facts.address,
            "application_id": facts.app,
            "instance_id": facts.private_instance_id,
            "server_cert_domain_san": facts.server_cert_domain_san,
            "protocol": facts.protocol or "http1",
            "modification_tag": {"guid": facts.tag.guid, "index": facts.tag.number},
            "isolation_segment": facts.isolation_segment or "-",
            "isTLS": facts.is_tls,
        }

    def _warn_if_unfit(self, key: str, facts: Registration) -> None:
        if facts.is_tls:
            self.counts.tls_endpoints_unsupported += 1
            reason = "the endpoint speaks TLS (tls_port), which this version cannot; it will not be used in plain text"
            self._log.warn("endpoint-not-routable", reason=reason, **self._describe(key, facts))
        elif facts.route_service_url:
            self.counts.route_services_unsupported += 1
            reason = "requests must pass a route service first, which this version cannot do"
            self._log.warn("endpoint-not-routable", reason=reason, **self._describe(key, facts))
        if facts.options is not None:
            try:
                facts.balancing  # noqa: B018
            except ValueError as error:
                self._log.error(
                    "invalid-endpoint-load-balancing-algorithm-provided-keeping-pool-lb-algo",
                    endpointLBAlgorithm=facts.lb_algorithm,
                    uri=key,
                    error=str(error),
                )

    def _reject(self, uri: str, message: Registration, why: str) -> None:
        self.counts.rejected += 1
        held = self._rejected_lines.admit()
        if held is not None:
            self._log.error("endpoint-not-registered", uri=uri, backend=message.address, error=why, suppressed=held)


def _may_withdraw(known: Registration, message: Registration) -> bool:
    """gorouter: a withdrawal counts if its tag is the same or newer."""
    if isinstance(known, StaticRegistration):
        return False
    return known.tag == message.tag or known.tag.succeeded_by(message.tag)

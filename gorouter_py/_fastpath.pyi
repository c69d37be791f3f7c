"""The data plane as the control plane sees it.

Threading: every method is called from the control thread only (the table has a single writer).
Methods never block on a worker, except stop().
"""

import re
from collections.abc import Mapping, Sequence
from typing import Protocol, TypedDict

class PageStep(Protocol):
    """A step of the error page, as control/error_page compiles it."""

    kind: str
    text: str
    field: str
    header: str
    constants: list[str]
    jump: int

class Settings(TypedDict, total=False):
    """Everything a worker needs to know; durations in ms, 0 = no limit. Missing keys take the default."""

    workers: int  # 1
    head_timeout_ms: int  # 30000: first byte of a request head to its last
    body_timeout_ms: int  # 60000: silence within a body: two reads of it on either side, or two writes to a client
    connect_timeout_ms: int  # 5000
    first_byte_timeout_ms: int  # 0: request sent to response head
    request_timeout_ms: int  # 60000: one attempt, response body included (gorouter's endpoint_timeout)
    idle_timeout_ms: int  # 900000: client keep-alive
    tunnel_timeout_ms: int  # 0: silence on an upgraded connection
    upstream_idle_timeout_ms: int  # 90000
    upstream_idle_per_endpoint: int  # 128, per worker
    upstream_keep_alive: bool  # True
    linger_timeout_ms: int  # 2000
    max_attempts: int  # 3
    cool_down_ms: int  # 30000: how long a failed endpoint is passed over
    retry_idempotent: bool  # True
    head_bytes_max: int  # 1048576
    max_connections: int  # 0 = bounded by descriptors alone
    max_conns: int  # 0; attempts in flight per endpoint
    balancing_algorithm: str  # "round-robin"; or "least-connection", of routes whose registrations name none
    zone_preference: bool  # False; first attempts go to endpoints added with local=True, if there are any
    empty_pool_503: bool  # False
    force_forwarded_proto_https: bool  # False
    sanitize_forwarded_proto: bool  # False
    secure_cookies: bool  # False
    sticky_auth_negotiate: bool  # False; Authorization: Negotiate binds a client to its instance
    keep_alive_100_continue: bool  # False; True: Expect: 100-continue does not end the connection to the endpoint
    max_request_header_bytes: int  # 0; gorouter's formula over all request headers, answered 431 after the look-up
    max_request_headers: int  # 0
    max_response_header_bytes: int  # 0
    max_response_headers: int  # 0
    enable_zipkin: bool  # False; B3
    enable_w3c: bool  # False; traceparent, tracestate
    w3c_tenant_id: str  # ""
    trace_key: str  # ""; X-Vcap-Trace with this value asks who answered
    router_ip: str  # ""; X-Vcap-Router
    redact_query_params: str  # "none"; of a GET "all" leaves the query out, "hash" shows its SHA-1
    add_response_headers: Sequence[tuple[str, str]]  # (); (name, value) that answers without that name get
    remove_response_headers: Sequence[str]  # ()
    keep_nominated_headers: Sequence[str]  # (); request headers that naming them in Connection does not take away
    extra_headers_to_log: Sequence[str]  # ()
    extra_access_log_fields: Sequence[str]  # (); of LOG_FIELDS; others are ignored
    error_page: Sequence[PageStep]  # (); steps of an HTML page for the router's own errors
    sticky_cookie_names: Sequence[str]  # ("JSESSIONID",)
    trusted_networks: Sequence[str]  # (); "10.0.0.0/8": whose X-Forwarded-* and Forwarded mapped ports believe
    health_user_agent: str  # "HTTP-Monitor/1.1"
    access_log: str  # "" none, "-" stdout, else a path (append, mode 0644)
    access_log_stdout: bool  # False: stdout beside the file
    log_forwarded_for: bool  # True
    log_source_ip: bool  # True
    meter_requests: bool  # False; meters() has something to say
    lookup_time_bounds_ns: Sequence[int]  # (); inclusive upper bounds, at most 64
    gorouter_time_bounds_ns: Sequence[int]  # ()

class Series(TypedDict):
    route: str  # table key; "" is the shared series of routes beyond the cap
    requests: tuple[int, int, int, int, int, int]  # by status class: xxx, 1xx, 2xx, 3xx, 4xx, 5xx
    buckets: tuple[int, ...]  # requests per latency bucket, not cumulated; bounds in HISTOGRAM_BOUNDS_NS
    sum_ns: int

class Meter(TypedDict):
    bounds_ns: tuple[int, ...]
    counts: tuple[int, ...]  # up to each bound, not cumulated; one more than bounds
    sum_ns: int

class Event(TypedDict):
    """What a worker says about one request. kind, at_ns and the three ids always count."""

    kind: str  # "endpoint_failed", "select_failed", "semicolon", "status", "request", "attempt"
    at_ns: int  # wall clock, when the request came
    request_id: str
    trace_id: str
    span_id: str
    endpoint: int  # serial, as endpoint_serial(handle) gives it; 0 = none was chosen
    address: str  # "ip:port"
    attempt: int  # attempts so far
    text: str  # endpoint_failed, attempt: key of the route; select_failed: the host; status: the body
    algorithm: str  # attempt
    fault: str  # endpoint_failed, as all below: name of the row in flow/fault.h
    error: str
    retried: bool
    marked: bool  # the endpoint is passed over from now on
    connected: bool
    wrote_head: bool
    reused: bool
    answered: bool  # the client has seen the head of an answer
    endpoints: int  # of the route
    dial_ns: int
    local_address: str

class Rule(TypedDict, total=False):
    """Sends requests to a version whatever their coordinate says. The first rule that fits decides."""

    kind: str  # "header", "cookie", "user_agent", "address" or "cohort"
    name: str  # of the header or cookie; cohort: a label, each has clients of its own
    op: str  # "equals"; or "prefix", "contains", "present" (cookies and header values are compared as they are)
    value: str  # address: a network as "10.0.0.0/8"; cohort: percent of the clients, as "5"
    version: int

class RolloutSpec(TypedDict, total=False):
    """How the requests of a route are split over versions. Missing keys take the default."""

    id: int  # 1 or more; numbers, draws and bitmaps live on while it stays and begin anew with another
    versions: Sequence[str]  # names, at most 254; a version is its index
    stable: int  # 0: where requests go when their version has nothing fit
    intervals: Sequence[tuple[int, int]]  # (end, version): ends exclusive and ascending, the last 65536
    salt: int  # 0; added to every coordinate
    mode: str  # "cookie": gr_c; "identity": a hash of `identity`, else gr_c; "request": each draws anew
    identity: tuple[str, str]  # ("header", name), ("cookie", name) or ("address", "32/64": bits of IPv4/IPv6)
    sessions_new_only: bool  # False; clients with a sticky session and no gr_c stay on stable
    cookie_max_age_s: int  # 2592000
    cookie_key: bytes  # b""; 16 bytes sign gr_c
    rules: Sequence[Rule]  # ()
    overrides: Sequence[tuple[str, int]]  # (): (value of X-Canary or the cookie gr_v, version)
    sticky: str  # "move": a sticky client follows its coordinate; "keep": it stays with its instance
    keep_versions: Sequence[int]  # (): versions where "keep" holds
    retry_on_stable: bool  # True: an attempt that fails on another version is repeated there
    retry_budget_percent: int  # 20; of the requests of some 10 s, and 10 more
    slow_ns: int  # latency to the response head that is slow; 0 = never, missing = as it was
    warmup_ms: int  # 10000: an endpoint is not slow within this time of its registration
    address_cap: int  # 64; first failures that count per client address, 0 = no bound
    forwarded_for: bool  # False; True: a client's address is the last one of X-Forwarded-For
    count_4xx: bool  # False; True: answers 4xx are outcomes of the metric client_error
    mirror_version: int  # -1 = none
    mirror_share: int  # 0 to 65536
    propagate: bool  # False; True: X-Gr-Version tells the app the version's name

class Outcome(TypedDict):
    """The first failure of a unit (a client, as far as it can be told) in a metric."""

    rollout: int
    version: int
    metric: str  # "failure", "slow" or "client_error"
    unit: int
    u: int
    status: int
    cause: str  # name of the row in flow/fault.h; "status": the app's own 5xx; "" for other metrics
    method: str
    path: str
    request_id: str
    address: str
    latency_ns: int  # to the response head
    at_ns: int  # wall clock

class VersionNumbers(TypedDict):
    """Since the rollout's id is what it is. A request counts for the version whose endpoint got its first attempt."""

    requests: int
    by_class: tuple[int, ...]  # xxx, 1xx, 2xx, 3xx, 4xx, 5xx
    failures: dict[str, int]  # requests by cause: status, connect, timeout, reset, protocol, limit
    users: int  # different units, some 0.8 % off
    drawn: int
    failovers: int
    retries_on_stable: int
    kept: int
    forced: int
    excluded: int  # failures that are no evidence: forced, bots, addresses beyond the cap
    mirrored: int
    mirror_failures: int  # no answer within 10 s, or one of 5xx
    mirror_skipped: int  # bodies over 64 KiB, more than 64 copies of a worker in flight, or no endpoint that is well
    buckets: tuple[int, ...]  # latency to the response head; bounds in HISTOGRAM_BOUNDS_NS
    sum_ns: int
    endpoints: int

class RolloutNumbers(TypedDict):
    id: int
    route: str
    draws: int
    versions: list[VersionNumbers]
    bitmap_fill: dict[str, float]  # by metric: share of the bits of units that have failed
    outcomes_dropped: int
    retry_budget_denied: int

class Explanation(TypedDict):
    route: str
    version: int | None  # None: the route has no rollout
    version_name: str
    # "override", "rule N" (from 1), "sticky", "identity", "cookie", "new-sessions-only", "draw", "no-rollout"
    reason: str
    u: int | None
    slot: int | None
    fallback: bool  # the version has nothing fit: stable takes the request


HISTOGRAM_BOUNDS_NS: tuple[int, ...]  # upper bounds, ascending; the last bucket has none
COUNTERS: tuple[str, ...]
COUNTER_HELP: dict[str, str]
FAULTS: tuple[str, ...]
DEFAULTS: dict[str, object]
ROLLOUT_DEFAULTS: dict[str, object]
RANGES: dict[str, tuple[int, int]]
BALANCES: dict[str, int]
CHOICES: dict[str, tuple[str, ...]]
ALGORITHMS: dict[int, str]
EVENT_KINDS: dict[int, str]
FRAMING_NAMES: tuple[str, ...]
LOG_FIELDS: dict[str, int]
PAGE_FIELDS: dict[str, int]
PAGE_KINDS: dict[str, int]
TEXT_BYTES_MAX: dict[str, int]
TOKEN: re.Pattern[str]
BUILD: str  # "release", "dev", "asan" or "tsan"

class DataPlane:
    def __init__(self, settings: Settings) -> None:
        """Allocates; starts nothing. ValueError names an unknown or unfit key."""
    # -- route table (any time between construction and stop) ---------------------------------------------
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
        version: int = 255,
    ) -> int:
        """Publishes an instance under a route and returns its handle.

        uri: "host[/context/path]" in any case, "*." allowed as first label; normalised as gorouter does (lower case,
        query cut, one trailing "/" dropped). ip: textual IPv4 or IPv6 address. ValueError if either does not parse.
        balancing ("round-robin", "least-connection", "hash"; "" leaves it) is the whole route's from now on;
        hash needs hash_header, and hash_balance > 0 passes over endpoints with more than that times the mean load.
        version: index of the route's rollout's version, 255 = of none.
        tags: what envelopes say of the instance, as control/sonde.encode_tags gives it.
        The same address may be added twice; keeping identities unique is the registry's work."""
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
        version: int = 255,
    ) -> int:
        """Puts a new endpoint in the place of an old one of the same route and address; one publication."""
    def remove(self, handle: int, *, keep_empty: bool = False) -> None:
        """Takes an instance out. Its route goes with the last one, unless keep_empty."""
    def vacate(self, uri: str) -> None:
        """Leaves a route without an instance, in one step, and makes it if it is missing; its handles are void.

        ValueError if the uri is no route, BlockingIOError as add for a new one.
        """
    def drop_empty(self, uri: str) -> bool:
        """Removes a route that has no instance; False if it has one or is unknown."""
    def endpoint_serial(self, handle: int) -> int: ...
    def lookup(self, host: str, path: str) -> tuple[str, list[int]] | None:
        """(route key, handles in rotation order) of the route a request would take; None if there is none."""
    def routes(self) -> int:
        """Routes in the table, those without an instance included."""
    def reclaim(self) -> int:
        """Frees what no worker can see any more; returns how many objects still wait. Call it about once a second."""
    # -- rollouts ------------------------------------------------------------------------------------------
    def set_rollout(self, uri: str, spec: RolloutSpec | None, members: Mapping[int, int] = {}) -> None:
        """Splits a route's requests from now on; None: no more. Another weight is this call with other intervals.

        members: endpoint handle -> version, 255 for none; endpoints that are not named keep theirs. ValueError names
        the key and what would be valid; LookupError: no such route, or not its endpoint. The rollout goes with the
        route's last endpoint and has to be set again when the route is back; its numbers live on."""
    def set_slow(self, uri: str, ns: int) -> None:
        """Another threshold for the metric slow, 0 = never. LookupError without a rollout."""
    def rollouts(self) -> list[RolloutNumbers]: ...
    def clients(self, uri: str) -> list[list[tuple[int, str]]]:
        """By version who made its latest requests, of which a few are sampled: the unit, and what the client is called
        (its identity as text, else its address), cut to 48 bytes. LookupError without a rollout."""
    def outcomes(self, limit: int = 1024) -> list[Outcome]: ...
    def explain(self, head: bytes, address: str) -> Explanation:
        """Where a request with this head from this address would go, and why. Changes nothing.

        ValueError: no whole request head. LookupError: no route."""
    # -- where logs go beside files, before start ----------------------------------------------------------
    def stream_log(self, fd: int, ip: str, port: int, *, tcp: bool, origin: str, truncate: int = 0) -> None:
        """The access log to a syslog server.

        fd: connected and non-blocking, owned from here on; a TCP connection that breaks is opened anew to ip and port.
        origin: "host application process-id". truncate: most bytes of a line, 0 = all."""
    def send_envelopes(
        self,
        fd: int,
        *,
        lines: bool = False,
        server_events: bool = False,
        client_events: bool = False,
        source_instance: str = "0",
    ) -> None:
        """Envelopes to the metron agent: access-log lines, HttpStartStop of requests, and of attempts.

        fd: a connected UDP socket, owned from here on."""
    # -- threads -------------------------------------------------------------------------------------------
    def start(self, listeners: Sequence[tuple[str, Sequence[int]]]) -> None:
        """Starts the logger and the workers.

        listeners: (kind, descriptors) with kind "http" or "health" and one listening, non-blocking SO_REUSEPORT
        socket per worker (or fewer: they are spread), with TCP_NODELAY, which what they accept inherits. The data
        plane owns the descriptors from here on."""
    def listen(self, kind: str, fds: Sequence[int]) -> None:
        """More listeners while running, as in start(). RuntimeError if nothing runs; BlockingIOError: try again."""
    def map_port(self, fds: Sequence[int], host: str, port: int, cookies: Sequence[str] = ()) -> int:
        """Listeners of kind "http" for one app, whatever Host the client names; returns the mapping's handle.

        fds as in start(), all bound to `port`. Requests get `host` (a name without a port, in any case) as their Host
        and tell the app in X-Forwarded-* and Forwarded what the client used; answers are turned back. __VCAP_ID__ and
        the app's `cookies` (at most 16) bear cookie_tag(host) on the client's side. ValueError names what is unfit,
        RuntimeError: nothing runs, BlockingIOError: try again; the descriptors are the caller's then."""
    def remap_port(self, handle: int, host: str, cookies: Sequence[str] = ()) -> int:
        """Gives the port to another app, or changes its cookies; the listeners stay open. The old handle is void,
        connections that came by it end with their request. LookupError for a handle that is void; else as map_port."""
    def unmap_port(self, handle: int) -> None:
        """Has all workers accept what is queued and close the listeners. Their connections end with their request."""
    def mapped_listeners(self, handle: int) -> int:
        """Listeners open; 0 after unmap_port means that all are closed, and the handle is void from then on."""
    def set_health(self, healthy: bool) -> None: ...
    def set_log_level(self, level: int) -> None:
        """Which events are made: 0 all, 1 no "request" and "attempt", 2 no "status", 3 no "semicolon"; 3 at first."""
    def close_listeners(self) -> None:
        """Accepts what is queued, then closes the "http" listeners; idle client connections close, active ones finish
        and close. The "health" listeners stay."""
    def active(self) -> int:
        """Requests in progress, tunnels apart; after close_listeners also workers where a connection may yet ask."""
    def connections(self) -> int: ...
    def stop(self, deadline_s: float = 5.0) -> bool:
        """Stops and joins every thread, flushes the log; False if a thread did not end in time (then os._exit)."""
    def reopen_log(self) -> None: ...
    # -- reading -------------------------------------------------------------------------------------------
    def counters(self) -> dict[str, int]: ...
    def series(self) -> list[Series]: ...
    def meters(self) -> dict[str, Meter]:
        """lookup_time: from a request's head to the choice of its first instance, or to there being none;
        gorouter_time: what the router itself took, of requests that got an instance. Empty if not metered."""
    def events(self, limit: int = 1024) -> list[Event]: ...
    def outlets(self) -> dict[str, int]:
        """syslog_lines, syslog_lost, envelopes_sent, envelopes_lost; what rings had no room for is in counters()."""
    def turns(self) -> list[int]:
        """Turns of each worker's loop; one that stands still for seconds is stuck."""

def live_objects() -> dict[str, int]:
    """Objects alive per type, in builds with assertions; empty in release builds."""

def bugs() -> int:
    """Programmer errors met by a build without assertions; anything but 0 deserves a report."""

def cookie_tag(host: str) -> str:
    """What the names of an app's cookies get at their end on its mapped ports; the same on every router."""

def check_headers(key: str, value: Sequence[object]) -> tuple[object, ...]:
    """A list of header names, (name, value) pairs, log columns or bounds as a tuple; ValueError names what is unfit."""

def check_balancing(balancing: str, hash_header: str) -> None:
    """ValueError for an algorithm nobody knows, or a header that cannot be hashed by."""

def check_settings(settings: Settings) -> dict[str, object]:
    """The settings with defaults filled in; ValueError names the key, its value and what would be valid."""

"""Every key of the configuration: one field per key, one struct per section, named and nested as in the file.

The field is the whole row: name, type, default, and by `key(...)` whether the key has an effect now, whether it is a
secret, and a note. `rows()` walks them for the reader, for `check` and for docs/configuration.md.

Units: a field of type Seconds holds float seconds, written in the file as a Go duration ("5s"). Names that are Python
keywords end in "_" here and not in the file. Defaults are those of `gorouter -c`; `serve` changes some of them
(config.SERVE_DEFAULTS). No rule and no reading here.
"""
# ruff: noqa: RUF009  (key and later return dataclasses.field)

import copy
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, get_args, get_origin, get_type_hints

from gorouter_py.component import LEVELS, Anything, Pem, Problem, Seconds, Uint, Uint16, Uint32, format_duration

NO_TLS = "TLS is not served yet"
NO_ROUTE_SERVICES = "route services are not served yet"
PARSED_ONLY = "without effect in gorouter too"
TOKEN_CHARACTERS_MIN = 16


def key(
    default: object = dataclasses.MISSING,
    note: str = "",
    *,
    now: bool = True,
    secret: bool = False,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field that is a key of the file. Lists and dicts given as default are copied for each Config."""
    meta = {"note": note, "now": now, "secret": secret, "choices": choices}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: copy.deepcopy(default), metadata=meta)
    if isinstance(default, type) and dataclasses.is_dataclass(default):
        return dataclasses.field(default_factory=default, metadata=meta)
    return dataclasses.field(default=default, metadata=meta)


def later(default: object, note: str, *, secret: bool = False, choices: tuple[str, ...] = ()) -> Any:
    """A key that is read and validated but changes nothing yet; `check` says so with the note."""
    return key(default, note, now=False, secret=secret, choices=choices)


@dataclass
class StatusTls:
    port: Uint16 = later(8443, NO_TLS)
    certificate: Pem = later("", NO_TLS)
    key: Pem = later("", NO_TLS, secret=True)


@dataclass
class StatusRoutes:
    port: Uint16 = key(8082, "/routes, on 127.0.0.1 alone")


@dataclass
class Status:
    host: str = key("0.0.0.0", "of the deprecated component alone")
    port: Uint16 = key(8080, "/health without TLS")
    user: str = key("", "basic auth of /routes")
    pass_: str = key("", "basic auth of /routes", secret=True)
    enable_nontls_health_checks: bool = key(True, "false: no health listener on status.port")
    enable_deprecated_varz_healthz_endpoints: bool = key(False, "/varz, /healthz, /health, /routes on status.port")
    tls: StatusTls = key(StatusTls)
    routes: StatusRoutes = key(StatusRoutes)


@dataclass
class NatsHost:
    hostname: str = key("")
    port: Uint16 = key(4222)


@dataclass
class Nats:
    hosts: list[NatsHost] = key([NatsHost("localhost", Uint16(4222))])
    user: str = key("")
    pass_: str = key("", secret=True)
    tls_enabled: bool = key(False, "never falls back to plain text")
    ca_certs: Pem = key("", "empty: the authorities of the system")
    cert_chain: Pem = key("", "our own certificate, if the server asks for one")
    private_key: Pem = key("", "of cert_chain", secret=True)


@dataclass
class LogFormat:
    timestamp: str = key("unix-epoch", 'only "rfc3339" is special; anything else is epoch seconds')


@dataclass
class Logging:
    syslog: str = key("", 'prefix of the log\'s "source"; empty means gorouter.stdout')
    syslog_addr: str = key("127.0.0.1:514", "of access_log.enable_streaming")
    syslog_network: str = key("udp", "tcp, tcp4, tcp6, udp, udp4 or udp6")
    syslog_truncate: int = key(0, "most bytes of an access-log line there; 0: all")
    level: str = key("debug", choices=LEVELS)
    loggregator_enabled: bool = key(False, "access-log lines of applications go to the metron agent")
    metron_address: str = key("localhost:3457", "dropsonde datagrams go there; resolved once")
    disable_log_forwarded_for: bool = key(False, 'x_forwarded_for:"-" in the access log')
    disable_log_source_ip: bool = key(False, 'client address "-" in the access log')
    redact_query_params: str = key("none", "of GET requests, in the access log", choices=("none", "all", "hash"))
    enable_attempts_details: bool = key(False, "older: six of the extra_access_log_fields")
    extra_access_log_fields: list[str] = key([], "times, attempts, a rollout's version; unknown ones are ignored")
    format: LogFormat = key(LogFormat)


@dataclass
class Meters:
    route_lookup_time_histogram_buckets: list[float] = key([10000.0 * n for n in range(1, 11)], "in ns, at most 64")
    gorouter_time_histogram_buckets: list[float] = key(
        [1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 50.0, 100.0, 500.0, 1000.0], "in seconds, at most 64"
    )
    route_registration_latency_histogram_buckets: list[float] = key(
        [0.1, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0], "in ms"
    )
    routing_response_latency_histogram_buckets: list[float] = key(
        [1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 50.0, 100.0, 500.0, 1000.0],
        "each takes what is below the data plane's nearest bound",
    )
    http_latency_histogram_buckets: list[float] = key(
        [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6], "each takes what is below the data plane's nearest bound"
    )


@dataclass
class Prometheus:
    enabled: bool = key(False, "/metrics on 127.0.0.1")
    port: Uint16 = key(0, "0 or status.routes.port: /metrics shares that listener")
    cert_path: str = key("", "with a port: TLS that wants a client certificate of ca_path")
    key_path: str = key("", "of cert_path")
    ca_path: str = key("", "must be given with cert_path")
    meters: Meters = key(Meters)


@dataclass
class Tracing:
    enable_zipkin: bool = key(False, "B3 headers")
    enable_w3c: bool = key(False, "traceparent and tracestate")
    w3c_tenant_id: str = key("", "part of the tracestate key")


@dataclass
class AccessLog:
    file: str = key("", 'path, appended to; "-" is standard output, empty none')
    enable_streaming: bool = key(False, "access-log lines go to logging.syslog_addr")


@dataclass
class CertKey:
    cert_chain: Pem = later("", NO_TLS)
    private_key: Pem = later("", NO_TLS, secret=True)


@dataclass
class CertSubject:
    country: list[str] = later([], NO_TLS)
    organization: list[str] = later([], NO_TLS)
    organizational_unit: list[str] = later([], NO_TLS)
    common_name: str = later("", NO_TLS)
    serial_number: str = later("", NO_TLS)
    locality: list[str] = later([], NO_TLS)
    province: list[str] = later([], NO_TLS)
    street_address: list[str] = later([], NO_TLS)
    postal_code: list[str] = later([], NO_TLS)


@dataclass
class CertRule:
    issuer_in_chain: CertSubject = key(CertSubject)
    valid_cert_subjects: list[CertSubject] = later([], NO_TLS)


@dataclass
class OAuth:
    token_endpoint: str = key("", "host of UAA, always spoken to with TLS")
    port: int = key(0, "0 or less: UAA cannot be reached with TLS, and the start fails")
    skip_ssl_validation: bool = key(False)
    client_name: str = key("")
    client_secret: str = key("", secret=True)
    ca_certs: str = key("", "path of a PEM file; empty: the authorities of the system")


@dataclass
class RoutingApi:
    uri: str = key("", "with scheme; routes are fetched if uri and port are given")
    port: int = key(0)
    auth_disabled: bool = key(False, "no token from oauth")
    ca_certs: Pem = key("")
    cert_chain: Pem = key("")
    private_key: Pem = key("", secret=True)


@dataclass
class RouteServices:
    max_attempts: int = later(0, NO_ROUTE_SERVICES)
    strict_signature_validation: bool = later(False, NO_ROUTE_SERVICES)
    enable_websockets: bool = later(True, NO_ROUTE_SERVICES)
    cert_chain: Pem = later("", NO_ROUTE_SERVICES)
    private_key: Pem = later("", NO_ROUTE_SERVICES, secret=True)


@dataclass
class Backends:
    max_attempts: int = key(0, "instances tried per request, at most 16; 0 counts as 1")
    max_conns: int = key(0, "requests without an answer yet, per instance; 0: no limit")
    cert_chain: Pem = later("", NO_TLS)
    private_key: Pem = later("", NO_TLS, secret=True)


@dataclass
class HeaderNameValue:
    name: str = key("")
    value: str = key("")


@dataclass
class ResponseRewrite:
    add_headers_if_not_present: list[HeaderNameValue] = key([])
    remove_headers: list[HeaderNameValue] = key([])


@dataclass
class HttpRewrite:
    responses: ResponseRewrite = key(ResponseRewrite)


@dataclass
class Admin:
    """The admin API. Without a socket and a port there is none."""

    socket: str = key("", "path of its unix socket, for the router's own user")
    port: Uint16 = key(0, "on 127.0.0.1, with the token of token_file; 0: none")
    token_file: str = key("", f"file with the token of the port, at least {TOKEN_CHARACTERS_MIN} characters")


@dataclass
class PortMapping:
    """One public port that stands for an app."""

    listen: str = key("", "ADDRESS:PORT; 0.0.0.0 is every IPv4 address, [::] every address")
    host: str = key("", "of the app; whatever Host a client names there, the app gets this one")
    cookies: list[str] = key([], "of the app, which get names of their own on this port, as __VCAP_ID__ does")


@dataclass
class Own:
    """The `gorouter_py` section: what gorouter has no key for."""

    host: str = key("0.0.0.0", "address the main and the health port listen on")
    snapshot_file: str = key("", "routes are kept in this file for a start while NATS is away")
    snapshot_interval: Seconds = key(10.0, "how often the snapshot is written, if routes changed")
    nats_optional: bool = key(False, "true: serve without NATS, keep trying to reach it")
    nats_credentials_file: str = key("", "NATS .creds file (JWT and seed)")
    retry_idempotent: bool = key(True, "repeat body-less GET, HEAD, OPTIONS, TRACE on another instance once")
    max_connections: Uint = key(0, "client connections in all; 0: bounded by descriptors")
    access_log_stdout: bool = key(False, "write the access log to standard output, too")
    first_byte_timeout: Seconds = key(0.0, "from the request to the head of its answer; 0: none but endpoint_timeout")
    body_timeout: Seconds = key(0.0, "silence within a request body, or of a client that does not read; 0: none")
    tunnel_timeout: Seconds = key(0.0, "silence on a websocket or other upgraded connection; 0: none")
    upstream_idle_timeout: Seconds = key(90.0, "how long an idle connection to an instance is kept")
    port_map: list[PortMapping] = key([])
    port_map_range: str = key("", "FIRST-LAST or ADDRESS:FIRST-LAST, handed out by `ports add auto`; empty: none")
    port_map_trusted: list[str] = key([], "networks of proxies before mapped ports whose X-Forwarded-* is believed")
    admin: Admin = key(Admin)
    rollouts: list[Anything] = key([], "each a route and what PUT /v1/rollouts/{route} takes; docs/canary.md")
    state_file: str = key("", "rollouts and added ports are kept in this file; empty: until the router ends")
    state_bucket: str = key("", "they are shared in this JetStream key-value bucket, and state_file is a copy")
    node: str = key("", "name of this router among those that share the bucket; empty: host, index and port")


@dataclass
class Config:
    """The whole file, typed. Built by config.load, changed by nobody after run() has started."""

    status: Status = key(Status)
    nats: Nats = key(Nats)
    nats_client_ping_interval: Seconds = key(20.0)
    logging: Logging = key(Logging)
    port: Uint16 = key(8081, "the front door")
    prometheus: Prometheus = key(Prometheus)
    index: Uint = key(0, "of this router among its peers; part of its id")
    zone: str = key("", "for balancing_algorithm_az_preference")
    go_max_procs: int = key(-1, "worker threads, at most 64; -1: one per CPU")
    tracing: Tracing = key(Tracing)
    trace_key: str = key("", "X-Vcap-Trace with this value is answered with router and backend")
    access_log: AccessLog = key(AccessLog)
    debug_addr: str = key("", "/log-level shows and sets logging.level; no profiler")
    enable_proxy: bool = later(False, "no PROXY protocol yet")
    enable_ssl: bool = later(False, NO_TLS)
    ssl_port: Uint16 = later(443, NO_TLS)
    disable_http: bool = later(False, NO_TLS)
    enable_http2: bool = later(True, "HTTP/1.1 alone so far")
    enable_http1_concurrent_read_write: bool = later(False, "always on: bodies stream both ways at once")
    tls_pem: list[CertKey] = later([], NO_TLS)
    ca_certs: list[Pem] = later([], NO_TLS)
    client_ca_certs: Pem = later("", NO_TLS)
    only_trust_client_ca_certs: bool = later(False, NO_TLS)
    client_cert_validation: str = later("", NO_TLS, choices=("none", "request", "require"))
    enable_verify_client_certificate_metadata: bool = later(False, NO_TLS)
    verify_client_certificate_metadata: list[CertRule] = later([], NO_TLS)
    skip_ssl_validation: bool = later(False, NO_ROUTE_SERVICES)
    cipher_suites: str = later("", NO_TLS)
    min_tls_version: str = later("", NO_TLS, choices=("TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"))
    max_tls_version: str = later("", NO_TLS, choices=("TLSv1.2", "TLSv1.3"))
    tls_handshake_timeout: Seconds = later(10.0, NO_TLS)
    forwarded_client_cert: str = later(
        "always_forward", NO_TLS, choices=("always_forward", "forward", "sanitize_set")
    )
    force_forwarded_proto_https: bool = key(False)
    sanitize_forwarded_proto: bool = key(False)
    hop_by_hop_headers_to_filter: list[str] = key([], "request headers that Connection cannot take away")
    isolation_segments: list[str] = key([])
    routing_table_sharding_mode: str = key("all", choices=("all", "segments", "shared-and-segments"))
    load_balancer_healthy_threshold: Seconds = later(0.0, PARSED_ONLY)
    publish_start_message_interval: Seconds = later(30.0, PARSED_ONLY)
    suspend_pruning_if_nats_unavailable: bool = key(False)
    prune_stale_droplets_interval: Seconds = key(30.0, "0s: no pruning")
    droplet_stale_threshold: Seconds = key(120.0, "raised to start_response_delay_interval if smaller")
    publish_active_apps_interval: Seconds = key(0.0, "of router.active_apps; 0s: it is not published")
    start_response_delay_interval: Seconds = key(5.0, "main ports stay closed this long while routes arrive")
    endpoint_timeout: Seconds = key(60.0, "one attempt, bodies included; 0s: none")
    endpoint_dial_timeout: Seconds = key(5.0)
    websocket_dial_timeout: Seconds = later(0.0, PARSED_ONLY + "; default endpoint_dial_timeout")
    endpoint_keep_alive_probe_interval: Seconds = later(1.0, "the kernel's interval is used")
    route_services_timeout: Seconds = later(60.0, NO_ROUTE_SERVICES)
    frontend_idle_timeout: Seconds = key(900.0, "an idle client connection is closed after this; 0s: never")
    read_header_timeout: Seconds = key(0.0, "first byte of a request head to its last; 0s: none")
    route_latency_metric_muzzle_duration: Seconds = key(20.0, "no route_registration_latency by dropsonde before")
    drain_wait: Seconds = key(0.0, "still serving, health already 503")
    drain_timeout: Seconds = key(0.0, "default endpoint_timeout")
    secure_cookies: bool = key(False)
    sticky_session_cookie_names: list[str] = key(["JSESSIONID"])
    sticky_sessions_for_auth_negotiate: bool = key(False)
    healthcheck_user_agent: str = key("HTTP-Monitor/1.1", "answered like /health on the main port; exact match")
    oauth: OAuth = key(OAuth)
    routing_api: RoutingApi = key(RoutingApi)
    route_services_secret: str = later("", NO_ROUTE_SERVICES, secret=True)
    route_services_secret_decrypt_only: str = later("", NO_ROUTE_SERVICES, secret=True)
    route_services_recommend_https: bool = later(False, NO_ROUTE_SERVICES)
    route_services_hairpinning: bool = later(False, NO_ROUTE_SERVICES)
    route_services_hairpinning_allowlist: list[str] = later([], NO_ROUTE_SERVICES)
    route_services_internal_server_port: Uint16 = later(7070, NO_ROUTE_SERVICES)
    route_services: RouteServices = key(RouteServices)
    backends: Backends = key(Backends)
    extra_headers_to_log: list[str] = key([])
    token_fetcher_max_retries: Uint32 = key(3)
    token_fetcher_retry_interval: Seconds = key(5.0)
    token_fetcher_expiration_buffer_time: int = key(30, "seconds; a token is renewed this long before it expires")
    pid_file: str = later("", PARSED_ONLY)
    balancing_algorithm: str = key(
        "round-robin", "of routes that name none themselves", choices=("round-robin", "least-connection")
    )
    balancing_algorithm_az_preference: str = key(
        "none", "locally-optimistic: first attempts stay in zone", choices=("none", "locally-optimistic")
    )
    disable_keep_alives: bool = key(True, "one connection to the instance per request")
    max_idle_conns: int = later(100, "only the number per host counts")
    max_idle_conns_per_host: int = key(2, "idle connections kept per instance and worker")
    max_header_bytes: int = key(0, "older name of max_request_header_bytes")
    max_request_header_bytes: int = key(0, "request head, at most 1 MiB; 0: 1 MiB")
    max_response_header_bytes: int = key(0, "0: what a head may have at all, 1 MiB")
    max_request_headers: int = key(0, "at most 4096; 0: 4096")
    max_response_headers: int = key(0, "0: bounded by bytes alone")
    keep_alive_100_continue_requests: bool = key(False)
    http_rewrite: HttpRewrite = key(HttpRewrite)
    empty_pool_response_code_503: bool = key(False)
    empty_pool_timeout: Seconds = key(0.0, "how long a route without instances is kept for its 503")
    html_error_template_file: str = key("", "Go template of the router's own error pages; empty: plain text")
    per_request_metrics_reporting: bool = key(True, "latency by dropsonde (means) and Prometheus")
    enable_envelope_v1_metrics: bool = key(True, "dropsonde datagrams to logging.metron_address")
    send_http_start_stop_server_event: bool = key(True, "events per request, with enable_envelope_v1_metrics")
    send_http_start_stop_client_event: bool = key(True, "events per attempt, with enable_envelope_v1_metrics")
    per_app_prometheus_http_metrics_reporting: bool = key(False, "http_latency_seconds by tag source_id")
    healthcheck_poll_interval: Seconds = later(10.0, PARSED_ONLY)
    healthcheck_timeout: Seconds = later(5.0, PARSED_ONLY)
    gorouter_py: Own = key(Own)


@dataclass(frozen=True)
class StaticRoute:
    """A route given on the command line: `uri` ("host[/path]") is served by `host`:`port`; host may be a name."""

    uri: str
    host: str
    port: int


@dataclass(frozen=True)
class Row:
    """One key: its dotted path ("tls_pem[].cert_chain" within lists), its type, and what `key` was told."""

    path: str
    type: Any
    default: object
    note: str
    now: bool
    secret: bool
    choices: tuple[str, ...]


def rows(section: type = Config, prefix: str = "") -> Iterator[Row]:
    """Every leaf key in the order of the file."""
    types = hints(section)
    for field in dataclasses.fields(section):
        path = prefix + file_name(field.name)
        kind = types[field.name]
        item = get_args(kind)[0] if get_origin(kind) is list else None
        if dataclasses.is_dataclass(kind):
            yield from rows(types[field.name], path + ".")
        elif dataclasses.is_dataclass(item):
            yield from rows(get_args(kind)[0], path + "[].")
        else:
            make = field.default_factory
            default = field.default if make is dataclasses.MISSING else make()
            yield Row(path, kind, default, **field.metadata)


def file_name(attribute: str) -> str:
    """The name in the file of a field: `pass_` is "pass"."""
    return attribute.rstrip("_")


def hints(section: type) -> dict[str, Any]:
    """Types of the fields of a section, by attribute."""
    return get_type_hints(section)


def markdown() -> str:
    """The table of all keys, as docs/configuration.md has it."""
    lines = ["| key | type | default | effective | notes |", "|---|---|---|---|---|"]
    for row in rows():
        notes = row.note + (f" ({', '.join(row.choices)})" if row.choices else "")
        cells = (f"`{row.path}`", type_name(row.type), _shown(row), "yes" if row.now else "no", notes)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def type_name(kind: Any) -> str:
    """What a reader of the file calls a type."""
    if get_origin(kind) is list:
        return f"list of {type_name(get_args(kind)[0])}"
    return _TYPE_NAMES[kind]


_TYPE_NAMES: dict[Any, str] = {
    str: "text",
    Pem: "PEM",
    bool: "true/false",
    float: "number",
    Seconds: "duration",
    int: "integer",
    Uint: "integer >= 0",
    Uint16: "0 to 65535",
    Uint32: "integer >= 0",
    Anything: "section",
}


def _shown(row: Row) -> str:
    if row.type is Seconds and isinstance(row.default, float):
        return format_duration(row.default)
    if row.default == "":
        return ""
    return json.dumps(row.default).strip('"')


class Report(Protocol):
    """Makes a Problem of a key: its path, gorouter's words, what would be valid, and our words if they differ."""

    def __call__(self, path: str, go: str, valid: str = "", text: str = "") -> Problem: ...

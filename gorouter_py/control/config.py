"""Configuration: the file over the defaults of a command, checked; and what of it the data plane is told.

`load` reads for `gorouter -c`, `serve_config` for `serve`; both give a Loaded or raise ConfigError with every problem.
Keys and their defaults are in keys.py, the rules between them in rules.py. Control thread, before anything runs.
"""

import copy
import dataclasses
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gorouter_py.component import ConfigError, Problem, Reading, Seconds, format_duration, load_file, read_yaml
from gorouter_py.control import keys, mappings, rules
from gorouter_py.control.keys import Config, StaticRoute

if TYPE_CHECKING:
    from gorouter_py._fastpath import Settings

__all__ = [
    "Config",
    "ConfigError",
    "Loaded",
    "StaticRoute",
    "data_plane_settings",
    "load",
    "port_map",
    "port_map_range",
    "serve_config",
]

# What the data plane can take; a test compares them with its own.
HEAD_BYTES_MAX = 1 << 20
FIELDS_MAX = 4096
RESPONSE_MAX = 1 << 31
ATTEMPTS_DETAILS = ("failed_attempts", "failed_attempts_time", "dns_time", "dial_time", "tls_time", "backend_time")
WORKERS_MAX = 64
BOUND_MAX_NS = 1 << 62
ATTEMPTS_MAX = 16
IDLE_MAX = 1 << 20
CONNS_MAX = 2**31 - 1
_NOTHING: Mapping[str, object] = MappingProxyType({})
SERVE_DEFAULTS: dict[str, object] = {
    "status.port": 8083,  # behind the others: many an app listens on 8080
    "disable_keep_alives": False,
    "max_idle_conns_per_host": 128,
    "backends.max_attempts": 3,
    "start_response_delay_interval": 0.0,
    "read_header_timeout": 30.0,
    "suspend_pruning_if_nats_unavailable": True,
    "logging.level": "info",
    "nats.hosts": [],
    "prometheus.enabled": True,
    "enable_envelope_v1_metrics": False,
    "gorouter_py.nats_optional": True,
    "endpoint_timeout": 0.0,  # a long download is no fault: silence is what is limited
    "drain_timeout": 60.0,
    "gorouter_py.first_byte_timeout": 60.0,
    "gorouter_py.body_timeout": 60.0,
}


@dataclass(frozen=True)
class Loaded:
    """A configuration and what there is to say about its file.

    problems: why it cannot be used, empty after `load`; unknown: keys nobody knows; without_effect: keys of the file
    that change nothing yet, the reason in `text`."""

    config: Config
    problems: list[Problem]
    unknown: list[Problem]
    without_effect: list[Problem]
    reading: Reading | None = None  # None: the file could not be read at all


def load(path: str | None) -> Loaded:
    """The configuration as `gorouter -c PATH` sees it; None: defaults. ConfigError for an unfit file."""
    return _usable(inspect(path))


def serve_config(path: str | None, overrides: Mapping[str, object]) -> Loaded:
    """The configuration of `serve`: its own defaults, then the file, then `overrides` by dotted path. ConfigError."""
    return _usable(inspect(path, SERVE_DEFAULTS, overrides))


def inspect(
    path: str | None, defaults: Mapping[str, object] = _NOTHING, overrides: Mapping[str, object] = _NOTHING
) -> Loaded:
    """Reads and checks without raising for what the file says; ConfigError only if it is no YAML or unreadable."""
    config = Config()
    for key, value in defaults.items():
        override(config, key, copy.copy(value))
    reading = Reading("the command line") if path is None else read_yaml(load_file(path), path, config)
    for key, value in overrides.items():
        override(config, key, value)
    problems = [*reading.problems, *rules.broken(config, reading)]
    _derive(config)
    return Loaded(config, problems, reading.unknown, list(_without_effect(reading)), reading)


def _usable(loaded: Loaded) -> Loaded:
    unfit = [problem for problem in loaded.problems if problem.kind == "type"]
    if unfit:  # gorouter: yaml.v3 reports all wrong types at once, and rules are not looked at
        lines = "".join(f"\n  line {problem.mark.line}: {problem.go}" for problem in unfit)
        raise ConfigError(unfit, go=f"yaml: unmarshal errors:{lines}")
    if loaded.problems:
        raise ConfigError(loaded.problems)
    return loaded


def override(config: Config, path: str, value: object) -> None:
    """Sets the key at a dotted path ("status.port"). AttributeError if there is none."""
    section: Any = config
    *sections, name = path.split(".")
    for part in sections:
        section = getattr(section, part)
    attribute = name if hasattr(section, name) else name + "_"
    getattr(section, attribute)
    setattr(section, attribute, value)


def _derive(config: Config) -> None:
    """Fills in defaults that depend on other keys. gorouter: config.Process."""
    config.droplet_stale_threshold = max(config.droplet_stale_threshold, config.start_response_delay_interval)
    config.drain_timeout = config.drain_timeout or config.endpoint_timeout
    config.websocket_dial_timeout = config.websocket_dial_timeout or config.endpoint_dial_timeout


def _without_effect(reading: Reading) -> Iterator[Problem]:
    table = {row.path: row for row in keys.rows()}
    for path, mark in reading.marks.items():
        row = table.get(rules.generic(path))
        if row is not None and not row.now and not path.endswith("]"):  # a list is told once
            yield Problem(mark, path, f"has no effect: {row.note}")


def data_plane_settings(config: Config) -> "Settings":
    """What the workers are told, for either command. Durations in ms, rounded up: only a real 0 means no limit."""
    own = config.gorouter_py
    head_bytes = config.max_request_header_bytes or config.max_header_bytes
    responses = config.http_rewrite.responses
    workers = config.go_max_procs if config.go_max_procs > 0 else len(os.sched_getaffinity(0))
    meters = config.prometheus.meters
    idle = config.max_idle_conns_per_host or 2  # Go: 0 is the default, 2, and less is none
    return {
        "workers": min(workers, WORKERS_MAX),
        "head_timeout_ms": _ms(config.read_header_timeout),
        "body_timeout_ms": _ms(own.body_timeout),
        "connect_timeout_ms": _ms(config.endpoint_dial_timeout),
        "first_byte_timeout_ms": _ms(own.first_byte_timeout),
        "request_timeout_ms": _ms(config.endpoint_timeout),
        "idle_timeout_ms": _ms(config.frontend_idle_timeout),
        "tunnel_timeout_ms": _ms(own.tunnel_timeout),
        "upstream_idle_timeout_ms": _ms(own.upstream_idle_timeout),
        "upstream_idle_per_endpoint": min(max(idle, 0), IDLE_MAX),
        "upstream_keep_alive": not config.disable_keep_alives,
        "max_attempts": min(max(config.backends.max_attempts, 1), ATTEMPTS_MAX),
        "cool_down_ms": _ms(Seconds(config.droplet_stale_threshold / 4)),  # gorouter: a quarter of the threshold
        "retry_idempotent": own.retry_idempotent,
        # gorouter: a head above the key's limit is looked up and logged; only a really big one ends the connection
        "head_bytes_max": HEAD_BYTES_MAX,
        "max_request_header_bytes": min(head_bytes, HEAD_BYTES_MAX) if head_bytes > 0 else HEAD_BYTES_MAX,
        "max_request_headers": min(max(config.max_request_headers, 0), FIELDS_MAX),
        "max_response_header_bytes": min(max(config.max_response_header_bytes, 0), RESPONSE_MAX),
        "max_response_headers": min(max(config.max_response_headers, 0), RESPONSE_MAX),
        "keep_alive_100_continue": config.keep_alive_100_continue_requests,
        "max_connections": own.max_connections,
        "max_conns": min(max(config.backends.max_conns, 0), CONNS_MAX),
        "balancing_algorithm": config.balancing_algorithm,
        "zone_preference": config.balancing_algorithm_az_preference == "locally-optimistic",
        "empty_pool_503": config.empty_pool_response_code_503,
        "force_forwarded_proto_https": config.force_forwarded_proto_https,
        "sanitize_forwarded_proto": config.sanitize_forwarded_proto,
        "secure_cookies": config.secure_cookies,
        "sticky_auth_negotiate": config.sticky_sessions_for_auth_negotiate,
        "enable_zipkin": config.tracing.enable_zipkin,
        "enable_w3c": config.tracing.enable_w3c,
        "w3c_tenant_id": config.tracing.w3c_tenant_id,
        "trace_key": config.trace_key,
        "add_response_headers": tuple((each.name, each.value) for each in responses.add_headers_if_not_present),
        "remove_response_headers": tuple(each.name for each in responses.remove_headers),
        "keep_nominated_headers": tuple(config.hop_by_hop_headers_to_filter),
        "redact_query_params": config.logging.redact_query_params,
        "extra_headers_to_log": tuple(dict.fromkeys(config.extra_headers_to_log)),
        "extra_access_log_fields": _access_log_fields(config),
        "sticky_cookie_names": tuple(dict.fromkeys(config.sticky_session_cookie_names)),
        "trusted_networks": tuple(own.port_map_trusted),
        "health_user_agent": config.healthcheck_user_agent,
        "access_log": config.access_log.file,
        "access_log_stdout": own.access_log_stdout,
        "log_forwarded_for": not config.logging.disable_log_forwarded_for,
        "log_source_ip": not config.logging.disable_log_source_ip,
        "meter_requests": config.per_request_metrics_reporting,
        "lookup_time_bounds_ns": _bounds_ns(meters.route_lookup_time_histogram_buckets, 1),
        "gorouter_time_bounds_ns": _bounds_ns(meters.gorouter_time_histogram_buckets, 1_000_000_000),
    }


def _bounds_ns(bounds: list[float], unit_ns: int) -> tuple[int, ...]:
    """Bounds above the data plane's reach bound nothing."""
    return tuple(sorted({round(max(bound, 0.0) * unit_ns) for bound in bounds if bound * unit_ns < BOUND_MAX_NS}))


def port_map(config: Config) -> list[mappings.Mapping]:
    """The ports that the file maps. ValueError for what `load` would refuse."""
    return [mappings.parse(vars(each)) for each in config.gorouter_py.port_map]


def port_map_range(config: Config) -> mappings.Range | None:
    """The ports that may be handed out."""
    text = config.gorouter_py.port_map_range
    return mappings.parse_range(text) if text else None


def _access_log_fields(config: Config) -> tuple[str, ...]:
    """The columns after the standard ones; gorouter: the older switch meant all that it had then."""
    fields = dict.fromkeys(config.logging.extra_access_log_fields)
    if config.logging.enable_attempts_details:
        fields |= dict.fromkeys(ATTEMPTS_DETAILS)
    return tuple(fields)


def _ms(seconds: Seconds) -> int:
    return math.ceil(round(seconds * 1000, 6))


def plain(section: object, *, hide_secrets: bool = True) -> dict[str, object]:
    """The configuration as the values of a YAML file, in its order: durations as text, secrets as "(hidden)"."""
    hints = keys.hints(type(section))
    result: dict[str, object] = {}
    for field in dataclasses.fields(section):  # type: ignore[arg-type]
        value = getattr(section, field.name)
        if _is_section(value):
            value = plain(value, hide_secrets=hide_secrets)
        elif isinstance(value, list):
            value = [plain(item, hide_secrets=hide_secrets) if _is_section(item) else item for item in value]
        elif hints[field.name] is Seconds:
            value = format_duration(value)
        elif value and hide_secrets and field.metadata["secret"]:
            value = "(hidden)"
        result[keys.file_name(field.name)] = value
    return result


def as_yaml(config: Config, *, hide_secrets: bool = True) -> str:
    """A file that `load` reads back to the same configuration (if secrets are not hidden)."""
    import yaml

    return str(yaml.safe_dump(plain(config, hide_secrets=hide_secrets), sort_keys=False, allow_unicode=True))


def _is_section(value: object) -> bool:
    return dataclasses.is_dataclass(value)

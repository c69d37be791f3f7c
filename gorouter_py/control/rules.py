"""Rules between the values of a configuration, in the order gorouter checks them and with its words in `Problem.go`.

Only what text can tell: whether a certificate fits its key is found where it is loaded. Rules of our own (no negative
durations, what would be unsafe while a feature is missing) come last.
"""

import re
from collections.abc import Iterator

from gorouter_py.component import Problem, Reading, Seconds, format_duration, nearest
from gorouter_py.control import keys, mappings, rollout_spec
from gorouter_py.control.keys import Config

# gorouter: the OpenSSL names it knows; of RFC names it takes all that Go has
_SUITES = ("RC4-SHA", "AES128-SHA", "AES256-SHA", "AES128-SHA256", "AES128-GCM-SHA256", "AES256-GCM-SHA384")
CIPHERS = (
    *_SUITES,
    "DES-CBC3-SHA",
    "ECDHE-RSA-DES-CBC3-SHA",
    *(f"ECDHE-{key}-{suite}" for key in ("ECDSA", "RSA") for suite in (*_SUITES, "CHACHA20-POLY1305")),
)
COOKIE_NAMES_MAX, COOKIE_NAME_BYTES_MAX = 16, 63
TEXT_BYTES_MAX = {
    "healthcheck_user_agent": 255,
    "access_log.file": 4095,
    "trace_key": 255,
    "tracing.w3c_tenant_id": 255,
}
SOCKET_PATH_BYTES_MAX = 107
TRUSTED_MAX = 64
HEADERS_MAX, HEADERS_BYTES_MAX = 64, 8192  # of each list
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")  # RFC 9110 5.6.2
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s+[A-Za-z0-9+/=\s]+-----END \1-----")

_CHOICES = (
    ("balancing_algorithm", "Invalid load balancing algorithm {value}. Allowed values are [{all}]"),
    ("balancing_algorithm_az_preference", "Invalid load balancing AZ preference {value}. Allowed values are [{all}]"),
    ("forwarded_client_cert", "Invalid forwarded client cert mode: {value}. Allowed values are [{all}]"),
    ("routing_table_sharding_mode", "Invalid sharding mode: {value}. Allowed values are [{all}]"),
    ("logging.redact_query_params", "Invalid query param redaction mode: {value}. Allowed values are [{all}]"),
    ("logging.level", "unknown log level: {value}"),
)
CHOICE_KEYS = frozenset(path for path, _ in _CHOICES)  # those that must always be one of their choices


def broken(config: Config, reading: Reading) -> Iterator[Problem]:
    """Every broken rule, with the place of its key in the file."""
    table = {row.path: row for row in keys.rows()}

    def problem(path: str, go: str, valid: str = "", text: str = "") -> Problem:
        return Problem(reading.mark(path), path, text or go, valid, go)

    def chosen(path: str, go: str) -> Iterator[Problem]:
        value, choices = _value(config, path), table[path].choices
        if value not in choices:
            guess = nearest(str(value), list(choices))
            valid = f"valid: {', '.join(choices)}" + (f" (did you mean {guess}?)" if guess else "")
            yield problem(path, go.format(value=value, all=" ".join(choices)), valid, f"{value!r} is not known")

    if config.enable_ssl:
        yield from _front_tls(config, problem)
    elif config.disable_http:
        go = "neither http nor https listener is enabled: router.enable_ssl: false, router.disable_http: true"
        yield problem("disable_http", go)
    yield from _health(config, problem)
    for path, go in _CHOICES[:2]:
        yield from chosen(path, go)
    if config.load_balancer_healthy_threshold < 0:
        threshold = format_duration(config.load_balancer_healthy_threshold)
        yield problem("load_balancer_healthy_threshold", f"Invalid load balancer healthy threshold: {threshold}")
    for path, go in _CHOICES[2:]:
        yield from chosen(path, go)
    if config.routing_table_sharding_mode == "segments" and not config.isolation_segments:
        go = "Expected isolation segments; routing table sharding mode set to segments and none provided."
        yield problem("routing_table_sharding_mode", go, "list them under isolation_segments")
    for number, pem in enumerate(config.ca_certs):
        if not _has_block(pem, "CERTIFICATE"):
            path = f"ca_certs[{number}]"
            yield problem(path, f"Error while adding {number} cert in CACerts to gorouter's cert pool", "write a PEM")
    for path, row in table.items():
        if row.type is Seconds and path != "load_balancer_healthy_threshold":
            seconds = _value(config, path)
            if isinstance(seconds, float) and seconds < 0:
                yield problem(path, f"{format_duration(seconds)} is negative", "valid: 0s or more")
    yield from _nats(config, problem)
    yield from _admin(config, problem)
    yield from _rollouts(config, problem)
    yield from _ports(config, problem)
    yield from _sizes(config, problem)
    if config.enable_ssl and config.disable_http:
        # refused, not ignored: else http would serve what was meant for TLS alone
        yield problem("disable_http", "TLS is not served yet, and without http nothing would listen")


def _front_tls(config: Config, problem: keys.Report) -> Iterator[Problem]:
    if config.client_cert_validation not in ("none", "request", "require"):
        go = "router.client_cert_validation must be one of 'none', 'request' or 'require'."
        yield problem("client_cert_validation", go)
    if config.min_tls_version not in ("", "TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"):
        go = 'router.min_tls_version should be one of "", "TLSv1.3", "TLSv1.2", "TLSv1.1", "TLSv1.0"'
        yield problem("min_tls_version", go)
    if config.max_tls_version not in ("", "TLSv1.2", "TLSv1.3"):
        yield problem("max_tls_version", 'router.max_tls_version should be one of "TLSv1.2" or "TLSv1.3"')
    if not config.tls_pem:
        yield problem("tls_pem", "router.tls_pem must be provided if router.enable_ssl is set to true")
    for number, pair in enumerate(config.tls_pem):
        if not pair.cert_chain or not pair.private_key:
            go = "Error parsing PEM blocks of router.tls_pem, missing cert or key."
            yield problem(f"tls_pem[{number}]", go, "give cert_chain and private_key")
            continue
        for name, kind in (("cert_chain", "CERTIFICATE"), ("private_key", "PRIVATE KEY")):
            if not _has_block(getattr(pair, name), kind):
                go = f"Error loading key pair: tls: failed to find any PEM data in {name} input"
                yield problem(f"tls_pem[{number}].{name}", go, f"write a PEM block -----BEGIN {kind}-----")
    if not config.cipher_suites:
        yield problem("cipher_suites", "must specify list of cipher suite when ssl is enabled")
    for name in config.cipher_suites.split(":") if config.cipher_suites else ():
        if name not in CIPHERS and not re.fullmatch(r"TLS_[A-Z0-9_]+", name):
            go = f"Invalid cipher string configuration: {name}, please choose from [{' '.join(CIPHERS)}]"
            guess = nearest(name, list(CIPHERS))
            valid = f"did you mean {guess}?" if guess else ""
            yield problem("cipher_suites", go, valid, f"{name!r} is no cipher suite")
    required = config.client_cert_validation in ("request", "require")
    if config.only_trust_client_ca_certs and required and not config.client_ca_certs:
        go = (
            "router.client_ca_certs cannot be empty if router.only_trust_client_ca_certs is 'true' and "
            "router.client_cert_validation is set to 'request' or 'require'."
        )
        yield problem("only_trust_client_ca_certs", go)


def _health(config: Config, problem: keys.Report) -> Iterator[Problem]:
    tls = config.status.tls
    if tls.certificate and not tls.key:
        yield problem("status.tls", "router.status.tls.key must be provided")
    if tls.key and not tls.certificate:
        yield problem("status.tls", "router.status.tls.certificate must be provided")
    if tls.certificate and tls.key and tls.port == 0:
        yield problem("status.tls.port", "router.status.tls.port must not be 0")
    if not config.status.enable_nontls_health_checks and not tls.certificate:
        go = "Neither TLS nor non-TLS health endpoints are enabled. Refusing to start gorouter."
        yield problem("status.enable_nontls_health_checks", go)


def _nats(config: Config, problem: keys.Report) -> Iterator[Problem]:
    nats = config.nats
    for number, host in enumerate(nats.hosts):
        if not host.hostname:
            yield problem(f"nats.hosts[{number}]", "hostname is missing", "write {hostname: 10.0.0.9, port: 4222}")
    if not nats.tls_enabled:
        return
    for name, kind in (("ca_certs", "CERTIFICATE"), ("cert_chain", "CERTIFICATE"), ("private_key", "PRIVATE KEY")):
        pem = getattr(nats, name)
        if pem and not _has_block(pem, kind):
            yield problem(f"nats.{name}", f"nats.{name} is no PEM", f"write a block -----BEGIN {kind}-----")
    if bool(nats.cert_chain) != bool(nats.private_key):
        missing = "private_key" if nats.cert_chain else "cert_chain"
        yield problem(f"nats.{missing}", f"nats.{missing} must be provided", "cert_chain and private_key go together")


def _admin(config: Config, problem: keys.Report) -> Iterator[Problem]:
    admin = config.gorouter_py.admin
    path = "gorouter_py.admin"
    if admin.port and not admin.token_file:
        valid = "name a file with a token in token_file, or use socket"
        yield problem(f"{path}.port", "anybody on this machine could use a port without a token", valid)
    size = len(admin.socket.encode())
    if size > SOCKET_PATH_BYTES_MAX:
        yield problem(f"{path}.socket", f"the path has {size} bytes", f"valid: at most {SOCKET_PATH_BYTES_MAX}")


def _rollouts(config: Config, problem: keys.Report) -> Iterator[Problem]:
    own = config.gorouter_py
    if own.state_bucket and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", own.state_bucket):
        path = "gorouter_py.state_bucket"
        yield problem(path, f"{own.state_bucket!r} is no name of a bucket", "valid: letters, digits, - and _")
    seen: set[str] = set()
    for number, entry in enumerate(own.rollouts):
        path = f"gorouter_py.rollouts[{number}]"
        if not isinstance(entry, dict):
            yield problem(path, "this is no section", "write {route: shop.example.com, to: v2}")
            continue
        route = entry.get("route")
        if not isinstance(route, str) or not route or route in seen:
            said = f"{route!r} is no route, or named twice"
            yield problem(f"{path}.route", said, "write route: shop.example.com, each once")
        else:
            seen.add(route)
        try:
            rollout_spec.read({key: value for key, value in entry.items() if key != "route"})
        except rollout_spec.Unfit as error:
            for fault in error.faults:
                yield problem(f"{path}.{fault.path}", fault.text, fault.valid)


def _ports(config: Config, problem: keys.Report) -> Iterator[Problem]:
    own, path = config.gorouter_py, "gorouter_py.port_map"
    known: dict[mappings.Listen, int] = {}
    for number, each in enumerate(own.port_map):
        for name, parse in (
            ("listen", mappings.parse_listen),
            ("host", mappings.parse_host),
            ("cookies", mappings.parse_cookies),
        ):
            try:
                found = parse(getattr(each, name))
            except ValueError as error:
                yield problem(f"{path}[{number}].{name}", str(error))
                continue
            if not isinstance(found, mappings.Listen):
                continue
            for other, where in known.items():
                if other.overlaps(found):
                    go = f"{found} overlaps {other}, which is mapped to {own.port_map[where].host}"
                    yield problem(f"{path}[{number}].listen", go, "give each app a port or an address of its own")
                    break
            known.setdefault(found, number)
    if own.port_map_range:
        try:
            mappings.parse_range(own.port_map_range)
        except ValueError as error:
            yield problem("gorouter_py.port_map_range", str(error))
    if len(own.port_map_trusted) > TRUSTED_MAX:
        yield problem("gorouter_py.port_map_trusted", f"{len(own.port_map_trusted)} networks are too many",
                      f"valid: at most {TRUSTED_MAX}")  # fmt: skip
    for number, text in enumerate(own.port_map_trusted):
        try:
            mappings.parse_network(text)
        except ValueError as error:
            yield problem(f"gorouter_py.port_map_trusted[{number}]", str(error))


def _sizes(config: Config, problem: keys.Report) -> Iterator[Problem]:
    """The data plane keeps these texts in places of fixed size."""
    if config.oauth.port > 65535:
        yield problem("oauth.port", f"{config.oauth.port} is no port", "valid: up to 65535")
    names = dict.fromkeys(config.sticky_session_cookie_names)
    if len(names) > COOKIE_NAMES_MAX:
        valid = f"valid: at most {COOKIE_NAMES_MAX}"
        yield problem("sticky_session_cookie_names", f"{len(names)} names are too many", valid)
    for name in names:
        if not 0 < len(name.encode()) <= COOKIE_NAME_BYTES_MAX:
            valid = f"valid: 1 to {COOKIE_NAME_BYTES_MAX} bytes"
            yield problem("sticky_session_cookie_names", f"the name {name!r} has {len(name.encode())} bytes", valid)
    responses = config.http_rewrite.responses
    for path, named in (
        ("extra_headers_to_log", [(name, "") for name in dict.fromkeys(config.extra_headers_to_log)]),
        (
            "http_rewrite.responses.add_headers_if_not_present",
            [(each.name, each.value) for each in responses.add_headers_if_not_present],
        ),
        ("hop_by_hop_headers_to_filter", [(name, "") for name in config.hop_by_hop_headers_to_filter]),
        ("http_rewrite.responses.remove_headers", [(each.name, "") for each in responses.remove_headers]),
    ):
        yield from _headers(path, named, problem)
    for path, bytes_max in TEXT_BYTES_MAX.items():
        size = len(str(_value(config, path)).encode())
        if size > bytes_max:
            yield problem(path, f"{size} bytes are too many", f"valid: at most {bytes_max}")


def _headers(path: str, named: list[tuple[str, str]], problem: keys.Report) -> Iterator[Problem]:
    for number, (name, value) in enumerate(named):
        if not _TOKEN.fullmatch(name):
            yield problem(f"{path}[{number}]", f"{name!r} is no header name", "valid: letters, digits and -")
        if _CONTROL.search(value):
            yield problem(f"{path}[{number}]", f"the value of {name} has a control character", "write it in one line")
    size = sum(len(str(pair).encode()) + 8 for pair in named)  # as the data plane counts, or a little more
    if len(named) > HEADERS_MAX or size > HEADERS_BYTES_MAX:
        yield problem(path, f"{len(named)} headers are too many", f"valid: at most {HEADERS_MAX}, and 8 KiB in all")


def generic(path: str) -> str:
    """The path of the key's row: "tls_pem[0].cert_chain" is "tls_pem[].cert_chain", "ca_certs[0]" is "ca_certs"."""
    return re.sub(r"\[\d+\]$", "", re.sub(r"\[\d+\](?=.)", "[]", path))


def _value(config: Config, path: str) -> object:
    value: object = config
    for part in path.split("."):
        value = getattr(value, part, None)
    return value


def _has_block(pem: str, kind: str) -> bool:
    return any(match[1].endswith(kind) for match in _PEM.finditer(pem))

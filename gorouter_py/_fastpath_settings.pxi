# The settings of a DataPlane: their defaults and bounds, the check of what is given, and the filling of Settings.
# Part of _fastpath.pyx, control thread only; what each setting means is in _fastpath.pyi.

DEFAULTS = {
    "workers": 1,
    "head_timeout_ms": 30_000,
    "body_timeout_ms": 60_000,
    "connect_timeout_ms": 5_000,
    "first_byte_timeout_ms": 0,
    "request_timeout_ms": 60_000,
    "idle_timeout_ms": 900_000,
    "tunnel_timeout_ms": 0,
    "upstream_idle_timeout_ms": 90_000,
    "linger_timeout_ms": 2_000,
    "cool_down_ms": 30_000,
    "upstream_idle_per_endpoint": limits.IDLE_PER_ENDPOINT,
    "max_attempts": 3,
    "head_bytes_max": limits.HEAD_BYTES_MAX,
    "max_connections": 0,
    "max_conns": 0,
    "balancing_algorithm": "round-robin",
    "zone_preference": False,
    "upstream_keep_alive": True,
    "retry_idempotent": True,
    "empty_pool_503": False,
    "force_forwarded_proto_https": False,
    "sanitize_forwarded_proto": False,
    "secure_cookies": False,
    "sticky_auth_negotiate": False,
    "keep_alive_100_continue": False,
    "log_forwarded_for": True,
    "log_source_ip": True,
    "max_request_header_bytes": 0,
    "max_request_headers": 0,
    "max_response_header_bytes": 0,
    "max_response_headers": 0,
    "enable_zipkin": False,
    "enable_w3c": False,
    "w3c_tenant_id": "",
    "trace_key": "",
    "router_ip": "",
    "redact_query_params": "none",
    "add_response_headers": (),
    "remove_response_headers": (),
    "keep_nominated_headers": (),
    "extra_headers_to_log": (),
    "extra_access_log_fields": (),
    "error_page": (),
    "sticky_cookie_names": ("JSESSIONID",),
    "trusted_networks": (),
    "health_user_agent": "HTTP-Monitor/1.1",
    "access_log": "",
    "access_log_stdout": False,
    "meter_requests": False,
    "lookup_time_bounds_ns": (),
    "gorouter_time_bounds_ns": (),
}
RANGES = {
    "workers": (1, limits.WORKERS_MAX),
    "max_attempts": (1, limits.ATTEMPTS_MAX),
    "head_bytes_max": (1024, limits.HEAD_BYTES_MAX),
    "upstream_idle_per_endpoint": (0, 1 << 20),
    "max_request_header_bytes": (0, limits.HEAD_BYTES_MAX),
    "max_request_headers": (0, limits.FIELDS_MAX),
    "max_response_header_bytes": (0, 1 << 31),
    "max_response_headers": (0, 1 << 31),
}
TEXT_BYTES_MAX = {"health_user_agent": 255, "trace_key": 255, "w3c_tenant_id": 255, "router_ip": 47, "access_log": 4095}
CHOICES = {
    "balancing_algorithm": ("round-robin", "least-connection"),
    "redact_query_params": ("none", "all", "hash"),
}
LOG_FIELDS = {
    "backend_time": L_BACKEND_TIME,
    "dial_time": L_DIAL_TIME,
    "dns_time": L_DNS_TIME,
    "failed_attempts": L_FAILED_ATTEMPTS,
    "failed_attempts_time": L_FAILED_ATTEMPTS_TIME,
    "local_address": L_LOCAL_ADDRESS,
    "tls_time": L_TLS_TIME,
    "version": L_VERSION,
}
FRAMING_NAMES = ("connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")


def check_settings(settings):
    """The settings with defaults filled in; ValueError names the key, its value and what would be valid."""
    whole = dict(DEFAULTS)
    for key, value in settings.items():
        default = DEFAULTS.get(key)
        if default is None:
            raise ValueError(f"unknown setting {key!r}; known: {', '.join(sorted(DEFAULTS))}")
        if key == "sticky_cookie_names":
            value = tuple(value)
            if len(value) > limits.COOKIE_NAMES_MAX:
                raise ValueError(f"{key}: {len(value)} names; at most {limits.COOKIE_NAMES_MAX}")
            for name in value:
                if not 0 < len(name.encode()) < 64:
                    raise ValueError(f"{key}: {name!r} must have 1 to 63 bytes")
        elif key in CHOICES:
            if value not in CHOICES[key]:
                raise ValueError(f"{key}: {value!r} must be one of {', '.join(CHOICES[key])}")
        elif isinstance(default, tuple):
            value = check_headers(key, value)
        elif isinstance(default, bool):
            value = bool(value)
        elif isinstance(default, int):
            low, high = RANGES.get(key, (0, 1 << 52))
            if not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{key}: {value!r} must be an integer from {low} to {high}")
        elif len(str(value).encode()) > TEXT_BYTES_MAX[key]:
            raise ValueError(f"{key}: more than {TEXT_BYTES_MAX[key]} bytes")
        whole[key] = value
    return whole


def check_headers(key, value):
    """A list of header names, (name, value) pairs, log columns or bounds as a tuple; ValueError names what is unfit."""
    value = tuple(value)
    if key == "error_page":
        constants = sum(len(step.constants) for step in value)
        if len(value) > PAGE_STEPS_MAX or constants > PAGE_CONSTANTS_MAX:
            raise ValueError(f"{key}: more than {PAGE_STEPS_MAX} steps or {PAGE_CONSTANTS_MAX} constants")
        if sum(len(step.text.encode()) for step in value) > PAGE_BYTES_MAX:
            raise ValueError(f"{key}: more than {PAGE_BYTES_MAX} bytes")
        return value
    if key.endswith("_bounds_ns"):
        bounds = tuple(sorted(set(value)))
        if len(bounds) > limits.METER_BOUNDS_MAX:
            raise ValueError(f"{key}: {len(bounds)} bounds; at most {limits.METER_BOUNDS_MAX}")
        if bounds and not 0 <= min(bounds) <= max(bounds) < 1 << 63:
            raise ValueError(f"{key}: bounds must be from 0 to {(1 << 63) - 1} ns")
        return bounds
    if key == "trusted_networks":
        if len(value) > TRUSTED_MAX:
            raise ValueError(f"{key}: {len(value)} networks; at most {TRUSTED_MAX}")
        return tuple(ipaddress.ip_network(network) for network in value)
    if key == "extra_access_log_fields":
        return tuple(dict.fromkeys(field for field in value if field in LOG_FIELDS))
    if len(value) > NAMES_MAX:
        raise ValueError(f"{key}: {len(value)} headers; at most {NAMES_MAX}")
    for entry in value:
        name, text = entry if key == "add_response_headers" else (entry, "")
        if not TOKEN.fullmatch(name):
            raise ValueError(f"{key}: {name!r} is no header name")
        if key == "add_response_headers" and name.lower() in FRAMING_NAMES:
            raise ValueError(f"{key}: {name} belongs to the message's framing and cannot be added")
        if any(c < " " and c != "\t" or c == "\x7f" for c in text):
            raise ValueError(f"{key}: the value of {name} has a control character")
    if sum(len(str(entry).encode()) + 8 for entry in value) > 8192:
        raise ValueError(f"{key}: more than 8192 bytes in all")
    return value


cdef u32 fill_texts(NamedText *into, pairs, list keep):
    """name -> text; the bytes are kept alive by `keep`."""
    cdef u32 n = 0
    cdef bytes name, text
    for one, other in pairs:
        name, text = one.lower().encode(), other.encode()
        keep += [name, text]
        into[n].name = name
        into[n].name_n = <u32>len(name)
        into[n].text = text
        into[n].text_n = <u32>len(text)
        n += 1
    return n


PAGE_KINDS = {"literal": PAGE_LITERAL, "value": PAGE_VALUE, "unless": PAGE_UNLESS, "jump": PAGE_JUMP}
PAGE_FIELDS = {"": 0, "status": PAGE_STATUS, "status_text": PAGE_STATUS_TEXT, "message": PAGE_MESSAGE,
               "header": PAGE_HEADER}


cdef void fill_page(Settings *c, steps, list keep):
    cdef u32 used = 0
    c.n_page = len(steps)
    for i, step in enumerate(steps):
        c.page[i].kind = PAGE_KINDS[step.kind]
        c.page[i].field = PAGE_FIELDS[step.field]
        c.page[i].jump = step.jump
        c.page[i].first_constant = used
        c.page[i].n_constants = len(step.constants)
        fill_texts(&c.page[i].name, [(step.header, step.text)], keep)
        used += fill_texts(&c.page_constants[used], [("", constant) for constant in step.constants], keep)


cdef void fill_headers(Settings *c, dict s, list keep):
    cdef bytes key = (s["w3c_tenant_id"] + "@gorouter" if s["w3c_tenant_id"] else "gorouter").encode()
    logged = dict.fromkeys(name.lower() for name in s["extra_headers_to_log"])
    # gorouter: what tracing adds is logged, after the configured headers
    if s["enable_zipkin"]:
        logged |= dict.fromkeys(("x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "b3"))
    if s["enable_w3c"]:
        logged |= dict.fromkeys(("traceparent", "tracestate"))
    c.enable_zipkin = s["enable_zipkin"]
    c.enable_w3c = s["enable_w3c"]
    c.redact_query = {"none": REDACT_NONE, "all": REDACT_ALL, "hash": REDACT_HASH}[s["redact_query_params"]]
    c.max_request_header_bytes = s["max_request_header_bytes"]
    c.max_request_headers = s["max_request_headers"]
    c.max_response_header_bytes = s["max_response_header_bytes"]
    c.max_response_headers = s["max_response_headers"]
    c.n_add = fill_texts(c.add, [(n, f"{n}: {v}\r\n") for n, v in s["add_response_headers"]], keep)
    c.n_remove = fill_texts(c.remove, [(n, "") for n in s["remove_response_headers"]], keep)
    c.n_keep = fill_texts(c.keep, [(n, "") for n in s["keep_nominated_headers"]], keep)
    c.n_log_headers = fill_texts(c.log_headers, [(n, n.replace("-", "_")) for n in list(logged)[:NAMES_MAX]], keep)
    c.n_log_fields = len(s["extra_access_log_fields"])
    for i, field in enumerate(s["extra_access_log_fields"]):
        c.log_fields[i] = LOG_FIELDS[field]
    fill_page(c, s["error_page"], keep)
    c.w3c_key_n = len(key)
    memcpy(c.w3c_key, <const char *>key, len(key))
    key = s["trace_key"].encode()
    c.trace_key_n = len(key)
    memcpy(c.trace_key, <const char *>key, len(key))
    key = s["router_ip"].encode()
    c.router_ip_n = len(key)
    memcpy(c.router_ip, <const char *>key, len(key))


cdef void fill_bounds(Bounds *b, bounds):
    b.n = len(bounds)
    for i, bound in enumerate(bounds):
        b.ns[i] = bound


cdef void fill_settings(Settings *c, dict s):
    c.meter = s["meter_requests"]
    fill_bounds(&c.lookup_bounds, s["lookup_time_bounds_ns"])
    fill_bounds(&c.gorouter_bounds, s["gorouter_time_bounds_ns"])
    c.workers = s["workers"]
    c.head_timeout_ms = s["head_timeout_ms"]
    c.body_timeout_ms = s["body_timeout_ms"]
    c.connect_timeout_ms = s["connect_timeout_ms"]
    c.first_byte_timeout_ms = s["first_byte_timeout_ms"]
    c.request_timeout_ms = s["request_timeout_ms"]
    c.idle_timeout_ms = s["idle_timeout_ms"]
    c.tunnel_timeout_ms = s["tunnel_timeout_ms"]
    c.upstream_idle_timeout_ms = s["upstream_idle_timeout_ms"]
    c.linger_timeout_ms = s["linger_timeout_ms"]
    c.cool_down_ms = s["cool_down_ms"]
    c.upstream_idle_per_endpoint = s["upstream_idle_per_endpoint"]
    c.max_attempts = s["max_attempts"]
    c.head_bytes_max = s["head_bytes_max"]
    c.max_connections = s["max_connections"]
    c.max_conns = s["max_conns"]
    c.balance = BALANCES[s["balancing_algorithm"]]
    c.prefer_local = s["zone_preference"]
    c.upstream_keep_alive = s["upstream_keep_alive"]
    c.retry_idempotent = s["retry_idempotent"]
    c.empty_pool_503 = s["empty_pool_503"]
    c.force_forwarded_proto_https = s["force_forwarded_proto_https"]
    c.sanitize_forwarded_proto = s["sanitize_forwarded_proto"]
    c.secure_cookies = s["secure_cookies"]
    c.sticky_auth_negotiate = s["sticky_auth_negotiate"]
    c.keep_alive_100_continue = s["keep_alive_100_continue"]
    c.log_forwarded_for = s["log_forwarded_for"]
    c.log_source_ip = s["log_source_ip"]
    c.log_enabled = c.log_ring = bool(s["access_log"]) or s["access_log_stdout"]
    c.n_sticky = len(s["sticky_cookie_names"])
    for i, name in enumerate(s["sticky_cookie_names"]):
        text = name.encode()
        c.sticky[i].n = len(text)
        memcpy(c.sticky[i].text, <const char *>text, len(text))
    c.n_trusted = len(s["trusted_networks"])
    for i, network in enumerate(s["trusted_networks"]):
        raw = network.network_address.packed
        wide = raw if network.version == 6 else b"\0" * 10 + b"\xff\xff" + raw
        memcpy(c.trusted[i].addr, <const char *>wide, 16)
        c.trusted[i].bits = network.prefixlen + 128 - network.max_prefixlen
    agent = s["health_user_agent"].encode()
    c.health_agent_n = len(agent)
    memcpy(c.health_agent, <const char *>agent, len(agent))

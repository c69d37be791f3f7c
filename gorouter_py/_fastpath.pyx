# The data plane's one file that holds the GIL: it turns Python values into the structures of fastpath/, starts and joins
# the threads, and reads their counters. What a request passes through is in fastpath/ and knows nothing of Python.
#
# Threading: every method runs on the control thread; it is the route table's single writer. See _fastpath.pyi.
import re

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64, i64, AGAIN
from gorouter_py.fastpath.base cimport clock, csys, dp, limits, span
from gorouter_py.fastpath.net cimport sock, tap
from gorouter_py.fastpath.net.tap cimport Event, EventRing, Series
from gorouter_py.fastpath.route cimport balance, endpoint, epoch, table
from gorouter_py.fastpath.route.endpoint cimport Endpoint, EndpointArray, Pool
from gorouter_py.fastpath.flow cimport fault, logger, worker
from gorouter_py.fastpath.flow.state cimport *

cdef extern from * nogil:
    """
    #if defined(__SANITIZE_ADDRESS__)
    #define DP_BUILD_NAME "asan"
    #elif defined(__SANITIZE_THREAD__)
    #define DP_BUILD_NAME "tsan"
    #elif defined(DP_DEBUG)
    #define DP_BUILD_NAME "dev"
    #else
    #define DP_BUILD_NAME "release"
    #endif
    """
    const char *BUILD_NAME "DP_BUILD_NAME"

BUILD = BUILD_NAME.decode()
COUNTERS = tuple(tap.counter_rows[i].name.decode() for i in range(tap.COUNTER_COUNT))
COUNTER_HELP = {tap.counter_rows[i].name.decode(): tap.counter_rows[i].help.decode() for i in range(tap.COUNTER_COUNT)}
HISTOGRAM_BOUNDS_NS = tuple(tap.bucket_bound(i) for i in range(limits.HIST_BUCKETS - 1))
FAULTS = tuple(fault.rows[i].name.decode() for i in range(fault.FAULT_COUNT))

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
    "extra_headers_to_log": (),
    "extra_access_log_fields": (),
    "error_page": (),
    "sticky_cookie_names": ("JSESSIONID",),
    "health_user_agent": "HTTP-Monitor/1.1",
    "access_log": "",
    "access_log_stdout": False,
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
}
FRAMING_NAMES = ("connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")


cdef Span view(bytes data):
    return span.make(<const char *>data, <u32>len(data))


cdef bytes unview(Span s):
    return s.p[:s.n]


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
    """A list of header names, (name, value) pairs or log columns as a tuple; ValueError names what is unfit."""
    value = tuple(value)
    if key == "error_page":
        constants = sum(len(step.constants) for step in value)
        if len(value) > PAGE_STEPS_MAX or constants > PAGE_CONSTANTS_MAX:
            raise ValueError(f"{key}: more than {PAGE_STEPS_MAX} steps or {PAGE_CONSTANTS_MAX} constants")
        if sum(len(step.text.encode()) for step in value) > PAGE_BYTES_MAX:
            raise ValueError(f"{key}: more than {PAGE_BYTES_MAX} bytes")
        return value
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
    # until the data plane can hash, a query that asks for hashing is left out rather than shown
    c.redact_query = s["redact_query_params"] != "none"
    c.max_request_header_bytes = s["max_request_header_bytes"]
    c.max_request_headers = s["max_request_headers"]
    c.max_response_header_bytes = s["max_response_header_bytes"]
    c.max_response_headers = s["max_response_headers"]
    c.n_add = fill_texts(c.add, [(n, f"{n}: {v}\r\n") for n, v in s["add_response_headers"]], keep)
    c.n_remove = fill_texts(c.remove, [(n, "") for n in s["remove_response_headers"]], keep)
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


cdef void fill_settings(Settings *c, dict s):
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
    c.log_enabled = bool(s["access_log"]) or s["access_log_stdout"]
    c.n_sticky = len(s["sticky_cookie_names"])
    for i, name in enumerate(s["sticky_cookie_names"]):
        text = name.encode()
        c.sticky[i].n = len(text)
        memcpy(c.sticky[i].text, <const char *>text, len(text))
    agent = s["health_user_agent"].encode()
    c.health_agent_n = len(agent)
    memcpy(c.health_agent, <const char *>agent, len(agent))


cdef object route_error(int code, str uri):
    reasons = {
        endpoint.KEY_EMPTY: "has no host",
        endpoint.KEY_LONG: f"is longer than {limits.KEY_MAX} bytes",
        endpoint.KEY_BYTES: "has a byte that a route cannot have",
        endpoint.KEY_DEEP: f"has more than {limits.PATH_SEGMENTS_MAX} path segments",
        endpoint.VALUE_LONG: "has an app, instance id or index of more than 255 bytes",
        endpoint.VALUE_BYTES: "has an app, instance id or index with a control character",
    }
    if code == endpoint.NO_MEMORY:
        return MemoryError(uri)
    if code == AGAIN:
        return BlockingIOError(11, "workers have not caught up; try again shortly")
    if code == endpoint.NOT_LISTED:
        return LookupError("no such endpoint")
    return ValueError(f"route {uri!r} {reasons.get(code, 'is unfit (%d)' % code)}")


BALANCES = {"round-robin": endpoint.ROUND_ROBIN, "least-connection": endpoint.LEAST_CONNECTION, "hash": endpoint.HASH}


cdef Endpoint *new_endpoint(Shared *g, str ip, int port, str app, str instance_id, str instance_index,
                            str process_id, bint local) except NULL:
    cdef u8 addr[28]
    cdef char text[64]
    cdef u8 addr_len
    cdef u16 off, ip_n
    cdef u32 text_n
    cdef Endpoint *e = NULL
    cdef int code
    cdef bytes raw = ip.encode()
    cdef bytes app_raw = app.encode(), id_raw = instance_id.encode(), index_raw = instance_index.encode()
    cdef bytes process_raw = process_id.encode()
    if not 0 < port < 65536:
        raise ValueError(f"port {port} must be from 1 to 65535")
    memset(addr, 0, sizeof(addr))
    addr[2] = port >> 8
    addr[3] = port & 255
    if csys.inet_pton(csys.AF_INET, raw, addr + 4) == 1:
        (<csys.sockaddr *>addr).sa_family = csys.AF_INET
        addr_len = 16
    elif csys.inet_pton(csys.AF_INET6, raw, addr + 8) == 1:
        (<csys.sockaddr *>addr).sa_family = csys.AF_INET6
        addr_len = 28
    else:
        raise ValueError(f"{ip!r} is not an IPv4 or IPv6 address")
    text_n = sock.write_addr(text, addr, &off, &ip_n)
    code = endpoint.endpoint_new(g.table.cells, &e, addr, addr_len, span.make(text, text_n),
                                 view(app_raw), view(id_raw), view(index_raw), view(process_raw))
    if code < 0:
        raise route_error(code, "")
    e.local = local
    return e


def check_balancing(balancing, hash_header):
    """ValueError for an algorithm nobody knows, or a header that cannot be hashed by."""
    if balancing and balancing not in BALANCES:
        raise ValueError(f"balancing {balancing!r}: must be one of {', '.join(BALANCES)}")
    if len(hash_header.encode()) > 63:
        raise ValueError(f"hash_header {hash_header!r}: at most 63 bytes")
    if balancing == "hash" and not hash_header:
        raise ValueError("balancing 'hash' needs a hash_header")


cdef class DataPlane:
    cdef Shared *g
    cdef csys.pthread_t threads[limits.WORKERS_MAX + 1]     # the logger's is the last
    cdef u32 n_threads
    cdef bint started
    cdef bint stopped
    cdef bint draining
    cdef list texts             # bytes that the settings point into
    cdef dict series_ids        # route key -> number, of numbers below series_seen
    cdef u32 series_seen

    def __cinit__(self, settings):
        whole = check_settings(settings)
        path = str(whole["access_log"]).encode()
        self.g = <Shared *>calloc(1, sizeof(Shared))
        if self.g == NULL or table.init(&self.g.table) < 0:
            raise MemoryError
        self.g.log_fd = -1
        self.g.logger_wake = -1
        self.g.healthy = 1
        self.series_ids = {}
        self.series_seen = 1
        fill_settings(&self.g.cfg, whole)
        self.texts = []
        fill_headers(&self.g.cfg, whole, self.texts)
        self.g.log_stdout = path == b"-" or whole["access_log_stdout"]
        if path and path != b"-":
            memcpy(self.g.log_path, <const char *>path, len(path))
            logger.reopen(self.g)
            if self.g.log_fd < 0:
                raise OSError(dp.get_errno(), f"access log {whole['access_log']!r} cannot be opened")

    def __init__(self, settings):
        pass

    def __dealloc__(self):
        cdef u32 i
        if self.g == NULL:
            return
        if self.started and not self.stopped and not self._join(5.0):
            return              # threads still use it all: leak rather than crash
        for i in range(1, limits.SERIES_MAX):
            if self.g.series_owner[i] != NULL:
                endpoint.pool_unref(self.g.series_owner[i])
        for i in range(self.g.n_workers):
            worker.destroy(self.g.workers[i])
        table.destroy(&self.g.table)
        if self.g.log_fd >= 0:
            csys.close(self.g.log_fd)
        if self.g.logger_wake >= 0:
            csys.close(self.g.logger_wake)
        free(self.g)

    # -- route table -----------------------------------------------------------------------------------------------
    # A handle is the endpoint's address, good as long as the table lists it: the table's reference keeps it alive.

    def add(self, str uri, str ip, int port, *, str app="", str instance_id="", str instance_index="",
            str process_id="", bint local=False, str balancing="", str hash_header="", double hash_balance=0.0):
        cdef bytes key = uri.encode()
        cdef Endpoint *e
        cdef int code
        check_balancing(balancing, hash_header)
        e = new_endpoint(self.g, ip, port, app, instance_id, instance_index, process_id, local)
        code = table.add_endpoint(&self.g.table, key, len(key), e)
        if code < 0:
            endpoint.unref(e)
            raise route_error(code, uri)
        if code == 1 and self.series_ids:
            # a route that comes back goes on with its old counters
            number = self.series_ids.get(unview(endpoint.pool_key(e.pool)))
            if number is not None:
                dp.cas32(&e.pool.series, 0, number)
        self._set_options(e.pool, balancing, hash_header, hash_balance)
        return <size_t>e

    def replace(self, size_t handle, *, str app="", str instance_id="", str instance_index="", str process_id="",
                bint local=False, str balancing="", str hash_header="", double hash_balance=0.0):
        cdef Endpoint *old = <Endpoint *>handle
        cdef u16 port = (<u16>old.addr[2] << 8) | old.addr[3]
        cdef str text = unview(endpoint.addr_text(old)).decode()
        cdef Endpoint *e
        cdef int code
        check_balancing(balancing, hash_header)
        e = new_endpoint(self.g, text.rpartition(":")[0].strip("[]"), port, app, instance_id, instance_index,
                         process_id, local)
        endpoint.ref(old)
        code = table.replace_endpoint(&self.g.table, old, e)
        if code < 0:
            endpoint.unref(e)
            endpoint.unref(old)
            raise route_error(code, text)
        self._let_go(old)
        self._set_options(e.pool, balancing, hash_header, hash_balance)
        return <size_t>e

    cdef int _set_options(self, Pool *p, str balancing, str hash_header, double factor) except -1:
        # gorouter: the last registration that names an algorithm decides for its route
        cdef endpoint.PoolOptions o
        cdef bytes header = hash_header.lower().encode()
        if not balancing:
            return 0
        memset(&o, 0, sizeof(o))
        o.balance = BALANCES[balancing]
        o.factor = factor
        o.header_n = <u8>len(header)
        memcpy(o.header, <const char *>header, len(header))
        if table.set_options(&self.g.table, p, &o) < 0:
            raise ValueError(f"more than {limits.POOL_OPTIONS_MAX - 1} different balancing options")
        return 0

    def remove(self, size_t handle, *, bint keep_empty=False):
        cdef Endpoint *e = <Endpoint *>handle
        cdef int code
        endpoint.ref(e)
        code = table.remove_endpoint(&self.g.table, e, keep_empty)
        if code < 0:
            endpoint.unref(e)
            raise route_error(code, "")
        self._let_go(e)

    cdef void _let_go(self, Endpoint *e):
        # Drops the caller's reference. Idle connections close: that host:port may be another app's by now.
        cdef u32 i
        if self.started and not self.stopped and dp.load32(&e.idle):
            for i in range(self.g.n_workers):
                endpoint.ref(e)
                if not worker.command(self.g.workers[i], CMD_PURGE, e, -1, False):
                    endpoint.unref(e)       # mailbox full: the worker sees e.dead when it next touches it
        endpoint.unref(e)

    def drop_empty(self, str uri):
        cdef bytes key = uri.encode()
        cdef int code = table.drop_empty(&self.g.table, key, len(key))
        if code < 0:
            raise route_error(code, uri)
        return code == 1

    def endpoint_serial(self, size_t handle):
        return (<Endpoint *>handle).serial

    def lookup(self, str host, str path):
        cdef bytes h = host.encode()
        cdef bytes p = path.encode()
        cdef Pool *found = table.find(&self.g.table, h, len(h), p, len(p))
        cdef EndpointArray *a
        if found == NULL:
            return None
        a = found.array
        handles = [<size_t>a.items[i] for i in range(a.n)] if a != NULL else []
        return unview(endpoint.pool_key(found)).decode(), handles

    def routes(self):
        """Routes in the table, those without an instance included."""
        return table.count(&self.g.table)

    def reclaim(self):
        self._note_series()
        return epoch.poll(&self.g.table.epoch)

    # -- threads ---------------------------------------------------------------------------------------------------

    def start(self, listeners):
        cdef u32 i
        cdef Worker *w
        if self.started:
            raise RuntimeError("already started")
        self.g.logger_wake = csys.eventfd(0, csys.EFD_CLOEXEC | csys.EFD_NONBLOCK)
        for i in range(self.g.cfg.workers):
            w = worker.create(self.g, i)
            if w == NULL:
                raise MemoryError("no memory or descriptors for a worker")
            self.g.workers[i] = w
            self.g.n_workers = i + 1
        self.started = True
        for kind, fds in listeners:
            self.listen(kind, fds)
        self._launch()

    def listen(self, str kind, fds):
        cdef u32 i
        if kind not in ("http", "health"):
            raise ValueError(f"listener kind {kind!r}: must be 'http' or 'health'")
        if not self.started or self.stopped:
            raise RuntimeError("not running")
        for i, fd in enumerate(fds):
            if not worker.command(self.g.workers[i % self.g.n_workers], CMD_LISTEN, NULL, fd, kind == "health"):
                raise BlockingIOError(11, "a worker's mailbox is full")

    cdef int _launch(self) except -1:
        cdef csys.sigset_t all_signals, before
        cdef csys.pthread_attr_t attr
        cdef bytes name
        cdef u32 i
        cdef int rc = 0
        # Signals are the control thread's: a thread that inherited them would run no Python handler.
        csys.sigfillset(&all_signals)
        csys.pthread_sigmask(csys.SIG_SETMASK, &all_signals, &before)
        csys.pthread_attr_init(&attr)
        csys.pthread_attr_setstacksize(&attr, worker.STACK_BYTES)
        for i in range(self.g.n_workers + 1):
            if i < self.g.n_workers:
                rc = csys.pthread_create(&self.threads[i], &attr, worker.run, self.g.workers[i])
                name = b"worker-%d" % i
            else:
                rc = csys.pthread_create(&self.threads[i], &attr, logger.run, self.g)
                name = b"logger"
            if rc != 0:
                break
            self.n_threads = i + 1
            csys.pthread_setname_np(self.threads[i], name)
        csys.pthread_attr_destroy(&attr)
        csys.pthread_sigmask(csys.SIG_SETMASK, &before, NULL)
        if rc != 0:
            self._join(5.0)
            raise OSError(rc, "a thread could not be started")
        return 0

    def set_health(self, bint healthy):
        dp.store32(&self.g.healthy, healthy)

    def close_listeners(self):
        cdef u32 i
        self.draining = True
        for i in range(self.g.n_workers):
            if not worker.command(self.g.workers[i], CMD_DRAIN, NULL, -1, False):
                raise BlockingIOError(11, "a worker's mailbox is full")

    def active(self):
        cdef u32 i
        cdef u64 n = 0
        for i in range(self.g.n_workers):
            n += dp.load64(&self.g.workers[i].counters.requests_active)
            # a worker that has not come to the end of its drain may be about to begin one
            if self.draining and not self.stopped and not dp.load32(&self.g.workers[i].settled):
                n += 1
        return n

    def connections(self):
        cdef u32 i
        cdef u64 n = 0
        for i in range(self.g.n_workers):
            n += dp.load64(&self.g.workers[i].counters.connections_open)
        return n

    def stop(self, double deadline_s=5.0):
        if not self.started or self.stopped:
            return True
        return self._join(deadline_s)

    cdef bint _join(self, double deadline_s):
        cdef clock.timespec until
        cdef u64 at = clock.wall_ns() + <u64>(deadline_s * 1e9)
        cdef u64 one = 1
        cdef u32 i
        cdef int rc = 0
        until.tv_sec = at // 1000000000
        until.tv_nsec = at % 1000000000
        for i in range(self.g.n_workers):
            worker.command(self.g.workers[i], CMD_STOP, NULL, -1, False)
        with nogil:
            for i in range(self.n_threads):
                if i == self.g.n_workers:
                    dp.store32_seq(&self.g.logger_stop, 1)
                    csys.write(self.g.logger_wake, &one, 8)
                rc = csys.pthread_timedjoin_np(self.threads[i], NULL, &until)
                if rc != 0:
                    break
        if rc != 0:
            return False
        self.stopped = True
        return True

    def reopen_log(self):
        cdef u64 one = 1
        dp.store32_seq(&self.g.log_reopen, 1)
        if self.g.logger_wake >= 0:
            csys.write(self.g.logger_wake, &one, 8)

    # -- reading ---------------------------------------------------------------------------------------------------

    def counters(self):
        cdef u32 i, k
        cdef u64 n
        whole = {}
        for k in range(tap.COUNTER_COUNT):
            n = 0
            for i in range(self.g.n_workers):
                n += dp.load64(<u64 *>(<char *>&self.g.workers[i].counters + tap.counter_rows[k].offset))
            whole[COUNTERS[k]] = n
        return whole

    cdef void _note_series(self):
        cdef u32 last = dp.load32_acq(&self.g.series_next)
        cdef Pool *p
        while self.series_seen <= last and self.series_seen < limits.SERIES_MAX:
            p = <Pool *>dp.loadp_acq(<void **>&self.g.series_owner[self.series_seen])
            if p != NULL:
                self.series_ids.setdefault(unview(endpoint.pool_key(p)), self.series_seen)
            self.series_seen += 1

    cdef object _one_series(self, u32 number, str route):
        cdef u64 classes[6]
        cdef u64 buckets[limits.HIST_BUCKETS]
        cdef u64 total = 0
        cdef u32 i, k
        cdef bint any = False
        cdef Series *s
        memset(classes, 0, sizeof(classes))
        memset(buckets, 0, sizeof(buckets))
        for i in range(self.g.n_workers):
            s = <Series *>dp.loadp_acq(<void **>&self.g.workers[i].series[number])
            if s == NULL:
                continue
            any = True
            total += dp.load64(&s.sum_ns)
            for k in range(6):
                classes[k] += dp.load64(&s.by_class[k])
            for k in range(limits.HIST_BUCKETS):
                buckets[k] += dp.load64(&s.buckets[k])
        if not any:
            return None
        return {
            "route": route,
            "requests": (classes[0], classes[1], classes[2], classes[3], classes[4], classes[5]),
            "buckets": tuple([buckets[k] for k in range(limits.HIST_BUCKETS)]),
            "sum_ns": total,
        }

    def series(self):
        cdef u32 n
        cdef u32 last = dp.load32_acq(&self.g.series_next)
        cdef Pool *p
        found = []
        self._note_series()
        for n in range(min(last + 1, <u32>limits.SERIES_MAX)):
            p = <Pool *>dp.loadp_acq(<void **>&self.g.series_owner[n])
            if p == NULL and n:
                continue
            one = self._one_series(n, unview(endpoint.pool_key(p)).decode("utf-8", "replace") if n else "")
            if one is not None:
                found.append(one)
        return found

    def events(self, int limit=1024):
        cdef u32 i
        cdef EventRing *r
        cdef Event *e
        found = []
        for i in range(self.g.n_workers):
            r = &self.g.workers[i].events
            while len(found) < limit and dp.load64_acq(&r.head) != r.tail:
                e = &r.items[r.tail & (limits.EVENT_RING - 1)]
                row = fault.row(e.fault)
                address = e.addr[:e.addr_len].decode("utf-8", "replace")
                found.append({
                    "kind": "endpoint_failed",
                    "endpoint": e.endpoint,
                    "address": address,
                    "route": e.route[:e.route_len].decode("utf-8", "replace"),
                    "fault": row.name.decode(),
                    "text": _error_text(row.what.decode() if row.what != NULL else row.text.decode(), address),
                    "attempt": e.attempt,
                    "retried": bool(e.retried),
                    "at_ns": e.at_ns,
                })
                dp.store64_rel(&r.tail, r.tail + 1)
        return found

    def turns(self):
        return [dp.load64(&self.g.workers[i].turns) for i in range(self.g.n_workers)]


def _error_text(what, address):
    text = what.replace("%A", address)
    return text.removeprefix("endpoint_failure (").removesuffix(")")


def live_objects():
    names = ("buf", "endpoint", "pool", "down", "up", "exchange", "node")
    if not dp.DEBUG_BUILD:
        return {}
    return {name: <i64>dp.live_counts[i] for i, name in enumerate(names)}


def bugs():
    """Programmer errors met by a build without assertions; anything but 0 deserves a report."""
    return dp.bugs

# The data plane's one file that holds the GIL: it turns Python values into the structures of fastpath/, starts and joins
# the threads, and reads their counters. What a request passes through is in fastpath/ and knows nothing of Python.
#
# Threading: every method runs on the control thread; it is the route table's single writer. See _fastpath.pyi.
import hashlib
import ipaddress
import re

cimport cython
from libc.stdlib cimport calloc, free, malloc
from libc.math cimport log
from libc.string cimport memcpy, memset
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64, i64, AGAIN
from gorouter_py.fastpath.base cimport clock, csys, dp, limits, rng, span
from gorouter_py.fastpath.http cimport h1, heads, tagged
from gorouter_py.fastpath.http.heads cimport Field, Head
from gorouter_py.fastpath.net cimport sock, tally, tap
from gorouter_py.fastpath.net.tally cimport Lane, Tally
from gorouter_py.fastpath.net.tap cimport Bounds, Event, EventRing, Meter, Series
from gorouter_py.fastpath.route cimport balance, endpoint, epoch, key as route_key, rollout, split, table
from gorouter_py.fastpath.route.endpoint cimport Endpoint, EndpointArray, Pool
from gorouter_py.fastpath.route.rollout cimport Rollout
from gorouter_py.fastpath.route.split cimport Match, Plan, Split
from gorouter_py.fastpath.flow cimport choice, cohort, fault, logger, mapping, syslog, worker
from gorouter_py.fastpath.flow.mapping cimport Mapping
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

include "_fastpath_settings.pxi"
include "_fastpath_mappings.pxi"


cdef Span view(bytes data):
    return span.make(<const char *>data, <u32>len(data))


cdef bytes unview(Span s):
    return s.p[:s.n]


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


include "_fastpath_rollout.pxi"


cdef int write_socket_address(bytes ip, int port, u8 *addr, u8 *addr_len) except -1:
    if not 0 < port < 65536:
        raise ValueError(f"port {port} must be from 1 to 65535")
    memset(addr, 0, 28)
    addr[2] = port >> 8
    addr[3] = port & 255
    if csys.inet_pton(csys.AF_INET, ip, addr + 4) == 1:
        (<csys.sockaddr *>addr).sa_family = csys.AF_INET
        addr_len[0] = 16
    elif csys.inet_pton(csys.AF_INET6, ip, addr + 8) == 1:
        (<csys.sockaddr *>addr).sa_family = csys.AF_INET6
        addr_len[0] = 28
    else:
        raise ValueError(f"{ip.decode()!r} is not an IPv4 or IPv6 address")
    return 0


cdef Endpoint *new_endpoint(Shared *g, str ip, int port, str app, str instance_id, str instance_index,
                            str process_id, bint local, bytes tags, int version) except NULL:
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
    if not 0 <= version <= endpoint.NO_VERSION:
        raise ValueError(f"version {version} must be from 0 to {endpoint.NO_VERSION}")
    write_socket_address(raw, port, addr, &addr_len)
    text_n = sock.write_addr(text, addr, &off, &ip_n)
    code = endpoint.endpoint_new(g.table.cells, &e, addr, addr_len, span.make(text, text_n),
                                 view(app_raw), view(id_raw), view(index_raw), view(process_raw), view(tags))
    if code < 0:
        raise route_error(code, "")
    e.local = local
    e.version = version
    e.born_s = <u32>(clock.mono_ns() // 1000000000)
    return e


def check_balancing(balancing, hash_header):
    """ValueError for an algorithm nobody knows, or a header that cannot be hashed by."""
    if balancing and balancing not in BALANCES:
        raise ValueError(f"balancing {balancing!r}: must be one of {', '.join(BALANCES)}")
    if len(hash_header.encode()) > 63:
        raise ValueError(f"hash_header {hash_header!r}: at most 63 bytes")
    if balancing == "hash" and not hash_header:
        raise ValueError("balancing 'hash' needs a hash_header")


# None of its attributes leads back to it: the collector may not take them away before __dealloc__ has used them.
@cython.no_gc
cdef class DataPlane:
    cdef Shared *g
    cdef csys.pthread_t threads[limits.WORKERS_MAX + 1]     # the logger's is the last
    cdef u32 n_threads
    cdef bint started
    cdef bint stopped
    cdef bint draining
    cdef list texts             # bytes that the settings point into
    cdef set mappings           # handles of mapped ports, each with a reference
    cdef _Rollouts rollout_states
    cdef dict series_ids        # route key -> number, of numbers below series_seen
    cdef u32 series_seen

    def __cinit__(self, settings):
        whole = check_settings(settings)
        path = str(whole["access_log"]).encode()
        self.g = <Shared *>calloc(1, sizeof(Shared))
        if self.g == NULL or table.init(&self.g.table) < 0:
            raise MemoryError
        self.g.log_fd = -1
        self.g.metron_fd = -1
        self.g.syslog.fd = -1
        self.g.logger_wake = -1
        self.g.healthy = 1
        self.g.log_level = 3
        self.series_ids = {}
        self.rollout_states = _Rollouts()
        self.series_seen = 1
        self.mappings = set()
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
        for handle in self.mappings:
            mapping.unref(<Mapping *><size_t>handle)
        table.destroy(&self.g.table)
        self.rollout_states.free_all()
        if self.g.log_fd >= 0:
            csys.close(self.g.log_fd)
        if self.g.logger_wake >= 0:
            csys.close(self.g.logger_wake)
        if self.g.metron_fd >= 0:
            csys.close(self.g.metron_fd)
        syslog.close(&self.g.syslog)
        free(self.g)

    # -- route table -----------------------------------------------------------------------------------------------
    # A handle is the endpoint's address, good as long as the table lists it: the table's reference keeps it alive.

    def add(self, str uri, str ip, int port, *, str app="", str instance_id="", str instance_index="",
            str process_id="", bint local=False, bytes tags=b"", str balancing="", str hash_header="",
            double hash_balance=0.0, int version=255):
        cdef bytes key = uri.encode()
        cdef Endpoint *e
        cdef int code
        check_balancing(balancing, hash_header)
        e = new_endpoint(self.g, ip, port, app, instance_id, instance_index, process_id, local, tags, version)
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
                bint local=False, bytes tags=b"", str balancing="", str hash_header="", double hash_balance=0.0,
                int version=255):
        cdef Endpoint *old = <Endpoint *>handle
        cdef u16 port = (<u16>old.addr[2] << 8) | old.addr[3]
        cdef str text = unview(endpoint.addr_text(old)).decode()
        cdef Endpoint *e
        cdef int code
        check_balancing(balancing, hash_header)
        e = new_endpoint(self.g, text.rpartition(":")[0].strip("[]"), port, app, instance_id, instance_index,
                         process_id, local, tags, version)
        if <u32>e.id_hash == <u32>old.id_hash:
            e.born_s = old.born_s         # the same instance, with other properties
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

    def vacate(self, str uri):
        cdef bytes key = uri.encode()
        cdef EndpointArray *gone = NULL
        cdef int code = table.vacate(&self.g.table, key, len(key), &gone)
        cdef u32 i
        if code < 0:
            raise route_error(code, uri)
        if gone != NULL:
            for i in range(gone.n):
                self._let_go(gone.items[i])
            free(gone)

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
        waiting = epoch.poll(&self.g.table.epoch)
        return waiting + self.rollout_states.sweep()

    # -- rollouts --------------------------------------------------------------------------------------------------

    def set_rollout(self, str uri, spec, members={}):
        self.rollout_states.publish(self.g, uri, spec, members)

    def set_slow(self, str uri, u64 ns):
        dp.store64(&self.rollout_states.state_of(uri).slow_ns, ns)

    def rollouts(self):
        return self.rollout_states.numbers(self.g)

    def clients(self, str uri):
        return self.rollout_states.clients(uri)

    def outcomes(self, int limit=1024):
        return read_outcomes(self.g, limit)

    def explain(self, bytes head, str address):
        return explain_request(self.g, head, address)

    # -- where logs go beside files --------------------------------------------------------------------------------

    def stream_log(self, int fd, str ip, int port, *, bint tcp, str origin, int truncate=0):
        cdef bytes raw = ip.encode(), head = (" " + origin + " - \ufeff").encode()
        if self.started or self.g.syslog.buf != NULL:
            raise RuntimeError("already started")
        if len(head) > sizeof(self.g.syslog.origin):
            raise ValueError(f"origin {origin!r} is too long")
        write_socket_address(raw, port, self.g.syslog.addr, &self.g.syslog.addr_len)
        self.g.syslog.truncate = max(truncate, 0)
        self.g.syslog.origin_n = len(head)
        memcpy(self.g.syslog.origin, <const char *>head, len(head))
        if not syslog.open(&self.g.syslog, fd, tcp):
            raise MemoryError
        self.g.cfg.log_enabled = self.g.cfg.log_ring = True

    def send_envelopes(self, int fd, *, bint lines=False, bint server_events=False, bint client_events=False,
                       str source_instance="0"):
        cdef bytes source = source_instance.encode()
        if self.started or self.g.metron_fd >= 0:
            raise RuntimeError("already started")
        if len(source) > sizeof(self.g.source_instance):
            raise ValueError(f"source instance {source_instance!r} is too long")
        self.g.source_instance_n = len(source)
        memcpy(self.g.source_instance, <const char *>source, len(source))
        self.g.metron_fd = fd
        self.g.cfg.log_envelopes = lines
        self.g.cfg.log_enabled = self.g.cfg.log_enabled or lines
        self.g.cfg.server_events = server_events
        self.g.cfg.client_events = client_events

    def outlets(self):
        return {
            "syslog_lines": dp.load64(&self.g.syslog.lines),
            "syslog_lost": dp.load64(&self.g.syslog.lost),
            "envelopes_sent": dp.load64(&self.g.envelopes_sent),
            "envelopes_lost": dp.load64(&self.g.envelopes_lost),
        }

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

    # A mapping's handle is its address: one reference is ours until its listeners are closed.

    def map_port(self, fds, str host, int port, cookies=()):
        cdef Mapping *m
        cdef u32 i
        self._check_room(len(fds))
        m = new_mapping(host, port, cookies)
        m.listening = <u32>len(fds)
        for i, fd in enumerate(fds):
            mapping.ref(m)
            worker.command(self.g.workers[i % self.g.n_workers], CMD_LISTEN, m, fd, False)
        self.mappings.add(<size_t>m)
        return <size_t>m

    def remap_port(self, size_t handle, str host, cookies=()):
        cdef Mapping *old = self._mapping(handle)
        cdef Mapping *m
        cdef Command cmd
        cdef u32 i
        self._check_room(1)
        m = new_mapping(host, old.port, cookies)
        dp.store32(&old.closed, 1)
        cmd.kind = CMD_REMAP
        cmd.arg = old
        cmd.other = m
        cmd.fd = -1
        for i in range(self.g.n_workers):
            mapping.ref(old)
            mapping.ref(m)
            worker.post(self.g.workers[i], &cmd)
        self.mappings.discard(handle)
        mapping.unref(old)
        self.mappings.add(<size_t>m)
        return <size_t>m

    def unmap_port(self, size_t handle):
        cdef Mapping *m = self._mapping(handle)
        cdef u32 i
        self._check_room(1)
        dp.store32(&m.closed, 1)
        for i in range(self.g.n_workers):
            mapping.ref(m)
            worker.command(self.g.workers[i], CMD_UNLISTEN, m, -1, False)

    def mapped_listeners(self, size_t handle):
        cdef Mapping *m = self._mapping(handle)
        cdef u32 n = 0 if self.stopped else dp.load32_acq(&m.listening)
        if n == 0 and dp.load32(&m.closed):
            self.mappings.discard(handle)
            mapping.unref(m)
        return n

    cdef Mapping *_mapping(self, size_t handle) except NULL:
        if handle not in self.mappings:
            raise LookupError("no such mapping")
        return <Mapping *>handle

    cdef int _check_room(self, u32 n) except -1:
        """What follows is done in all workers or in none."""
        cdef u32 i
        if not self.started or self.stopped:
            raise RuntimeError("not running")
        for i in range(self.g.n_workers):
            if not worker.has_room(self.g.workers[i], n):
                raise BlockingIOError(11, "a worker's mailbox is full")
        return 0

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

    def set_log_level(self, u32 level):
        dp.store32(&self.g.log_level, level)

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

    def meters(self):
        if not self.g.cfg.meter:
            return {}
        return {
            "lookup_time": self._one_meter(&self.g.cfg.lookup_bounds, False),
            "gorouter_time": self._one_meter(&self.g.cfg.gorouter_bounds, True),
        }

    cdef object _one_meter(self, const Bounds *b, bint own):
        cdef Meter *m
        cdef u32 i, k
        counts = [0] * (b.n + 1)
        total = 0
        for i in range(self.g.n_workers):
            m = &self.g.workers[i].gorouter_time if own else &self.g.workers[i].lookup_time
            total += dp.load64(&m.sum_ns)
            for k in range(b.n + 1):
                counts[k] += dp.load64(&m.counts[k])
        return {"bounds_ns": tuple([b.ns[k] for k in range(b.n)]), "counts": tuple(counts), "sum_ns": total}

    def events(self, int limit=1024):
        cdef u32 i
        cdef EventRing *r
        cdef Event *e
        found = []
        for i in range(self.g.n_workers):
            r = &self.g.workers[i].events
            while len(found) < limit and dp.load64_acq(&r.head) != r.tail:
                e = &r.items[r.tail & (limits.EVENT_RING - 1)]
                found.append(read_event(e))
                dp.store64_rel(&r.tail, r.tail + 1)
        return found

    def turns(self):
        return [dp.load64(&self.g.workers[i].turns) for i in range(self.g.n_workers)]


EVENT_KINDS = {
    tap.EV_FAILED: "endpoint_failed", tap.EV_UNSELECTED: "select_failed", tap.EV_SEMICOLON: "semicolon",
    tap.EV_STATUS: "status", tap.EV_REQUEST: "request", tap.EV_ATTEMPT: "attempt",
}
ALGORITHMS = {number: name for name, number in BALANCES.items()}


cdef object read_event(const Event *e):
    row = fault.row(e.fault)
    return {
        "kind": EVENT_KINDS[e.kind],
        "at_ns": e.at_ns,
        "request_id": e.request_id[:36].decode("ascii"),
        "trace_id": e.trace_id[:e.trace_len].decode("ascii"),
        "span_id": e.span_id[:16].decode("ascii"),
        "endpoint": e.endpoint,
        "address": e.addr[:e.addr_len].decode("utf-8", "replace"),
        "attempt": e.attempt,
        "text": e.text[:e.text_len].decode("utf-8", "replace"),
        "algorithm": ALGORITHMS[e.algorithm],
        "fault": row.name.decode(),
        "error": _error_text(e.error[:e.error_len] if e.error_len else row.text),
        "retried": bool(e.flags & tap.EF_RETRIED),
        "marked": bool(e.flags & tap.EF_MARKED),
        "connected": bool(e.flags & tap.EF_CONNECTED),
        "wrote_head": bool(e.flags & tap.EF_WROTE),
        "reused": bool(e.flags & tap.EF_REUSED),
        "answered": bool(e.flags & tap.EF_ANSWERED),
        "endpoints": e.endpoints,
        "dial_ns": e.dial_ns,
        "local_address": e.local[:e.local_len].decode("ascii"),
    }


def _error_text(bytes what):
    text = what.decode("utf-8", "replace")
    return text.removeprefix("endpoint_failure (").removesuffix(")")


def live_objects():
    names = ("buf", "endpoint", "pool", "down", "up", "exchange", "node", "mapping", "split", "rollout")
    if not dp.DEBUG_BUILD:
        return {}
    return {name: <i64>dp.live_counts[i] for i, name in enumerate(names)}


def bugs():
    """Programmer errors met by a build without assertions; anything but 0 deserves a report."""
    return dp.bugs

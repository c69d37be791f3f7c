# L1: what workers tell the outside: counters, latency histograms per route, the access-log ring, the event ring.
#
# Every structure here has one writer, its worker; control and the logger thread read without locks. Counters and
# buckets are stored with relaxed atomics, so a reader may see one a moment before another.
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64
from gorouter_py.fastpath.base cimport dp, limits

cdef extern from "counters.h" nogil:
    ctypedef struct Counters "dp_counters":
        u64 connections, connections_open, requests, requests_active, rejected_requests, bad_requests, bad_gateways
        u64 responses_1xx, responses_2xx, responses_3xx, responses_4xx, responses_5xx, responses_xxx
        u64 client_aborts, client_timeouts, attempts, retries, endpoint_failures
        u64 backend_exhausted_conns
        u64 upstream_connects, upstream_reused, upstream_open, upstream_idle
        u64 websocket_upgrades, websocket_failures, tunnels_open, sticky_hits, sticky_misses, health_checks
        u64 request_body_bytes, response_body_bytes, access_log_lines, access_log_dropped, events_dropped
        u64 envelopes_dropped
        u64 accept_paused, buffers_exhausted
    ctypedef struct CounterRow "dp_counter_row":
        const char *name
        const char *help
        size_t offset
    const CounterRow counter_rows "dp_counter_rows"[]
    enum:
        COUNTER_COUNT "DP_COUNTER_COUNT"

cdef inline void inc(u64 *counter) noexcept nogil:
    dp.bump64(counter, 1)

cdef inline void dec(u64 *counter) noexcept nogil:
    dp.bump64(counter, <u64>-1)

# ---- latency histogram: log-linear, four buckets an octave from 64 us to 15 minutes -----------------------------

cdef struct Series:
    u64 by_class[6]         # xxx, 1xx, 2xx, 3xx, 4xx, 5xx
    u64 sum_ns
    u64 buckets[limits.HIST_BUCKETS]

cdef enum:
    HIST_SHIFT = 16         # bucket 0 ends at 2**16 ns

cdef extern from *:
    int clz64 "__builtin_clzll"(unsigned long long v) noexcept nogil

cdef inline u32 bucket_of(u64 ns) noexcept nogil:
    cdef u32 octave, i
    if ns < (<u64>1 << HIST_SHIFT):
        return 0
    octave = 63 - clz64(ns)
    i = (octave - HIST_SHIFT) * 4 + <u32>((ns >> (octave - 2)) & 3) + 1
    return i if i < limits.HIST_BUCKETS else limits.HIST_BUCKETS - 1

# Upper bound of bucket i in ns, exclusive; the last bucket has none.
cdef inline u64 bucket_bound(u32 i) noexcept nogil:
    cdef u64 octave = <u64>1 << (HIST_SHIFT + i // 4)
    return octave + (octave // 4) * (i & 3)

cdef inline void observe(Series *s, u32 status, u64 ns) noexcept nogil:
    cdef u32 cls = status // 100
    dp.bump64(&s.by_class[cls if cls <= 5 else 0], 1)
    dp.bump64(&s.sum_ns, ns)
    dp.bump64(&s.buckets[bucket_of(ns)], 1)

# ---- histogram with the operator's own bounds, of a worker as a whole ---------------------------------------------

cdef struct Bounds:
    u32 n
    u64 ns[limits.METER_BOUNDS_MAX]     # upper, inclusive, ascending

cdef struct Meter:
    u64 sum_ns
    u64 counts[limits.METER_BOUNDS_MAX + 1]     # the last is beyond all bounds

cdef inline void measure(Meter *m, const Bounds *b, u64 ns) noexcept nogil:
    cdef u32 i = 0
    while i < b.n and ns > b.ns[i]:
        i += 1
    dp.bump64(&m.counts[i], 1)
    dp.bump64(&m.sum_ns, ns)

# ---- access-log ring: whole lines, one producer (worker), one consumer (logger) ---------------------------------

cdef struct LogRing:
    u64 head                # bytes ever written, by the worker
    u8 pad0[56]
    u64 tail                # bytes ever taken, by the logger
    u8 pad1[56]
    char *data

cdef inline int log_init(LogRing *r) noexcept nogil:
    memset(r, 0, sizeof(LogRing))
    r.data = <char *>calloc(1, limits.LOG_RING)
    return 0 if r.data != NULL else -16

cdef inline bint log_put(LogRing *r, const char *p, u32 n) noexcept nogil:
    cdef u64 head = r.head
    cdef u32 at = <u32>(head & (limits.LOG_RING - 1))
    cdef u32 first = limits.LOG_RING - at
    if head + n - dp.load64_acq(&r.tail) > <u64>limits.LOG_RING:
        return False
    if first >= n:
        memcpy(r.data + at, p, n)
    else:
        memcpy(r.data + at, p, first)
        memcpy(r.data, p + first, n - first)
    dp.store64_rel(&r.head, head + n)
    return True

# Several pieces as one; all or nothing.
cdef inline bint log_put_all(LogRing *r, const Span *pieces, u32 count) noexcept nogil:
    cdef u64 head = r.head
    cdef u64 n = 0
    cdef u32 i, at, first
    for i in range(count):
        n += pieces[i].n
    if r.data == NULL or head + n - dp.load64_acq(&r.tail) > <u64>limits.LOG_RING:
        return False
    for i in range(count):
        if pieces[i].n == 0:
            continue
        at = <u32>(head & (limits.LOG_RING - 1))
        first = limits.LOG_RING - at
        if first > pieces[i].n:
            first = pieces[i].n
        memcpy(r.data + at, pieces[i].p, first)
        memcpy(r.data, pieces[i].p + first, pieces[i].n - first)
        head += pieces[i].n
    dp.store64_rel(&r.head, head)
    return True

# Copies n bytes out, from `at` bytes behind the tail on; the caller knows that they are there.
cdef inline void log_peek(const LogRing *r, u32 at, char *to, u32 n) noexcept nogil:
    cdef u32 start = <u32>((r.tail + at) & (limits.LOG_RING - 1))
    cdef u32 first = limits.LOG_RING - start
    if first > n:
        first = n
    memcpy(to, r.data + start, first)
    memcpy(to + first, r.data, n - first)

# ---- event ring: one producer (worker), one consumer (control) --------------------------------------------------

cdef enum EventKind:
    EV_FAILED = 1           # an attempt failed; text: the route's key
    EV_UNSELECTED           # there was no endpoint for an attempt; text: the host
    EV_SEMICOLON            # a target with a semicolon
    EV_STATUS               # the router answered itself; text: the body
    EV_REQUEST              # a request came
    EV_ATTEMPT              # an attempt begins; text: the route's key

cdef enum EventFlag:
    EF_RETRIED = 1          # another attempt follows
    EF_MARKED = 2           # the endpoint is passed over from now on
    EF_CONNECTED = 4        # there was a connection
    EF_WROTE = 8            # the request's head was written
    EF_REUSED = 16          # the connection was a kept one
    EF_ANSWERED = 32        # the client has seen an answer's head

cdef struct Event:
    u64 at_ns               # wall clock, when the request came
    u64 endpoint            # serial; 0 = none
    u64 dial_ns
    int fault
    u32 endpoints           # of the route
    u16 attempt
    u16 text_len
    u8 kind
    u8 flags
    u8 algorithm            # EV_ATTEMPT: endpoint.Balance
    u8 addr_len
    u8 local_len
    u8 trace_len
    char addr[55]
    char local[55]          # our side of the connection
    char request_id[36]
    char trace_id[32]
    char span_id[16]
    char text[448]
    u8 error_len
    char error[255]         # EV_FAILED: as X-Cf-RouterError has it

cdef struct EventRing:
    u64 head
    u8 pad0[56]
    u64 tail
    u8 pad1[56]
    Event *items

cdef inline int event_init(EventRing *r) noexcept nogil:
    memset(r, 0, sizeof(EventRing))
    r.items = <Event *>calloc(limits.EVENT_RING, sizeof(Event))
    return 0 if r.items != NULL else -16

# A slot to fill, made visible by event_commit; NULL when the ring is full.
cdef inline Event *event_slot(EventRing *r) noexcept nogil:
    if r.head - dp.load64_acq(&r.tail) >= <u64>limits.EVENT_RING:
        return NULL
    return &r.items[r.head & (limits.EVENT_RING - 1)]

cdef inline void event_commit(EventRing *r) noexcept nogil:
    dp.store64_rel(&r.head, r.head + 1)

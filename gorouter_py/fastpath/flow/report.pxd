# L2: what a worker tells control about single requests, for the component log: failed attempts, and at lower levels
# what gorouter writes about each request.
#
# A report goes into the worker's bounded event ring; a full ring drops and counts, nobody waits. What the log's level
# hides is not made: one load tells (g.log_level, set by control while running).
from libc.string cimport memchr, memcpy
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32
from gorouter_py.fastpath.base cimport clock, dp, fmt, span
from gorouter_py.fastpath.http cimport heads
from gorouter_py.fastpath.net cimport tap
from gorouter_py.fastpath.net.tap cimport Event
from gorouter_py.fastpath.route cimport endpoint, table
from gorouter_py.fastpath.route.endpoint cimport EndpointArray
from gorouter_py.fastpath.flow cimport fault, logline, trace
from gorouter_py.fastpath.flow.state cimport *

cdef inline bint wanted(const Worker *w, u32 level) noexcept nogil:
    return dp.load32(&w.shared.log_level) <= level

cdef inline u8 put(char *to, Span s, u32 room) noexcept nogil:
    cdef u32 n = s.n if s.n < room else room
    if n:
        memcpy(to, s.p, n)
    return <u8>n

# A slot with what every report says; NULL (and counted) when the ring is full.
cdef inline Event *open_slot(Exchange *x, u8 kind) noexcept nogil:
    cdef Event *e = tap.event_slot(&x.w.events)
    cdef Span addr
    if e == NULL:
        tap.inc(&x.w.counters.events_dropped)
        return NULL
    e.kind = kind
    e.at_ns = x.wall_ns
    e.fault = 0
    e.attempt = <u16>x.attempts
    e.flags = 0
    e.algorithm = 0
    e.endpoints = 0
    e.dial_ns = 0
    e.endpoint = 0
    e.addr_len = 0
    e.local_len = 0
    e.text_len = 0
    e.error_len = 0
    memcpy(e.request_id, x.request_id, fmt.UUID_LEN)
    trace.ids(x, e.trace_id, &e.trace_len, e.span_id)
    if x.ep != NULL:
        addr = endpoint.addr_text(x.ep)
        e.endpoint = x.ep.serial
        e.addr_len = put(e.addr, addr, sizeof(e.addr))
        put_text(e, endpoint.pool_key(x.ep.pool))
    return e

cdef inline void put_text(Event *e, Span s) noexcept nogil:
    e.text_len = <u16>(s.n if s.n < sizeof(e.text) else sizeof(e.text))
    if e.text_len:
        memcpy(e.text, s.p, e.text_len)

cdef inline void post(Exchange *x) noexcept nogil:
    tap.event_commit(&x.w.events)

# A request came; level debug.
cdef inline void request(Exchange *x) noexcept nogil:
    if open_slot(x, tap.EV_REQUEST) != NULL:
        post(x)

# gorouter: a semicolon anywhere in the target, whatever it separates.
cdef inline bint has_semicolon(const Exchange *x) noexcept nogil:
    cdef Span t = heads.target(&x.req)
    return memchr(t.p, c';', t.n) != NULL

cdef inline void semicolon(Exchange *x) noexcept nogil:
    if open_slot(x, tap.EV_SEMICOLON) != NULL:
        post(x)

cdef inline u32 pool_size(const Exchange *x) noexcept nogil:
    cdef EndpointArray *a = <EndpointArray *>dp.loadp_acq(<void **>&x.ep.pool.array)
    return a.n if a != NULL else 0

# An attempt begins; level debug.
cdef inline void attempt(Exchange *x) noexcept nogil:
    cdef Event *e = open_slot(x, tap.EV_ATTEMPT)
    cdef const endpoint.PoolOptions *o = table.options_of(&x.w.shared.table, x.ep.pool)
    if e != NULL:
        e.algorithm = o.balance if o != NULL else x.w.shared.cfg.balance
        post(x)

# No endpoint for an attempt, on a route that has some.
cdef inline void selection(Exchange *x) noexcept nogil:
    cdef Event *e = open_slot(x, tap.EV_UNSELECTED)
    if e != NULL:
        put_text(e, heads.host(&x.req))
        post(x)

# The router answers itself, with this body.
cdef inline void status(Exchange *x, Span body) noexcept nogil:
    cdef Event *e = open_slot(x, tap.EV_STATUS)
    if e != NULL:
        put_text(e, body)
        post(x)

# A failed attempt. marked: the endpoint is passed over from now on.
cdef inline void failure(Exchange *x, int code, bint again, bint marked) noexcept nogil:
    cdef Event *e = open_slot(x, tap.EV_FAILED)
    cdef char text[logline.ROUTER_ERROR_MAX]
    cdef Span error
    cdef bint connected = x.up != NULL and (x.up.reused or x.dialed_ns != 0)
    if e == NULL:
        return
    e.fault = code
    error = span.make(text, <u32>(logline.router_error(text, x, code) - text))
    e.error_len = put(e.error, error, sizeof(e.error))
    e.endpoints = pool_size(x)
    if again:
        e.flags |= tap.EF_RETRIED
    if marked:
        e.flags |= tap.EF_MARKED
    if x.flags & X_RESP_HEAD:
        e.flags |= tap.EF_ANSWERED
    if connected:
        e.flags |= tap.EF_CONNECTED
        e.local_len = <u8>x.up.ops.local_addr(x.up, e.local)
        if code != fault.UP_WRITE and code != fault.UP_UNSENT:
            e.flags |= tap.EF_WROTE
        if x.up.reused:
            e.flags |= tap.EF_REUSED
    if not connected:
        e.dial_ns = clock.mono_ns() - x.tried_ns
    elif x.dialed_ns:
        e.dial_ns = x.dialed_ns - x.tried_ns
    post(x)

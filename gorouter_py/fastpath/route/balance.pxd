# L1: which instance of a pool serves an attempt, and what attempts leave on an endpoint.
#
# Round robin over all workers: a request takes its start from the pool's cursor, once; its retries walk on from there.
# Failed endpoints are passed over while they cool down, those tried in this request as long as there are others.
# A Pick belongs to one request; zeroed before the first choice. It holds numbers, not references: an address may be
# reused by another endpoint, a serial is not.
# choose: a reader within a turn of its epoch; the endpoint comes with a reference, so it may be kept across turns.
from gorouter_py.fastpath.base.types cimport u16, u32, u64
from gorouter_py.fastpath.base cimport dp, limits
from gorouter_py.fastpath.route cimport endpoint
from gorouter_py.fastpath.route.endpoint cimport Endpoint, EndpointArray, Pool

cdef struct Pick:
    u32 start               # where in the array this request began
    u16 tries               # endpoints in tried
    u16 spun                # start was taken
    u64 tried[limits.ATTEMPTS_MAX]

# Counts e as tried in this request; choose does it itself, an endpoint that came by its id needs it said.
cdef inline void note(Pick *k, const Endpoint *e) noexcept nogil:
    if k.tries < limits.ATTEMPTS_MAX:
        k.tried[k.tries] = e.serial
        k.tries += 1

cdef inline bint was_tried(const Pick *k, const Endpoint *e) noexcept nogil:
    cdef u32 i
    for i in range(k.tries):
        if k.tried[i] == e.serial:
            return True
    return False

# The workers' clocks differ by a turn, so failed_at_ms may lie ahead of now_ms.
cdef inline bint cooling(Endpoint *e, u64 now_ms, u64 cool_down_ms) noexcept nogil:
    cdef u64 at = dp.load64(&e.failed_at_ms)
    return at != 0 and now_ms < at + cool_down_ms

# No endpoint is both fit and untried. The next that was not tried in this request, else the next at all, fit ones first.
# gorouter: when a full cycle finds only failed endpoints, the marks go; those that failed in this very request keep theirs.
cdef inline Endpoint *choose_unfit(EndpointArray *a, Pick *k, u64 now_ms, u64 cool_down_ms) noexcept nogil:
    cdef Endpoint *first = NULL
    cdef Endpoint *e
    cdef u32 i
    for i in range(a.n):
        e = a.items[(<u64>k.start + i) % a.n]
        if not was_tried(k, e):
            dp.store64(&e.failed_at_ms, 0)
            if first == NULL:
                first = e
    if first != NULL:
        return first
    for i in range(a.n):
        e = a.items[(<u64>k.start + k.tries + i) % a.n]
        if not cooling(e, now_ms, cool_down_ms):
            return e
    return a.items[(<u64>k.start + k.tries) % a.n]

# The endpoint for the next attempt, with a reference; NULL if the pool has none. now_ms: the clock of mark_failed.
cdef inline Endpoint *choose(Pool *p, Pick *k, u64 now_ms, u64 cool_down_ms) noexcept nogil:
    cdef EndpointArray *a = <EndpointArray *>dp.loadp_acq(<void **>&p.array)
    cdef Endpoint *e = NULL
    cdef u32 at
    cdef u32 left
    if a == NULL or a.n == 0:
        return NULL
    if not k.spun:
        k.start = dp.add32(&p.cursor, 1)
        k.spun = 1
    left = a.n
    at = k.start % left
    while left:
        e = a.items[at]
        if dp.likely(not cooling(e, now_ms, cool_down_ms) and not was_tried(k, e)):
            break
        at += 1
        if at == a.n:
            at = 0
        left -= 1
    if dp.unlikely(left == 0):
        e = choose_unfit(a, k, now_ms, cool_down_ms)
    note(k, e)
    endpoint.ref(e)
    return e

# gorouter: +1 before an attempt, -1 when its response head is there or it failed. The caller holds a reference.
cdef inline void begin(Endpoint *e) noexcept nogil:
    dp.add32(&e.in_flight, 1)

cdef inline void finish(Endpoint *e) noexcept nogil:
    dp.sub32(&e.in_flight, 1)

# All workers pass e over from now on, for the cool-down.
cdef inline void mark_failed(Endpoint *e, u64 now_ms) noexcept nogil:
    dp.store64(&e.failed_at_ms, now_ms if now_ms else 1)

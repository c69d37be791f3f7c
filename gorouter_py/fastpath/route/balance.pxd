# L1: which instance of a pool serves an attempt, and what attempts leave on an endpoint.
#
# Three ways to choose (endpoint.Balance). Round robin over all workers: a request takes its start from the pool's cursor, once; its retries walk on from there.
# Failed endpoints are passed over while they cool down, those tried in this request as long as there are others.
# A Pick belongs to one request; zeroed before the first choice. It holds numbers, not references: an address may be
# reused by another endpoint, a serial is not.
# choose: a reader within a turn of its epoch; the endpoint comes with a reference, so it may be kept across turns.
from libc.math cimport ceil
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64
from gorouter_py.fastpath.base cimport dp, limits, span
from gorouter_py.fastpath.route cimport endpoint
from gorouter_py.fastpath.route.endpoint cimport Endpoint, EndpointArray, Pool, PoolOptions

cdef struct Pick:
    u32 start               # where in the array this request began
    u16 tries               # endpoints in tried
    u16 spun                # start was taken
    u64 tried[limits.ATTEMPTS_MAX]

cdef enum Pin:
    PIN_NONE = 0
    PIN_APP                 # app id and instance index
    PIN_PROCESS             # process id, and instance index if given

# What a choice goes by: the same for all requests, but for hash, and for all pools, but for options.
cdef struct Rules:
    const PoolOptions *options      # the pool's own; NULL = none
    u64 cool_down_ms
    u64 max_conns           # attempts in flight per endpoint; 0 = no bound
    u64 hash                # of the value the request is hashed by; 0 = it has none, or the pool does not hash
    u8 balance              # of pools without options
    u8 pinned               # only endpoints of guid and index count
    Span guid
    Span index              # empty: any
    u64 only                # serial of the one endpoint that counts; 0 = all that are named
    bint prefer_local       # first attempts go to this zone's endpoints, if there are any

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

cdef inline bint is_named(const Endpoint *e, const Rules *r) noexcept nogil:
    cdef Span id = endpoint.app_id(e) if r.pinned == PIN_APP else endpoint.process_id(e)
    cdef Span index = endpoint.instance_index(e)
    return span.eq(id, r.guid.p, r.guid.n) and (r.index.n == 0 or span.eq(index, r.index.p, r.index.n))

cdef inline bint is_pinned(const Endpoint *e, const Rules *r) noexcept nogil:
    return e.serial == r.only if r.only else is_named(e, r)

# Is there an instance that the rules name?
# gorouter: of several with one app and index the last one counts.
cdef inline bint find_pinned(Pool *p, Rules *r) noexcept nogil:
    cdef EndpointArray *a = <EndpointArray *>dp.loadp_acq(<void **>&p.array)
    cdef bint found = False
    cdef u32 i
    if a != NULL:
        for i in range(a.n):
            if is_named(a.items[i], r):
                found = True
                if r.pinned == PIN_APP:
                    r.only = a.items[i].serial
    return found

# May not take this attempt: it has all it may have (max_conns 0: no bound), or another one was asked for.
cdef inline bint is_barred(Endpoint *e, const Rules *r) noexcept nogil:
    return (r.max_conns != 0 and dp.load32(&e.in_flight) >= r.max_conns) or (
        r.pinned != PIN_NONE and not is_pinned(e, r))

# No endpoint is fit, untried and below its bound. The next that was not tried in this request, else the next at all, fit
# ones first; NULL when all are barred.
# gorouter: when a full cycle finds only failed endpoints, the marks go; those that failed in this very request keep theirs.
cdef inline Endpoint *choose_unfit(EndpointArray *a, Pick *k, u64 now_ms, const Rules *r) noexcept nogil:
    cdef Endpoint *first = NULL
    cdef Endpoint *e
    cdef u32 i
    for i in range(a.n):
        e = a.items[(<u64>k.start + i) % a.n]
        if not was_tried(k, e) and not is_barred(e, r):
            dp.store64(&e.failed_at_ms, 0)
            if first == NULL:
                first = e
    if first != NULL:
        return first
    for i in range(a.n):
        e = a.items[(<u64>k.start + k.tries + i) % a.n]
        if is_barred(e, r):
            continue
        if not cooling(e, now_ms, r.cool_down_ms):
            return e
        if first == NULL:
            first = e
    return first

cdef inline bint is_fit(Endpoint *e, const Pick *k, u64 now_ms, const Rules *r) noexcept nogil:
    return not cooling(e, now_ms, r.cool_down_ms) and not was_tried(k, e) and not is_barred(e, r)

# The next in turn among this zone's fit endpoints: their own rotation, wherever they stand in the array.
cdef inline Endpoint *next_local(EndpointArray *a, Pick *k, u64 now_ms, const Rules *r) noexcept nogil:
    cdef u32 i, n = 0, at
    for i in range(a.n):
        if a.items[i].local and is_fit(a.items[i], k, now_ms, r):
            n += 1
    if n == 0:
        return NULL
    at = k.start % n
    for i in range(a.n):
        if a.items[i].local and is_fit(a.items[i], k, now_ms, r):
            if at == 0:
                return a.items[i]
            at -= 1
    return NULL

# The next in turn that is fit.
cdef inline Endpoint *next_in_turn(EndpointArray *a, Pick *k, u64 now_ms, const Rules *r) noexcept nogil:
    cdef Endpoint *e
    cdef u32 left = a.n
    cdef u32 at = k.start % left
    while left:
        e = a.items[at]
        if dp.likely(is_fit(e, k, now_ms, r)):
            return e
        at += 1
        if at == a.n:
            at = 0
        left -= 1
    return NULL

# The one with the fewest attempts in flight; the walk starts at the request's turn, so ties go round.
# gorouter: cool-down marks do not count here; that an instance failed in this very request does.
cdef inline Endpoint *least_loaded(EndpointArray *a, Pick *k, const Rules *r, bint local) noexcept nogil:
    cdef Endpoint *best = NULL
    cdef Endpoint *e
    cdef u32 i, n, least = 0
    for i in range(a.n):
        e = a.items[(<u64>k.start + i) % a.n]
        n = dp.load32(&e.in_flight)
        if was_tried(k, e) or is_barred(e, r) or (local and not e.local):
            continue
        if best == NULL or n < least:
            best = e
            least = n
    return best

# Rendezvous hashing: every router ranks the endpoints of a value alike, and one that goes moves only its own values.
# An endpoint far above the mean load leaves the value to the next in rank.
cdef inline Endpoint *by_hash(EndpointArray *a, Pick *k, u64 now_ms, const Rules *r, double factor) noexcept nogil:
    cdef Endpoint *best = NULL
    cdef Endpoint *e
    cdef u64 score, top = 0, all_in_flight = 0
    cdef u32 i, id
    cdef double most = 0
    if factor > 0:
        for i in range(a.n):
            all_in_flight += dp.load32(&a.items[i].in_flight)
        most = ceil(factor * (<double>all_in_flight + 1) / a.n)
    for i in range(a.n):
        e = a.items[i]
        if was_tried(k, e) or is_barred(e, r) or cooling(e, now_ms, r.cool_down_ms):
            continue
        if factor > 0 and a.n > 1 and dp.load32(&e.in_flight) + 1 > most and all_in_flight:
            continue
        id = <u32>e.id_hash if <u32>e.id_hash else <u32>(e.id_hash >> 32)
        score = dp.mix64(r.hash ^ id, 0x9e3779b97f4a7c15ULL)
        if best == NULL or score > top:
            best = e
            top = score
    return best

# The endpoint for the next attempt, with a reference. NULL: the pool has none, or (*full set) all are at their bound.
# now_ms: the clock of mark_failed.
cdef inline Endpoint *choose(Pool *p, Pick *k, u64 now_ms, const Rules *r, bint *full) noexcept nogil:
    return choose_of(<EndpointArray *>dp.loadp_acq(<void **>&p.array), &p.cursor, k, now_ms, r, False, full)

# The same of an array, by a cursor of its own. only_fit: NULL rather than an endpoint that has failed of late.
cdef inline Endpoint *choose_of(EndpointArray *a, u32 *cursor, Pick *k, u64 now_ms, const Rules *r, bint only_fit,
                                bint *full) noexcept nogil:
    cdef u8 balance = r.options.balance if r.options != NULL else r.balance
    cdef bint local = r.prefer_local and k.tries == 0
    cdef Endpoint *e = NULL
    full[0] = False
    if a == NULL or a.n == 0:
        return NULL
    if not k.spun:
        k.start = dp.add32(cursor, 1)
        k.spun = 1
    if dp.likely(balance == endpoint.ROUND_ROBIN):
        if local:
            e = next_local(a, k, now_ms, r)
    elif balance == endpoint.LEAST_CONNECTION:
        if local:
            e = least_loaded(a, k, r, True)
        if e == NULL:
            e = least_loaded(a, k, r, False)
    elif r.hash:
        e = by_hash(a, k, now_ms, r, r.options.factor if r.options != NULL else 0)
    if e != NULL and only_fit and cooling(e, now_ms, r.cool_down_ms):
        e = NULL
    if e == NULL:
        e = next_in_turn(a, k, now_ms, r)
    if dp.unlikely(e == NULL):
        if only_fit:
            return NULL
        e = choose_unfit(a, k, now_ms, r)
        if e == NULL:
            full[0] = True
            return NULL
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

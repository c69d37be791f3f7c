# L2: what becomes of a route's requests while it has a rollout: numbers per version and worker, and the first failure of
# each unit, which control tests versions by.
#
# A request's outcome is the doing of the version whose endpoint got its first attempt, also where a repetition elsewhere
# hid the failure from the client. A request comes by hold(), is counted by book() and leaves by let_go().
from libc.string cimport memcpy
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64
from gorouter_py.fastpath.base cimport clock, dp, span
from gorouter_py.fastpath.http cimport cookies, heads
from gorouter_py.fastpath.net cimport tally, tap
from gorouter_py.fastpath.net.tally cimport Lane, Outcome, Tally
from gorouter_py.fastpath.route cimport endpoint, rollout, split
from gorouter_py.fastpath.route.rollout cimport Rollout
from gorouter_py.fastpath.route.split cimport Split
from gorouter_py.fastpath.flow cimport cohort, fault
from gorouter_py.fastpath.flow.state cimport *

# ---- the worker's numbers ------------------------------------------------------------------------------------------

# Made when the worker meets the rollout first; NULL when memory is out.
cdef inline Tally *tally_of(Worker *w, Rollout *r) noexcept nogil:
    cdef Tally *t = <Tally *>r.tallies[w.id]
    if dp.unlikely(t == NULL):
        t = tally.create()
        if t != NULL:
            dp.storep_rel(&r.tallies[w.id], t)
    return t

# The numbers of a version; NULL when memory is out.
cdef inline Lane *lane_of(Exchange *x, u8 version) noexcept nogil:
    return tally.lane(x.tally, version)

# Requests of the rollout that all workers have begun.
cdef inline u64 requests_of(Worker *w, Rollout *r) noexcept nogil:
    cdef Tally *t
    cdef u64 n = 0
    cdef u32 i
    for i in range(w.shared.n_workers):
        t = <Tally *>dp.loadp_acq(&r.tallies[i])
        if t != NULL:
            n += dp.load64(&t.requests)
    return n

# ---- begin and end -------------------------------------------------------------------------------------------------

# The exchange belongs to the rollout from here on, over turns, until let_go(). False when memory is out.
cdef inline bint hold(Exchange *x, Rollout *r) noexcept nogil:
    cdef Tally *t = tally_of(x.w, r)
    if t == NULL:
        return False
    dp.bump64(&t.held, 1)
    dp.bump64(&t.requests, 1)
    x.rollout = r
    x.tally = t
    return True

cdef inline void let_go(Exchange *x) noexcept nogil:
    if x.rollout != NULL:
        end_share(x)
        x.rollout = NULL
        # the writer frees the rollout, and the tally with it, when it sees that nobody holds it
        dp.store64_rel(&x.tally.held, x.tally.held - 1)

# There is an answer, or never will be: nobody follows this request's draw any more.
cdef inline void end_share(Exchange *x) noexcept nogil:
    if x.cohort.share:
        rollout.answered(x.rollout, <int>x.cohort.share - 1, x.cohort.id)
        x.cohort.share = 0

# The endpoint's response head is there.
cdef inline void head_came(Exchange *x) noexcept nogil:
    x.head_ns = clock.mono_ns()
    end_share(x)
    if x.cohort.marks & M_PROBE and x.attempts == 1:
        dp.store64(&x.ep.failed_at_ms, 0)       # it is well again: its clients may come back
        rollout.is_well(x.rollout, x.cohort.version)

# ---- what is a failure ---------------------------------------------------------------------------------------------

# A fault as a cause; -1: it says nothing about the endpoint.
cdef inline int cause_of(int code) noexcept nogil:
    if code == fault.DIAL_TIMEOUT or code == fault.UP_TIMEOUT:
        return tally.CAUSE_TIMEOUT
    if code == fault.DIAL_REFUSED or code == fault.DIAL_UNREACHABLE or code == fault.DIAL_FAILED:
        return tally.CAUSE_CONNECT
    if (code == fault.UP_EOF or code == fault.UP_RESET or code == fault.UP_WRITE or code == fault.UP_SHORT
            or code == fault.UP_UNSENT):
        return tally.CAUSE_RESET
    if code == fault.CONNECTION_LIMIT or code == fault.NO_ENDPOINTS or code == fault.NO_ENDPOINT_LEFT:
        return tally.CAUSE_LIMIT
    if code <= fault.DIAL_REFUSED and code >= fault.UP_TOO_MANY_HEADERS and code != fault.NO_SOCKETS:
        return tally.CAUSE_PROTOCOL
    return -1

# Why the request failed, -1: it did not.
cdef inline int failure_of(const Exchange *x) noexcept nogil:
    if x.blame:
        return cause_of(x.blame)
    if x.flags & X_LOCAL:
        return cause_of(x.fault) if x.status >= 500 else -1
    return tally.CAUSE_STATUS if x.status >= 500 else -1

# Programs that ask by themselves and mean no user.
cdef inline bint is_bot(const Head *h) noexcept nogil:
    cdef Span agent = heads.get(h, heads.N_USER_AGENT)
    cdef u32 i, left
    cdef const char *p
    for i in range(agent.n):
        p = agent.p + i
        left = agent.n - i
        if ((left >= 3 and dp.ieq(p, b"bot", 3)) or (left >= 7 and (dp.ieq(p, b"crawler", 7) or dp.ieq(p, b"monitor", 7)))
                or (left >= 6 and dp.ieq(p, b"spider", 6)) or (left >= 5 and dp.ieq(p, b"probe", 5))):
            return True
    return False

# ---- who it was ----------------------------------------------------------------------------------------------------

# The address at the other end of the connection.
cdef inline Span peer_of(const Exchange *x) noexcept nogil:
    return span.make(x.down.peer + x.down.ip_off, x.down.ip_len)

cdef inline Span address_of(const Exchange *x) noexcept nogil:
    return cohort.client_address(&x.req, peer_of(x), dp.load32(&x.rollout.forwarded_for) != 0)

# What an operator knows the client by: the identity that places it, as text, else its address.
cdef inline Span name_of(const Exchange *x) noexcept nogil:
    cdef Split *s = split.of(x.ep.pool) if x.ep != NULL else NULL
    cdef Span v = span.make(NULL, 0)
    if x.cohort.reason == WHY_IDENTITY and s != NULL and s.plan.state == x.rollout:
        if s.plan.identity_where == split.BY_HEADER:
            v = cohort.field_value(&x.req, s.plan.identity)
        elif s.plan.identity_where == split.BY_COOKIE:
            v = cookies.get_cookie(&x.req, s.plan.identity.p, s.plan.identity.n)
    return v if v.n else address_of(x)

# ---- booking -------------------------------------------------------------------------------------------------------

cdef inline u8 cut(char *to, Span s, u32 most) noexcept nogil:
    cdef u32 n = s.n if s.n < most else most
    if n:
        memcpy(to, s.p, n)
    return <u8>n

cdef inline void post(Exchange *x, u8 metric, int cause, u64 latency_ns) noexcept nogil:
    cdef Worker *w = x.w
    cdef Outcome *o = tally.outcome_slot(&w.outcomes)
    if o == NULL:
        dp.bump64(&x.tally.outcomes_dropped, 1)
        return
    o.at_ns = x.wall_ns
    o.rollout = x.rollout.id
    o.unit = x.cohort.unit
    o.latency_ns = latency_ns
    o.fault = x.blame if x.blame else (x.fault if x.flags & X_LOCAL else 0)
    o.u = x.cohort.u
    o.status = x.status
    o.version = x.booked
    o.metric = metric
    o.cause = <u8>cause if cause >= 0 else tally.CAUSES
    o.method_n = cut(o.method, heads.method(&x.req), sizeof(o.method))
    o.path_n = cut(o.path, heads.path(&x.req), sizeof(o.path))
    o.address_n = cut(o.address, address_of(x), sizeof(o.address))
    memcpy(o.request_id, x.request_id, sizeof(o.request_id))
    tally.outcome_commit(&w.outcomes)

# A unit's first failure in a metric is evidence and goes to control; others are counted.
cdef inline void first_failure(Exchange *x, Lane *l, u8 metric, int cause, u64 latency_ns) noexcept nogil:
    cdef Rollout *r = x.rollout
    cdef u64 address = cohort.address_key(address_of(x))
    if (x.cohort.marks & M_FORCED or x.booked == endpoint.NO_VERSION
            or rollout.is_over_cap(r, address, dp.load32(&r.address_cap)) or is_bot(&x.req)):
        dp.bump64(&l.excluded, 1)
        return
    if rollout.mark(r, metric, x.cohort.unit):
        rollout.count_address(r, address)
        post(x, metric, cause, latency_ns)

cdef inline bint is_slow(const Exchange *x, u64 latency_ns) noexcept nogil:
    cdef Rollout *r = x.rollout
    cdef u64 limit = dp.load64(&r.slow_ns)
    cdef u64 warmup_ms = dp.load64(&r.warmup_ms)
    if limit == 0 or latency_ns <= limit or x.head_ns == 0 or x.flags & X_TUNNEL:
        return False
    return warmup_ms == 0 or x.w.now_ms >= <u64>x.ep.born_s * 1000 + warmup_ms

# The request has ended.
cdef inline void book(Exchange *x, u64 now) noexcept nogil:
    cdef Lane *l = lane_of(x, x.booked)
    cdef u64 latency = (x.head_ns if x.head_ns else now) - x.began_ns
    cdef int cause = failure_of(x)
    if l != NULL:
        tap.observe(&l.series, x.status, latency)
        if x.cohort.marks & M_FORCED:
            dp.bump64(&l.forced, 1)
        else:
            tally.see(l, x.cohort.unit)
            if dp.unlikely(x.tally.requests % tally.SAMPLE_EACH == 0):
                tally.sample(l, x.cohort.unit, name_of(x))
        if cause >= 0:
            dp.bump64(&l.failures[cause], 1)
            first_failure(x, l, rollout.M_FAILURE, cause, latency)
        elif x.status >= 400 and x.status < 500 and not (x.flags & X_LOCAL) and dp.load32(&x.rollout.count_4xx):
            first_failure(x, l, rollout.M_CLIENT_ERROR, cause, latency)
        if x.ep != NULL and is_slow(x, latency):
            first_failure(x, l, rollout.M_SLOW, cause, latency)

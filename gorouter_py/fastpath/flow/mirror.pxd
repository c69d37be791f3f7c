# L2: copies of requests for a version that is to see real traffic before it answers any. Nobody waits for a copy: it
# goes after the request itself, its answer is thrown away, and its failures are numbers.
#
# wanted() is asked once per request. A body is kept while it streams, up to limits.MIRROR_BODY_MAX; the copy is sent
# when it is whole. A Mirror owns an endpoint's stream as an Exchange does, and has no client.
from libc.stdlib cimport calloc, free
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64
from gorouter_py.fastpath.base cimport buf, dp, fmt, limits, span
from gorouter_py.fastpath.base.buf cimport Buf
from gorouter_py.fastpath.http cimport heads
from gorouter_py.fastpath.http.heads cimport Head
from gorouter_py.fastpath.net cimport tally, timers
from gorouter_py.fastpath.net.tally cimport Lane, Tally
from gorouter_py.fastpath.route cimport balance, endpoint, rollout, split
from gorouter_py.fastpath.route.endpoint cimport Endpoint
from gorouter_py.fastpath.route.split cimport Plan, Split
from gorouter_py.fastpath.flow cimport choice, forward, outcome
from gorouter_py.fastpath.flow.stream cimport HeadOut, Stream
from gorouter_py.fastpath.flow.state cimport *

cdef enum:
    MIRROR_MS = 10000           # a copy has this time for everything

# ---- which requests ------------------------------------------------------------------------------------------------

# Is a copy of this request to go to another version? Called when the first attempt has its endpoint.
cdef inline void consider(Exchange *x) noexcept nogil:
    cdef Split *s = split.of(x.ep.pool)
    if (s == NULL or s.plan.state != x.rollout or s.plan.mirror_version < 0 or s.plan.mirror_version == x.booked
            or x.flags & X_UPGRADE or not rollout.draws_copy(x.rollout, s.plan.mirror_share)):
        return
    x.cohort.marks |= M_MIRROR

cdef inline void skip(Exchange *x, u8 version) noexcept nogil:
    cdef Lane *l = outcome.lane_of(x, version)
    x.cohort.marks &= ~M_MIRROR
    if l != NULL:
        dp.bump64(&l.mirror_skipped, 1)

# A piece of the request's body.
cdef inline void keep(Exchange *x, const char *p, u64 n) noexcept nogil:
    cdef Split *s = split.of(x.ep.pool)
    cdef u32 have = buf.used(x.copied) if x.copied != NULL else 0
    cdef Buf *b = x.copied
    if have + n <= <u64>limits.MIRROR_BODY_MAX:
        if b == NULL:
            b = buf.alloc(&x.w.slabs, <u32>n)
        elif buf.room(b) < n:
            b = buf.grow(&x.w.slabs, b, <u32>(2 * (have + n)))
        if b != NULL:
            x.copied = b
            buf.put(b, p, <u32>n)
            return
    buf.release(&x.w.slabs, x.copied)
    x.copied = NULL
    skip(x, <u8>s.plan.mirror_version if s != NULL and s.plan.mirror_version >= 0 else x.booked)

# ---- the copy ------------------------------------------------------------------------------------------------------

# An endpoint for it, with a reference: never one that has failed, nor one that is at its bound.
cdef inline Endpoint *take(Exchange *x, Split *s, u8 version) noexcept nogil:
    cdef balance.Pick pick
    cdef balance.Rules rules
    cdef bint full = False
    choice.set_rules(x, x.ep.pool, &rules)
    rules.pinned = balance.PIN_NONE
    rules.only = 0
    pick.tries = 0
    pick.spun = 0
    return balance.choose_of(s.arrays[version], rollout.cursor(x.rollout, version), &pick, x.w.now_ms, &rules, True, &full)

cdef inline Mirror *create(Exchange *x, Endpoint *e, u8 version) noexcept nogil:
    cdef Worker *w = x.w
    cdef Mirror *m = <Mirror *>calloc(1, sizeof(Mirror))
    if m == NULL:
        return NULL
    m.w = w
    m.ep = e
    m.version = version
    m.rollout = x.rollout
    m.timer.kind = TIMER_MIRROR
    m.body = x.copied
    x.copied = NULL
    dp.bump64(&(<Tally *>m.rollout.tallies[w.id]).held, 1)
    m.next = w.mirrors
    if w.mirrors != NULL:
        w.mirrors.prev = m
    w.mirrors = m
    w.n_mirrors += 1
    balance.begin(e)
    dp.live(dp.LIVE_EXCHANGE, 1)
    return m

# The copy is over. well: the endpoint has answered it.
cdef inline void end(Mirror *m, bint well) noexcept nogil:
    cdef Worker *w = m.w
    cdef Tally *t = <Tally *>m.rollout.tallies[w.id]
    cdef Lane *l = tally.lane(t, m.version)
    if l != NULL and not (well and m.status < 500):
        dp.bump64(&l.mirror_failures, 1)
    timers.cancel(&w.wheel, &m.timer)
    if m.up != NULL:
        m.up.ops.done(m.up, well)
    balance.finish(m.ep)
    endpoint.unref(m.ep)
    buf.release(&w.slabs, m.body)
    if m.prev != NULL:
        m.prev.next = m.next
    else:
        w.mirrors = m.next
    if m.next != NULL:
        m.next.prev = m.prev
    w.n_mirrors -= 1
    dp.store64_rel(&t.held, t.held - 1)
    dp.live(dp.LIVE_EXCHANGE, -1)
    free(m)

# The head as the request's own endpoint gets it, but for what names the endpoint, the body's framing and the mark.
cdef inline void send_head(Exchange *x, Mirror *m) noexcept nogil:
    cdef HeadOut out
    cdef Endpoint *own = x.ep
    cdef Head *h = &x.req
    cdef char *end
    x.ep = m.ep
    forward.request(x.w, x, &out, False)
    x.ep = own
    if h.first[heads.N_EXPECT] >= 0:
        h.fields[h.first[heads.N_EXPECT]].drop = 1      # nobody waits for a 100
    if m.body != NULL:
        out.framing = heads.BODY_LENGTH
        out.content_length = buf.used(m.body)
    elif h.framing == heads.BODY_CHUNKED:
        out.framing = heads.BODY_NONE
        out.zero_length = 1
    end = <char *>out.extra.p + out.extra.n             # in the worker's scratch, which has room
    out.extra.n += <u32>(fmt.text(end, b"X-Gr-Mirror: 1\r\n") - end)
    m.up.ops.send_head(m.up, &out)

# The request is whole and has gone to its own endpoint: now the copy.
cdef inline void send(Exchange *x) noexcept nogil:
    cdef Worker *w = x.w
    cdef Split *s = split.of(x.ep.pool)
    cdef Endpoint *e = NULL
    cdef Mirror *m = NULL
    cdef Lane *l
    cdef u8 version
    cdef int code = 0
    x.cohort.marks &= ~M_MIRROR
    if s == NULL or s.plan.state != x.rollout or s.plan.mirror_version < 0:
        return
    version = <u8>s.plan.mirror_version
    if w.n_mirrors < limits.MIRRORS_MAX:
        e = take(x, s, version)
    if e != NULL:
        m = create(x, e, version)
        if m == NULL:
            endpoint.unref(e)
    if m == NULL:
        skip(x, version)
        return
    l = outcome.lane_of(x, version)
    if l != NULL:
        dp.bump64(&l.mirrored, 1)
    m.up = w.open_up(w, e, x.req.method, CARE_ANY, &code)
    if m.up == NULL:
        end(m, False)
        return
    m.up.owner = m
    m.up.events = &w.mirror_events
    timers.set_ms(&w.wheel, &m.timer, MIRROR_MS)
    send_head(x, m)
    if m.body == NULL:
        m.up.ops.send_end(m.up, span.make(NULL, 0))
    elif m.up.ready:
        on_ready(m, m.up)

# ---- events of its stream ------------------------------------------------------------------------------------------

cdef inline void on_ready(void *owner, Stream *s) noexcept nogil:
    cdef Mirror *m = <Mirror *>owner
    if m.body != NULL:
        s.ops.send_body(s, m.body.data + m.body.rpos, buf.used(m.body))
        s.ops.send_end(s, span.make(NULL, 0))
        buf.release(&m.w.slabs, m.body)
        m.body = NULL

cdef inline void on_head(void *owner, Stream *s, Head *h) noexcept nogil:
    cdef Mirror *m = <Mirror *>owner
    m.status = h.status
    if h.status == 101:
        end(m, False)

cdef inline void on_body(void *owner, Stream *s, const char *p, u64 n) noexcept nogil:
    pass

cdef inline void on_end(void *owner, Stream *s, Span trailers) noexcept nogil:
    end(<Mirror *>owner, True)

cdef inline void on_drain(void *owner, Stream *s) noexcept nogil:
    pass

cdef inline void on_fail(void *owner, Stream *s, int code) noexcept nogil:
    end(<Mirror *>owner, False)

cdef inline void on_timer(Mirror *m) noexcept nogil:
    end(m, False)

# L2: which endpoint an attempt goes to, in this order: the instance or process that a header names; the instance of the
# sticky cookie; the route's balancer. On a route with a rollout the version is chosen before (flow/cohort), once for all
# attempts, and the last two are those of its own endpoints.
#
# The route is looked up anew for each attempt: the table may have changed since the last. What is found lives until the
# end of this turn; the endpoint comes with a reference.
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64
from gorouter_py.fastpath.base cimport dp, fmt, rng, span
from gorouter_py.fastpath.http cimport cookies, heads
from gorouter_py.fastpath.http.heads cimport Head
from gorouter_py.fastpath.net cimport tap
from gorouter_py.fastpath.net.tally cimport Lane
from gorouter_py.fastpath.route cimport balance, endpoint, rollout, split, sticky, table
from gorouter_py.fastpath.route.endpoint cimport Endpoint, EndpointArray, Pool
from gorouter_py.fastpath.route.rollout cimport Rollout
from gorouter_py.fastpath.route.split cimport Split
from gorouter_py.fastpath.flow cimport cohort, fault, outcome
from gorouter_py.fastpath.flow.state cimport *

cdef enum:
    GUID_LEN = 36

# ---- X-CF-App-Instance, X-CF-Process-Instance ----------------------------------------------------------------------

# A lower-case GUID at the start of s, behind it nothing or a colon.
cdef inline bint starts_with_guid(Span s) noexcept nogil:
    cdef u32 i
    if s.n < GUID_LEN or (s.n > GUID_LEN and s.p[GUID_LEN] != c':'):
        return False
    for i in range(GUID_LEN):
        if i == 8 or i == 13 or i == 18 or i == 23:
            if s.p[i] != c'-':
                return False
        elif not dp.char_is(s.p[i], dp.C_HEX) or (s.p[i] >= c'A' and s.p[i] <= c'F'):
            return False
    return True

# "guid:index"; the index may be missing where need_index is not set.
cdef inline bint split_instance(Span s, bint need_index, Span *guid, Span *index) noexcept nogil:
    cdef u32 i
    if not starts_with_guid(s) or s.n == GUID_LEN + 1 or (need_index and s.n == GUID_LEN):
        return False
    guid[0] = span.make(s.p, GUID_LEN)
    index[0] = span.make(s.p + GUID_LEN + 1, s.n - GUID_LEN - 1) if s.n > GUID_LEN else span.make(NULL, 0)
    for i in range(index.n):
        if not dp.char_is(index.p[i], dp.C_DIGIT):
            return False
    return True

# Narrows the rules to what a header names. 0, or the fault of a header that is malformed or names nobody.
# gorouter: the app header has precedence.
cdef inline int pin(const Head *h, Pool *p, balance.Rules *r) noexcept nogil:
    cdef Span app = heads.get(h, heads.N_X_CF_APP_INSTANCE)
    cdef Span process = heads.get(h, heads.N_X_CF_PROCESS_INSTANCE)
    r.pinned = balance.PIN_NONE
    r.only = 0
    if app.n:
        if not split_instance(app, True, &r.guid, &r.index):
            return fault.BAD_APP_INSTANCE
        r.pinned = balance.PIN_APP
    elif process.n:
        if not split_instance(process, False, &r.guid, &r.index):
            return fault.BAD_PROCESS_INSTANCE
        r.pinned = balance.PIN_PROCESS
    else:
        return 0
    return 0 if p != NULL and balance.find_pinned(p, r) else fault.NO_SUCH_INSTANCE

# What the pinned instance is called in the answer that it does not exist.
cdef inline char *describe(char *w, const Head *h) noexcept nogil:
    cdef Span app = heads.get(h, heads.N_X_CF_APP_INSTANCE)
    cdef Span guid, index
    if not split_instance(app, True, &guid, &index):
        if not split_instance(heads.get(h, heads.N_X_CF_PROCESS_INSTANCE), False, &guid, &index):
            return w
    w = fmt.text(w, b"Requested instance ")
    if index.n:
        w = fmt.text(w, b"('")
        w = fmt.span(w, span.make(index.p, index.n if index.n < 64 else 64))
        w = fmt.text(w, b"') ")
    w = fmt.text(w, b"with guid ('" if app.n else b"with process guid ('")
    w = fmt.span(w, guid)
    return fmt.text(w, b"')")

# ---- sticky sessions -----------------------------------------------------------------------------------------------

cdef inline bint is_negotiate(Span v) noexcept nogil:
    return v.n >= 9 and dp.ieq(v.p, b"negotiate", 9)

# The instance that the request's cookies name; n == 0 if none.
# gorouter: __VCAP_ID__ counts only beside a cookie named in sticky_session_cookie_names; with Negotiate authentication it
# binds, since the authentication belongs to the connection.
cdef inline Span sticky_of(const Head *h, const Settings *cfg, bint *bound) noexcept nogil:
    cdef Span id
    cdef u32 i
    bound[0] = False
    if not (h.flags & heads.F_HAS_COOKIE):
        return span.make(NULL, 0)
    id = cookies.get_cookie(h, b"__VCAP_ID__", 11)
    if id.p == NULL or id.n == 0:
        return span.make(NULL, 0)
    if cfg.sticky_auth_negotiate and is_negotiate(heads.get(h, heads.N_AUTHORIZATION)):
        bound[0] = True
        return id
    for i in range(cfg.n_sticky):
        if cookies.get_cookie(h, cfg.sticky[i].text, cfg.sticky[i].n).p != NULL:
            return id
    return span.make(NULL, 0)

cdef inline void find_sticky(Exchange *x) noexcept nogil:
    cdef bint bound = False
    cdef Span id = sticky_of(&x.req, &x.w.shared.cfg, &bound)
    if id.n:
        x.sticky_id = id
        x.flags |= X_STICKY | X_BOUND if bound else X_STICKY

# The instance the cookie names, if it is in the array and may be used; NULL otherwise.
cdef inline Endpoint *take_sticky(Exchange *x, EndpointArray *a, const balance.Rules *r) noexcept nogil:
    cdef Endpoint *e = sticky.find_in(a, x.sticky_id)
    if e == NULL:
        return NULL
    if balance.is_barred(e, r) or (balance.cooling(e, x.w.now_ms, r.cool_down_ms) and not (x.flags & X_BOUND)):
        endpoint.unref(e)
        return NULL
    return e

# ---- versions ------------------------------------------------------------------------------------------------------

# RFC 9110 9.2.2: a request that may be sent again although an endpoint may have seen it.
cdef inline bint repeatable(const Exchange *x) noexcept nogil:
    return (x.req.flags & heads.F_IDEMPOTENT) != 0 and (x.flags & (X_UPGRADE | X_BODY_SEEN)) == 0 and (
        x.req.framing == heads.BODY_NONE or (x.req.framing == heads.BODY_LENGTH and x.req.content_length == 0))

# The request enters the route's rollout: its version is chosen, for all attempts, unless something else has decided.
# False when memory is out.
cdef inline bint enter(Exchange *x, Split *s, bint decided) noexcept nogil:
    cdef Worker *w = x.w
    cdef cohort.Asker a
    outcome.let_go(x)
    if not outcome.hold(x, s.plan.state):
        return False
    x.booked = endpoint.NO_VERSION
    if not decided and cohort.decide_bare(&x.req, s.plan, &x.cohort):
        return True
    a.h = &x.req
    a.cfg = &w.shared.cfg
    a.peer = outcome.peer_of(x)
    a.sticky_id = x.sticky_id if x.flags & X_STICKY else span.make(NULL, 0)
    a.now_ms = w.now_ms
    a.rng = &w.rng
    if decided:
        cohort.know(&a, s.plan, &x.cohort)
    else:
        cohort.decide(&a, s, &x.cohort)
    return True

# An endpoint of one version; as balance.choose.
cdef inline Endpoint *of_version(Exchange *x, Split *s, u8 version, const balance.Rules *r, bint only_fit,
                                 bint *full) noexcept nogil:
    cdef EndpointArray *a = s.arrays[version]
    cdef Endpoint *e
    if x.flags & X_STICKY and x.attempts == 0:
        e = take_sticky(x, a, r)
        if e != NULL:
            balance.note(&x.pick, e)
            tap.inc(&x.w.counters.sticky_hits)
            return e
        tap.inc(&x.w.counters.sticky_misses)
    if x.turn_of != version:
        x.turn_of = version
        x.pick.spun = 0
    return balance.choose_of(a, rollout.cursor(s.plan.state, version), &x.pick, x.w.now_ms, r, only_fit, full)

# An endpoint of a version that has failed altogether, for a request that could be repeated elsewhere.
cdef inline Endpoint *probe(Exchange *x, Split *s, u8 version, const balance.Rules *r) noexcept nogil:
    cdef EndpointArray *a = s.arrays[version]
    cdef Endpoint *e
    cdef Rollout *state = s.plan.state
    if (x.attempts or a.n == 0 or not s.plan.retry_on_stable or not repeatable(x)
            or not rollout.may_grant(state, outcome.requests_of(x.w, state), s.plan.retry_budget_percent, x.w.now_ms)
            or not rollout.may_probe(state, version, x.w.now_ms)):
        return NULL
    e = a.items[x.pick.start % a.n]
    if balance.is_barred(e, r):
        return NULL
    x.cohort.marks |= M_PROBE
    balance.note(&x.pick, e)
    endpoint.ref(e)
    return e

# The endpoint of a request in a rollout: of its version, else of the stable one, else of the route.
cdef inline Endpoint *choose_version(Exchange *x, Pool *p, Split *s, const balance.Rules *r, bint *full) noexcept nogil:
    cdef u8 stable = s.plan.stable
    cdef u8 version = x.cohort.version if x.cohort.version < s.n else stable
    cdef Endpoint *e = NULL
    cdef Lane *l
    if version != stable and not (x.cohort.marks & M_TO_STABLE):
        e = of_version(x, s, version, r, True, full)
        if e == NULL:
            e = probe(x, s, version, r)
        if e == NULL and x.cohort.marks & M_STAY:
            return NULL
        if e == NULL and not (x.cohort.marks & M_FAILOVER):
            x.cohort.marks |= M_FAILOVER
            l = outcome.lane_of(x, version)
            if l != NULL:
                dp.bump64(&l.failovers, 1)
    if e == NULL:
        full[0] = False
        e = of_version(x, s, stable, r, False, full)
    if e == NULL and not full[0]:
        x.turn_of = stable
        e = balance.choose(p, &x.pick, x.w.now_ms, r, full)
    if x.attempts == 0:
        x.booked = dp.load8(&e.version) if e != NULL else version
        if x.cohort.marks & (M_DRAWN | M_KEPT):
            l = outcome.lane_of(x, version)
            if l != NULL and x.cohort.marks & M_DRAWN:
                dp.bump64(&l.drawn, 1)
            if l != NULL and x.cohort.marks & M_KEPT:
                dp.bump64(&l.kept, 1)
    return e

# A header or a binding names the instance, so it names the version.
cdef inline void enter_with(Exchange *x, Split *s, Endpoint *e) noexcept nogil:
    if enter(x, s, True):
        x.booked = dp.load8(&e.version)
        x.cohort.version = x.booked
        x.cohort.reason = WHY_INSTANCE
        x.cohort.marks |= M_FORCED

# An attempt has failed and another may be made. On another version than the stable one that goes to stable, while the
# budget lasts; without a token of it the request stays among its version's endpoints.
cdef inline void go_to_stable(Exchange *x) noexcept nogil:
    cdef Split *s = split.of(x.ep.pool)
    cdef Rollout *r = x.rollout
    cdef Lane *l
    if (s == NULL or s.plan.state != r or x.booked == s.plan.stable
            or x.cohort.marks & (M_TO_STABLE | M_STAY | M_FAILOVER) or x.cohort.reason == WHY_INSTANCE):
        return
    if not s.plan.retry_on_stable or not rollout.grant(r, outcome.requests_of(x.w, r), s.plan.retry_budget_percent, x.w.now_ms):
        x.cohort.marks |= M_STAY
        return
    x.cohort.marks |= M_TO_STABLE
    l = outcome.lane_of(x, x.booked)
    if l != NULL:
        dp.bump64(&l.retries, 1)

# ---- all together --------------------------------------------------------------------------------------------------

cdef inline void set_rules(Exchange *x, Pool *p, balance.Rules *r) noexcept nogil:
    cdef Settings *cfg = &x.w.shared.cfg
    cdef const endpoint.PoolOptions *o = table.options_of(&x.w.shared.table, p)
    cdef Span v
    cdef u32 i
    r.cool_down_ms = cfg.cool_down_ms
    r.max_conns = cfg.max_conns
    r.balance = cfg.balance
    r.prefer_local = cfg.prefer_local
    r.hash = 0
    r.options = o
    if o == NULL or o.header_n == 0:
        return
    for i in range(x.req.nfields):
        if span.ieq(heads.name(&x.req, &x.req.fields[i]), o.header, o.header_n):
            v = heads.value(&x.req, &x.req.fields[i])
            # a request without the header is balanced as one of a route without options
            r.hash = dp.hash64(v.p, v.n, 0) | 1
            return

# The endpoint for the next attempt, with a reference; NULL with x.fault set.
cdef inline Endpoint *choose(Exchange *x) noexcept nogil:
    cdef Worker *w = x.w
    cdef Span host = heads.host(&x.req)
    cdef Span path = heads.path(&x.req)
    cdef Pool *p = table.find(&w.shared.table, host.p, host.n, path.p, path.n)
    cdef Endpoint *e = NULL
    cdef Split *s = NULL
    cdef balance.Rules rules
    cdef bint full = False
    # gorouter: a header that names an instance is judged before the route is
    x.fault = pin(&x.req, p, &rules)
    if x.fault == 0 and p == NULL:
        x.fault = fault.UNKNOWN_ROUTE
    if x.fault:
        return NULL
    set_rules(x, p, &rules)
    s = split.of(p)
    if dp.unlikely(s != NULL) and rules.pinned == balance.PIN_NONE and not (x.flags & X_BOUND):
        if x.rollout != s.plan.state and not enter(x, s, False):
            x.fault = fault.OVERLOADED
            return NULL
        e = choose_version(x, p, s, &rules, &full)
    elif x.flags & X_STICKY and (x.attempts == 0 or x.flags & X_BOUND):
        e = take_sticky(x, table.load_array(p), &rules)
        if e != NULL:
            balance.note(&x.pick, e)
            tap.inc(&w.counters.sticky_hits)
        else:
            tap.inc(&w.counters.sticky_misses)
            if x.flags & X_BOUND:
                x.fault = fault.NO_ENDPOINT_LEFT
                return NULL
            e = balance.choose(p, &x.pick, w.now_ms, &rules, &full)
    else:
        e = balance.choose(p, &x.pick, w.now_ms, &rules, &full)
    if s != NULL and e != NULL and x.rollout == NULL:
        enter_with(x, s, e)
    if full:
        x.fault = fault.NO_ENDPOINT_LEFT if x.attempts else fault.CONNECTION_LIMIT
        tap.inc(&w.counters.backend_exhausted_conns)
    elif e == NULL:
        x.fault = fault.NO_ENDPOINTS if w.shared.cfg.empty_pool_503 else fault.UNKNOWN_ROUTE
    return e

# Makes e the exchange's endpoint; the exchange takes over the reference.
cdef inline void settle(Exchange *x, Endpoint *e) noexcept nogil:
    if x.ep != NULL:
        endpoint.unref(x.ep)
    x.ep = e
    if x.flags & X_STICKY:
        if span.eq(x.sticky_id, endpoint.instance_id(e).p, endpoint.instance_id(e).n):
            x.flags &= ~X_STICKY_MISS
        else:
            x.flags |= X_STICKY_MISS

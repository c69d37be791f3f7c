# L2: which endpoint an attempt goes to, in this order: the instance or process that a header names; the instance of the
# sticky cookie; the route's balancer.
#
# The route is looked up anew for each attempt: the table may have changed since the last. What is found lives until the
# end of this turn; the endpoint comes with a reference.
from gorouter_py.fastpath.base.types cimport Span, u8, u32
from gorouter_py.fastpath.base cimport dp, fmt, span
from gorouter_py.fastpath.http cimport cookies, heads
from gorouter_py.fastpath.http.heads cimport Head
from gorouter_py.fastpath.net cimport tap
from gorouter_py.fastpath.route cimport balance, endpoint, sticky, table
from gorouter_py.fastpath.route.endpoint cimport Endpoint, Pool
from gorouter_py.fastpath.flow cimport fault
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

# gorouter: __VCAP_ID__ counts only beside a cookie named in sticky_session_cookie_names; with Negotiate authentication it
# binds, since the authentication belongs to the connection.
cdef inline void find_sticky(Exchange *x) noexcept nogil:
    cdef Settings *cfg = &x.w.shared.cfg
    cdef Span id
    cdef u32 i
    if not (x.req.flags & heads.F_HAS_COOKIE):
        return
    id = cookies.get_cookie(&x.req, b"__VCAP_ID__", 11)
    if id.p == NULL or id.n == 0:
        return
    if cfg.sticky_auth_negotiate and is_negotiate(heads.get(&x.req, heads.N_AUTHORIZATION)):
        x.sticky_id = id
        x.flags |= X_STICKY | X_BOUND
        return
    for i in range(cfg.n_sticky):
        if cookies.get_cookie(&x.req, cfg.sticky[i].text, cfg.sticky[i].n).p != NULL:
            x.sticky_id = id
            x.flags |= X_STICKY
            return

# The instance the cookie names, if it may be used; NULL otherwise.
cdef inline Endpoint *take_sticky(Exchange *x, Pool *p, const balance.Rules *r) noexcept nogil:
    cdef Endpoint *e = sticky.find_instance(p, x.sticky_id)
    if e == NULL:
        return NULL
    if balance.is_barred(e, r) or (balance.cooling(e, x.w.now_ms, r.cool_down_ms) and not (x.flags & X_BOUND)):
        endpoint.unref(e)
        return NULL
    return e

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
    cdef balance.Rules rules
    cdef bint full = False
    # gorouter: a header that names an instance is judged before the route is
    x.fault = pin(&x.req, p, &rules)
    if x.fault == 0 and p == NULL:
        x.fault = fault.UNKNOWN_ROUTE
    if x.fault:
        return NULL
    set_rules(x, p, &rules)
    if x.flags & X_STICKY and (x.attempts == 0 or x.flags & X_BOUND):
        e = take_sticky(x, p, &rules)
        if e != NULL:
            balance.note(&x.pick, e)
            tap.inc(&w.counters.sticky_hits)
            return e
        tap.inc(&w.counters.sticky_misses)
        if x.flags & X_BOUND:
            x.fault = fault.NO_ENDPOINT_LEFT
            return NULL
    e = balance.choose(p, &x.pick, w.now_ms, &rules, &full)
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

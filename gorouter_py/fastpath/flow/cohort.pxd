# L2: which version of a route a request belongs to, and the cookie that makes a client's coordinate last.
#
# decide() is a function of the request, the client's address and the split: control asks it the same question by hand
# (DataPlane.explain). Its only effect is the draw of a coordinate for a client that has none.
from libc.string cimport memcmp, memset
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64
from gorouter_py.fastpath.base cimport csys, dp, fmt, rng, span
from gorouter_py.fastpath.base.rng cimport Rng
from gorouter_py.fastpath.http cimport cookies, coordinate, heads
from gorouter_py.fastpath.http.heads cimport Head
from gorouter_py.fastpath.route cimport balance, endpoint, rollout, split, sticky
from gorouter_py.fastpath.route.endpoint cimport Endpoint
from gorouter_py.fastpath.route.split cimport Match, Plan, Split
from gorouter_py.fastpath.flow.state cimport *

# Who asks, as far as a version is chosen by it.
cdef struct Asker:
    const Head *h
    const Settings *cfg
    Span peer               # address at the other end of the connection, as text
    Span sticky_id          # of a valid sticky session; n == 0 = none
    u64 now_ms
    Rng *rng                # NULL: nothing is drawn or shared, but told what would be

# ---- the client's address ------------------------------------------------------------------------------------------

# The last element of X-Forwarded-For: what the load balancer before the router has seen. Empty if there is none.
cdef inline Span last_forwarded(const Head *h) noexcept nogil:
    cdef Span v = span.make(NULL, 0)
    cdef u32 i
    if h.first[heads.N_X_FORWARDED_FOR] < 0:
        return v
    for i in range(h.nfields):
        if h.fields[i].id == heads.N_X_FORWARDED_FOR:
            v = heads.value(h, &h.fields[i])
    i = v.n
    while i and v.p[i - 1] != c',':
        i -= 1
    return span.trim(span.make(v.p + i, v.n - i))

cdef inline Span client_address(const Head *h, Span peer, bint forwarded) noexcept nogil:
    cdef Span v
    if forwarded:
        v = last_forwarded(h)
        if v.n:
            return v
    return peer

# The address as a number, by which many failures of one place are told.
cdef inline u64 address_key(Span address) noexcept nogil:
    return dp.hash64(address.p, address.n, 0)

cdef inline u64 asker_key(const Asker *a, const Plan *p) noexcept nogil:
    return address_key(client_address(a.h, a.peer, p.forwarded_for))

# An address as its 4 or 16 bytes; their number, 0 if it is none.
cdef inline u32 address_bytes(Span text, u8 *out) noexcept nogil:
    cdef char z[64]
    if text.n == 0 or text.n >= sizeof(z):
        return 0
    fmt.span(z, text)[0] = 0
    if csys.inet_pton(csys.AF_INET, z, out) == 1:
        return 4
    return 16 if csys.inet_pton(csys.AF_INET6, z, out) == 1 else 0

cdef inline bint in_net(const u8 *addr, const u8 *net, u32 bits) noexcept nogil:
    cdef u32 whole = bits // 8, rest = bits % 8
    if memcmp(addr, net, whole) != 0:
        return False
    return rest == 0 or ((addr[whole] ^ net[whole]) >> (8 - rest)) == 0

# ---- rules and overrides -------------------------------------------------------------------------------------------

# The value of the first field with that name (lower case); p == NULL if there is none.
cdef inline Span field_value(const Head *h, Span name) noexcept nogil:
    cdef u32 i
    for i in range(h.nfields):
        if h.fields[i].name_len == name.n and span.ieq(heads.name(h, &h.fields[i]), name.p, name.n):
            return heads.value(h, &h.fields[i])
    return span.make(NULL, 0)

cdef inline bint contains(Span v, Span part) noexcept nogil:
    cdef u32 i
    if part.n > v.n:
        return False
    for i in range(v.n - part.n + 1):
        if memcmp(v.p + i, part.p, part.n) == 0:
            return True
    return False

cdef inline bint fits(const Match *m, Span v) noexcept nogil:
    if v.p == NULL:
        return False
    if m.op == split.OP_PRESENT:
        return True
    if m.op == split.OP_EQUALS:
        return span.eq(v, m.value.p, m.value.n)
    if m.op == split.OP_PREFIX:
        return v.n >= m.value.n and memcmp(v.p, m.value.p, m.value.n) == 0
    return contains(v, m.value)

cdef inline bint applies(const Asker *a, const Plan *p, const Match *m, Cohort *d) noexcept nogil:
    cdef u8 addr[16]
    if m.where == split.BY_HEADER:
        return fits(m, field_value(a.h, m.name))
    if m.where == split.BY_COOKIE:
        return fits(m, cookies.get_cookie(a.h, m.name.p, m.name.n))
    if m.where == split.BY_AGENT:
        return fits(m, heads.get(a.h, heads.N_USER_AGENT))
    if m.where == split.BY_ADDRESS:
        return address_bytes(client_address(a.h, a.peer, p.forwarded_for), addr) == m.net_len and in_net(addr, m.net, m.bits)
    # a cohort of its own, by the same coordinate: another hash of it
    if not (d.marks & M_HAS_U):
        place(a, p, d)
    return (dp.mix64(d.u ^ m.label, 0x9e3779b97f4a7c15ULL) >> 48) < m.share

# The time it takes says nothing about how much of a token is right.
cdef inline bint same_token(Span got, Span want) noexcept nogil:
    cdef u32 i
    cdef u8 differ = 0
    if got.n != want.n:
        return False
    for i in range(got.n):
        differ |= <u8>got.p[i] ^ <u8>want.p[i]
    return differ == 0

# X-Canary or the cookie gr_v with one of the tokens that control allows.
cdef inline bint override(const Asker *a, const Plan *p, Cohort *d) noexcept nogil:
    cdef Span v = field_value(a.h, span.make(b"x-canary", 8))
    cdef u32 i
    if v.p == NULL:
        v = cookies.get_cookie(a.h, b"gr_v", 4)
    if v.p == NULL:
        return False
    for i in range(p.n_overrides):
        if same_token(v, p.overrides[i].value):
            d.version = p.overrides[i].version
            d.reason = WHY_OVERRIDE
            d.marks |= M_FORCED
            return True
    return False

cdef inline bint by_rule(const Asker *a, const Plan *p, Cohort *d) noexcept nogil:
    cdef u32 i
    for i in range(p.n_rules):
        if applies(a, p, &p.rules[i], d):
            d.version = p.rules[i].version
            d.reason = WHY_RULE
            d.rule = <u8>i
            d.marks |= M_FORCED
            return True
    return False

# ---- the coordinate ------------------------------------------------------------------------------------------------

cdef inline void set_u(const Plan *p, u16 u, u8 reason, Cohort *d) noexcept nogil:
    d.u = u
    d.slot = split.slot_of(p, u)
    d.reason = reason
    d.marks |= M_HAS_U

cdef inline void take_cookie(const Plan *p, u64 id, Cohort *d) noexcept nogil:
    d.unit = id
    set_u(p, <u16>(id >> 48), WHY_COOKIE, d)

# The coordinate of a configured identity. False if the request has none.
cdef inline bint identify(const Asker *a, const Plan *p, Cohort *d) noexcept nogil:
    cdef u8 addr[16]
    cdef Span v
    cdef u32 n, bits
    if p.identity_where == split.BY_ADDRESS:
        n = address_bytes(client_address(a.h, a.peer, p.forwarded_for), addr)
        bits = p.identity_bits4 if n == 4 else p.identity_bits6
        if n == 0:
            return False
        if bits % 8:
            addr[bits // 8] &= <u8>(0xff00 >> (bits % 8))
        v = span.make(<const char *>addr, (bits + 7) // 8)
    elif p.identity_where == split.BY_HEADER:
        v = field_value(a.h, p.identity)
    else:
        v = cookies.get_cookie(a.h, p.identity.p, p.identity.n)
    if v.n == 0:
        return False
    # every router places an identity alike: no seed of its own
    d.unit = dp.hash64(v.p, v.n, 0)
    set_u(p, <u16>(d.unit >> 48), WHY_IDENTITY, d)
    return True

# The coordinate that the request brings. False if it brings none.
cdef inline bint known(const Asker *a, const Plan *p, Cohort *d) noexcept nogil:
    cdef bint absent
    cdef u64 id
    if p.mode == split.MODE_IDENTITY and identify(a, p, d):
        return True
    if p.mode == split.MODE_REQUEST or not (a.h.flags & heads.F_HAS_COOKIE):
        return False
    id = coordinate.spot(a.h, &absent)
    if absent or ((id == 0 or p.is_signed) and not coordinate.read(a.h, <const u8 *>p.key if p.is_signed else NULL, &id)):
        return False
    take_cookie(p, id, d)
    return True

# What tells parallel first requests of one client from those of others.
cdef inline u64 client_key(const Asker *a) noexcept nogil:
    cdef Span agent = heads.get(a.h, heads.N_USER_AGENT)
    cdef Span via = last_forwarded(a.h)
    return dp.hash64(agent.p, agent.n, dp.hash64(via.p, via.n, dp.hash64(a.peer.p, a.peer.n, 0)))

# A coordinate for a request that brings none.
cdef inline void draw(const Asker *a, const Plan *p, Cohort *d) noexcept nogil:
    cdef rollout.Rollout *r = p.state
    cdef int at = -1
    cdef bint shared = False
    if a.rng == NULL:
        set_u(p, rollout.nth_draw(r, dp.load64(&r.draws)), WHY_DRAW, d)
        return
    if p.mode == split.MODE_REQUEST:
        set_u(p, rollout.draw(r), WHY_DRAW, d)
        d.unit = asker_key(a, p)
        d.marks |= M_DRAWN
        return
    d.id = rollout.draw_shared(r, client_key(a), rng.next_u64(a.rng), a.now_ms, &at, &shared)
    d.share = <u32>(at + 1)
    d.unit = d.id
    set_u(p, <u16>(d.id >> 48), WHY_SHARED if shared else WHY_DRAW, d)
    if not shared:
        d.marks |= M_DRAWN

cdef inline void place(const Asker *a, const Plan *p, Cohort *d) noexcept nogil:
    if not known(a, p, d):
        draw(a, p, d)

cdef inline bint has_session(const Asker *a) noexcept nogil:
    cdef u32 i
    if a.h.flags & heads.F_HAS_COOKIE:
        for i in range(a.cfg.n_sticky):
            if cookies.get_cookie(a.h, a.cfg.sticky[i].text, a.cfg.sticky[i].n).p != NULL:
                return True
    return False

# The version of the instance a sticky client is with, if it may stay there; NO_VERSION otherwise.
cdef inline u8 kept_in(const Asker *a, Split *s) noexcept nogil:
    cdef Endpoint *e
    cdef u32 v
    cdef bint well
    for v in range(s.n):
        if s.plan.keep[v]:
            e = sticky.find_in(s.arrays[v], a.sticky_id)
            if e != NULL:
                well = not balance.cooling(e, a.now_ms, a.cfg.cool_down_ms)
                endpoint.unref(e)
                if well:
                    return <u8>v
    return endpoint.NO_VERSION

# ---- all together --------------------------------------------------------------------------------------------------

# Most requests of a rollout: they bring their coordinate, and nothing else matters. False: it takes decide().
cdef inline bint decide_bare(const Head *h, const Plan *p, Cohort *d) noexcept nogil:
    cdef bint absent
    cdef u64 id
    if not p.is_bare or not (h.flags & heads.F_HAS_COOKIE):
        return False
    id = coordinate.spot(h, &absent)
    if id == 0:
        return False
    d.id = 0
    d.share = 0
    d.rule = 0
    d.marks = 0
    take_cookie(p, id, d)
    d.version = split.version_of(p, d.slot)
    return True

# What is known of a client before anything is decided.
cdef inline void know(const Asker *a, const Plan *p, Cohort *d) noexcept nogil:
    memset(d, 0, sizeof(Cohort))
    d.version = p.stable

cdef inline void decide(const Asker *a, Split *s, Cohort *d) noexcept nogil:
    cdef const Plan *p = s.plan
    cdef bint has_u
    cdef u8 stay
    know(a, p, d)
    if p.n_overrides and override(a, p, d):
        return
    if p.n_rules and by_rule(a, p, d):
        return
    has_u = (d.marks & M_HAS_U) != 0 or known(a, p, d)
    if p.sticky_keep and a.sticky_id.n:
        stay = kept_in(a, s)
        if stay != endpoint.NO_VERSION and not (has_u and split.version_of(p, d.slot) == stay):
            if not has_u:
                d.unit = asker_key(a, p)
            d.version = stay
            d.reason = WHY_STICKY
            d.marks |= M_KEPT
            return
    if not has_u:
        if p.sessions_new_only and p.mode != split.MODE_REQUEST and has_session(a):
            d.unit = asker_key(a, p)
            d.reason = WHY_NEW_SESSIONS
            return
        draw(a, p, d)
    d.version = split.version_of(p, d.slot)

# ---- what the app is told ------------------------------------------------------------------------------------------

# The name of the version whose endpoint the exchange has; empty without a rollout.
cdef inline Span version_name(const Exchange *x) noexcept nogil:
    cdef Split *s = split.of(x.ep.pool) if x.ep != NULL else NULL
    cdef u8 version = dp.load8(&x.ep.version) if s != NULL else endpoint.NO_VERSION
    if s == NULL or version >= s.n:
        return span.make(NULL, 0)
    return s.plan.names[version]

# "X-Gr-Version: name" of the endpoint's version, where the app is to know; a received one goes.
cdef inline char *version_line(Exchange *x, char *at) noexcept nogil:
    cdef Split *s = split.of(x.ep.pool)
    cdef Head *h = &x.req
    cdef Span told
    cdef u32 i
    if s == NULL or not s.plan.propagate:
        return at
    for i in range(h.nfields):
        if h.fields[i].name_len == 12 and span.ieq(heads.name(h, &h.fields[i]), b"x-gr-version", 12):
            h.fields[i].drop = 1
    told = version_name(x)
    if told.n == 0:
        return at
    at = fmt.text(at, b"X-Gr-Version: ")
    at = fmt.span(at, told)
    return fmt.text(at, b"\r\n")

# ---- the cookie ----------------------------------------------------------------------------------------------------

# May a cache that serves many keep this answer? Then no client's cookie may be in it.
# RFC 9111 3: public, s-maxage, and max-age unless private or no-store.
cdef inline bint is_shared(const Head *h) noexcept nogil:
    cdef Span rest, item
    cdef bint kept = False
    cdef u32 i
    for i in range(h.nfields):
        if not span.ieq(heads.name(h, &h.fields[i]), b"cache-control", 13):
            continue
        rest = heads.value(h, &h.fields[i])
        while span.next_item(&rest, &item):
            if span.ieq(item, b"private", 7) or span.ieq(item, b"no-store", 8):
                return False
            if span.ieq(item, b"public", 6) or (item.n > 9 and dp.ieq(item.p, b"s-maxage=", 9)):
                kept = True
            elif item.n > 8 and dp.ieq(item.p, b"max-age=", 8) and not (item.n == 9 and item.p[8] == c'0'):
                kept = True
    return kept

# "Set-Cookie: gr_c=..." for a client that got a coordinate with this request.
cdef inline char *cookie_line(Exchange *x, const Head *h, char *at) noexcept nogil:
    cdef Split *s = split.of(x.ep.pool)
    if s == NULL or s.plan.state != x.rollout or is_shared(h):
        return at
    at = fmt.text(at, b"Set-Cookie: gr_c=")
    at = coordinate.write(at, x.cohort.id, s.plan.key if s.plan.is_signed else NULL)
    at = fmt.text(at, b"; Path=/; Max-Age=")
    at = fmt.dec(at, s.plan.cookie_max_age_s)
    at = fmt.text(at, b"; HttpOnly")
    if x.down.secure or x.w.shared.cfg.secure_cookies:
        at = fmt.text(at, b"; Secure")
    return fmt.text(at, b"; SameSite=Lax\r\n")

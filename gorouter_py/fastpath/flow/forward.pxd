# L2: header policy. Decides, for a request and for an answer, which received lines are dropped, which values are
# replaced and which lines are added. This and remap, for listeners of the port map, are the only places that do so.
#
# Safe because: received lines were validated by http/h1; hop-by-hop lines are always dropped and what is true of the
# outgoing connection is written anew by the protocol's writer; fields that the router sets are never dropped on a
# client's word (RFC 9110 7.6.1 lets Connection name any field, see is_protected).
# The added lines live in the worker's scratch until the next message: send the head at once.
from libc.string cimport memset
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64
from gorouter_py.fastpath.base cimport dp, fmt, rng, span, limits
from gorouter_py.fastpath.http cimport heads, h1, cookies, tagged
from gorouter_py.fastpath.http.heads cimport Field, Head
from gorouter_py.fastpath.route cimport endpoint
from gorouter_py.fastpath.route.endpoint cimport Endpoint
from gorouter_py.fastpath.flow cimport choice, cohort, daytime, rewrite
from gorouter_py.fastpath.flow.stream cimport HeadOut
from gorouter_py.fastpath.flow.state cimport DROP_TRACE, Exchange, Settings, Worker, X_BOUND, X_STICKY_MISS, X_UPGRADE

cdef enum:
    FORWARDED_ROOM = 49152      # of the scratch, for the joined X-Forwarded-For; longer lists get a line of their own

cdef inline char *line(char *w, const char *name, size_t n, Span value) noexcept nogil:
    w = fmt.put(w, name, n)
    w = fmt.span(w, value)
    w[0] = c'\r'
    w[1] = c'\n'
    return w + 2

cdef inline bint starts(Span name, const char *prefix, u32 n) noexcept nogil:
    return name.n >= n and dp.ieq(name.p, prefix, n)

# Fields that routing, identity and tracing rest on: naming them in Connection must not make them vanish.
cdef inline bint is_protected(Span name, u32 id) noexcept nogil:
    if id == heads.N_HOST or id == heads.N_CONTENT_LENGTH or id == heads.N_COOKIE or id == heads.N_AUTHORIZATION:
        return True
    return (starts(name, b"x-forwarded-", 12) or starts(name, b"x-request-start", 15) or starts(name, b"x-vcap-", 7)
            or starts(name, b"x-cf-", 5) or starts(name, b"x-b3", 4) or starts(name, b"b3", 2)
            or starts(name, b"trace", 5) or span.ieq(name, b"forwarded", 9))

# gorouter: what the operator lists in hop_by_hop_headers_to_filter is not dropped either, whoever names it.
cdef inline bint is_kept(const Settings *cfg, Span name) noexcept nogil:
    cdef u32 i
    for i in range(cfg.n_keep):
        if span.ieq(name, cfg.keep[i].name, cfg.keep[i].name_n):
            return True
    return False

# cfg: the request's, NULL for an answer.
cdef inline void drop_nominated(Head *h, const Settings *cfg) noexcept nogil:
    cdef u32 i
    cdef Span name
    for i in range(h.nfields):
        name = heads.name(h, &h.fields[i])
        if h1.nominated(h, name) and not is_protected(name, h.fields[i].id) and (cfg == NULL or not is_kept(cfg, name)):
            h.fields[i].drop = 1

# ---- towards the endpoint ----------------------------------------------------------------------------------------

# X-Forwarded-For: all received values and the client's address, in the place of the first line.
cdef inline char *forwarded_for(Exchange *x, HeadOut *out, char *w, char *end) noexcept nogil:
    cdef Head *h = &x.req
    cdef Span ip = span.make(x.down.peer + x.down.ip_off, x.down.ip_len)
    cdef char *start = w
    cdef u32 i, total = 0
    cdef int first = h.first[heads.N_X_FORWARDED_FOR]
    if first < 0:
        return line(w, b"X-Forwarded-For: ", 17, ip)
    for i in range(<u32>first, h.nfields):
        if h.fields[i].id == heads.N_X_FORWARDED_FOR:
            total += h.fields[i].value_len + 2
    if total + ip.n > FORWARDED_ROOM:
        return line(w, b"X-Forwarded-For: ", 17, ip)
    for i in range(<u32>first, h.nfields):
        if h.fields[i].id != heads.N_X_FORWARDED_FOR:
            continue
        if h.fields[i].value_len:
            w = fmt.span(w, heads.value(h, &h.fields[i]))
            w = fmt.put(w, b", ", 2)
        if i != <u32>first:
            h.fields[i].drop = 1
    w = fmt.span(w, ip)
    out.edits[out.n_edits].field = <u32>first
    out.edits[out.n_edits].value = span.make(start, <u32>(w - start))
    out.n_edits += 1
    return w

cdef inline bint sets_proto(const Settings *cfg, const Head *h) noexcept nogil:
    cdef Span v
    if cfg.force_forwarded_proto_https or cfg.sanitize_forwarded_proto:
        return True
    v = heads.get(h, heads.N_X_FORWARDED_PROTO)
    return v.p == NULL or v.n == 0

# What X-Forwarded-Proto says to the endpoint.
cdef inline Span forwarded_proto(const Settings *cfg, const Exchange *x) noexcept nogil:
    if not sets_proto(cfg, &x.req):
        return heads.get(&x.req, heads.N_X_FORWARDED_PROTO)
    if cfg.force_forwarded_proto_https or x.down.secure:
        return span.make(b"https", 5)
    return span.make(b"http", 4)

cdef inline void request(Worker *w, Exchange *x, HeadOut *out, bint close) noexcept nogil:
    cdef Head *h = &x.req
    cdef Settings *cfg = &w.shared.cfg
    cdef Endpoint *ep = x.ep
    cdef char *lines
    cdef char *at
    cdef u32 i, id
    cdef bint proto = sets_proto(cfg, h)
    cdef bint swap_host = (h.flags & heads.F_ABSOLUTE) != 0
    out.src = h
    out.is_response = 0
    out.n_edits = 0
    out.framing = h.framing
    out.content_length = h.content_length
    out.keep_length = 0
    # RFC 9110 8.6: a method that anticipates content says so even when there is none
    out.zero_length = (h.framing == heads.BODY_NONE and (h.method == heads.M_POST or h.method == heads.M_PUT
                                                         or h.method == heads.M_PATCH
                                                         or (h.flags & heads.F_HAS_LENGTH) != 0))
    out.close = close
    out.upgrade = (x.flags & X_UPGRADE) != 0
    out.upgrade_value = heads.get(h, heads.N_UPGRADE)
    for i in range(h.nfields):
        id = h.fields[i].id
        if h.fields[i].drop == DROP_TRACE:
            continue
        h.fields[i].drop = id != 0 and (
            (heads.names[id].flags & heads.HOP) != 0
            or id == heads.N_CONTENT_LENGTH
            or id == heads.N_X_VCAP_REQUEST_ID or id == heads.N_X_CF_APPLICATIONID or id == heads.N_X_CF_INSTANCEID
            or id == heads.N_X_CF_INSTANCEINDEX or id == heads.N_X_CF_APP_INSTANCE
            or (id == heads.N_X_FORWARDED_PROTO and proto))
        if id == heads.N_HOST and swap_host:
            # RFC 9112 3.2.2: the target's authority replaces a received Host
            out.edits[0].field = i
            out.edits[0].value = heads.host(h)
            out.n_edits = 1
            swap_host = False
    if h.flags & heads.F_NOMINATES:
        drop_nominated(h, cfg)
    at = w.scratch
    i = out.n_edits
    at = forwarded_for(x, out, at, w.scratch + FORWARDED_ROOM)
    lines = at if out.n_edits > i else w.scratch
    if h.flags & heads.F_TE_TRAILERS:
        at = fmt.put(at, b"TE: trailers\r\n", 14)
    if swap_host:
        at = line(at, b"Host: ", 6, heads.host(h))
    at = fmt.span(at, endpoint.header_block(ep))
    if proto:
        at = line(at, b"X-Forwarded-Proto: ", 19, forwarded_proto(cfg, x))
    if h.first[heads.N_X_REQUEST_START] < 0:
        at = fmt.put(at, b"X-Request-Start: ", 17)
        at = fmt.dec(at, x.wall_ns // 1000000)
        at = fmt.put(at, b"\r\n", 2)
    at = line(at, b"X-Vcap-Request-Id: ", 19, span.make(x.request_id, fmt.UUID_LEN))
    if x.rollout != NULL:
        at = cohort.version_line(x, at)
    if x.trace != NULL:
        at = fmt.put(at, x.trace.data, x.trace.wpos)
    out.extra = span.make(lines, <u32>(at - lines))

# ---- towards the client ------------------------------------------------------------------------------------------

cdef inline bint is_sticky_name(const Settings *cfg, Span name) noexcept nogil:
    cdef u32 i
    for i in range(cfg.n_sticky):
        if span.eq(name, cfg.sticky[i].text, cfg.sticky[i].n):
            return True
    return False

# gorouter: a WWW-Authenticate that begins with Negotiate starts an exchange that has to stay with one instance; the app's
# own session cookie does not matter then.
cdef inline bint asks_to_negotiate(const Settings *cfg, const Head *h) noexcept nogil:
    cdef u32 i
    if not cfg.sticky_auth_negotiate:
        return False
    for i in range(h.nfields):
        if span.ieq(heads.name(h, &h.fields[i]), b"www-authenticate", 16):
            return choice.is_negotiate(heads.value(h, &h.fields[i]))
    return False

# RFC 6265 4.1.1: a path with a semicolon cannot be said; the whole host then.
cdef inline Span cookie_path(Span path) noexcept nogil:
    cdef u32 i
    for i in range(path.n):
        if path.p[i] == c';' or <u8>path.p[i] < 0x20 or path.p[i] == 0x7f:
            return span.make(b"/", 1)
    return path

# gorouter: "Set-Cookie: __VCAP_ID__=<instance>" beside a session cookie of the app, or when a sticky request was served
# by another instance than it named. Attributes and their order are gorouter's.
cdef inline char *sticky_cookie(Worker *w, Exchange *x, const Head *h, char *at) noexcept nogil:
    cdef Settings *cfg = &w.shared.cfg
    cdef Span id = endpoint.instance_id(x.ep)
    cdef Span name, v
    cdef cookies.SetCookie attrs
    cdef u32 i
    cdef bint wanted = (x.flags & X_STICKY_MISS) != 0 and not (x.flags & X_BOUND)
    cdef bint negotiated = asks_to_negotiate(cfg, h) and not span.eq(x.sticky_id, id.p, id.n)
    cdef bint from_app = False
    memset(&attrs, 0, sizeof(attrs))
    if id.n == 0 or dp.scan_class(id.p, id.p + id.n, dp.C_COOKIE) != id.p + id.n:
        return at
    if h.flags & heads.F_SETS_COOKIE:
        for i in range(h.nfields):
            if h.fields[i].id != heads.N_SET_COOKIE:
                continue
            v = heads.value(h, &h.fields[i])
            name = cookies.set_cookie_name(v)
            if span.eq(name, b"__VCAP_ID__", 11):
                return at
            if is_sticky_name(cfg, name):
                cookies.parse_set_cookie(v, &attrs)
                from_app = True
    if asks_to_negotiate(cfg, h):
        from_app = False
        wanted = negotiated
    if not wanted and not from_app:
        return at
    at = fmt.put(at, b"Set-Cookie: __VCAP_ID__", 23)
    if x.down.mapping != NULL:
        at = fmt.put(at, x.down.mapping.tag, tagged.TAG_LEN)
    at = fmt.put(at, b"=", 1)
    at = fmt.span(at, id)
    at = fmt.put(at, b"; Path=", 7)
    at = fmt.span(at, cookie_path(endpoint.pool_context(x.ep.pool)))
    if from_app and attrs.expires.n and attrs.expires.n < 64:
        at = fmt.put(at, b"; Expires=", 10)
        at = fmt.span(at, attrs.expires)
    if negotiated:
        at = fmt.text(at, b"; Max-Age=60")
    elif from_app and attrs.has_max_age and not attrs.max_age_positive:
        at = fmt.put(at, b"; Max-Age=0", 11)
    at = fmt.put(at, b"; HttpOnly", 10)
    if cfg.secure_cookies or (from_app and attrs.secure):
        at = fmt.put(at, b"; Secure", 8)
    if negotiated:
        at = fmt.text(at, b"; SameSite=Strict")
    elif from_app and attrs.same_site.n and attrs.same_site.n < 16:
        at = fmt.put(at, b"; SameSite=", 11)
        at = fmt.span(at, attrs.same_site)
    if from_app and attrs.partitioned:
        at = fmt.put(at, b"; Partitioned", 13)
    return fmt.put(at, b"\r\n", 2)

cdef inline void drop_hop_by_hop(Head *h) noexcept nogil:
    cdef u32 i, id
    for i in range(h.nfields):
        id = h.fields[i].id
        h.fields[i].drop = id != 0 and (
            (heads.names[id].flags & heads.HOP) != 0 or id == heads.N_CONTENT_LENGTH
            or id == heads.N_X_CF_PROXY_SIGNATURE)
    if h.flags & heads.F_NOMINATES:
        drop_nominated(h, NULL)

# An interim answer: its own lines, nothing added.
cdef inline void interim(Head *h, HeadOut *out) noexcept nogil:
    drop_hop_by_hop(h)
    out.src = h
    out.is_response = 1
    out.status = h.status
    out.n_edits = 0
    out.framing = heads.BODY_NONE
    out.keep_length = 0
    out.zero_length = 0
    out.close = 0
    out.upgrade = 0
    out.extra = span.make(NULL, 0)

# gorouter: X-Vcap-Trace with the configured key asks which router and instance answered.
cdef inline bint wants_trace(const Settings *cfg, const Head *h) noexcept nogil:
    cdef u32 i
    for i in range(h.nfields):
        if span.ieq(heads.name(h, &h.fields[i]), b"x-vcap-trace", 12):
            return span.eq(heads.value(h, &h.fields[i]), cfg.trace_key, cfg.trace_key_n)
    return False

# The final answer of an endpoint. framing is what the client's side is to use.
cdef inline void response(Worker *w, Exchange *x, Head *h, HeadOut *out, bint close) noexcept nogil:
    cdef Settings *cfg = &w.shared.cfg
    cdef char *at = w.scratch
    drop_hop_by_hop(h)
    out.src = h
    out.is_response = 1
    out.status = h.status
    out.n_edits = 0
    out.framing = h.framing
    out.content_length = h.content_length
    # RFC 9110 8.6: the length of what a GET would bring
    out.keep_length = h.framing == heads.BODY_NONE and h.status != 204 and h.status >= 200
    out.zero_length = 0
    out.close = close
    out.upgrade = h.framing == heads.BODY_TUNNEL
    out.upgrade_value = heads.get(h, heads.N_UPGRADE)
    if out.keep_length and h.first[heads.N_CONTENT_LENGTH] >= 0:
        h.fields[h.first[heads.N_CONTENT_LENGTH]].drop = 0
    if h.first[heads.N_X_VCAP_REQUEST_ID] < 0:
        at = line(at, b"X-Vcap-Request-Id: ", 19, span.make(x.request_id, fmt.UUID_LEN))
    if h.first[heads.N_DATE] < 0:
        at = line(at, b"Date: ", 6, daytime.date(w, x.wall_ns // 1000000000))
    if (h.flags & heads.F_SETS_COOKIE) or (x.flags & X_STICKY_MISS) or cfg.sticky_auth_negotiate:
        at = sticky_cookie(w, x, h, at)
    if x.cohort.id:
        at = cohort.cookie_line(x, h, at)
    if cfg.trace_key_n and wants_trace(cfg, &x.req):
        at = line(at, b"X-Vcap-Router: ", 15, span.make(cfg.router_ip, cfg.router_ip_n))
        at = line(at, b"X-Vcap-Backend: ", 16, endpoint.addr_text(x.ep))
        at = line(at, b"X-Cf-RouteEndpoint: ", 20, endpoint.addr_text(x.ep))
    out.extra = span.make(w.scratch, <u32>(at - w.scratch))
    rewrite.apply(w, out)

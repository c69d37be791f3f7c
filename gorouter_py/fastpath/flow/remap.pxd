# L2: requests and answers that pass a listener of the port map: the client sees a public authority (IP:port), the app
# its own host.
#
# enter() writes the received head anew, before anything looks at it, so routing, sticky sessions, tracing and the log
# see a request for the app; leave() turns what an answer says about the app's host back. The public authority is what
# the client asked for: Host, or what a trusted sender says in X-Forwarded-Host. Ordinary listeners never come here.
# Both heads live in buffers of the exchange (way_in, way_out) until it ends.
from libc.string cimport memset
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, i32
from gorouter_py.fastpath.base cimport buf, dp, fmt, span
from gorouter_py.fastpath.base.buf cimport Buf
from gorouter_py.fastpath.http cimport cookies, heads, links, tagged, target
from gorouter_py.fastpath.http.heads cimport Field, Head
from gorouter_py.fastpath.net cimport cidr
from gorouter_py.fastpath.flow cimport forward, mapping
from gorouter_py.fastpath.flow.mapping cimport Mapping
from gorouter_py.fastpath.flow.stream cimport HeadOut, Stream
from gorouter_py.fastpath.flow.state cimport Exchange, Settings, Worker

cdef enum:
    ADDED_MAX = 4               # lines enter() may add: Host, X-Forwarded-Host, -Port, Forwarded
    LINE_ROOM = 64              # of a line, its value apart

# ---- accepting ---------------------------------------------------------------------------------------------------

# A connection that a mapped listener has accepted, from addr.
cdef inline void attach(const Settings *cfg, Stream *s, Mapping *m, const u8 *addr) noexcept nogil:
    cdef u8 wide[16]
    cdef u32 i
    mapping.ref(m)
    s.mapping = m
    if not cidr.widen(wide, addr):
        return
    for i in range(cfg.n_trusted):
        if cidr.holds(&cfg.trusted[i], wide):
            s.trusted = 1

# ---- the way in --------------------------------------------------------------------------------------------------

# What only a proxy may say. The client's certificate is not among it: forwarded_client_cert decides about that.
cdef inline bint is_forwarding(Span name) noexcept nogil:
    if span.ieq(name, b"forwarded", 9):
        return True
    return forward.starts(name, b"x-forwarded-", 12) and not span.ieq(name, b"x-forwarded-client-cert", 23)

cdef inline Span find(const Head *h, const char *name, u32 n) noexcept nogil:
    cdef u32 i
    for i in range(h.nfields):
        if span.ieq(heads.name(h, &h.fields[i]), name, n):
            return heads.value(h, &h.fields[i])
    return span.make(NULL, 0)

# The authority in X-Forwarded-Host of a trusted sender, the first of several; empty if there is none that is one.
cdef inline Span told_host(const Head *h) noexcept nogil:
    cdef Span list = find(h, b"x-forwarded-host", 16)
    cdef Span first
    if list.n and span.next_item(&list, &first) and first.n and target.check_host(first.p, first.n, False):
        return first
    return span.make(NULL, 0)

# The digits of an authority's port; empty if it names none.
cdef inline Span port_of(Span authority) noexcept nogil:
    cdef u32 i = authority.n
    while i and dp.char_is(authority.p[i - 1], dp.C_DIGIT):
        i -= 1
    if i and authority.p[i - 1] == c':':
        return span.make(authority.p + i, authority.n - i)
    return span.make(NULL, 0)

# Appends a field to the head that is being written; start is where that begins.
cdef inline char *put_field(Head *h, const char *start, char *at, Span name, u8 id, Span value) noexcept nogil:
    cdef Field *f = &h.fields[h.nfields]
    if h.first[id] < 0:
        h.first[id] = <i32>h.nfields
    h.nfields += 1
    f.id = id
    f.drop = 0
    f.name = <u32>(at - start)
    f.name_len = <u16>name.n
    at = fmt.span(at, name)
    at = fmt.put(at, b": ", 2)
    f.value = <u32>(at - start)
    f.value_len = value.n
    at = fmt.span(at, value)
    return fmt.put(at, b"\r\n", 2)

# RFC 9112 3.2.1: to the app goes origin form, whatever form the client used.
cdef inline char *start_line(Head *h, char *at) noexcept nogil:
    cdef char *start = at
    cdef u32 behind = h.host + h.host_len
    cdef u32 end = h.target + h.target_len
    if not (h.flags & heads.F_ABSOLUTE):
        return fmt.put(at, h.base, h.fields[0].name if h.nfields else h.len - 2)
    at = fmt.put(at, h.base, h.target)
    if behind == end or h.base[behind] != c'/':
        at = fmt.put(at, b"/", 1)
    at = fmt.put(at, h.base + behind, end - behind)
    h.target_len = <u32>(at - start) - h.target
    h.path = h.target
    h.flags &= ~<u32>heads.F_ABSOLUTE
    at = fmt.put(at, b" HTTP/1.", 8)
    at = fmt.dec(at, h.minor)
    return fmt.put(at, b"\r\n", 2)

# X-Forwarded-Host and -Port as the client used them, where no trusted sender has told; and our element of Forwarded.
# RFC 7239 6: an IPv6 address in quotes and brackets; a host is quoted for its colon.
cdef inline char *tell(Exchange *x, const char *start, char *at, Span told, Span received) noexcept nogil:
    cdef Head *h = &x.req
    cdef Span ip = span.make(x.down.peer + x.down.ip_off, x.down.ip_len)
    cdef Span port = port_of(told)
    cdef char digits[8]
    cdef char element[512]
    cdef char *w = element
    cdef bint https = is_https(x)
    if told.n == 0:
        at = put_field(h, start, at, span.make(b"X-Forwarded-Host", 16), heads.N_OTHER, received)
        x.asked = span.make(at - 2 - received.n, received.n)
        port = span.make(digits, <u32>(fmt.dec(digits, x.down.mapping.port) - digits))
    elif port.n == 0:
        port = span.make(digits, <u32>(fmt.dec(digits, 443 if https else 80) - digits))
    if find(h, b"x-forwarded-port", 16).p == NULL:
        at = put_field(h, start, at, span.make(b"X-Forwarded-Port", 16), heads.N_OTHER, port)
    w = fmt.text(w, b"for=\"[" if x.down.ip_off else b"for=")
    w = fmt.span(w, ip)
    w = fmt.text(w, b"]\";host=\"" if x.down.ip_off else b";host=\"")
    w = fmt.span(w, span.make(received.p, received.n if received.n < 300 else 0))
    w = fmt.text(w, b"\";proto=https" if https else b"\";proto=http")
    return put_field(h, start, at, span.make(b"Forwarded", 9), heads.N_OTHER,
                     span.make(element, <u32>(w - element)))

# The scheme that the client used, as X-Forwarded-Proto tells it to the app.
cdef inline bint is_https(const Exchange *x) noexcept nogil:
    return span.ieq(forward.forwarded_proto(&x.w.shared.cfg, x), b"https", 5)

# Makes x.req a request for the app. False when memory is out.
cdef inline bint enter(Worker *w, Exchange *x) noexcept nogil:
    cdef Head *h = &x.req
    cdef Mapping *m = x.down.mapping
    cdef Span received = heads.host(h), told = span.make(NULL, 0)
    cdef Span name, value
    cdef char local[56]
    cdef char *at
    cdef char *start
    cdef u32 i, fields = h.nfields, room = h.len
    cdef Field f
    cdef bint has_host = False
    if h.method == heads.M_CONNECT:
        return True
    if x.down.trusted:
        told = told_host(h)
    if received.n == 0:
        received = span.make(local, x.down.ops.local_addr(x.down, local))
    for i in range(fields):
        if h.fields[i].id == heads.N_COOKIE:
            room += h.fields[i].value_len
    x.way_in = buf.alloc(&w.slabs, room + 2 * fields + 3 * received.n + m.host_n + ADDED_MAX * LINE_ROOM + 512)
    if x.way_in == NULL:
        return False
    start = x.way_in.data
    x.asked = told
    at = start_line(h, start)
    memset(h.first, 0xff, sizeof(h.first))
    h.nfields = 0
    for i in range(fields):
        # what is written lies at or before what is read
        f = h.fields[i]
        name = heads.name(h, &f)
        value = heads.value(h, &f)
        if f.id == heads.N_HOST:
            has_host = True
            value = mapping.host(m)
        elif f.id == heads.N_COOKIE:
            # written where put_field will have it
            value = stripped(x, at + name.n + 2, value)
            if value.n == 0:
                continue
        elif not x.down.trusted and is_forwarding(name):
            continue
        at = put_field(h, start, at, name, f.id, value)
    if not has_host:
        at = put_field(h, start, at, span.make(b"Host", 4), heads.N_HOST, mapping.host(m))
    h.base = start
    h.host = h.fields[h.first[heads.N_HOST]].value
    h.host_len = m.host_n
    at = tell(x, start, at, told, received)
    at = fmt.put(at, b"\r\n", 2)
    h.len = <u32>(at - start)
    x.way_in.wpos = h.len
    return True

cdef inline Span stripped(const Exchange *x, char *at, Span value) noexcept nogil:
    cdef const Mapping *m = x.down.mapping
    return span.make(at, <u32>(tagged.strip(at, value, m.tag, m.cookies, m.n_cookies) - at))

# ---- the way out -------------------------------------------------------------------------------------------------

cdef enum LinkKind:
    LINK_NONE = 0
    LINK_WHOLE                  # the value is a URI reference
    LINK_REFRESH

cdef inline int link_kind(const Head *h, const Field *f) noexcept nogil:
    cdef Span name
    if f.id != heads.N_OTHER:
        return LINK_NONE
    name = heads.name(h, f)
    if span.ieq(name, b"location", 8) or span.ieq(name, b"content-location", 16):
        return LINK_WHOLE
    return LINK_REFRESH if span.ieq(name, b"refresh", 7) else LINK_NONE

# Turns the lines of an answer that name the app's host, and marks its cookies. False when memory is out.
# Set-Cookie lines are written all or none, so that they keep their order: of two for one cookie the last one counts.
cdef inline bint leave(Worker *w, Exchange *x, Head *h, HeadOut *out) noexcept nogil:
    cdef u32 i, room = out.extra.n
    cdef bint any = False
    for i in range(h.nfields):
        if not h.fields[i].drop and (h.fields[i].id == heads.N_SET_COOKIE or link_kind(h, &h.fields[i])):
            any = True
            room += h.fields[i].name_len + 2 * h.fields[i].value_len + x.asked.n + LINE_ROOM
    if not any:
        return True
    x.way_out = buf.alloc(&w.slabs, room)
    if x.way_out == NULL:
        return False
    turn_lines(x, h, out)
    return True

cdef inline void turn_lines(Exchange *x, Head *h, HeadOut *out) noexcept nogil:
    cdef const Mapping *m = x.down.mapping
    cdef Span scheme = span.make(b"https", 5) if is_https(x) else span.make(b"http", 4)
    cdef Span host = mapping.host(m), value
    cdef char *start = x.way_out.data
    cdef char *at = start
    cdef char *line
    cdef int kind
    cdef u32 i
    for i in range(h.nfields):
        kind = link_kind(h, &h.fields[i])
        if h.fields[i].drop or (kind == LINK_NONE and h.fields[i].id != heads.N_SET_COOKIE):
            continue
        value = heads.value(h, &h.fields[i])
        line = fmt.span(at, heads.name(h, &h.fields[i]))
        line = fmt.put(line, b": ", 2)
        if kind == LINK_WHOLE:
            line = links.turn(line, value, host, scheme, x.asked)
        elif kind == LINK_REFRESH:
            line = links.turn_refresh(line, value, host, scheme, x.asked)
        else:
            line = tagged.mark(line, value, host, m.tag, m.cookies, m.n_cookies)
        if line == NULL:
            continue                    # goes as it came
        h.fields[i].drop = 1
        at = fmt.put(line, b"\r\n", 2)
    at = fmt.span(at, out.extra)
    x.way_out.wpos = <u32>(at - start)
    out.extra = span.make(start, x.way_out.wpos)

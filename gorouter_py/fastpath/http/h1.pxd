# L1: HTTP/1 heads, bytes in and offsets out (RFC 9112). Owns no socket, clock, log or memory.
#
# Strict: what RFC 9112 calls ambiguous is a fault, never repaired. A head is judged from left to right and the
# first thing wrong is the answer, so that however the bytes arrive the verdict on a whole head is the same.
# The length of the body is decided here, once, and nowhere else.
#
# Nothing at or past p + n is read. Everything a Head refers to lives as long as the bytes at p.
# No state but the caller's Head and *scanned: a call that does not see the whole head leaves nothing in Head that
# the next call would need. Called by flow on the worker that owns the connection.
#
# Not done here: limits on the head's size and time (flow), chunks and trailers (chunked), header policy (flow).
from libc.string cimport memchr, memcmp, memset
from gorouter_py.fastpath.base.types cimport PARTIAL, Span, u8, u16, u32, u64, i32, i64
from gorouter_py.fastpath.base cimport dp, limits, span
from gorouter_py.fastpath.http cimport heads, target
from gorouter_py.fastpath.http.heads cimport Field, Head

# What a Connection field said, kept in the high bits of Head.flags until the head is complete.
cdef enum Said:
    SAID_CLOSE = 1 << 24
    SAID_KEEP_ALIVE = 1 << 25
    SAID_UPGRADE = 1 << 26
    SAID_ALL = 7 << 24

# Reads a request head. > 0: its length (with a CRLF before it, if there was one: Head.base stands behind that);
# PARTIAL: call again with more; else a ParseFault. The caller sets h.fields and h.cap. *scanned is 0 for a new
# head, belongs to this function in between, and keeps a head that arrives in drips from being parsed for each.
cdef inline i64 parse_request(Head *h, const char *p, u32 n, u32 *scanned) noexcept nogil:
    # RFC 9112 2.2: one empty line before a request line is tolerated.
    cdef u32 skip = 2 if n >= 2 and p[0] == c'\r' and p[1] == c'\n' else 0
    cdef i64 r
    if n == skip or (n == 1 and p[0] == c'\r'):
        return PARTIAL
    if scanned[0] and not _worth_parsing(p, skip, scanned[0], n):
        scanned[0] = n
        return PARTIAL
    _reset(h, p + skip, False)
    n -= skip
    r = _request_line(h, n)
    if r > 0:
        r = _fields(h, <u32>r, n)
    if r > 0:
        h.len = <u32>r
        r = _finish_request(h)
    if r > 0:
        r += skip
    scanned[0] = n + skip if r == PARTIAL else 0
    return r

# Reads a response head, as parse_request does. The method of the request decides whether a body follows.
cdef inline i64 parse_response(Head *h, const char *p, u32 n, u32 *scanned, u32 request_method) noexcept nogil:
    cdef i64 r
    if n == 0:
        return PARTIAL
    if scanned[0] and not _worth_parsing(p, 0, scanned[0], n):
        scanned[0] = n
        return PARTIAL
    _reset(h, p, True)
    r = _status_line(h, n)
    if r > 0:
        r = _fields(h, <u32>r, n)
    if r > 0:
        h.len = <u32>r
        r = _finish_response(h, request_method)
    scanned[0] = n if r == PARTIAL else 0
    return r

# Is this field named in Connection? (RFC 9110 7.6.1: then it is for this hop only.)
cdef inline bint nominated(const Head *h, Span name) noexcept nogil:
    cdef i32 i = h.first[heads.N_CONNECTION]
    cdef Span rest, item
    if i < 0:
        return False
    while <u32>i < h.nfields:
        if h.fields[i].id == heads.N_CONNECTION:
            rest = heads.value(h, &h.fields[i])
            while span.next_item(&rest, &item):
                if item.n == name.n and _same_text(item.p, name.p, name.n):
                    return True
        i += 1
    return False

cdef inline bint _same_text(const char *a, const char *b, u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        if dp.lower(a[i]) != dp.lower(b[i]):
            return False
    return True

cdef inline void _reset(Head *h, const char *base, bint is_response) noexcept nogil:
    h.base = base
    h.len = 0
    h.nfields = 0
    h.flags = 0
    h.content_length = 0
    h.framing = heads.BODY_NONE
    h.minor = 0
    h.method = heads.M_OTHER
    h.is_response = is_response
    h.status = 0
    h.method_len = 0
    h.target = h.target_len = 0
    h.path = h.path_len = 0
    h.host = h.host_len = 0
    h.reason = h.reason_len = 0
    memset(h.first, 0xff, sizeof(h.first))

# Did p[seen:n] bring something that can change the verdict? True when it completes the start line or the head,
# holds a bare LF, or when a start line has grown past any allowed length. Reads each byte about once in all.
cdef inline bint _worth_parsing(const char *p, u32 skip, u32 seen, u32 n) noexcept nogil:
    cdef const char *q = p + seen
    cdef u32 i
    while q < p + n:
        q = <const char *>memchr(q, c'\n', p + n - q)
        if q == NULL:
            break
        i = <u32>(q - p)
        if i == 0 or p[i - 1] != c'\r' or (i >= 2 and p[i - 2] == c'\n'):
            return True
        if i <= skip or memchr(p + skip, c'\n', i - skip) == NULL:
            return True
        q += 1
    return n > <u32>(limits.TARGET_MAX + limits.METHOD_MAX + 16) and memchr(p + skip, c'\n', n - skip) == NULL

# CR LF at s: 2, PARTIAL, or a fault; other if neither CR nor LF stands there.
cdef inline i64 _crlf(const char *s, const char *end, i64 other) noexcept nogil:
    if s == end:
        return PARTIAL
    if s[0] != c'\r':
        return heads.P_BARE_LF if s[0] == c'\n' else other
    if s + 1 == end:
        return PARTIAL
    return 2 if s[1] == c'\n' else heads.P_BARE_CR

# --- start lines -------------------------------------------------------------------------------------------------

# Offset behind the request line, PARTIAL, or a fault. RFC 9112 3: exactly one SP between the parts.
cdef inline i64 _request_line(Head *h, u32 n) noexcept nogil:
    cdef const char *end = h.base + n
    cdef const char *s = dp.scan_class(h.base, end, dp.C_TOKEN)
    cdef const char *t
    cdef i64 r
    if s - h.base > limits.METHOD_MAX:
        return heads.P_METHOD
    if s == end:
        return PARTIAL
    if s[0] == c'\n':
        return heads.P_BARE_LF
    if s[0] == c'\r' or (s[0] == c' ' and s == h.base):
        return heads.P_REQ_LINE
    if s[0] != c' ':
        return heads.P_METHOD
    h.method_len = <u16>(s - h.base)
    h.method = _method_id(h.base, h.method_len)
    s += 1
    t = dp.scan_class(s, end, dp.C_TARGET)
    if t - s > limits.TARGET_MAX:
        return heads.P_TARGET_TOO_LONG
    if t == end:
        return PARTIAL
    if t[0] != c' ':
        # RFC 9112 2.3: a line that ends here is HTTP/0.9, which nobody speaks any more.
        return heads.P_REQ_LINE if t[0] == c'\r' or t[0] == c'\n' else heads.P_TARGET
    if t == s:
        return heads.P_REQ_LINE
    h.target = <u32>(s - h.base)
    h.target_len = <u32>(t - s)
    r = target.read(h)
    if r < 0:
        return r
    return _request_version(h, t + 1, end)

# RFC 9112 2.3: the name is case-sensitive. 1.2 and later minors do not exist; nobody means them.
cdef inline i64 _request_version(Head *h, const char *s, const char *end) noexcept nogil:
    cdef u32 i
    cdef i64 r
    cdef char major, minor
    if end - s >= 10 and memcmp(s, b"HTTP/1.1\r\n", 10) == 0:
        h.minor = 1
        return s - h.base + 10
    for i in range(5):
        if s + i == end:
            return PARTIAL
        if s[i] != (<const char *>b"HTTP/")[i]:
            return heads.P_REQ_LINE
    for i in range(5, 8):
        if s + i == end:
            return PARTIAL
        if (s[i] != c'.') if i == 6 else not dp.char_is(s[i], dp.C_DIGIT):
            return heads.P_REQ_LINE
    r = _crlf(s + 8, end, heads.P_REQ_LINE)
    if r < 0:
        return r
    major = s[5]
    minor = s[7]
    if major != c'1' or minor > c'1':
        return heads.P_VERSION
    h.minor = <u8>(minor - c'0')
    return s - h.base + 10

cdef inline u8 _method_id(const char *p, u32 n) noexcept nogil:
    if n == 3:
        if memcmp(p, b"GET", 3) == 0:
            return heads.M_GET
        if memcmp(p, b"PUT", 3) == 0:
            return heads.M_PUT
    elif n == 4:
        if memcmp(p, b"POST", 4) == 0:
            return heads.M_POST
        if memcmp(p, b"HEAD", 4) == 0:
            return heads.M_HEAD
    elif n == 5:
        if memcmp(p, b"PATCH", 5) == 0:
            return heads.M_PATCH
        if memcmp(p, b"TRACE", 5) == 0:
            return heads.M_TRACE
    elif n == 6:
        if memcmp(p, b"DELETE", 6) == 0:
            return heads.M_DELETE
    elif n == 7:
        if memcmp(p, b"OPTIONS", 7) == 0:
            return heads.M_OPTIONS
        if memcmp(p, b"CONNECT", 7) == 0:
            return heads.M_CONNECT
    return heads.M_OTHER

# RFC 9112 4: HTTP-version SP status-code SP [ reason-phrase ]; the SP is missing from many origins' bare codes.
cdef inline i64 _status_line(Head *h, u32 n) noexcept nogil:
    cdef const char *s = h.base
    cdef const char *end = s + n
    cdef const char *e
    cdef u32 i
    cdef i64 r
    cdef u32 status = 0
    for i in range(7):
        if s + i == end:
            return PARTIAL
        if s[i] != (<const char *>b"HTTP/1.")[i]:
            return heads.P_RESP_LINE
    for i in range(7, 12):
        if s + i == end:
            return PARTIAL
        if i == 7:
            if s[i] != c'0' and s[i] != c'1':
                return heads.P_RESP_LINE
        elif i == 8:
            if s[i] != c' ':
                return heads.P_RESP_LINE
        elif not dp.char_is(s[i], dp.C_DIGIT):
            return heads.P_RESP_LINE
        else:
            status = status * 10 + <u32>(s[i] - c'0')
    if status < 100:
        return heads.P_RESP_LINE
    h.minor = <u8>(s[7] - c'0')
    h.status = <u16>status
    s += 12
    if s == end:
        return PARTIAL
    if s[0] == c' ':
        s += 1
        e = dp.scan_value(s, end)
    else:
        e = s
    r = _crlf(e, end, heads.P_RESP_LINE)
    if r < 0:
        return r
    h.reason = <u32>(s - h.base)
    h.reason_len = <u32>(e - s)
    return e - h.base + 2

# --- field lines -------------------------------------------------------------------------------------------------

# The field section from offset at: the offset behind its empty line, PARTIAL, or a fault. RFC 9112 5.
cdef inline i64 _fields(Head *h, u32 at, u32 n) noexcept nogil:
    cdef const char *end = h.base + n
    cdef const char *s = h.base + at
    cdef const char *colon
    cdef const char *v
    cdef const char *e
    cdef const char *line
    cdef Field *f
    cdef u32 id
    cdef u32 listed = 0
    cdef i64 r
    while True:
        colon = dp.scan_class(s, end, dp.C_TOKEN)
        if colon == end:
            return PARTIAL if colon - s <= 0xffff else heads.P_FIELD_NAME
        if dp.unlikely(colon[0] != c':' or colon == s or colon - s > 0xffff):
            if colon == s and colon[0] == c'\r':
                r = _crlf(s, end, heads.P_BARE_CR)
                return s - h.base + 2 if r > 0 else r
            if colon == s and (colon[0] == c' ' or colon[0] == c'\t'):
                # RFC 9112 5.2 and 2.2: folded lines, and white space before the first one.
                return heads.P_OBS_FOLD
            return heads.P_BARE_LF if colon[0] == c'\n' else heads.P_FIELD_NAME
        if dp.unlikely(h.nfields >= h.cap):
            return heads.P_TOO_MANY_FIELDS
        v = colon + 1
        while v < end and (v[0] == c' ' or v[0] == c'\t'):
            v += 1
        e = dp.scan_value(v, end)
        r = _crlf(e, end, heads.P_FIELD_VALUE)
        if dp.unlikely(r < 0):
            return r
        line = s
        s = e + 2
        while e > v and ((e - 1)[0] == c' ' or (e - 1)[0] == c'\t'):
            e -= 1
        id = heads.name_id(line, <u32>(colon - line))
        f = &h.fields[h.nfields]
        f.name = <u32>(line - h.base)
        f.name_len = <u16>(colon - line)
        f.value = <u32>(v - h.base)
        f.value_len = <u32>(e - v)
        f.id = <u8>id
        f.drop = 0
        if id != heads.N_OTHER:
            r = _known(h, id, span.make(v, <u32>(e - v)), &listed)
            if r < 0:
                return r
            if h.first[id] < 0:
                h.first[id] = <i32>h.nfields
        h.nfields += 1

# What a known field means for the whole message. 0 or a fault. listed: octets in Connection fields so far.
cdef inline i64 _known(Head *h, u32 id, Span v, u32 *listed) noexcept nogil:
    if id == heads.N_HOST:
        if h.is_response:
            return 0
        if h.first[id] >= 0:
            return heads.P_HOST_DUPLICATE
        if not target.check_host(v.p, v.n, False):
            return heads.P_HOST_INVALID
        if not h.flags & heads.F_ABSOLUTE and h.method != heads.M_CONNECT:
            h.host = <u32>(v.p - h.base)
            h.host_len = v.n
    elif id == heads.N_CONNECTION:
        listed[0] += v.n
        if listed[0] > limits.CONNECTION_BYTES_MAX:
            return heads.P_CONNECTION_TOO_LONG
        _connection(h, v)
    elif id == heads.N_CONTENT_LENGTH:
        # RFC 9112 6.3 lets equal repetitions be merged; they are refused, as is every list.
        if h.first[id] >= 0 or not parse_length(v, &h.content_length):
            return heads.P_LENGTH_INVALID
        h.flags |= heads.F_HAS_LENGTH
    elif id == heads.N_TRANSFER_ENCODING:
        if h.first[id] >= 0 or not span.ieq(v, b"chunked", 7):
            return heads.P_CODING_UNKNOWN
    elif id == heads.N_TE:
        if _lists(v, b"trailers", 8):
            h.flags |= heads.F_TE_TRAILERS
    elif id == heads.N_UPGRADE:
        if v.n:
            h.flags |= heads.F_UPGRADE
        if h.first[id] < 0 and span.ieq(v, b"websocket", 9):
            h.flags |= heads.F_WEBSOCKET
        else:
            h.flags &= ~<u32>heads.F_WEBSOCKET
    elif id == heads.N_EXPECT:
        _expect(h, v)
    elif id == heads.N_COOKIE:
        h.flags |= heads.F_HAS_COOKIE
    elif id == heads.N_SET_COOKIE:
        h.flags |= heads.F_SETS_COOKIE
    elif id == heads.N_IDEMPOTENCY_KEY or id == heads.N_X_IDEMPOTENCY_KEY:
        h.flags |= heads.F_IDEMPOTENT
    return 0

# RFC 9110 8.6: 1*DIGIT, here at most 19 of them and at most 2^63 - 1.
cdef inline bint parse_length(Span v, u64 *out) noexcept nogil:
    cdef u64 x = 0
    cdef u32 i
    if v.n == 0 or v.n > 19:
        return False
    for i in range(v.n):
        if not dp.char_is(v.p[i], dp.C_DIGIT):
            return False
        x = x * 10 + <u64>(v.p[i] - c'0')
    out[0] = x
    return x <= 0x7fffffffffffffffULL

# RFC 9110 7.6.1.
cdef inline void _connection(Head *h, Span v) noexcept nogil:
    cdef Span item
    while span.next_item(&v, &item):
        if span.ieq(item, b"close", 5):
            h.flags |= SAID_CLOSE
        elif span.ieq(item, b"keep-alive", 10):
            h.flags |= SAID_KEEP_ALIVE
        elif span.ieq(item, b"upgrade", 7):
            h.flags |= SAID_UPGRADE
        elif item.n and not span.ieq(item, b"te", 2):
            h.flags |= heads.F_NOMINATES

# Does the list name this element, parameters aside?
cdef inline bint _lists(Span v, const char *text, u32 n) noexcept nogil:
    cdef Span item
    while span.next_item(&v, &item):
        if item.n > n and (item.p[n] == c';' or item.p[n] == c' ' or item.p[n] == c'\t'):
            item.n = n
        if span.ieq(item, text, n):
            return True
    return False

# RFC 9110 10.1.1: 100-continue in an HTTP/1.0 request is ignored.
cdef inline void _expect(Head *h, Span v) noexcept nogil:
    cdef Span item
    while span.next_item(&v, &item):
        if span.ieq(item, b"100-continue", 12):
            if h.minor:
                h.flags |= heads.F_EXPECT_100
        elif item.n:
            h.flags |= heads.F_EXPECT_OTHER

# --- the verdict on the whole head -------------------------------------------------------------------------------

# How the body is delimited if the message may have one. 0 or a fault. RFC 9112 6.1, 6.3: Content-Length beside
# Transfer-Encoding is an attempt at smuggling, and a coding in HTTP/1.0 is faulty framing.
cdef inline i64 _framing(Head *h, u8 without) noexcept nogil:
    if h.first[heads.N_TRANSFER_ENCODING] >= 0:
        if h.first[heads.N_CONTENT_LENGTH] >= 0:
            return heads.P_LENGTH_AND_CODING
        if h.minor == 0:
            return heads.P_CODING_OLD_VERSION
        h.framing = heads.BODY_CHUNKED
    elif h.first[heads.N_CONTENT_LENGTH] >= 0:
        h.framing = heads.BODY_LENGTH
    else:
        h.framing = without
    return 0

# RFC 9112 9.3: persistent by default in 1.1, on demand in 1.0, and close wins over keep-alive.
cdef inline void _persistence(Head *h) noexcept nogil:
    if not h.flags & SAID_CLOSE and (h.minor == 1 or h.flags & SAID_KEEP_ALIVE):
        h.flags |= heads.F_KEEP_ALIVE
    # RFC 9110 7.8: Upgrade counts in HTTP/1.1 and when Connection lists it.
    if h.minor == 0 or not h.flags & SAID_UPGRADE or not h.flags & heads.F_UPGRADE:
        h.flags &= ~<u32>(heads.F_UPGRADE | heads.F_WEBSOCKET)
    h.flags &= ~<u32>SAID_ALL

cdef inline i64 _finish_request(Head *h) noexcept nogil:
    cdef i64 r = _framing(h, heads.BODY_NONE)
    if r < 0:
        return r
    # RFC 9112 3.2: an HTTP/1.1 request has Host, whatever the form of its target.
    if h.minor == 1 and h.first[heads.N_HOST] < 0:
        return heads.P_HOST_MISSING
    _persistence(h)
    if h.method >= heads.M_GET and h.method <= heads.M_TRACE:
        h.flags |= heads.F_IDEMPOTENT
    return h.len

# RFC 9112 6.3, in its order.
cdef inline i64 _finish_response(Head *h, u32 request_method) noexcept nogil:
    cdef i64 r = _framing(h, heads.BODY_CLOSE)
    if r < 0:
        return r
    _persistence(h)
    if h.status == 101 or (request_method == heads.M_CONNECT and h.status // 100 == 2):
        h.framing = heads.BODY_TUNNEL
    elif h.status // 100 == 1 or h.status == 204:
        # RFC 9112 6.1, RFC 9110 8.6: such an answer announces no body; one that does may well send it.
        if h.framing == heads.BODY_CHUNKED or h.content_length:
            h.flags &= ~<u32>heads.F_KEEP_ALIVE
        h.framing = heads.BODY_NONE
    elif request_method == heads.M_HEAD or h.status == 304:
        h.framing = heads.BODY_NONE
    if h.framing == heads.BODY_CLOSE or h.framing == heads.BODY_TUNNEL:
        h.flags &= ~<u32>heads.F_KEEP_ALIVE
    return h.len

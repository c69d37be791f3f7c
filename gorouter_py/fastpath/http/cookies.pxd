# L1: cookies as gorouter reads them (Go's net/http): exact names, the first that fits wins, values that hold an
# octet outside the grammar do not exist. Every Span returned lives as long as the bytes it was found in.
# Called by flow on the worker that owns the connection. Writes nothing; a Set-Cookie is composed by flow.
from libc.string cimport memchr, memcmp
from gorouter_py.fastpath.base.types cimport Span, u8, u32, i32
from gorouter_py.fastpath.base cimport dp, span
from gorouter_py.fastpath.http cimport heads
from gorouter_py.fastpath.http.heads cimport Head

cdef enum SameSite:
    SITE_ABSENT = 0
    SITE_LAX
    SITE_STRICT
    SITE_NONE
    SITE_OTHER              # named without a value, or with one nobody knows

# What a Set-Cookie line says, as far as a sticky session copies it. Of a repeated attribute the last one counts.
cdef struct SetCookie:
    Span name
    Span value              # without the quotes around it
    Span path               # p == NULL where the attribute is absent
    Span expires
    Span same_site          # its text
    u8 site                 # SameSite
    u8 secure
    u8 http_only
    u8 partitioned
    u8 has_max_age
    u8 max_age_positive     # has_max_age and a value over 0; 0 or less deletes the cookie

# The value of the first cookie with exactly that name over all Cookie lines; p == NULL if there is none.
cdef inline Span get_cookie(const Head *h, const char *name, u32 n) noexcept nogil:
    cdef i32 i = h.first[heads.N_COOKIE]
    cdef const char *p
    cdef const char *end
    cdef const char *stop
    cdef Span value
    if i < 0 or n == 0:
        return span.make(NULL, 0)
    while <u32>i < h.nfields:
        if h.fields[i].id == heads.N_COOKIE:
            value = heads.value(h, &h.fields[i])
            p = value.p
            end = p + value.n
            while p < end:
                p = _after_blanks(p, end)
                if end - p > <i32>n and p[0] == name[0] and memcmp(p, name, n) == 0:
                    stop = _after_blanks(p + n, end)
                    if stop < end and stop[0] == c'=':
                        p = stop + 1
                        stop = <const char *>memchr(p, c';', <size_t>(end - p))
                        value = span.trim(span.make(p, <u32>((stop if stop != NULL else end) - p)))
                        if _unquote(&value):
                            return value
                p = <const char *>memchr(p, c';', <size_t>(end - p))
                if p == NULL:
                    break
                p += 1
        i += 1
    return span.make(NULL, 0)

cdef inline const char *_after_blanks(const char *p, const char *end) noexcept nogil:
    while p < end and (p[0] == c' ' or p[0] == c'\t'):
        p += 1
    return p

# The name in a Set-Cookie value; p == NULL if the line sets nothing.
cdef inline Span set_cookie_name(Span line) noexcept nogil:
    cdef Span pair, key, value
    if next_part(&line, &pair) and split(pair, &key, &value) and _is_token(key):
        return key
    return span.make(NULL, 0)

# Reads a Set-Cookie value (RFC 6265 5.2). False if it sets nothing; out is all zero then.
cdef inline bint parse_set_cookie(Span line, SetCookie *out) noexcept nogil:
    cdef Span part, key, value
    out.name = out.value = out.path = out.expires = out.same_site = span.make(NULL, 0)
    out.site = SITE_ABSENT
    out.secure = out.http_only = out.partitioned = 0
    out.has_max_age = out.max_age_positive = 0
    if not next_part(&line, &part) or not split(part, &key, &value) or not _is_token(key) or not _unquote(&value):
        return False
    out.name = key
    out.value = value
    while next_part(&line, &part):
        if part.n == 0:
            continue
        if not split(part, &key, &value):
            key = part
            value = span.make(part.p + part.n, 0)
        _attribute(out, key, value)
    return True

cdef inline void _attribute(SetCookie *out, Span key, Span value) noexcept nogil:
    if key.n == 4 and dp.ieq(key.p, b"path", 4):
        out.path = value
    elif key.n == 6 and dp.ieq(key.p, b"secure", 6):
        out.secure = 1
    elif key.n == 7 and dp.ieq(key.p, b"expires", 7):
        out.expires = value
    elif key.n == 7 and dp.ieq(key.p, b"max-age", 7):
        _max_age(out, value)
    elif key.n == 8 and dp.ieq(key.p, b"httponly", 8):
        out.http_only = 1
    elif key.n == 8 and dp.ieq(key.p, b"samesite", 8):
        out.same_site = value
        if span.ieq(value, b"lax", 3):
            out.site = SITE_LAX
        elif span.ieq(value, b"strict", 6):
            out.site = SITE_STRICT
        elif span.ieq(value, b"none", 4):
            out.site = SITE_NONE
        else:
            out.site = SITE_OTHER
    elif key.n == 11 and dp.ieq(key.p, b"partitioned", 11):
        out.partitioned = 1

# RFC 6265 5.2.2: ["-"] 1*DIGIT, anything else is ignored. gorouter: so is a positive number with a leading zero.
cdef inline void _max_age(SetCookie *out, Span v) noexcept nogil:
    cdef u32 at = 1 if v.n and v.p[0] == c'-' else 0
    cdef u32 i = at
    cdef bint zero = True
    while i < v.n and dp.char_is(v.p[i], dp.C_DIGIT):
        zero = zero and v.p[i] == c'0'
        i += 1
    if i == at or i != v.n or (v.p[0] == c'0' and not zero):
        return
    out.has_max_age = 1
    out.max_age_positive = at == 0 and not zero

# The next piece between semicolons, trimmed; advances rest. False when nothing is left.
cdef inline bint next_part(Span *rest, Span *part) noexcept nogil:
    cdef const char *q
    if rest.p == NULL:
        return False
    q = <const char *>memchr(rest.p, c';', rest.n)
    if q == NULL:
        part[0] = span.trim(rest[0])
        rest[0] = span.make(NULL, 0)
    else:
        part[0] = span.trim(span.make(rest.p, <u32>(q - rest.p)))
        rest.n -= <u32>(q - rest.p) + 1
        rest.p = q + 1
    return True

# name "=" value, both trimmed; False without a '='.
cdef inline bint split(Span pair, Span *key, Span *value) noexcept nogil:
    cdef const char *q = <const char *>memchr(pair.p, c'=', pair.n)
    if q == NULL:
        return False
    key[0] = span.trim(span.make(pair.p, <u32>(q - pair.p)))
    value[0] = span.trim(span.make(q + 1, <u32>(pair.p + pair.n - q) - 1))
    return True

cdef inline bint _is_token(Span s) noexcept nogil:
    return s.n > 0 and dp.scan_class(s.p, s.p + s.n, dp.C_TOKEN) == s.p + s.n

# Takes the quotes off; False if the value holds what a cookie may not. gorouter: SP and ',' pass, as in Go.
cdef inline bint _unquote(Span *v) noexcept nogil:
    cdef u32 i
    if v.n > 1 and v.p[0] == c'"' and v.p[v.n - 1] == c'"':
        v.p += 1
        v.n -= 2
    for i in range(v.n):
        if dp.unlikely(not dp.char_is(v.p[i], dp.C_COOKIE)) and v.p[i] != c' ' and v.p[i] != c',':
            return False
    return True

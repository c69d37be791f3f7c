# L1: the four forms of a request target (RFC 9112 3.2) and what a Host field may say (RFC 3986 3.2.2).
#
# A target is forwarded octet for octet; here it is only judged, and its path and authority are pointed out.
# Called by h1 for each request, with method and target of the Head already set.
from libc.string cimport memchr
from gorouter_py.fastpath.base.types cimport u32, i64
from gorouter_py.fastpath.base cimport dp
from gorouter_py.fastpath.http cimport heads
from gorouter_py.fastpath.http.heads cimport Head

# Sets path, and host for the forms that carry one. 0 or a fault. RFC 9112 3.2.
cdef inline i64 read(Head *h) noexcept nogil:
    cdef const char *t = h.base + h.target
    if h.method == heads.M_CONNECT:
        # RFC 9112 3.2.3: authority form, with a port, for CONNECT only.
        h.path = h.target
        h.host = h.target
        h.host_len = h.target_len
        return 0 if check_host(t, h.target_len, True) else heads.P_TARGET
    if t[0] == c'/':
        h.path = h.target
        h.path_len = _until_query(t, h.target_len)
        return 0
    if t[0] == c'*':
        # RFC 9112 3.2.4: asterisk form, for OPTIONS only.
        h.path = h.target
        h.path_len = 1
        return 0 if h.target_len == 1 and h.method == heads.M_OPTIONS else heads.P_TARGET
    return _absolute_target(h, t)

cdef inline u32 _until_query(const char *t, u32 n) noexcept nogil:
    cdef const char *q = <const char *>memchr(t, c'?', n)
    return <u32>(q - t) if q != NULL else n

# RFC 9112 3.2.2: absolute form; its authority is the effective host. RFC 9110 4.2.1: the host is not empty,
# 4.2.4: no userinfo (C_HOST has no '@').
cdef inline i64 _absolute_target(Head *h, const char *t) noexcept nogil:
    cdef u32 n = h.target_len
    cdef u32 at, i
    if n > 7 and dp.ieq(t, b"http://", 7):
        at = 7
    elif n > 8 and dp.ieq(t, b"https://", 8):
        at = 8
    else:
        return heads.P_TARGET
    i = at
    while i < n and t[i] != c'/' and t[i] != c'?':
        i += 1
    if i == at or not check_host(t + at, i - at, False):
        return heads.P_TARGET
    h.flags |= heads.F_ABSOLUTE
    h.host = h.target + at
    h.host_len = i - at
    if i < n and t[i] == c'/':
        h.path = h.target + i
        h.path_len = _until_query(t + i, n - i)
    else:
        # RFC 9110 4.2.3: an empty path means "/"; the slash before the authority stands in for it.
        h.path = h.target + at - 1
        h.path_len = 1
    return 0

# Is this uri-host [":" port] (RFC 3986 3.2.2)? An empty host passes only where it is the whole value.
cdef inline bint check_host(const char *p, u32 n, bint port_required) noexcept nogil:
    cdef u32 i = 0
    cdef u32 port = 0
    cdef u32 at
    if n and p[0] == c'[':
        i = _ip_literal(p, n)
        if i == 0:
            return False
    else:
        while i < n and p[i] != c':':
            if not dp.char_is(p[i], dp.C_HOST) or p[i] == c'[' or p[i] == c']':
                return False
            if p[i] == c'%':
                if n - i < 3 or not dp.char_is(p[i + 1], dp.C_HEX) or not dp.char_is(p[i + 2], dp.C_HEX):
                    return False
                i += 2
            i += 1
        if i == 0:
            return n == 0 and not port_required
    if i == n:
        return not port_required
    if p[i] != c':':
        return False
    i += 1
    at = i
    while i < n:
        if not dp.char_is(p[i], dp.C_DIGIT) or i - at >= 5:
            return False
        port = port * 10 + <u32>(p[i] - c'0')
        i += 1
    return port <= 65535 and (i > at or not port_required)

# Length of "[...]" at p, 0 if it is none. RFC 3986 3.2.2: IPv6 text, or IPvFuture; no zone (RFC 9110 4.2).
cdef inline u32 _ip_literal(const char *p, u32 n) noexcept nogil:
    cdef u32 i = 1
    cdef u32 colons = 0
    while i < n and p[i] != c']':
        if p[i] == c':':
            colons += 1
        elif not dp.char_is(p[i], dp.C_HEX) and p[i] != c'.':
            return 0
        i += 1
    return i + 1 if i < n and colons >= 2 else 0

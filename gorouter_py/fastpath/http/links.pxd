# L1: answers that name a host: URI references (RFC 3986 4.1) in Location, Content-Location and Refresh.
#
# A listener of the port map shows an app under another authority than the app's own. What is turned here is compared by
# the whole host, in any case and with any port; everything else is left as it is. Pure functions on bytes; callers give
# room for value + authority + 16 bytes.
from gorouter_py.fastpath.base.types cimport Span, u32
from gorouter_py.fastpath.base cimport dp, fmt, span

cdef inline bint _is_white(char c) noexcept nogil:
    return c == c' ' or c == c'\t'

# Length of "http://", "https://" or "//" at the start of a reference, 0 for any other.
cdef inline u32 _before_authority(Span uri) noexcept nogil:
    if uri.n > 7 and dp.ieq(uri.p, b"http://", 7):
        return 7
    if uri.n > 8 and dp.ieq(uri.p, b"https://", 8):
        return 8
    if uri.n > 2 and uri.p[0] == c'/' and uri.p[1] == c'/':
        return 2
    return 0

# Does authority[0:n] name host (lower case), with or without the root's dot and a port?
cdef inline bint _is_host(const char *p, u32 n, Span host) noexcept nogil:
    cdef u32 i = host.n
    if n < host.n or not dp.ieq(p, host.p, host.n):
        return False
    if i < n and p[i] == c'.':
        i += 1
    if i == n:
        return True
    if p[i] != c':':
        return False
    return dp.scan_class(p + i + 1, p + n, dp.C_DIGIT) == p + n

# Writes the reference with scheme and authority in place of its own if it names host; NULL, and nothing is written, if
# it does not. A reference without a scheme gets none.
# An authority with a backslash is none of ours: RFC 3986 and browsers do not agree where it ends.
cdef inline char *turn(char *w, Span uri, Span host, Span scheme, Span authority) noexcept nogil:
    cdef u32 start = _before_authority(uri)
    cdef u32 end = start, at = start
    if start == 0:
        return NULL
    while end < uri.n and uri.p[end] != c'/' and uri.p[end] != c'?' and uri.p[end] != c'#':
        if uri.p[end] == c'\\':
            return NULL
        if uri.p[end] == c'@':
            at = end + 1
        end += 1
    if not _is_host(uri.p + at, end - at, host):
        return NULL
    if start != 2:
        w = fmt.span(w, scheme)
        w[0] = c':'
        w += 1
    w = fmt.put(w, b"//", 2)
    w = fmt.put(w, uri.p + start, at - start)
    w = fmt.span(w, authority)
    return fmt.put(w, uri.p + end, uri.n - end)

# The URL in a Refresh value ("5; url=..."), without quotes; p == NULL if there is none.
# WHATWG HTML, shared declarative refresh steps: digits, then ";" or ",", then perhaps "url=" and a quote.
cdef inline Span refresh_url(Span v) noexcept nogil:
    cdef u32 i = 0, k
    cdef char quote
    cdef Span none = span.make(NULL, 0)
    while i < v.n and (dp.char_is(v.p[i], dp.C_DIGIT) or v.p[i] == c'.'):
        i += 1
    while i < v.n and _is_white(v.p[i]):
        i += 1
    if i == v.n or (v.p[i] != c';' and v.p[i] != c','):
        return none
    i += 1
    while i < v.n and _is_white(v.p[i]):
        i += 1
    if v.n - i >= 3 and dp.ieq(v.p + i, b"url", 3):
        k = i + 3
        while k < v.n and _is_white(v.p[k]):
            k += 1
        if k < v.n and v.p[k] == c'=':
            i = k + 1
            while i < v.n and _is_white(v.p[i]):
                i += 1
    k = v.n
    if i < v.n and (v.p[i] == c'\'' or v.p[i] == c'"'):
        quote = v.p[i]
        i += 1
        k = i
        while k < v.n and v.p[k] != quote:
            k += 1
    return span.make(v.p + i, k - i) if k > i else none

# The Refresh value with its URL turned; NULL as turn() does.
cdef inline char *turn_refresh(char *w, Span v, Span host, Span scheme, Span authority) noexcept nogil:
    cdef Span url = refresh_url(v)
    cdef u32 before, behind
    cdef char *at
    if url.p == NULL:
        return NULL
    before = <u32>(url.p - v.p)
    behind = v.n - before - url.n
    at = turn(w + before, url, host, scheme, authority)
    if at == NULL:
        return NULL
    fmt.put(w, v.p, before)
    return fmt.put(at, url.p + url.n, behind)

# L0: comparisons of byte views. A Span owns nothing and lives as long as the bytes it points to.
from libc.string cimport memcmp
from gorouter_py.fastpath.base.types cimport Span, u32
from gorouter_py.fastpath.base cimport dp

cdef inline Span make(const char *p, u32 n) noexcept nogil:
    cdef Span s
    s.p = p
    s.n = n
    return s

cdef inline bint eq(Span a, const char *b, u32 n) noexcept nogil:
    return a.n == n and memcmp(a.p, b, n) == 0

# b must be lower case.
cdef inline bint ieq(Span a, const char *b, u32 n) noexcept nogil:
    return a.n == n and dp.ieq(a.p, b, n)

# Without optional white space (RFC 9110 5.6.3) at both ends.
cdef inline Span trim(Span a) noexcept nogil:
    while a.n and (a.p[0] == c' ' or a.p[0] == c'\t'):
        a.p += 1
        a.n -= 1
    while a.n and (a.p[a.n - 1] == c' ' or a.p[a.n - 1] == c'\t'):
        a.n -= 1
    return a

# The next element of a comma list (RFC 9110 5.6.1), trimmed; advances rest. False when nothing is left.
# Empty elements are returned as empty spans.
cdef inline bint next_item(Span *rest, Span *item) noexcept nogil:
    cdef u32 i = 0
    if rest.p == NULL:
        return False
    while i < rest.n and rest.p[i] != c',':
        i += 1
    item[0] = trim(make(rest.p, i))
    if i < rest.n:
        rest.p += i + 1
        rest.n -= i + 1
    else:
        rest.p = NULL
        rest.n = 0
    return True

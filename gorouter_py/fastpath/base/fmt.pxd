# L0: text written forward into memory that is known to be large enough; each returns the new end.
from libc.string cimport memcpy
from gorouter_py.fastpath.base.types cimport Span, u8, u32, u64
from gorouter_py.fastpath.base cimport dp

cdef enum:
    U64_DIGITS = 20
    UUID_LEN = 36

cdef inline char *put(char *w, const char *p, size_t n) noexcept nogil:
    memcpy(w, p, n)
    return w + n

cdef inline char *span(char *w, Span s) noexcept nogil:
    if s.n:  # an absent span has no pointer, and memcpy may assume one
        memcpy(w, s.p, s.n)
    return w + s.n

# A C string.
cdef inline char *text(char *w, const char *s) noexcept nogil:
    while s[0]:
        w[0] = s[0]
        w += 1
        s += 1
    return w

cdef inline char *dec(char *w, u64 v) noexcept nogil:
    cdef char t[20]
    cdef int i = 20
    while True:
        i -= 1
        t[i] = <char>(c'0' + v % 10)
        v //= 10
        if v == 0:
            break
    memcpy(w, t + i, 20 - i)
    return w + (20 - i)

# Exactly n digits with leading zeros.
cdef inline char *dec_pad(char *w, u64 v, int n) noexcept nogil:
    cdef int i = n
    while i > 0:
        i -= 1
        w[i] = <char>(c'0' + v % 10)
        v //= 10
    return w + n

cdef inline char *hex_min(char *w, u64 v) noexcept nogil:
    cdef const char *digits = b"0123456789abcdef"
    cdef int shift = 60
    while shift > 0 and (v >> shift) == 0:
        shift -= 4
    while shift >= 0:
        w[0] = digits[(v >> shift) & 15]
        w += 1
        shift -= 4
    return w

cdef inline char *hex_pad(char *w, u64 v, int n) noexcept nogil:
    cdef const char *digits = b"0123456789abcdef"
    cdef int i = n
    while i > 0:
        i -= 1
        w[i] = digits[v & 15]
        v >>= 4
    return w + n

# Nanoseconds as seconds with six decimals: 1234567 -> 0.001234.
cdef inline char *seconds(char *w, u64 ns) noexcept nogil:
    cdef u64 us = ns // 1000
    w = dec(w, us // 1000000)
    w[0] = c'.'
    return dec_pad(w + 1, us % 1000000, 6)

# A random UUID in the canonical form; version nibble 4, variant nibble 4 to 7.
# gorouter: its generator writes that variant, and consumers match on it.
cdef inline char *uuid(char *w, u64 a, u64 b) noexcept nogil:
    a = (a & 0xffffffffffff0fffULL) | 0x4000
    b = (b & 0x3fffffffffffffffULL) | 0x4000000000000000ULL
    w = hex_pad(w, a >> 32, 8)
    w[0] = c'-'
    w = hex_pad(w + 1, (a >> 16) & 0xffff, 4)
    w[0] = c'-'
    w = hex_pad(w + 1, a & 0xffff, 4)
    w[0] = c'-'
    w = hex_pad(w + 1, b >> 48, 4)
    w[0] = c'-'
    return hex_pad(w + 1, b & 0xffffffffffffULL, 12)

# L1: the names of routes: from a registered uri to a key, and from a Host field to the host in it.
#
# A key is "host" or "host/context/path" in ASCII lower case. Pure functions on bytes, no state, any thread.
# Nothing is decoded: "%2F" is three bytes of a segment.
from libc.string cimport memcpy, memchr
from gorouter_py.fastpath.base.types cimport Span, u32, u64
from gorouter_py.fastpath.base cimport dp, limits, span
from gorouter_py.fastpath.route cimport endpoint

# A route's key as it was parsed from a uri.
cdef struct Key:
    u32 n
    u32 host_n
    u32 segments
    Span context            # into the uri: original case; empty if none
    char text[limits.KEY_MAX]

cdef inline u64 lower_word(u64 w) noexcept nogil:
    cdef u64 low = w & 0x7f7f7f7f7f7f7f7fULL
    cdef u64 above_z = low + 0x2525252525252525ULL
    cdef u64 from_a = low + 0x3f3f3f3f3f3f3f3fULL
    return w | (((from_a ^ above_z) & ~w & 0x8080808080808080ULL) >> 2)

# n bytes of src in ASCII lower case; never reads past src + n.
cdef inline void lower_copy(char *dst, const char *src, u32 n) noexcept nogil:
    cdef u64 w
    cdef u32 i = 0
    if n < 8:
        while i < n:
            dst[i] = <char>dp.lower(src[i])
            i += 1
        return
    while i + 8 <= n:
        memcpy(&w, src + i, 8)
        w = lower_word(w)
        memcpy(dst + i, &w, 8)
        i += 8
    if i < n:                       # the last 8 bytes once more: cheaper than a tail byte by byte
        memcpy(&w, src + n - 8, 8)
        w = lower_word(w)
        memcpy(dst + n - 8, &w, 8)

# The key of a registered uri; 0 or a fault.
# gorouter: cut at "?", then one trailing "/" and one leading "/" are dropped; the port of a host is part of the key, and
# such a key never matches.
cdef inline int parse(Key *k, const char *uri, u64 n) noexcept nogil:
    cdef const char *cut = <const char *>memchr(uri, c'?', n) if n else NULL
    cdef u32 i
    if cut != NULL:
        n = <u64>(cut - uri)
    if n and uri[n - 1] == c'/':
        n -= 1
    if n and uri[0] == c'/':
        uri += 1
        n -= 1
    if n > limits.KEY_MAX:
        return endpoint.KEY_LONG
    if dp.scan_class(uri, uri + n, dp.C_TARGET) != uri + n:
        return endpoint.KEY_BYTES
    k.n = <u32>n
    k.segments = 0
    k.host_n = k.n
    for i in range(k.n):
        if uri[i] == c'/':
            if k.segments == 0:
                k.host_n = i
            k.segments += 1
    if k.host_n == 0:
        return endpoint.KEY_EMPTY
    if k.host_n > limits.HOST_MAX:
        return endpoint.KEY_LONG
    if k.segments > limits.PATH_SEGMENTS_MAX:
        return endpoint.KEY_DEEP
    lower_copy(k.text, uri, k.n)
    k.context = span.make(uri + k.host_n, k.n - k.host_n)
    return 0

cdef inline bint is_wildcard(const char *key, u32 n) noexcept nogil:
    return n >= 2 and key[0] == c'*' and key[1] == c'.'

# The name in a Host field, without the port.
# gorouter: everything up to the first ":". A bracketed address is kept whole instead, its colons are not a port's.
cdef inline u32 host_length(const char *host, u32 n) noexcept nogil:
    cdef const char *cut
    if n and host[0] == c'[':
        cut = <const char *>memchr(host, c']', n)
        return <u32>(cut - host) + 1 if cut != NULL else n
    cut = <const char *>memchr(host, c':', n) if n else NULL
    return <u32>(cut - host) if cut != NULL else n

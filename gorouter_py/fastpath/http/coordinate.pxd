# L1: the cookie gr_c, which carries a client's coordinate: 64 bits as 11 characters of base64url (RFC 4648 5), and where
# it is signed a dot and the 11 characters of their SipHash behind it. The top 16 bits are the coordinate.
from gorouter_py.fastpath.base.types cimport Span, u8, u32, u64
from gorouter_py.fastpath.base cimport siphash, span

cdef enum:
    ID_LEN = 11
    SIGNED_LEN = 23

cdef inline int digit_of(char c) noexcept nogil:
    if c >= c'A' and c <= c'Z':
        return c - c'A'
    if c >= c'a' and c <= c'z':
        return c - c'a' + 26
    if c >= c'0' and c <= c'9':
        return c - c'0' + 52
    if c == c'-':
        return 62
    return 63 if c == c'_' else -1

# 64 bits out of 11 characters. False: one is none of the alphabet, or the two bits too many are not zero.
cdef inline bint read64(const char *p, u64 *out) noexcept nogil:
    cdef u64 v = 0
    cdef int d
    cdef u32 i
    for i in range(ID_LEN - 1):
        d = digit_of(p[i])
        if d < 0:
            return False
        v = (v << 6) | <u64>d
    d = digit_of(p[ID_LEN - 1])
    if d < 0 or d & 3:
        return False
    out[0] = (v << 4) | <u64>(d >> 2)
    return True

cdef inline char *write64(char *w, u64 v) noexcept nogil:
    cdef const char *digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    cdef u32 i
    for i in range(ID_LEN - 1):
        w[i] = digits[(v >> (58 - 6 * i)) & 63]
    w[ID_LEN - 1] = digits[(v & 15) << 2]
    return w + ID_LEN

cdef inline u64 sign(const u8 *key, u64 id) noexcept nogil:
    cdef char raw[8]
    cdef u32 i
    for i in range(8):
        raw[i] = <char>(id >> (56 - 8 * i))
    return siphash.hash(key, raw, 8)

# What the cookie says; False if it is malformed or, where there is a key, not signed with it. Without a key a signature
# does not matter, so that a rollout that no longer signs keeps its clients.
cdef inline bint parse(Span v, const u8 *key, u64 *id) noexcept nogil:
    cdef u64 got = 0
    if v.n != ID_LEN and (v.n != SIGNED_LEN or v.p[ID_LEN] != c'.'):
        return False
    if not read64(v.p, id):
        return False
    if v.n == SIGNED_LEN and not read64(v.p + ID_LEN + 1, &got):
        return False
    return key == NULL or (v.n == SIGNED_LEN and got == sign(key, id[0]))

# The cookie's value, at most SIGNED_LEN bytes.
cdef inline char *write(char *w, u64 id, const u8 *key) noexcept nogil:
    w = write64(w, id)
    if key != NULL:
        w[0] = c'.'
        w = write64(w + 1, sign(key, id))
    return w

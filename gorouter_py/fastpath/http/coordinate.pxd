# L1: the cookie gr_c, which carries a client's coordinate: 64 bits as 11 characters of base64url (RFC 4648 5), and where
# it is signed a dot and the 11 characters of their SipHash behind it. The top 16 bits are the coordinate.
from libc.string cimport memchr, memcmp
from gorouter_py.fastpath.base.types cimport Span, i32, u8, u32, u64
from gorouter_py.fastpath.base cimport dp, siphash
from gorouter_py.fastpath.http cimport cookies, heads
from gorouter_py.fastpath.http.heads cimport Head

cdef enum:
    ID_LEN = 11
    SIGNED_LEN = 23

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
    if not dp.read_base64url(v.p, id):
        return False
    if v.n == SIGNED_LEN and not dp.read_base64url(v.p + ID_LEN + 1, &got):
        return False
    return key == NULL or (v.n == SIGNED_LEN and got == sign(key, id[0]))

# The cookie's value, at most SIGNED_LEN bytes.
cdef inline char *write(char *w, u64 id, const u8 *key) noexcept nogil:
    w = write64(w, id)
    if key != NULL:
        w[0] = c'.'
        w = write64(w + 1, sign(key, id))
    return w

# ---- in a request --------------------------------------------------------------------------------------------------

# The coordinate in a request's cookies, where it is spelled as write() does without a key; 0 = not, or not so.
# `absent` says that no cookie begins with its name, so that nobody need look closer.
cdef inline u64 spot(const Head *h, bint *absent) noexcept nogil:
    cdef i32 i = h.first[heads.N_COOKIE]
    cdef const char *p
    cdef const char *end
    cdef Span line
    cdef u64 id = 0
    absent[0] = False
    while i >= 0 and <u32>i < h.nfields:
        if h.fields[i].id == heads.N_COOKIE:
            line = heads.value(h, &h.fields[i])
            p = line.p
            end = p + line.n
            while end - p >= 4:
                if p[0] == c' ':
                    p += 1
                    continue
                if memcmp(p, b"gr_c", 4) == 0:
                    if (end - p >= 5 + ID_LEN and p[4] == c'=' and (end - p == 5 + ID_LEN or p[5 + ID_LEN] == c';')
                            and dp.read_base64url_at_5(p, &id)):
                        return id
                    return 0
                if p[0] == c'\t':
                    return 0
                p = <const char *>memchr(p, c';', <size_t>(end - p))
                if p == NULL:
                    break
                p += 1
        i += 1
    absent[0] = True
    return 0

# The coordinate in a request's cookies, however it is spelled. False if there is none that holds.
cdef inline bint read(const Head *h, const u8 *key, u64 *id) noexcept nogil:
    cdef Span v = cookies.get_cookie(h, b"gr_c", 4)
    return v.p != NULL and parse(v, key, id)

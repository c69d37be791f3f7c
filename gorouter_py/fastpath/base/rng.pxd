# L0: a fast generator for request ids and start indexes (xoshiro256**, Blackman and Vigna). Not for secrets.
from gorouter_py.fastpath.base.types cimport u64

cdef extern from "<sys/random.h>" nogil:
    ssize_t getrandom(void *buf, size_t n, unsigned flags) noexcept

cdef struct Rng:
    u64 s[4]

cdef inline void seed(Rng *r) noexcept nogil:
    if getrandom(r.s, sizeof(r.s), 0) != sizeof(r.s) or (r.s[0] | r.s[1] | r.s[2] | r.s[3]) == 0:
        r.s[0] = 0x9e3779b97f4a7c15ULL ^ <u64>r

cdef inline u64 rotl(u64 x, int k) noexcept nogil:
    return (x << k) | (x >> (64 - k))

cdef inline u64 next_u64(Rng *r) noexcept nogil:
    cdef u64 out = rotl(r.s[1] * 5, 7) * 9
    cdef u64 t = r.s[1] << 17
    r.s[2] ^= r.s[0]
    r.s[3] ^= r.s[1]
    r.s[1] ^= r.s[2]
    r.s[0] ^= r.s[3]
    r.s[2] ^= t
    r.s[3] = rotl(r.s[3], 45)
    return out

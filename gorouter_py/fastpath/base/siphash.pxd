# L0: SipHash-2-4 (Aumasson and Bernstein, 2012): a keyed hash of short messages that nobody without the key can forge.
from libc.string cimport memcpy
from gorouter_py.fastpath.base.types cimport u8, u32, u64

cdef struct Sip:
    u64 v[4]

cdef inline u64 rotl(u64 x, int k) noexcept nogil:
    return (x << k) | (x >> (64 - k))

cdef inline void rounds(Sip *s, u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        s.v[0] += s.v[1]
        s.v[2] += s.v[3]
        s.v[1] = rotl(s.v[1], 13) ^ s.v[0]
        s.v[3] = rotl(s.v[3], 16) ^ s.v[2]
        s.v[0] = rotl(s.v[0], 32)
        s.v[2] += s.v[1]
        s.v[0] += s.v[3]
        s.v[1] = rotl(s.v[1], 17) ^ s.v[2]
        s.v[3] = rotl(s.v[3], 21) ^ s.v[0]
        s.v[2] = rotl(s.v[2], 32)

# The hash of n bytes under a key of 16. The words are read as they lie in memory: little-endian machines only.
cdef inline u64 hash(const u8 *key, const char *p, size_t n) noexcept nogil:
    cdef Sip s
    cdef u64 k[2]
    cdef u64 w, last = <u64>n << 56
    memcpy(k, key, 16)
    s.v[0] = k[0] ^ 0x736f6d6570736575ULL
    s.v[1] = k[1] ^ 0x646f72616e646f6dULL
    s.v[2] = k[0] ^ 0x6c7967656e657261ULL
    s.v[3] = k[1] ^ 0x7465646279746573ULL
    while n >= 8:
        memcpy(&w, p, 8)
        s.v[3] ^= w
        rounds(&s, 2)
        s.v[0] ^= w
        p += 8
        n -= 8
    w = 0
    memcpy(&w, p, n)
    w |= last
    s.v[3] ^= w
    rounds(&s, 2)
    s.v[0] ^= w
    s.v[2] ^= 0xff
    rounds(&s, 4)
    return s.v[0] ^ s.v[1] ^ s.v[2] ^ s.v[3]

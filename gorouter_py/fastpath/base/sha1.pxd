# L0: SHA-1 (FIPS 180-4), for names of things that must match those another program gives; nothing secret hangs on it.
#
# `hex_of` is its whole face: a library's digest can take its place without anybody noticing.
from libc.string cimport memcpy, memset
from gorouter_py.fastpath.base.types cimport Span, u8, u32, u64
from gorouter_py.fastpath.base cimport fmt

cdef enum:
    HEX_LEN = 40
    BLOCK = 64

cdef inline u32 rotate(u32 v, int by) noexcept nogil:
    return (v << by) | (v >> (32 - by))

cdef inline void mix(u32 *state, const u8 *block) noexcept nogil:
    cdef u32 w[80]
    cdef u32 a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f, k, t
    cdef int i
    for i in range(16):
        w[i] = (<u32>block[4 * i] << 24) | (<u32>block[4 * i + 1] << 16) | (<u32>block[4 * i + 2] << 8) | block[4 * i + 3]
    for i in range(16, 80):
        w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1)
    for i in range(80):
        if i < 20:
            f = (b & c) | (~b & d)
            k = 0x5a827999U
        elif i < 40:
            f = b ^ c ^ d
            k = 0x6ed9eba1U
        elif i < 60:
            f = (b & c) | (b & d) | (c & d)
            k = 0x8f1bbcdcU
        else:
            f = b ^ c ^ d
            k = 0xca62c1d6U
        t = rotate(a, 5) + f + e + k + w[i]
        e = d
        d = c
        c = rotate(b, 30)
        b = a
        a = t
    state[0] += a
    state[1] += b
    state[2] += c
    state[3] += d
    state[4] += e

# The digest of s as HEX_LEN lower-case digits.
cdef inline char *hex_of(char *out, Span s) noexcept nogil:
    cdef u32 state[5]
    cdef u8 last[2 * BLOCK]
    cdef u32 whole = s.n & ~<u32>(BLOCK - 1), i, tail
    state[0] = 0x67452301U
    state[1] = 0xefcdab89U
    state[2] = 0x98badcfeU
    state[3] = 0x10325476U
    state[4] = 0xc3d2e1f0U
    for i in range(0, whole, 64):
        mix(state, <const u8 *>s.p + i)
    memset(last, 0, sizeof(last))
    if s.n > whole:
        memcpy(last, s.p + whole, s.n - whole)
    last[s.n - whole] = 0x80
    tail = BLOCK if s.n - whole < BLOCK - 8 else 2 * BLOCK
    for i in range(8):
        last[tail - 1 - i] = <u8>((<u64>s.n * 8) >> (8 * i))
    for i in range(0, tail, 64):
        mix(state, last + i)
    for i in range(5):
        out = fmt.hex_pad(out, state[i], 8)
    return out

/* L0: what C can say and Cython cannot: atomics, alignment, assertions, character tables, byte scans.
 *
 * Everything here is static inline and free of state except the live-object counters and dp_bugs,
 * which exist once per extension (each unit that includes this header has its own copies).
 * DP_DEBUG   switches assertions and live-object counters on (make dev, make asan, make tsan).
 * DP_POISON  makes the slab allocator hand every object to malloc/free, so that the address
 *            sanitizer sees each life separately. */
#ifndef GOROUTER_DP_H
#define GOROUTER_DP_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdint.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <errno.h>
#include <unistd.h>
#include <sys/syscall.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define DP_LIKELY(x) __builtin_expect(!!(x), 1)
#define DP_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define DP_CACHE_LINE 64

/* Atomics. The suffix is the weakest order that is right at the call site. */
#define DP_LOAD_RLX(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define DP_LOAD_ACQ(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define DP_LOAD_SEQ(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define DP_STORE_RLX(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define DP_STORE_REL(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define DP_STORE_SEQ(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define DP_ADD_RLX(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define DP_SUB_RLX(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_RELAXED)
#define DP_SUB_AR(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_ACQ_REL)
#define DP_OR_RLX(p, v) __atomic_fetch_or((p), (v), __ATOMIC_RELAXED)
#define DP_XCHG_AR(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
static inline int dp_cas_u32(uint32_t *p, uint32_t want, uint32_t to) {
    return __atomic_compare_exchange_n(p, &want, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}
static inline int dp_cas_u64(uint64_t *p, uint64_t want, uint64_t to) {
    return __atomic_compare_exchange_n(p, &want, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}
static inline int dp_cas_ptr(void **p, void *want, void *to) {
    return __atomic_compare_exchange_n(p, &want, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}
/* A counter with one writer and many readers: no locked instruction needed. */
#define DP_BUMP(p, v) __atomic_store_n((p), __atomic_load_n((p), __ATOMIC_RELAXED) + (v), __ATOMIC_RELAXED)

/* Programmer errors. DP_ASSERT vanishes in release; DP_BUG is counted there and never aborts. */
static uint64_t dp_bugs __attribute__((unused));
#ifdef DP_DEBUG
static inline void dp_assert_failed(const char *what, const char *file, int line) {
    fprintf(stderr, "gorouter-py: assertion failed: %s (%s:%d)\n", what, file, line);
    abort();
}
#define DP_ASSERT(x) ((x) ? (void)0 : dp_assert_failed(#x, __FILE__, __LINE__))
#define DP_BUG(x) (DP_UNLIKELY(x) ? (dp_assert_failed("bug: " #x, __FILE__, __LINE__), 1) : 0)
#define DP_DEBUG_BUILD 1
#else
#define DP_ASSERT(x) ((void)0)
#define DP_BUG(x) (DP_UNLIKELY(x) ? (__atomic_fetch_add(&dp_bugs, 1, __ATOMIC_RELAXED), 1) : 0)
#define DP_DEBUG_BUILD 0
#endif
#ifdef DP_POISON
#define DP_POISON_BUILD 1
#else
#define DP_POISON_BUILD 0
#endif

/* Live objects per type, debug builds only; a test asserts that all are zero after it. */
enum {
    DP_LIVE_BUF, DP_LIVE_ENDPOINT, DP_LIVE_POOL, DP_LIVE_DOWN, DP_LIVE_UP, DP_LIVE_EXCHANGE, DP_LIVE_NODE,
    DP_LIVE_MAPPING, DP_LIVE_SPLIT, DP_LIVE_ROLLOUT, DP_LIVE_KINDS
};
static int64_t dp_live[DP_LIVE_KINDS] __attribute__((unused));
#ifdef DP_DEBUG
#define DP_LIVE(kind, by) ((void)__atomic_fetch_add(&dp_live[kind], (by), __ATOMIC_RELAXED))
#else
#define DP_LIVE(kind, by) ((void)0)
#endif

/* Character classes, one bit each. */
enum { DP_C_TOKEN = 1, DP_C_TARGET = 2, DP_C_HOST = 4, DP_C_DIGIT = 8, DP_C_HEX = 16, DP_C_VALUE = 32, DP_C_COOKIE = 64 };
static const uint8_t dp_class[256] = {
#define T DP_C_TOKEN
#define U DP_C_TARGET
#define H DP_C_HOST
#define D DP_C_DIGIT
#define X DP_C_HEX
#define V DP_C_VALUE
#define K DP_C_COOKIE
    /* RFC 9110 5.6.2 token; RFC 9112 3.2 target (no control, space, '#'; bytes over 0x7f pass); RFC 3986 3.2.2
     * reg-name and port; RFC 9110 5.5 field value; RFC 6265 4.1.1 cookie-octet */
    ['\t'] = V, [' '] = V,
    ['!'] = T|U|H|V|K, ['"'] = U|V, ['#'] = T|V|K, ['$'] = T|U|H|V|K, ['%'] = T|U|H|V|K, ['&'] = T|U|H|V|K, ['\''] = T|U|H|V|K,
    ['('] = U|H|V|K, [')'] = U|H|V|K, ['*'] = T|U|H|V|K, ['+'] = T|U|H|V|K, [','] = U|H|V, ['-'] = T|U|H|V|K, ['.'] = T|U|H|V|K,
    ['/'] = U|V|K, ['0' ... '9'] = T|U|H|D|X|V|K, [':'] = U|H|V|K, [';'] = U|H|V, ['<'] = U|V|K, ['='] = U|H|V|K, ['>'] = U|V|K,
    ['?'] = U|V|K, ['@'] = U|V|K, ['A' ... 'F'] = T|U|H|X|V|K, ['G' ... 'Z'] = T|U|H|V|K, ['['] = U|H|V|K, ['\\'] = U|V,
    [']'] = U|H|V|K, ['^'] = T|U|V|K, ['_'] = T|U|H|V|K, ['`'] = T|U|V|K, ['a' ... 'f'] = T|U|H|X|V|K, ['g' ... 'z'] = T|U|H|V|K,
    ['{'] = U|V|K, ['|'] = T|U|V|K, ['}'] = U|V|K, ['~'] = T|U|H|V|K, [0x80 ... 0xff] = U|V,
#undef T
#undef U
#undef H
#undef D
#undef X
#undef V
#undef K
};
/* Value of a digit of base64url (RFC 4648 5) plus 64; 0 = none of them. */
static const uint8_t dp_base64url[256] = {
#define ROW4(c, v) [c] = 64 + v, [c + 1] = 65 + v, [c + 2] = 66 + v, [c + 3] = 67 + v
    ROW4('A', 0), ROW4('E', 4), ROW4('I', 8), ROW4('M', 12), ROW4('Q', 16), ROW4('U', 20), ['Y'] = 88, ['Z'] = 89,
    ROW4('a', 26), ROW4('e', 30), ROW4('i', 34), ROW4('m', 38), ROW4('q', 42), ROW4('u', 46), ['y'] = 114, ['z'] = 115,
    ROW4('0', 52), ROW4('4', 56), ['8'] = 124, ['9'] = 125, ['-'] = 126, ['_'] = 127,
#undef ROW4
};
/* 64 bits out of 11 digits, the first one on top. 0: one is no digit, or the two bits too many are not zero. Without a
 * branch between digits, and in three parts that do not wait for each other. */
static inline int dp_read_base64url(const char *text, uint64_t *out) {
    const uint8_t *p = (const uint8_t *)text;
    unsigned d[11], all = 64;
#pragma GCC unroll 11
    for (int i = 0; i < 11; i++) all &= d[i] = dp_base64url[p[i]];
    uint32_t top = (d[0] & 63) << 18 | (d[1] & 63) << 12 | (d[2] & 63) << 6 | (d[3] & 63);
    uint32_t middle = (d[4] & 63) << 18 | (d[5] & 63) << 12 | (d[6] & 63) << 6 | (d[7] & 63);
    uint32_t low = (d[8] & 63) << 12 | (d[9] & 63) << 6 | (d[10] & 63);
    *out = (uint64_t)top << 40 | (uint64_t)middle << 16 | low >> 2;
    return all != 0 && (low & 3) == 0;
}
/* The same of the 11 digits behind any 5 bytes at p, all at once. */
static inline int dp_read_base64url_at_5(const char *p, uint64_t *out) {
#if defined(__SSE2__)
    const __m128i v = _mm_loadu_si128((const __m128i *)p);
#define BETWEEN(a, z) _mm_and_si128(_mm_cmpgt_epi8(v, _mm_set1_epi8(a - 1)), _mm_cmpgt_epi8(_mm_set1_epi8(z + 1), v))
    const __m128i upper = BETWEEN('A', 'Z'), lower = BETWEEN('a', 'z'), digit = BETWEEN('0', '9');
#undef BETWEEN
    const __m128i dash = _mm_cmpeq_epi8(v, _mm_set1_epi8('-')), under = _mm_cmpeq_epi8(v, _mm_set1_epi8('_'));
    const __m128i letters = _mm_or_si128(upper, lower), rest = _mm_or_si128(digit, _mm_or_si128(dash, under));
    if ((_mm_movemask_epi8(_mm_or_si128(letters, rest)) >> 5) != 0x7ff) return 0;
    /* each range by its own distance from its values */
    const __m128i away = _mm_or_si128(
        _mm_or_si128(_mm_and_si128(upper, _mm_set1_epi8(-'A')), _mm_and_si128(lower, _mm_set1_epi8(26 - 'a'))),
        _mm_or_si128(_mm_and_si128(digit, _mm_set1_epi8(52 - '0')),
                     _mm_or_si128(_mm_and_si128(dash, _mm_set1_epi8(62 - '-')), _mm_and_si128(under, _mm_set1_epi8(63 - '_')))));
    const __m128i values = _mm_and_si128(_mm_add_epi8(v, away), _mm_set_epi32(-1, -1, (int)0xffffff00u, 0));
    const __m128i pairs = _mm_or_si128(_mm_slli_epi16(_mm_and_si128(values, _mm_set1_epi16(0xff)), 6), _mm_srli_epi16(values, 8));
    const __m128i fours = _mm_madd_epi16(pairs, _mm_set1_epi32(0x00011000));
    const uint64_t top = (uint64_t)_mm_cvtsi128_si64(fours) >> 32;
    const uint64_t low = (uint64_t)_mm_cvtsi128_si64(_mm_unpackhi_epi64(fours, fours));
    *out = top << 46 | (low & 0xffffffffu) << 22 | low >> 34;
    return (low >> 32 & 3) == 0;
#else
    return dp_read_base64url(p + 5, out);
#endif
}
#define DP_IS(c, bits) (dp_class[(uint8_t)(c)] & (bits))
#define DP_LOWER(c) ((uint8_t)((c) | (((unsigned)((uint8_t)(c) - 'A') < 26u) << 5)))

/* First byte in [p, end) that may not stand in a field value (a control other than HTAB, or DEL); end if none.
 * Never reads at or past end. */
static inline const char *dp_scan_value(const char *p, const char *end) {
#if defined(__SSE2__)
    const __m128i tab = _mm_set1_epi8('\t'), del = _mm_set1_epi8(0x7f), top = _mm_set1_epi8(0x1f);
    while (end - p >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)p);
        __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, top), v);             /* v <= 0x1f, unsigned */
        low = _mm_andnot_si128(_mm_cmpeq_epi8(v, tab), low);
        int bits = _mm_movemask_epi8(_mm_or_si128(low, _mm_cmpeq_epi8(v, del)));
        if (bits) return p + __builtin_ctz((unsigned)bits);
        p += 16;
    }
#endif
    while (p < end && DP_IS(*p, DP_C_VALUE)) p++;
    return p;
}
/* First byte in [p, end) whose class lacks the bit; end if none. */
static inline const char *dp_scan_class(const char *p, const char *end, int bit) {
    while (p < end && DP_IS(*p, bit)) p++;
    return p;
}
/* ASCII case-insensitive comparison of n bytes; b must already be lower case. */
static inline int dp_ieq(const char *a, const char *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (DP_LOWER(a[i]) != (uint8_t)b[i]) return 0;
    return 1;
}

/* 64-bit hash of n bytes: 8 at a time, folded by a 128-bit product. Not for secrets. */
static inline uint64_t dp_mix(uint64_t a, uint64_t b) {
    __uint128_t r = (__uint128_t)a * b;
    return (uint64_t)r ^ (uint64_t)(r >> 64);
}
static inline uint64_t dp_hash(const char *p, size_t n, uint64_t seed) {
    uint64_t h = seed ^ 0x9e3779b97f4a7c15ull ^ n, w;
    while (n >= 8) {
        memcpy(&w, p, 8);
        h = dp_mix(h ^ w, 0xa0761d6478bd642full);
        p += 8;
        n -= 8;
    }
    if (n) {
        w = 0;
        memcpy(&w, p, n);
        h = dp_mix(h ^ w, 0xe7037ed1a0b428dbull);
    }
    return dp_mix(h, 0x8ebc6af09c88c6e3ull);
}

#define DP_CONTAINER(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))
static inline void *dp_aligned_alloc(size_t n) {
    void *p = NULL;
    return posix_memalign(&p, DP_CACHE_LINE, (n + DP_CACHE_LINE - 1) & ~(size_t)(DP_CACHE_LINE - 1)) == 0 ? p : NULL;
}
/* Asks the scheduler for a short slice: a thread that has one and wakes up goes before threads with a longer one on its
 * CPU (EEVDF, Linux 6.12; older kernels take no notice). Needs no privilege. */
static inline void dp_short_slice(void) {
#if defined(__linux__) && defined(SYS_sched_setattr)
    struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t runtime, deadline, period; } a;
    memset(&a, 0, sizeof(a));
    a.size = sizeof(a);
    a.runtime = 100000; /* ns, the least there is */
    syscall(SYS_sched_setattr, 0, &a, 0);
#endif
}
static inline int dp_errno(void) { return errno; }
static inline void dp_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}
#endif

# L0: the face of dp.h. Atomics are named for the width and the weakest order that is right at the call.
from gorouter_py.fastpath.base.types cimport u8, u16, u32, u64, i64

cdef extern from "dp.h" nogil:
    bint likely "DP_LIKELY"(bint x) noexcept
    bint unlikely "DP_UNLIKELY"(bint x) noexcept

    u8 load8 "DP_LOAD_RLX"(u8 *p) noexcept
    u32 load32 "DP_LOAD_RLX"(u32 *p) noexcept
    u64 load64 "DP_LOAD_RLX"(u64 *p) noexcept
    u32 load32_acq "DP_LOAD_ACQ"(u32 *p) noexcept
    u64 load64_acq "DP_LOAD_ACQ"(u64 *p) noexcept
    u64 load64_seq "DP_LOAD_SEQ"(u64 *p) noexcept
    void *loadp "DP_LOAD_RLX"(void **p) noexcept
    void *loadp_acq "DP_LOAD_ACQ"(void **p) noexcept
    void store8 "DP_STORE_RLX"(u8 *p, u8 v) noexcept
    void store32 "DP_STORE_RLX"(u32 *p, u32 v) noexcept
    u16 load16_acq "DP_LOAD_ACQ"(u16 *p) noexcept
    void store16_rel "DP_STORE_REL"(u16 *p, u16 v) noexcept
    void store32_rel "DP_STORE_REL"(u32 *p, u32 v) noexcept
    void store32_seq "DP_STORE_SEQ"(u32 *p, u32 v) noexcept
    u32 load32_seq "DP_LOAD_SEQ"(u32 *p) noexcept
    void store64 "DP_STORE_RLX"(u64 *p, u64 v) noexcept
    void store64_rel "DP_STORE_REL"(u64 *p, u64 v) noexcept
    void store64_seq "DP_STORE_SEQ"(u64 *p, u64 v) noexcept
    void storep_rel "DP_STORE_REL"(void **p, void *v) noexcept
    u32 add32 "DP_ADD_RLX"(u32 *p, u32 v) noexcept
    u64 add64 "DP_ADD_RLX"(u64 *p, u64 v) noexcept
    u32 sub32 "DP_SUB_RLX"(u32 *p, u32 v) noexcept
    u64 sub64 "DP_SUB_RLX"(u64 *p, u64 v) noexcept
    u32 sub32_ar "DP_SUB_AR"(u32 *p, u32 v) noexcept
    u64 or64 "DP_OR_RLX"(u64 *p, u64 v) noexcept
    u32 xchg32_ar "DP_XCHG_AR"(u32 *p, u32 v) noexcept
    void *xchgp_ar "DP_XCHG_AR"(void **p, void *v) noexcept
    bint cas32 "dp_cas_u32"(u32 *p, u32 want, u32 to) noexcept
    bint cas64 "dp_cas_u64"(u64 *p, u64 want, u64 to) noexcept
    bint casp "dp_cas_ptr"(void **p, void *want, void *to) noexcept
    void bump64 "DP_BUMP"(u64 *p, u64 v) noexcept

    void check "DP_ASSERT"(bint x) noexcept
    bint bug "DP_BUG"(bint x) noexcept
    u64 bugs "dp_bugs"
    i64 live_counts "dp_live"[]
    void live "DP_LIVE"(int kind, i64 by) noexcept
    enum:
        DEBUG_BUILD "DP_DEBUG_BUILD"
        POISON_BUILD "DP_POISON_BUILD"
        LIVE_BUF "DP_LIVE_BUF"
        LIVE_ENDPOINT "DP_LIVE_ENDPOINT"
        LIVE_POOL "DP_LIVE_POOL"
        LIVE_DOWN "DP_LIVE_DOWN"
        LIVE_UP "DP_LIVE_UP"
        LIVE_EXCHANGE "DP_LIVE_EXCHANGE"
        LIVE_NODE "DP_LIVE_NODE"
        LIVE_MAPPING "DP_LIVE_MAPPING"
        LIVE_SPLIT "DP_LIVE_SPLIT"
        LIVE_ROLLOUT "DP_LIVE_ROLLOUT"
        LIVE_KINDS "DP_LIVE_KINDS"

    enum:
        C_TOKEN "DP_C_TOKEN"
        C_TARGET "DP_C_TARGET"
        C_HOST "DP_C_HOST"
        C_DIGIT "DP_C_DIGIT"
        C_HEX "DP_C_HEX"
        C_VALUE "DP_C_VALUE"
        C_COOKIE "DP_C_COOKIE"
    bint char_is "DP_IS"(char c, int bits) noexcept
    u8 lower "DP_LOWER"(char c) noexcept
    const char *scan_value "dp_scan_value"(const char *p, const char *end) noexcept
    bint read_base64url "dp_read_base64url"(const char *text, u64 *out) noexcept
    bint read_base64url_at_5 "dp_read_base64url_at_5"(const char *p, u64 *out) noexcept
    const char *scan_class "dp_scan_class"(const char *p, const char *end, int bit) noexcept
    bint ieq "dp_ieq"(const char *a, const char *b_lower, size_t n) noexcept
    u64 hash64 "dp_hash"(const char *p, size_t n, u64 seed) noexcept
    u64 mix64 "dp_mix"(u64 a, u64 b) noexcept

    void *aligned_alloc "dp_aligned_alloc"(size_t n) noexcept
    void short_slice "dp_short_slice"() noexcept
    int get_errno "dp_errno"() noexcept
    void cpu_pause "dp_pause"() noexcept

# L1: what lives on through a rollout, whatever its weights do: the draw, the turns of each version, the budget of
# retries, the units that have failed. Shared by all workers, atomics only, nobody waits.
#
# A Rollout is made and freed by the writer's thread. Readers reach it by way of a Split within a turn of their epoch;
# who keeps it over turns counts that in a place of its own (net/tally), which the writer looks at before it frees.
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from gorouter_py.fastpath.base.types cimport u8, u16, u32, u64
from gorouter_py.fastpath.base cimport dp, limits, rng

cdef enum:
    WEYL = 40503                # odd and next to 65536 / golden ratio: any n draws in turn lie evenly
    SHARES = 64                 # unanswered draws that others may follow, a power of two
    CURSOR_STEP = 16            # a cursor a cache line
    ADDRESSES = 4096            # cells of failures by client address, a power of two
    BUDGET_MS = 10000           # retries are granted by the requests of this and the last such window
    BUDGET_LEAST = 10           # retries in a window, however few requests
    PROBES_SOON = 10            # tries of a version that has failed that follow each other quickly,
    PROBE_SOON_MS = 100         # so far apart: evidence comes soon
    PROBE_MS = 1000             # and those after them

# What a unit's first failure is counted as.
cdef enum Metric:
    M_FAILURE = 0
    M_SLOW
    M_CLIENT_ERROR
    METRICS

# A draw whose request has no answer yet. Found by key; who cannot have `busy` at once draws for itself.
cdef struct Share:
    u64 id                  # atomic: the coordinate's 64 bits; 0 = free
    u64 key                 # the rest under busy
    u64 until_ms
    u32 sharers
    u32 busy                # atomic

cdef struct Rollout:
    u64 id
    u32 first               # where the draws began
    u32 lost                # writer only: no reader can come by it any more
    char pad0[48]
    u64 draws               # atomic
    u64 copies              # atomic: requests asked whether they are to be mirrored
    char pad1[48]
    u64 slow_ns             # atomic: above this an answer is slow; 0 = never
    u64 warmup_ms           # atomic: an endpoint is not slow within this time of its registration
    u32 address_cap         # atomic: first failures that count per client address; 0 = no bound
    u32 count_4xx           # atomic
    u32 forwarded_for       # atomic: a client's address is the last of X-Forwarded-For
    u64 window_ms           # atomic: when this window of the budget began
    u64 window_base         # atomic: requests when the window before began
    u64 window_here         # atomic: requests when this one began
    u64 window_used         # atomic: retries granted in this one
    u64 denied              # atomic
    u64 marked[METRICS]     # atomic: bits set in each bitmap
    u64 *bits[METRICS]      # of limits.UNIT_BITS bits, atomic words
    void *tallies[limits.WORKERS_MAX]       # atomic: what each worker keeps, net/tally
    u64 probe_ms[limits.VERSIONS_MAX]       # atomic: when a version that has failed may be tried again
    u32 probes[limits.VERSIONS_MAX]         # atomic: how often it was, since it was last well
    u32 by_address[ADDRESSES]               # atomic: first failures of addresses with one hash
    Share shares[SHARES]
    u32 cursors[limits.VERSIONS_MAX * CURSOR_STEP]  # atomic: round robin inside each version

# NULL when memory is out. start: 16 random bits.
cdef inline Rollout *create(u64 id, u16 start) noexcept nogil:
    cdef Rollout *r = <Rollout *>dp.aligned_alloc(sizeof(Rollout))
    cdef u32 i
    if r == NULL:
        return NULL
    memset(r, 0, sizeof(Rollout))
    r.id = id
    r.first = start
    dp.live(dp.LIVE_ROLLOUT, 1)
    for i in range(METRICS):
        r.bits[i] = <u64 *>calloc(limits.UNIT_BITS // 64, sizeof(u64))
        if r.bits[i] == NULL:
            destroy(r)
            return NULL
    return r

# Nobody can reach it any more, and the tallies are gone.
cdef inline void destroy(Rollout *r) noexcept nogil:
    cdef u32 i
    for i in range(METRICS):
        free(r.bits[i])
    free(r)
    dp.live(dp.LIVE_ROLLOUT, -1)

cdef inline u32 *cursor(Rollout *r, u32 version) noexcept nogil:
    return &r.cursors[version * CURSOR_STEP]

# For epoch.retire, when no split leads here any more: who holds it yet is in the tallies.
cdef inline void lose(void *r) noexcept nogil:
    (<Rollout *>r).lost = 1

# ---- the draw ------------------------------------------------------------------------------------------------------

cdef inline u16 nth_draw(const Rollout *r, u64 n) noexcept nogil:
    return <u16>(r.first + n * WEYL)

cdef inline u16 draw(Rollout *r) noexcept nogil:
    return nth_draw(r, dp.add64(&r.draws, 1))

# Is this one of the requests that are mirrored? share: of 65536.
cdef inline bint draws_copy(Rollout *r, u32 share) noexcept nogil:
    return <u16>(dp.add64(&r.copies, 1) * WEYL) < share

# A new coordinate: the draw on top, random bits below; never 0.
cdef inline u64 new_id(Rollout *r, u64 random) noexcept nogil:
    return (<u64>draw(r) << 48) | (random & 0xffffffffffffULL) | 1

# A coordinate for a client without one; key tells clients apart. The same as that of another request with this key which
# has no answer yet: then *place is -1; else where to say that there is one (answered), or -1.
cdef inline u64 draw_shared(Rollout *r, u64 key, u64 random, u64 now_ms, int *place, bint *shared) noexcept nogil:
    cdef u32 at = <u32>(key >> 32) & (SHARES - 1)
    cdef Share *s = &r.shares[at]
    cdef u64 id
    place[0] = -1
    shared[0] = False
    if not dp.cas32(&s.busy, 0, 1):
        return new_id(r, random)
    id = dp.load64_acq(&s.id)
    if id and now_ms >= s.until_ms:
        id = 0
    if id and s.key == key and s.sharers < limits.SHARERS_MAX:
        s.sharers += 1
        shared[0] = True
    elif id == 0:
        id = new_id(r, random)
        s.key = key
        s.until_ms = now_ms + limits.SHARE_MS
        s.sharers = 0
        dp.store64_rel(&s.id, id)
        place[0] = <int>at
    else:
        id = new_id(r, random)
    dp.store32_rel(&s.busy, 0)
    return id

# The request that drew id has its answer.
cdef inline void answered(Rollout *r, int place, u64 id) noexcept nogil:
    dp.cas64(&r.shares[place].id, id, 0)

# ---- the budget of retries -----------------------------------------------------------------------------------------

# Retries granted in a window, by the requests of the whole rollout up to now.
cdef inline u64 allowance(const Rollout *r, u64 requests, u32 percent) noexcept nogil:
    cdef u64 base = dp.load64(&r.window_base)
    return BUDGET_LEAST + (requests - base if requests > base else 0) * percent // 100

# Would grant() say yes?
cdef inline bint may_grant(const Rollout *r, u64 requests, u32 percent, u64 now_ms) noexcept nogil:
    return (now_ms >= dp.load64(&r.window_ms) + BUDGET_MS
            or dp.load64(&r.window_used) < allowance(r, requests, percent))

# May one more attempt go to the stable version? requests: of the whole rollout up to now.
cdef inline bint grant(Rollout *r, u64 requests, u32 percent, u64 now_ms) noexcept nogil:
    cdef u64 began = dp.load64(&r.window_ms)
    if now_ms >= began + BUDGET_MS and dp.cas64(&r.window_ms, began, now_ms):
        # one worker turns the window; what others grant meanwhile goes by the old one
        dp.store64(&r.window_base, dp.load64(&r.window_here) if now_ms < began + 2 * BUDGET_MS else requests)
        dp.store64(&r.window_here, requests)
        dp.store64(&r.window_used, 0)
    if dp.add64(&r.window_used, 1) < allowance(r, requests, percent):
        return True
    dp.sub64(&r.window_used, 1)
    dp.add64(&r.denied, 1)
    return False

# ---- versions that have failed altogether --------------------------------------------------------------------------

# May this request try one of its endpoints all the same? One a time.
cdef inline bint may_probe(Rollout *r, u32 version, u64 now_ms) noexcept nogil:
    cdef u64 at = dp.load64(&r.probe_ms[version])
    cdef u64 each_ms = PROBE_SOON_MS if dp.load32(&r.probes[version]) < PROBES_SOON else PROBE_MS
    if now_ms < at or not dp.cas64(&r.probe_ms[version], at, now_ms + each_ms):
        return False
    dp.add32(&r.probes[version], 1)
    return True

# One of its endpoints has answered.
cdef inline void is_well(Rollout *r, u32 version) noexcept nogil:
    dp.store32(&r.probes[version], 0)

# ---- units that have failed ----------------------------------------------------------------------------------------

# Notes a unit's failure. True the first time; units share bits, a few at most while few are set.
cdef inline bint mark(Rollout *r, u32 metric, u64 unit) noexcept nogil:
    cdef u64 h = dp.mix64(unit ^ 0x9e3779b97f4a7c15ULL, 0xa0761d6478bd642fULL)
    cdef u64 bit = <u64>1 << (h & 63)
    if dp.or64(&r.bits[metric][(h >> 6) & (limits.UNIT_BITS // 64 - 1)], bit) & bit:
        return False
    dp.add64(&r.marked[metric], 1)
    return True

# May this address have one more first failure?
cdef inline bint is_over_cap(Rollout *r, u64 address, u32 cap) noexcept nogil:
    return cap != 0 and dp.load32(&r.by_address[address & (ADDRESSES - 1)]) >= cap

cdef inline void count_address(Rollout *r, u64 address) noexcept nogil:
    dp.add32(&r.by_address[address & (ADDRESSES - 1)], 1)

# L1: what a worker counts for a rollout, and the ring of outcomes that the verdict on a version is made of.
#
# One writer, its worker; control reads without locks, as in net/tap. Users are counted by HyperLogLog (Flajolet et al.,
# 2007) of 2^14 registers: some 0.8 % off, whatever their number; control merges the workers' registers.
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64
from gorouter_py.fastpath.base cimport dp, limits
from gorouter_py.fastpath.net cimport tap
from gorouter_py.fastpath.net.tap cimport Series

cdef enum:
    REGISTERS = 16384
    REGISTER_BITS = 14
    SAMPLES = 128               # clients of the latest sampled requests, a power of two
    SAMPLE_EACH = 32            # requests of a worker of which one is sampled
    SAMPLE_WORDS = 6            # of what a client is called

# Why a request failed.
cdef enum Cause:
    CAUSE_STATUS = 0        # the app's own 5xx
    CAUSE_CONNECT
    CAUSE_TIMEOUT
    CAUSE_RESET
    CAUSE_PROTOCOL          # what came was no answer
    CAUSE_LIMIT             # no endpoint could take it
    CAUSES

# Who made one request. unit: odd, 0 while it is written; words: what the client is called, filled up with zeros.
cdef struct Sample:
    u64 unit                # atomic
    u64 words[SAMPLE_WORDS] # atomic

# One version's numbers.
cdef struct Lane:
    Series series           # requests by class of status, latency to the response head
    u64 failures[CAUSES]    # requests, not units
    u64 drawn               # coordinates drawn that fell here
    u64 failovers           # requests that stable took because nothing fit was here
    u64 retries             # failed attempts that stable repeated
    u64 kept                # requests of sticky clients whose coordinate is another version's
    u64 forced              # by override or rule
    u64 excluded            # failures that are no evidence
    u64 mirrored
    u64 mirror_failures
    u64 mirror_skipped      # too large, too many, or nobody there
    u8 registers[REGISTERS]
    u64 sampled
    Sample samples[SAMPLES]

cdef struct Tally:
    u64 held                # atomic: exchanges that keep the rollout
    u64 requests
    u64 outcomes_dropped
    Lane *lanes[256]        # atomic pointers; by version, the last one for endpoints of none

cdef inline Tally *create() noexcept nogil:
    return <Tally *>calloc(1, sizeof(Tally))

cdef inline void destroy(Tally *t) noexcept nogil:
    cdef u32 i
    if t == NULL:
        return
    for i in range(256):
        free(t.lanes[i])
    free(t)

# The numbers of a version, made when they are wanted first; NULL when memory is out.
cdef inline Lane *lane(Tally *t, u8 version) noexcept nogil:
    cdef Lane *l = t.lanes[version]
    if l == NULL:
        l = <Lane *>calloc(1, sizeof(Lane))
        if l != NULL:
            dp.storep_rel(<void **>&t.lanes[version], l)
    return l

cdef extern from *:
    int ctz64 "__builtin_ctzll"(unsigned long long v) noexcept nogil

# Notes a user.
cdef inline void see(Lane *l, u64 unit) noexcept nogil:
    cdef u64 h = dp.mix64(unit ^ 0xd1b54a32d192ed03ULL, 0x9e3779b97f4a7c15ULL)
    cdef u8 rank = <u8>(ctz64((h >> REGISTER_BITS) | (<u64>1 << (64 - REGISTER_BITS))) + 1)
    cdef u8 *r = &l.registers[h & (REGISTERS - 1)]
    if dp.load8(r) < rank:
        dp.store8(r, rank)

# Notes who made a request. The name is cut where there is no room.
cdef inline void sample(Lane *l, u64 unit, Span name) noexcept nogil:
    cdef Sample *s = &l.samples[l.sampled & (SAMPLES - 1)]
    cdef u64 words[SAMPLE_WORDS]
    cdef u32 i
    memset(words, 0, sizeof(words))
    if name.n:
        memcpy(words, name.p, name.n if name.n < sizeof(words) else sizeof(words))
    dp.store64(&s.unit, 0)
    for i in range(SAMPLE_WORDS):
        dp.store64(&s.words[i], words[i])
    dp.store64_rel(&s.unit, unit | 1)
    l.sampled += 1

# ---- outcome ring: one producer (worker), one consumer (control) ---------------------------------------------------

cdef struct Outcome:
    u64 at_ns
    u64 rollout
    u64 unit
    u64 latency_ns
    int fault               # flow/fault.h; 0 = the app's own answer
    u16 u
    u16 status
    u8 version
    u8 metric
    u8 cause
    u8 method_n
    u8 path_n
    u8 address_n
    char method[16]
    char path[160]
    char request_id[36]
    char address[46]

cdef struct OutcomeRing:
    u64 head
    u8 pad0[56]
    u64 tail
    u8 pad1[56]
    Outcome *items

cdef inline int outcome_init(OutcomeRing *r) noexcept nogil:
    memset(r, 0, sizeof(OutcomeRing))
    r.items = <Outcome *>calloc(limits.OUTCOME_RING, sizeof(Outcome))
    return 0 if r.items != NULL else -16

# A slot to fill, made visible by outcome_commit; NULL when the ring is full.
cdef inline Outcome *outcome_slot(OutcomeRing *r) noexcept nogil:
    if r.head - dp.load64_acq(&r.tail) >= <u64>limits.OUTCOME_RING:
        return NULL
    return &r.items[r.head & (limits.OUTCOME_RING - 1)]

cdef inline void outcome_commit(OutcomeRing *r) noexcept nogil:
    dp.store64_rel(&r.head, r.head + 1)

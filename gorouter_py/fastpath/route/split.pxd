# L1: how a route's requests are split over versions. A Plan is what control wants (weights, rules, options), a Split is a
# Plan with the endpoints of the moment; both are immutable once published.
#
# The coordinate space [0, 65536) is cut into intervals, each of one version. Another weight is another Plan: borders move,
# no client's coordinate does. A change among the endpoints is another Split of the same Plan: the route's array and the
# split over it are published as one. Readers come by the array within a turn of their epoch; one cell of memory holds a
# Split and the arrays of its versions.
from libc.stdlib cimport free, malloc
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64
from gorouter_py.fastpath.base cimport dp, limits
from gorouter_py.fastpath.route cimport endpoint, rollout
from gorouter_py.fastpath.route.endpoint cimport Endpoint, EndpointArray, Pool
from gorouter_py.fastpath.route.rollout cimport Rollout

cdef enum Mode:
    MODE_COOKIE = 0
    MODE_IDENTITY
    MODE_REQUEST

# What a rule, or an identity, looks at.
cdef enum Where:
    BY_HEADER = 1
    BY_COOKIE
    BY_AGENT
    BY_ADDRESS
    BY_COHORT

cdef enum Op:
    OP_EQUALS = 0
    OP_PREFIX
    OP_CONTAINS
    OP_PRESENT

# A rule or an override's token. The bytes belong to the Plan.
cdef struct Match:
    u8 where
    u8 op
    u8 version
    u8 bits                 # BY_ADDRESS: of net that count
    u8 net_len              # 4 or 16
    u8 net[16]
    u32 share               # BY_COHORT: of 65536
    u64 label               # BY_COHORT: seed of the rule's own cohort
    Span name               # lower case for a header
    Span value

cdef struct Plan:
    u32 refs                # writer only: the splits that go by it
    Rollout *state
    u16 salt
    u8 n_versions
    u8 stable
    u8 mode
    u8 identity_where       # MODE_IDENTITY: BY_HEADER, BY_COOKIE or BY_ADDRESS
    u8 identity_bits4       # BY_ADDRESS: of an IPv4 address that count
    u8 identity_bits6
    Span identity
    bint sessions_new_only
    bint is_bare            # the coordinate in a cookie is all there is to look at: see seal()
    bint is_signed
    u8 key[16]              # of signed cookies
    u32 cookie_max_age_s
    bint sticky_keep
    u8 keep[256]            # versions a sticky client may stay in
    bint retry_on_stable
    u32 retry_budget_percent
    bint forwarded_for      # a client's address is the last of X-Forwarded-For
    bint propagate
    int mirror_version      # -1 = none
    u32 mirror_share        # of 65536
    u32 n_intervals
    u32 ends[limits.INTERVALS_MAX]      # exclusive, ascending; the last is 65536
    u8 owners[limits.INTERVALS_MAX]
    u32 n_rules
    Match rules[limits.MATCHES_MAX]
    u32 n_overrides
    Match overrides[limits.MATCHES_MAX]
    Span names[limits.VERSIONS_MAX]
    char *text              # what the spans point into

cdef struct Split:
    Plan *plan
    u32 n                   # versions
    EndpointArray *arrays[1]    # by version; they lie behind this list

# ---- readers -------------------------------------------------------------------------------------------------------

# Where an array that is split has its split.
cdef inline Split **of_array(EndpointArray *a) noexcept nogil:
    return <Split **>&(<u64 *>&a.items[a.n])[a.n]

# The route's split; NULL without a rollout.
cdef inline Split *of(Pool *p) noexcept nogil:
    cdef EndpointArray *a = <EndpointArray *>dp.loadp_acq(<void **>&p.array)
    return of_array(a)[0] if dp.unlikely(a != NULL and a.is_split != 0) else NULL

# Where in the space a coordinate stands in this rollout.
cdef inline u16 slot_of(const Plan *p, u16 u) noexcept nogil:
    return <u16>(u + p.salt)

# The version that owns a slot.
cdef inline u8 version_of(const Plan *p, u16 slot) noexcept nogil:
    cdef u32 low = 0, high = p.n_intervals - 1, middle
    while low < high:
        middle = (low + high) // 2
        if slot < p.ends[middle]:
            high = middle
        else:
            low = middle + 1
    return p.owners[low]

# ---- the writer ----------------------------------------------------------------------------------------------------

# To be called when all options are set: may a request that brings a coordinate go by that alone?
cdef inline void seal(Plan *p) noexcept nogil:
    p.is_bare = (p.mode == MODE_COOKIE and not p.is_signed and p.n_overrides == 0 and p.n_rules == 0
                 and not p.sticky_keep)

cdef inline void plan_unref(Plan *p) noexcept nogil:
    p.refs -= 1
    if p.refs == 0:
        free(p.text)
        free(p)

cdef inline void split_free(void *s) noexcept nogil:
    plan_unref((<Split *>s).plan)
    free(s)
    dp.live(dp.LIVE_SPLIT, -1)

# A plan over an array of endpoints (NULL: none); NULL when memory is out. Holds a reference of its own to the plan.
cdef inline Split *split_new(Plan *plan, EndpointArray *a) noexcept nogil:
    cdef u32 total = a.n if a != NULL else 0
    cdef u32 counts[256]
    cdef size_t size
    cdef Split *s
    cdef EndpointArray *to
    cdef char *at
    cdef u32 i, v
    for v in range(256):
        counts[v] = 0
    for i in range(total):
        counts[a.items[i].version] += 1
    size = sizeof(Split) + plan.n_versions * (sizeof(void *) + sizeof(u64)) + <size_t>total * 16
    s = <Split *>malloc(size)
    if s == NULL:
        return NULL
    s.plan = plan
    s.n = plan.n_versions
    at = <char *>&s.arrays[s.n]
    for v in range(s.n):
        to = <EndpointArray *>at
        to.n = counts[v]
        to.is_split = 0
        s.arrays[v] = to
        at += sizeof(u64) + <size_t>to.n * 16       # as endpoint.EndpointArray says
        counts[v] = 0
    for i in range(total):
        v = a.items[i].version
        if v < s.n:
            to = s.arrays[v]
            to.items[counts[v]] = a.items[i]
            (<u64 *>&to.items[to.n])[counts[v]] = a.items[i].id_hash
            counts[v] += 1
    plan.refs += 1
    dp.live(dp.LIVE_SPLIT, 1)
    return s

# Has the route a rollout?
cdef inline bint is_split(const Pool *p) noexcept nogil:
    return p.array != NULL and p.array.is_split != 0

# Splits the array that p is to have next as its present one is. False: memory is out.
cdef inline bint resplit(Pool *p, EndpointArray *a) noexcept nogil:
    if dp.likely(a == NULL or not a.is_split):
        return True
    of_array(a)[0] = split_new(of(p).plan, a)
    return of_array(a)[0] != NULL

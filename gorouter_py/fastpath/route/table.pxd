# L1: host and context path -> pool. One hash table, one writer, readers without a lock.
#
# A node per key "host" or "host/context/path", lower case: the Pool itself. A host has a node as soon as the host or
# a path under it is registered; the node's depth bounds the probes for paths, so a host without paths costs one probe.
# A slot is one word: 15 bits of the hash and the pointer. Open addressing, linear; a key that goes leaves a tombstone;
# at 3/4 full a copy is made, published, and the old slots retired. There is always an empty slot.
# find: a reader within a turn of its epoch; everything else, init and destroy included: the writer's thread.
# What find returns lives until the reader's next quiescent state, unless a reference is taken (balance, sticky do).
# Names are not resolved here, time-outs of registrations and equal addresses are control's work.
from libc.stdlib cimport malloc, free
from libc.string cimport memcmp
from gorouter_py.fastpath.base.types cimport AGAIN, u8, u16, u32, u64
from gorouter_py.fastpath.base cimport dp, limits, rng, span
from gorouter_py.fastpath.route cimport cells, endpoint, epoch, key, split
from gorouter_py.fastpath.route.endpoint cimport Endpoint, EndpointArray, Pool, PoolOptions
from gorouter_py.fastpath.route.split cimport Plan

cdef extern from * nogil:
    """
    #define ROUTE_TAG 0xffff000000000000ull
    #define ROUTE_ADDRESS 0x0000ffffffffffffull
    #define ROUTE_TAG_USED 0x8000000000000000ull
    """
    const u64 TAG "ROUTE_TAG"
    const u64 ADDRESS "ROUTE_ADDRESS"
    const u64 TAG_USED "ROUTE_TAG_USED"     # set in every tag, so that no tag equals a tombstone's

cdef enum:
    EMPTY = 0
    TOMB = 1
    SLOTS_MIN = 64

cdef struct Slots:
    u64 seed
    u64 mask
    u64 words[1]

cdef struct Table:
    Slots *slots            # atomic
    u32 wildcards           # atomic: nodes whose host begins with "*."
    char pad[52]            # what follows is written with every change: on other cache lines
    u64 used                # words with a node
    u64 tombs
    u64 routes              # atomic: published pools, empty ones included
    cells.Cells *cells      # for endpoint_new
    u16 n_options
    PoolOptions options[limits.POOL_OPTIONS_MAX]    # [1, n_options] never change; 0 stands for none
    epoch.Epoch epoch

# -- lookup: readers ---------------------------------------------------------------------------------------------------

cdef inline Pool *probe(Slots *s, const char *text, u32 n) noexcept nogil:
    cdef u64 h = dp.hash64(text, n, s.seed)
    cdef u64 tag = (h | TAG_USED) & TAG
    cdef u64 i = h & s.mask
    cdef u64 w
    cdef Pool *p
    while True:
        w = dp.load64_acq(&s.words[i])
        if w == EMPTY:
            return NULL
        if (w & TAG) == tag:
            p = <Pool *>(w & ADDRESS)
            if p.key_len == n and memcmp(p.key, text, n) == 0:
                return p
        i = (i + 1) & s.mask

cdef inline EndpointArray *load_array(Pool *p) noexcept nogil:
    return <EndpointArray *>dp.loadp_acq(<void **>&p.array)

# The best pool under a host that has context paths. host stands in a buffer with room for a key behind it.
# gorouter: the longest prefix by whole segments that has an instance, else the longest that is a route.
cdef inline Pool *find_path(Slots *s, Pool *root, char *host, u32 host_n, const char *path, u32 path_n,
                            u32 depth) noexcept nogil:
    cdef u16 ends[limits.PATH_SEGMENTS_MAX]
    cdef u32 count = 0
    cdef u32 i
    cdef u32 room = limits.KEY_MAX - host_n
    cdef Pool *vacant = NULL
    cdef Pool *p
    cdef EndpointArray *a
    if depth > limits.PATH_SEGMENTS_MAX:
        depth = limits.PATH_SEGMENTS_MAX
    if path_n and path[path_n - 1] == c'/':
        path_n -= 1
    if path_n:
        i = 1
        while count < depth and i <= path_n and i <= room:
            if i == path_n or path[i] == c'/':
                ends[count] = <u16>i
                count += 1
            i += 1
    if count:
        key.lower_copy(host + host_n, path, ends[count - 1])
    while True:
        p = probe(s, host, host_n + ends[count - 1]) if count else root
        if p != NULL:
            a = load_array(p)
            if a != NULL:
                if a.n:
                    return p
                if vacant == NULL:
                    vacant = p
        if count == 0:
            return vacant
        count -= 1

cdef inline Pool *find_host(Slots *s, char *host, u32 host_n, const char *path, u32 path_n) noexcept nogil:
    cdef Pool *p = probe(s, host, host_n)
    cdef u32 depth
    if p == NULL:
        return NULL
    depth = dp.load8(&p.depth)
    if dp.likely(depth == 0):
        return p if load_array(p) != NULL else NULL
    return find_path(s, p, host, host_n, path, path_n, depth)

# The route of a request; NULL if there is none; the pool may have no instance.
# host: the Host field, port or not, in any case. path: of the request target, in any case, without the query, not decoded;
# one that does not begin with "/" ("*") stands for the root.
cdef inline Pool *find(Table *t, const char *host, u32 host_n, const char *path, u32 path_n) noexcept nogil:
    cdef char buf[limits.KEY_MAX + 1]   # one byte in front for the "*" of a wildcard
    cdef char *name = buf + 1
    cdef Slots *s = <Slots *>dp.loadp_acq(<void **>&t.slots)
    cdef Pool *p
    cdef u32 i
    host_n = key.host_length(host, host_n)
    if host_n == 0 or host_n > limits.HOST_MAX:
        return NULL
    if path_n and path[0] != c'/':
        path_n = 0
    key.lower_copy(name, host, host_n)
    p = find_host(s, name, host_n, path, path_n)
    if p != NULL or dp.load32_acq(&t.wildcards) == 0:
        return p
    # gorouter: *.b.c then *.c for a.b.c; the exact host wins only if it matched anything. A request for "*.b.c" itself
    # goes on with *.c.
    i = 2 if key.is_wildcard(name, host_n) else 0
    while i < host_n:
        if name[i] == c'.':
            name[<long>i - 1] = c'*'
            p = find_host(s, name + i - 1, host_n - i + 1, path, path_n)
            if p != NULL:
                return p
        i += 1
    return NULL

# -- slots: the writer -------------------------------------------------------------------------------------------------

cdef inline Slots *slots_new(u64 cap, u64 seed) noexcept nogil:
    cdef Slots *s = <Slots *>malloc(sizeof(Slots) + (cap - 1) * sizeof(u64))
    cdef u64 i
    if s == NULL:
        return NULL
    s.seed = seed
    s.mask = cap - 1
    for i in range(cap):
        s.words[i] = EMPTY
    return s

# The key is not in the table; reserve() was called.
cdef inline void put(Slots *s, Pool *p, u64 *tombs) noexcept nogil:
    cdef u64 h = dp.hash64(p.key, p.key_len, s.seed)
    cdef u64 i = h & s.mask
    while s.words[i] > TOMB:
        i = (i + 1) & s.mask
    if s.words[i] == TOMB:
        tombs[0] -= 1
    dp.store64_rel(&s.words[i], ((h | TAG_USED) & TAG) | <u64>p)

# Room for two more nodes, with a quarter of the slots empty: 0, or NO_MEMORY.
cdef inline int reserve(Table *t) noexcept nogil:
    cdef Slots *s = t.slots
    cdef Slots *wide
    cdef u64 cap = SLOTS_MIN
    cdef u64 tombs = 0
    cdef u64 i
    if 4 * (t.used + t.tombs + 2) <= 3 * (s.mask + 1):
        return 0
    while cap < 2 * (t.used + 2):
        cap *= 2
    wide = slots_new(cap, s.seed)
    if wide == NULL:
        return endpoint.NO_MEMORY
    for i in range(s.mask + 1):
        if s.words[i] > TOMB:
            put(wide, <Pool *>(s.words[i] & ADDRESS), &tombs)
    t.tombs = 0
    dp.storep_rel(<void **>&t.slots, wide)
    epoch.retire(&t.epoch, s, free)
    return 0

# Adds the node; the table owns the reference that came with it.
cdef inline void link(Table *t, Pool *p) noexcept nogil:
    put(t.slots, p, &t.tombs)
    t.used += 1
    dp.live(dp.LIVE_NODE, 1)
    if key.is_wildcard(p.key, p.host_len):
        dp.add32(&t.wildcards, 1)

cdef inline void drop_pool(void *p) noexcept nogil:
    endpoint.pool_unref(<Pool *>p)

cdef inline void drop_endpoint(void *e) noexcept nogil:
    endpoint.unref(<Endpoint *>e)

# Takes the node out and retires the table's reference.
cdef inline void unlink(Table *t, Pool *p) noexcept nogil:
    cdef Slots *s = t.slots
    cdef u64 i = dp.hash64(p.key, p.key_len, s.seed) & s.mask
    while (s.words[i] & ADDRESS) != <u64>p:
        if dp.bug(s.words[i] == EMPTY):
            return
        i = (i + 1) & s.mask
    # Before an empty slot nobody needs a tombstone to pass on, and that holds for the tombstones before it.
    if s.words[(i + 1) & s.mask] == EMPTY:
        dp.store64_rel(&s.words[i], EMPTY)
        i = (i - 1) & s.mask
        while s.words[i] == TOMB:
            dp.store64_rel(&s.words[i], EMPTY)
            t.tombs -= 1
            i = (i - 1) & s.mask
    else:
        dp.store64_rel(&s.words[i], TOMB)
        t.tombs += 1
    t.used -= 1
    dp.live(dp.LIVE_NODE, -1)
    if key.is_wildcard(p.key, p.host_len):
        dp.sub32(&t.wildcards, 1)
    epoch.retire(&t.epoch, p, drop_pool)

# -- routes: the writer ------------------------------------------------------------------------------------------------

# 0, or NO_MEMORY.
cdef inline int init(Table *t) noexcept nogil:
    cdef rng.Rng r
    rng.seed(&r)
    t.slots = slots_new(SLOTS_MIN, rng.next_u64(&r))
    t.wildcards = 0
    t.n_options = 0
    t.used = 0
    t.tombs = 0
    t.routes = 0
    t.cells = cells.create()
    if t.slots == NULL or t.cells == NULL or epoch.init(&t.epoch) < 0:
        free(t.slots)
        if t.cells != NULL:
            cells.unref(t.cells)
        return endpoint.NO_MEMORY
    return 0

# Every reader is off-line for good. Endpoints that somebody still holds live on, with their pools.
cdef inline void destroy(Table *t) noexcept nogil:
    cdef u64 i
    cdef u32 k
    cdef Pool *p
    cdef EndpointArray *a
    epoch.drain_all(&t.epoch)
    for i in range(t.slots.mask + 1):
        if t.slots.words[i] <= TOMB:
            continue
        p = <Pool *>(t.slots.words[i] & ADDRESS)
        a = p.array
        p.array = NULL
        if a != NULL:
            if a.is_split:
                split.split_free(split.of_array(a)[0])
            for k in range(a.n):
                dp.store8(&a.items[k].dead, 1)
                endpoint.unref(a.items[k])
            free(a)
        dp.live(dp.LIVE_NODE, -1)
        endpoint.pool_unref(p)
    epoch.destroy(&t.epoch)
    free(t.slots)
    t.slots = NULL
    cells.unref(t.cells)
    t.cells = NULL

# is_split: with room for a split, which is to be set before it is published.
cdef inline EndpointArray *array_new(u32 n, bint is_split) noexcept nogil:
    # n and is_split, items, ids, split; a whole struct at least
    cdef EndpointArray *a = <EndpointArray *>malloc(sizeof(u64) + <size_t>(n if n else 1) * 16 + sizeof(u64) * is_split)
    if a != NULL:
        a.n = n
        a.is_split = is_split
        if is_split:
            split.of_array(a)[0] = NULL
    return a

cdef inline u64 *array_ids(EndpointArray *a) noexcept nogil:
    return <u64 *>&a.items[a.n]

cdef inline void fill(EndpointArray *a, u32 i, Endpoint *e) noexcept nogil:
    a.items[i] = e
    array_ids(a)[i] = e.id_hash

# Publishes another array, with its split, and retires those before.
cdef inline void publish(Table *t, Pool *p, EndpointArray *a) noexcept nogil:
    cdef EndpointArray *old = p.array
    if old == NULL and a != NULL:
        dp.add64(&t.routes, 1)
    elif old != NULL and a == NULL:
        dp.sub64(&t.routes, 1)
    dp.check(a == NULL or not a.is_split or split.of_array(a)[0] != NULL)
    dp.storep_rel(<void **>&p.array, a)
    if old != NULL:
        if dp.unlikely(old.is_split != 0):
            epoch.retire(&t.epoch, split.of_array(old)[0], split.split_free)
        epoch.retire(&t.epoch, old, free)

# Takes out the node of an unpublished pool unless it is the host of others, and then its host's node on the same terms.
cdef inline void prune(Table *t, Pool *p) noexcept nogil:
    cdef Pool *root = p
    if p.key_len != p.host_len:
        root = probe(t.slots, p.key, p.host_len)
        unlink(t, p)
        if dp.bug(root == NULL):
            return
        root.below -= 1
        if root.below == 0:
            dp.store8(&root.depth, 0)
    if root.below == 0 and root.array == NULL:
        unlink(t, root)

# The node of a key, made if it is missing. NULL when memory is out.
cdef inline Pool *ensure(Table *t, key.Key *k) noexcept nogil:
    cdef Pool *p = probe(t.slots, k.text, k.n)
    cdef Pool *root
    cdef bint fresh = False
    if p != NULL:
        return p
    if reserve(t) < 0:
        return NULL
    p = endpoint.pool_new(t.cells, span.make(k.text, k.n), k.host_n, k.context)
    if p == NULL or k.n == k.host_n:
        if p != NULL:
            link(t, p)
        return p
    root = probe(t.slots, k.text, k.host_n)
    if root == NULL:
        root = endpoint.pool_new(t.cells, span.make(k.text, k.host_n), k.host_n, span.make(NULL, 0))
        if root == NULL:
            endpoint.pool_unref(p)
            return NULL
        fresh = True
    root.below += 1
    if k.segments > root.depth:
        dp.store8(&root.depth, <u8>k.segments)
    link(t, p)
    if fresh:
        link(t, root)
    return p

# Adds an instance to a route. 1: the route is new, 0: it was there. The table takes over one reference.
# On a fault the caller keeps it: KEY_*, NO_MEMORY, or AGAIN when too much waits for the readers (poll and come again).
cdef inline int add_endpoint(Table *t, const char *uri, u64 uri_n, Endpoint *e) noexcept nogil:
    cdef key.Key k
    cdef Pool *p
    cdef EndpointArray *a
    cdef u32 n = 0
    cdef u32 i
    cdef int rc = key.parse(&k, uri, uri_n)
    if rc < 0:
        return rc
    if dp.unlikely(t.epoch.waiting >= limits.RETIRED_MAX) and epoch.poll(&t.epoch) >= limits.RETIRED_MAX:
        return AGAIN
    dp.check(e.pool == NULL)
    p = ensure(t, &k)
    if p == NULL:
        return endpoint.NO_MEMORY
    if p.array != NULL:
        n = p.array.n
    a = array_new(n + 1, split.is_split(p))
    if a == NULL:
        if p.array == NULL:
            prune(t, p)
        return endpoint.NO_MEMORY
    for i in range(n):
        fill(a, i, p.array.items[i])
    fill(a, n, e)
    if not split.resplit(p, a):
        free(a)
        return endpoint.NO_MEMORY
    endpoint.pool_ref(p)
    e.pool = p
    rc = 1 if p.array == NULL else 0
    publish(t, p, a)
    return rc

# The endpoint's place in its pool, or NOT_LISTED.
cdef inline long place(const Endpoint *e) noexcept nogil:
    cdef EndpointArray *a = e.pool.array if e.pool != NULL else NULL
    cdef u32 i
    if a != NULL:
        for i in range(a.n):
            if a.items[i] == e:
                return i
    return endpoint.NOT_LISTED

# Takes an instance out; its route goes with the last one, unless keep_empty. 0, NOT_LISTED or NO_MEMORY.
# The table's reference is dropped: use e afterwards only with one of your own.
cdef inline int remove_endpoint(Table *t, Endpoint *e, bint keep_empty) noexcept nogil:
    cdef Pool *p = e.pool
    cdef long at = place(e)
    cdef EndpointArray *a = NULL
    cdef u32 i
    if at < 0:
        return endpoint.NOT_LISTED
    if p.array.n > 1 or keep_empty:
        a = array_new(p.array.n - 1, split.is_split(p))
        if a == NULL:
            return endpoint.NO_MEMORY
        for i in range(a.n):
            fill(a, i, p.array.items[i if i < at else i + 1])
    if not split.resplit(p, a):
        free(a)
        return endpoint.NO_MEMORY
    publish(t, p, a)
    dp.store8(&e.dead, 1)
    epoch.retire(&t.epoch, e, drop_endpoint)
    if a == NULL:
        prune(t, p)
    return 0

# Puts another endpoint in the place of one, with one publication; references as in add and remove.
cdef inline int replace_endpoint(Table *t, Endpoint *old, Endpoint *new) noexcept nogil:
    cdef Pool *p = old.pool
    cdef long at = place(old)
    cdef EndpointArray *a
    cdef u32 i
    if at < 0:
        return endpoint.NOT_LISTED
    if dp.unlikely(t.epoch.waiting >= limits.RETIRED_MAX) and epoch.poll(&t.epoch) >= limits.RETIRED_MAX:
        return AGAIN
    dp.check(new.pool == NULL)
    a = array_new(p.array.n, split.is_split(p))
    if a == NULL:
        return endpoint.NO_MEMORY
    for i in range(a.n):
        fill(a, i, new if i == at else p.array.items[i])
    if not split.resplit(p, a):
        free(a)
        return endpoint.NO_MEMORY
    endpoint.pool_ref(p)
    new.pool = p
    publish(t, p, a)
    dp.store8(&old.dead, 1)
    epoch.retire(&t.epoch, old, drop_endpoint)
    return 0

# The route with exactly that key, which has instances or none; NULL if it is not there. Writer only.
cdef inline Pool *exact(Table *t, const char *uri, u64 uri_n) noexcept nogil:
    cdef key.Key k
    cdef Pool *p
    if key.parse(&k, uri, uri_n) < 0:
        return NULL
    p = probe(t.slots, k.text, k.n)
    return p if p != NULL and p.array != NULL else NULL

# How p's requests are split from now on; NULL: not at all. Its endpoints have their versions. 0, or NO_MEMORY.
# The plan belongs to its splits: the caller's reference stays the caller's.
cdef inline int set_plan(Table *t, Pool *p, Plan *plan) noexcept nogil:
    cdef EndpointArray *a = array_new(p.array.n, plan != NULL)
    cdef u32 i
    if a == NULL:
        return endpoint.NO_MEMORY
    for i in range(a.n):
        fill(a, i, p.array.items[i])
    if plan != NULL:
        split.of_array(a)[0] = split.split_new(plan, a)
        if split.of_array(a)[0] == NULL:
            free(a)
            return endpoint.NO_MEMORY
    publish(t, p, a)
    return 0

# What p's pool chooses by; NULL: what all do.
cdef inline const PoolOptions *options_of(Table *t, Pool *p) noexcept nogil:
    cdef u32 i = dp.load16_acq(&p.options)
    return &t.options[i] if i else NULL

# How p's pool chooses from now on; NULL: as all do. 0, or NO_MEMORY when there are too many different ones.
cdef inline int set_options(Table *t, Pool *p, const PoolOptions *wanted) noexcept nogil:
    cdef u16 i = 0
    if wanted != NULL:
        i = 1
        while i <= t.n_options and memcmp(&t.options[i], wanted, sizeof(PoolOptions)) != 0:
            i += 1
        if i >= limits.POOL_OPTIONS_MAX:
            return endpoint.NO_MEMORY
        if i > t.n_options:
            t.options[i] = wanted[0]
            t.n_options = i
    dp.store16_rel(&p.options, i)
    return 0

# Removes a route that has no instance: 1; 0 if it has one or is unknown; a KEY_* fault.
cdef inline int drop_empty(Table *t, const char *uri, u64 uri_n) noexcept nogil:
    cdef key.Key k
    cdef Pool *p
    cdef int rc = key.parse(&k, uri, uri_n)
    if rc < 0:
        return rc
    p = probe(t.slots, k.text, k.n)
    if p == NULL or p.array == NULL or p.array.n:
        return 0
    publish(t, p, NULL)
    prune(t, p)
    return 1

# Leaves a route without an instance, with one publication, and makes it if it is missing: no request can slip through in
# between. 0, KEY_*, NO_MEMORY, or, for a new route, AGAIN. *taken: who is out, each with a reference for the caller,
# who frees the array; NULL if there was nobody.
cdef inline int vacate(Table *t, const char *uri, u64 uri_n, EndpointArray **taken) noexcept nogil:
    cdef key.Key k
    cdef Pool *p
    cdef EndpointArray *none
    cdef EndpointArray *out = NULL
    cdef u32 i
    cdef int rc = key.parse(&k, uri, uri_n)
    taken[0] = NULL
    if rc < 0:
        return rc
    p = probe(t.slots, k.text, k.n)
    if p == NULL or p.array == NULL:
        if dp.unlikely(t.epoch.waiting >= limits.RETIRED_MAX) and epoch.poll(&t.epoch) >= limits.RETIRED_MAX:
            return AGAIN
        p = ensure(t, &k)
        if p == NULL:
            return endpoint.NO_MEMORY
    none = array_new(0, split.is_split(p))
    if none != NULL and p.array != NULL and p.array.n:
        out = array_new(p.array.n, False)
        if out == NULL:
            free(none)
            none = NULL
    if none != NULL and not split.resplit(p, none):
        free(none)
        free(out)
        none = NULL
    if none == NULL:
        if p.array == NULL:
            prune(t, p)
        return endpoint.NO_MEMORY
    if out != NULL:
        for i in range(out.n):
            endpoint.ref(p.array.items[i])
            fill(out, i, p.array.items[i])
    publish(t, p, none)
    if out != NULL:
        for i in range(out.n):
            dp.store8(&out.items[i].dead, 1)
            epoch.retire(&t.epoch, out.items[i], drop_endpoint)
    taken[0] = out
    return 0

# Published routes, empty ones included. Any thread.
cdef inline u64 count(Table *t) noexcept nogil:
    return dp.load64(&t.routes)

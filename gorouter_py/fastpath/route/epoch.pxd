# L1: when may memory be freed that readers reach without a lock: quiescent states.
#
# One writer, up to limits.WORKERS_MAX readers. A reader is on-line while it may hold pointers from the table, passes a
# quiescent state (holds none) once per turn of its loop, and is off-line while it sleeps. The writer unlinks an object,
# retires it, and frees it once every reader has been off-line or passed a quiescent state since. It never waits: poll()
# frees what it can and says how much is left.
# Always true: an object retired at `now` == T is freed only after `now` became T + 1 and then every reader's seen was read
# as 0 or > T. Going on-line is a store and a load, poll() a store and loads, all four in one total order (seq_cst): either
# the writer sees the reader, or the reader sees everything unlinked before.
from libc.stdlib cimport malloc, free
from gorouter_py.fastpath.base.types cimport u32, u64
from gorouter_py.fastpath.base cimport dp, limits

ctypedef void (*FreeFn)(void *) noexcept nogil

cdef enum:
    POLL_EVERY = 64         # retirements between two polls of retire()'s own
    RING_FIRST = 256

cdef struct Slot:
    u64 seen                # atomic: 0 = off-line, else the epoch of the last quiescent state
    char pad[56]            # a reader writes its slot each time the epoch moves: on its own cache line

cdef struct Retired:
    void *obj
    FreeFn free_fn
    u64 at

cdef struct Epoch:
    u64 now                 # atomic; written by the writer
    char pad[56]
    Slot readers[limits.WORKERS_MAX]
    Retired *ring           # the rest is the writer's: a queue in the order of `at`
    u64 head
    u64 waiting
    u64 cap                 # a power of two

# 0, or -1 when memory is out.
cdef inline int init(Epoch *e) noexcept nogil:
    cdef u32 i
    e.now = 1
    for i in range(limits.WORKERS_MAX):
        e.readers[i].seen = 0
    e.ring = <Retired *>malloc(RING_FIRST * sizeof(Retired))
    e.head = 0
    e.waiting = 0
    e.cap = RING_FIRST
    return -1 if e.ring == NULL else 0

# -- reader: its own thread only ---------------------------------------------------------------------------------------

# Before the first lookup after reader_offline().
cdef inline void reader_online(Epoch *e, u32 reader) noexcept nogil:
    cdef u64 *seen = &e.readers[reader].seen
    dp.check(reader < limits.WORKERS_MAX and dp.load64(seen) == 0)
    dp.store64_seq(seen, dp.load64_acq(&e.now))
    # Nothing has been read yet, so the newer value is as true, and lets the writer free more.
    dp.store64_rel(seen, dp.load64_seq(&e.now))

# The reader holds nothing of the table and will not look until it is on-line again.
cdef inline void reader_offline(Epoch *e, u32 reader) noexcept nogil:
    dp.store64_rel(&e.readers[reader].seen, 0)

# The reader is on-line and holds nothing of the table at this moment; once per turn.
cdef inline void quiesce(Epoch *e, u32 reader) noexcept nogil:
    cdef u64 now = dp.load64_acq(&e.now)
    dp.check(dp.load64(&e.readers[reader].seen) != 0)
    if dp.load64(&e.readers[reader].seen) != now:
        dp.store64_rel(&e.readers[reader].seen, now)

# -- writer ------------------------------------------------------------------------------------------------------------

cdef inline void free_first(Epoch *e) noexcept nogil:
    cdef Retired r = e.ring[e.head & (e.cap - 1)]
    e.head += 1
    e.waiting -= 1
    r.free_fn(r.obj)

# Frees what no reader can see any more; returns how many objects still wait. Never waits itself.
cdef inline u64 poll(Epoch *e) noexcept nogil:
    cdef u64 oldest
    cdef u64 seen
    cdef u32 i
    if e.waiting == 0:
        return 0
    if e.ring[(e.head + e.waiting - 1) & (e.cap - 1)].at == e.now:
        dp.store64_seq(&e.now, e.now + 1)
    oldest = e.now
    for i in range(limits.WORKERS_MAX):
        seen = dp.load64_seq(&e.readers[i].seen)
        if seen != 0 and seen < oldest:
            oldest = seen
    while e.waiting and e.ring[e.head & (e.cap - 1)].at < oldest:
        free_first(e)
    return e.waiting

cdef inline bint widen(Epoch *e) noexcept nogil:
    cdef Retired *ring = <Retired *>malloc(2 * e.cap * sizeof(Retired))
    cdef u64 i
    if ring == NULL:
        return False
    for i in range(e.waiting):
        ring[i] = e.ring[(e.head + i) & (e.cap - 1)]
    free(e.ring)
    e.ring = ring
    e.head = 0
    e.cap *= 2
    return True

# obj is unlinked: no reader that starts now can find it. free_fn(obj) runs on the writer's thread, perhaps within this call.
cdef inline void retire(Epoch *e, void *obj, FreeFn free_fn) noexcept nogil:
    cdef Retired *r
    if e.waiting == e.cap and poll(e) == e.cap and not widen(e):
        dp.bug(True)        # no memory for the note: losing the object is the lesser evil
        return
    r = &e.ring[(e.head + e.waiting) & (e.cap - 1)]
    r.obj = obj
    r.free_fn = free_fn
    r.at = e.now
    e.waiting += 1
    if (e.waiting & (POLL_EVERY - 1)) == 0:
        poll(e)

# Every reader is off-line for good.
cdef inline void drain_all(Epoch *e) noexcept nogil:
    cdef u32 i
    for i in range(limits.WORKERS_MAX):
        dp.check(dp.load64_acq(&e.readers[i].seen) == 0)
    while e.waiting:
        free_first(e)

cdef inline void destroy(Epoch *e) noexcept nogil:
    drain_all(e)
    free(e.ring)
    e.ring = NULL

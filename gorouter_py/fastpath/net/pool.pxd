# L1: a worker's idle upstream connections, by an opaque key (flow uses the endpoint's address).
#
# A hash of keys to doubly linked lists, newest first: the connection used last is the least likely to have been
# closed by its origin. Entries of keys without connections stay until the next growth.
from libc.stdlib cimport calloc, free
from gorouter_py.fastpath.base.types cimport u32, u64
from gorouter_py.fastpath.base cimport dp

cdef struct Idle:           # embedded in the connection
    Idle *next
    Idle *prev
    void *key               # NULL when not pooled

cdef struct IdleSlot:
    void *key
    Idle *first
    u32 n

cdef struct IdlePool:
    IdleSlot *slots
    u32 mask
    u32 used
    u32 total

cdef inline int init(IdlePool *p) noexcept nogil:
    p.slots = <IdleSlot *>calloc(64, sizeof(IdleSlot))
    p.mask = 63
    p.used = 0
    p.total = 0
    return 0 if p.slots != NULL else -16

cdef inline void destroy(IdlePool *p) noexcept nogil:
    free(p.slots)
    p.slots = NULL

cdef inline IdleSlot *probe(IdleSlot *slots, u32 mask, void *key) noexcept nogil:
    cdef u32 i = <u32>dp.mix64(<u64>key, 0xa0761d6478bd642fULL) & mask
    while slots[i].key != NULL and slots[i].key != key:
        i = (i + 1) & mask
    return &slots[i]

cdef inline bint grow(IdlePool *p) noexcept nogil:
    cdef u32 live = 0, i, mask
    cdef IdleSlot *fresh
    cdef IdleSlot *to
    for i in range(p.mask + 1):
        live += p.slots[i].n != 0
    mask = p.mask
    while live * 2 > mask:
        mask = mask * 2 + 1
    fresh = <IdleSlot *>calloc(mask + 1, sizeof(IdleSlot))
    if fresh == NULL:
        return False
    for i in range(p.mask + 1):
        if p.slots[i].n:
            to = probe(fresh, mask, p.slots[i].key)
            to[0] = p.slots[i]
    free(p.slots)
    p.slots = fresh
    p.mask = mask
    p.used = live
    return True

# The newest idle connection of key, taken out; NULL if there is none.
cdef inline Idle *take(IdlePool *p, void *key) noexcept nogil:
    cdef IdleSlot *s = probe(p.slots, p.mask, key)
    cdef Idle *i = s.first
    if i == NULL:
        return NULL
    s.first = i.next
    if i.next != NULL:
        i.next.prev = NULL
    s.n -= 1
    p.total -= 1
    i.key = NULL
    i.next = NULL
    return i

# False if the key already has most connections (or memory is out): the caller closes it.
cdef inline bint put(IdlePool *p, Idle *i, void *key, u32 most) noexcept nogil:
    cdef IdleSlot *s = probe(p.slots, p.mask, key)
    if s.key == NULL:
        if (p.used + 1) * 4 > (p.mask + 1) * 3:
            if not grow(p):
                return False
            s = probe(p.slots, p.mask, key)
        if s.key == NULL:
            p.used += 1
            s.key = key
    if s.n >= most:
        return False
    i.key = key
    i.prev = NULL
    i.next = s.first
    if s.first != NULL:
        s.first.prev = i
    s.first = i
    s.n += 1
    p.total += 1
    return True

cdef inline void remove(IdlePool *p, Idle *i) noexcept nogil:
    cdef IdleSlot *s
    if i.key == NULL:
        return
    s = probe(p.slots, p.mask, i.key)
    if i.prev != NULL:
        i.prev.next = i.next
    else:
        s.first = i.next
    if i.next != NULL:
        i.next.prev = i.prev
    s.n -= 1
    p.total -= 1
    i.key = NULL
    i.next = NULL
    i.prev = NULL

# The newest idle connection of key, left where it is.
cdef inline Idle *peek(IdlePool *p, void *key) noexcept nogil:
    return probe(p.slots, p.mask, key).first

# L0: byte buffers from a worker's own slabs.
#
# Invariant: rpos <= wpos <= cap. Bytes [rpos, wpos) are filled and not yet consumed.
# A Slabs belongs to one thread; a Buf goes back to the Slabs it came from. Sizes over SLAB_BODY draw on one
# budget shared by all threads (limits.BUF_GLOBAL_MAX); alloc returns NULL when it is spent or memory is out.
from libc.stdlib cimport malloc, free
from libc.string cimport memcpy, memmove
from gorouter_py.fastpath.base.types cimport u8, u32, u64
from gorouter_py.fastpath.base cimport dp, limits

cdef struct Buf:
    Buf *next
    u32 cap
    u32 rpos
    u32 wpos
    u32 cls
    char data[1]

cdef struct SlabClass:
    Buf *free
    u32 n_free
    u32 size

cdef struct Slabs:
    SlabClass classes[4]
    u64 *budget             # bytes of large buffers in use, shared by all threads
    u64 in_use              # bytes handed out by this Slabs

cdef enum:
    HEADER = 32             # bytes before Buf.data
    CLS_HUGE = 4            # not pooled

cdef inline void init(Slabs *s, u64 *budget) noexcept nogil:
    cdef u32 i
    s.classes[0].size = limits.SLAB_SMALL
    s.classes[1].size = limits.SLAB_HEAD
    s.classes[2].size = limits.SLAB_BODY
    s.classes[3].size = limits.SLAB_LARGE
    for i in range(4):
        s.classes[i].free = NULL
        s.classes[i].n_free = 0
    s.budget = budget
    s.in_use = 0

# A buffer with room for at least n bytes; NULL when the budget is spent.
cdef inline Buf *alloc(Slabs *s, u32 n) noexcept nogil:
    cdef Buf *b
    cdef u32 cls = 0
    cdef u32 size
    while cls < 4 and s.classes[cls].size < n:
        cls += 1
    size = n if cls == CLS_HUGE else s.classes[cls].size
    if size > limits.SLAB_BODY:
        if dp.add64(s.budget, size) + size > <u64>limits.BUF_GLOBAL_MAX:
            dp.sub64(s.budget, size)
            return NULL
    if cls < CLS_HUGE and s.classes[cls].free != NULL:
        b = s.classes[cls].free
        s.classes[cls].free = b.next
        s.classes[cls].n_free -= 1
    else:
        b = <Buf *>malloc(HEADER + size)
        if b == NULL:
            if size > limits.SLAB_BODY:
                dp.sub64(s.budget, size)
            return NULL
        b.cap = size
        b.cls = cls
    b.next = NULL
    b.rpos = 0
    b.wpos = 0
    s.in_use += size
    dp.live(dp.LIVE_BUF, 1)
    return b

cdef inline void release(Slabs *s, Buf *b) noexcept nogil:
    cdef SlabClass *c
    if b == NULL:
        return
    dp.live(dp.LIVE_BUF, -1)
    s.in_use -= b.cap
    if b.cap > limits.SLAB_BODY:
        dp.sub64(s.budget, b.cap)
    if b.cls < CLS_HUGE and not dp.POISON_BUILD:
        c = &s.classes[b.cls]
        if c.n_free < limits.SLAB_KEEP:
            b.next = c.free
            c.free = b
            c.n_free += 1
            return
    free(b)

# Gives every kept slab back to the C library; the Slabs stays usable.
cdef inline void drop_free(Slabs *s) noexcept nogil:
    cdef u32 i
    cdef Buf *b
    for i in range(4):
        while s.classes[i].free != NULL:
            b = s.classes[i].free
            s.classes[i].free = b.next
            free(b)
        s.classes[i].n_free = 0

cdef inline u32 used(const Buf *b) noexcept nogil:
    return b.wpos - b.rpos

cdef inline u32 room(const Buf *b) noexcept nogil:
    return b.cap - b.wpos

# Moves the unconsumed bytes to the front.
cdef inline void compact(Buf *b) noexcept nogil:
    if b.rpos:
        memmove(b.data, b.data + b.rpos, b.wpos - b.rpos)
        b.wpos -= b.rpos
        b.rpos = 0

# Appends n bytes that are known to fit.
cdef inline void put(Buf *b, const char *p, u32 n) noexcept nogil:
    dp.check(n <= b.cap - b.wpos)
    memcpy(b.data + b.wpos, p, n)
    b.wpos += n

# The same bytes in a buffer of at least n bytes; releases the old one. NULL (old kept) when memory is out.
cdef inline Buf *grow(Slabs *s, Buf *b, u32 n) noexcept nogil:
    cdef Buf *bigger
    if b.cap >= n:
        compact(b)
        return b
    bigger = alloc(s, n)
    if bigger == NULL:
        return NULL
    put(bigger, b.data + b.rpos, used(b))
    release(s, b)
    return bigger

# L1: memory of pools and endpoints, in whole cache lines and without an allocator's header between them.
#
# These objects are written by all workers, so each starts on a line of its own; posix_memalign would leave a hole
# behind every one of them (it doubled the memory of a table of 100,000 routes).
# alloc: the writer's thread only. release: any thread, lock-free: the cell goes on a stack which only the writer takes,
# and always as a whole, so a compare-and-swap meets no ABA. A cell is reused by its own size class; chunks go back
# to the C library when the owner has closed and the last cell is home: the memory of a peak stays with the table.
# With DP_POISON every cell is an allocation of its own, for the sanitizers.
from libc.stdlib cimport malloc, free
from gorouter_py.fastpath.base.types cimport u32, u64
from gorouter_py.fastpath.base cimport dp

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **out, size_t align, size_t n) noexcept

cdef enum:
    LINE = 64
    CLASSES = 40            # in lines: a key of limits.KEY_MAX, twice, and the pool before it
    CHUNK = 262144          # size and alignment, so that a cell finds its chunk

cdef struct Cell:
    Cell *next
    u32 lines

cdef struct Cells

cdef struct Chunk:
    Cells *owner
    Chunk *next

cdef struct Cells:
    Cell *returned          # atomic: released, not yet taken by the writer
    u32 refs                # atomic: the owner and every cell in use
    char *bump
    char *bump_end
    Chunk *chunks
    u64 serial              # writer only: the last number given to an endpoint
    Cell *free[CLASSES]

# NULL when memory is out.
cdef inline Cells *create() noexcept nogil:
    cdef Cells *c = <Cells *>malloc(sizeof(Cells))
    cdef u32 i
    if c == NULL:
        return NULL
    c.returned = NULL
    c.refs = 1
    c.bump = NULL
    c.bump_end = NULL
    c.chunks = NULL
    c.serial = 0
    for i in range(CLASSES):
        c.free[i] = NULL
    return c

cdef inline void unref(Cells *c) noexcept nogil:
    cdef Chunk *k
    if dp.sub32_ar(&c.refs, 1) != 1:
        return
    while c.chunks != NULL:
        k = c.chunks
        c.chunks = k.next
        free(k)
    free(c)

# What other threads released, sorted into the classes.
cdef inline void collect(Cells *c) noexcept nogil:
    cdef Cell *cell = <Cell *>dp.xchgp_ar(<void **>&c.returned, NULL)
    cdef Cell *rest
    while cell != NULL:
        rest = cell.next
        cell.next = c.free[cell.lines]
        c.free[cell.lines] = cell
        cell = rest

cdef inline bint add_chunk(Cells *c) noexcept nogil:
    cdef void *p = NULL
    cdef Cell *tail
    cdef u64 left = <u64>(c.bump_end - c.bump) // LINE
    if posix_memalign(&p, CHUNK, CHUNK) != 0:
        return False
    if left:
        tail = <Cell *>c.bump       # shorter than the cell that did not fit, hence a valid class
        tail.next = c.free[left]
        c.free[left] = tail
    (<Chunk *>p).owner = c
    (<Chunk *>p).next = c.chunks
    c.chunks = <Chunk *>p
    c.bump = <char *>p + LINE
    c.bump_end = <char *>p + CHUNK
    return True

# n bytes on a line of their own; NULL when memory is out. Writer only.
cdef inline void *alloc(Cells *c, size_t n) noexcept nogil:
    cdef u32 lines = <u32>((n + LINE - 1) // LINE)
    cdef void *p
    if dp.bug(lines == 0 or lines >= CLASSES):
        return NULL
    if dp.POISON_BUILD:
        return dp.aligned_alloc(n)
    if c.free[lines] == NULL:
        collect(c)
    if c.free[lines] != NULL:
        p = c.free[lines]
        c.free[lines] = c.free[lines].next
    else:
        if <u64>(c.bump_end - c.bump) < <u64>lines * LINE and not add_chunk(c):
            return NULL
        p = c.bump
        c.bump += lines * LINE
    dp.add32(&c.refs, 1)
    return p

# n: as given to alloc. Any thread.
cdef inline void release(void *p, size_t n) noexcept nogil:
    cdef Cell *cell = <Cell *>p
    cdef Cells *c
    if dp.POISON_BUILD:
        free(p)
        return
    c = (<Chunk *>(<u64>p & ~<u64>(CHUNK - 1))).owner
    cell.lines = <u32>((n + LINE - 1) // LINE)
    while True:
        cell.next = <Cell *>dp.loadp(<void **>&c.returned)
        if dp.casp(<void **>&c.returned, cell.next, cell):
            break
    unref(c)

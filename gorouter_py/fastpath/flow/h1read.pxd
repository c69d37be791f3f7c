# L2: the receiving half of an HTTP/1 connection once the head is known: body bytes to the stream's owner.
#
# feed() gives a span to the owner piece by piece and stops when the message ends or the owner lets go (done()).
# Bytes behind the message stay with the connection: pipelined requests on the client's side, a fault on the other.
from gorouter_py.fastpath.base.types cimport Span, u8, u32, u64, i64, AGAIN
from gorouter_py.fastpath.base cimport buf, dp, limits, span
from gorouter_py.fastpath.base.buf cimport Buf
from gorouter_py.fastpath.http cimport chunked, heads
from gorouter_py.fastpath.flow cimport conn
from gorouter_py.fastpath.flow.state cimport *

cdef enum:
    READ_BUDGET = 262144        # bytes a connection may read before others get their turn
    NO_MEMORY = -5

cdef inline bint listening(const Conn *c) noexcept nogil:
    return c.s.owner != NULL and not (c.flags & C_DETACH)

cdef inline void end(Conn *c, Span trailers) noexcept nogil:
    c.flags |= C_IN_DONE
    if listening(c):
        c.s.events.on_end(c.s.owner, &c.s, trailers)

# Consumed bytes (<= n), or a parse fault.
cdef inline i64 feed(Conn *c, const char *p, u64 n) noexcept nogil:
    cdef const char *data
    cdef size_t data_n
    cdef u64 used = 0
    cdef i64 r
    if c.in_framing == heads.BODY_LENGTH:
        used = n if n < c.body_left else c.body_left
        c.body_left -= used
        if used:
            c.s.events.on_body(c.s.owner, &c.s, p, used)
        if c.body_left == 0:
            end(c, span.make(NULL, 0))
        return <i64>used
    if c.in_framing != heads.BODY_CHUNKED:
        c.s.events.on_body(c.s.owner, &c.s, p, n)
        return <i64>n
    while used < n and listening(c) and not c.chunk.done:
        data_n = 0
        r = chunked.next(&c.chunk, p + used, n - used, &data, &data_n)
        if r == chunked.NEED_TRAILER_ROOM:
            c.trailer = buf.alloc(&c.w.slabs, limits.TRAILER_BYTES_MAX)
            if c.trailer == NULL:
                return NO_MEMORY
            c.chunk.trailer = c.trailer.data
            c.chunk.trailer_cap = limits.TRAILER_BYTES_MAX
            continue
        if r < 0:
            return r
        used += <u64>r
        if data_n:
            c.s.events.on_body(c.s.owner, &c.s, data, data_n)
        if r == 0 and data_n == 0 and not c.chunk.done:
            break
    if c.chunk.done and not (c.flags & C_IN_DONE):
        end(c, span.make(c.chunk.trailer, c.chunk.trailer_n))
        if c.trailer != NULL:
            buf.release(&c.w.slabs, c.trailer)
            c.trailer = NULL
    return <i64>used

cdef inline void begin_body(Conn *c, const heads.Head *h) noexcept nogil:
    c.in_framing = h.framing
    c.body_left = h.content_length if h.framing == heads.BODY_LENGTH else 0
    if h.framing == heads.BODY_CHUNKED:
        chunked.init(&c.chunk)
        c.chunk.trailer = NULL
    # Content-Length: 0 is an empty body, not an absent one, but there is nothing to wait for
    if h.framing == heads.BODY_NONE or (h.framing == heads.BODY_LENGTH and h.content_length == 0):
        c.flags |= C_IN_DONE

# Body bytes that came with the head. 0, or a parse fault.
cdef inline i64 feed_behind_head(Conn *c) noexcept nogil:
    cdef u32 n
    cdef i64 r
    if c.in_ == NULL or c.flags & C_IN_DONE or not listening(c):
        return 0
    n = c.in_.wpos - c.body_at
    if n == 0:
        return 0
    r = feed(c, c.in_.data + c.body_at, n)
    if r > 0:
        c.body_at += <u32>r
    return 0 if r >= 0 else r

# Reads while the kernel has bytes and the owner wants them. 0, a fault of the parser, conn.READ_* or NO_MEMORY.
cdef inline i64 pump(Conn *c) noexcept nogil:
    cdef Buf *b
    cdef u64 budget = READ_BUDGET
    cdef u32 size = limits.SLAB_BODY
    cdef i64 n, r
    r = feed_behind_head(c)
    if r < 0:
        return r
    while (c.flags & (C_WANT | C_READABLE | C_IN_DONE)) == (C_WANT | C_READABLE) and listening(c):
        if c.in_framing == heads.BODY_LENGTH and c.body_left > <u64>limits.SLAB_BODY:
            size = limits.SLAB_LARGE
        b = buf.alloc(&c.w.slabs, size)
        if b == NULL and size > limits.SLAB_BODY:
            size = limits.SLAB_BODY
            b = buf.alloc(&c.w.slabs, size)
        if b == NULL:
            return NO_MEMORY
        n = conn.receive(c, b)
        if n <= 0:
            buf.release(&c.w.slabs, b)
            return 0 if n == AGAIN else n
        c.since_ms = c.w.now_ms
        r = feed(c, b.data, <u64>n)
        if r >= 0 and r < n and c.flags & C_IN_DONE:
            b.rpos = <u32>r
            c.ahead = b
        else:
            buf.release(&c.w.slabs, b)
        if r < 0:
            return r
        if n == size and size < limits.SLAB_LARGE:
            size = limits.SLAB_LARGE
        if <u64>n >= budget:
            conn.todo(c)
            return 0
        budget -= <u64>n
    return 0

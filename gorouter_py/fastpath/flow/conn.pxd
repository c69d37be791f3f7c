# L2: what both kinds of connection share: life, the todo list, reading, the queue of unsent bytes.
#
# Sockets are watched edge-triggered: C_READABLE and C_WRITABLE remember what the kernel said until a call finds out
# otherwise. So pausing and resuming cost no system call. An accepted socket can be written to, which epoll would report at
# once as news; it is watched for that from the first write on that found no room.
# A closed Conn stays valid until the end of the turn (graves), because events of this turn may still point to it.
from libc.stdlib cimport calloc, free
from gorouter_py.fastpath.base.types cimport Span, u8, u32, u64, i64, AGAIN
from gorouter_py.fastpath.base cimport buf, csys, dp, limits
from gorouter_py.fastpath.base.buf cimport Buf
from gorouter_py.fastpath.net cimport pool, sock, tap, timers
from gorouter_py.fastpath.route cimport endpoint
from gorouter_py.fastpath.flow cimport fault, mapping
from gorouter_py.fastpath.flow.state cimport *

cdef extern from "states.h" nogil:
    bint may_move "dp_may_move"(unsigned a, unsigned b) noexcept

cdef enum:
    READ_CLOSED = -3        # the peer ended its side
    READ_BROKEN = -4        # reset; errno is in dp.get_errno()

cdef inline void set_state(Conn *c, u8 to) noexcept nogil:
    dp.check(may_move(c.state, to))
    c.state = to

cdef inline Conn *create(Worker *w, int fd, u8 kind, Conn **family) noexcept nogil:
    cdef Conn *c = <Conn *>calloc(1, sizeof(Conn))
    if c == NULL:
        return NULL
    c.w = w
    c.fd = fd
    c.kind = kind
    c.timer.kind = kind
    c.next = family[0]
    if c.next != NULL:
        c.next.prev = c
    family[0] = c
    dp.live(dp.LIVE_DOWN if kind == K_DOWN else dp.LIVE_UP, 1)
    return c

cdef inline Conn **family(Worker *w, u8 kind) noexcept nogil:
    if kind == K_DOWN:
        return &w.downs
    return &w.ups if kind == K_UP else &w.listeners

# Has the worker service c before it waits again.
cdef inline void todo(Conn *c) noexcept nogil:
    cdef Worker *w = c.w
    if c.flags & C_TODO:
        return
    c.flags |= C_TODO
    c.todo = NULL
    if w.todo_last == NULL:
        w.todo_first = c
    else:
        w.todo_last.todo = c
    w.todo_last = c

cdef inline void drop_out(Conn *c) noexcept nogil:
    cdef Buf *b
    while c.out != NULL:
        b = c.out
        c.out = b.next
        buf.release(&c.w.slabs, b)
    c.out_last = NULL
    c.out_bytes = 0

# Closes the descriptor now and frees the Conn at the end of the turn. hard: the peer sees a reset, not an end.
cdef inline void kill(Conn *c, bint hard) noexcept nogil:
    cdef Worker *w = c.w
    cdef Conn **list = family(w, c.kind)
    if c.state == S_CLOSED and c.fd < 0:
        return
    if c.kind == K_UP:
        if c.idle.key != NULL:
            pool.remove(&w.idle, &c.idle)
            tap.dec(&w.counters.upstream_idle)
            dp.sub32(&c.ep.idle, 1)
        tap.dec(&w.counters.upstream_open)
    else:
        tap.dec(&w.counters.connections_open)
    timers.cancel(&w.wheel, &c.timer)
    if hard:
        sock.abort_close(c.fd)
    else:
        csys.close(c.fd)
    c.fd = -1
    c.state = S_CLOSED
    if c.in_ != NULL:
        buf.release(&w.slabs, c.in_)
        c.in_ = NULL
    if c.ahead != NULL:
        buf.release(&w.slabs, c.ahead)
        c.ahead = NULL
    if c.trailer != NULL:
        buf.release(&w.slabs, c.trailer)
        c.trailer = NULL
    drop_out(c)
    if c.ep != NULL:
        endpoint.unref(c.ep)
        c.ep = NULL
    if c.prev != NULL:
        c.prev.next = c.next
    else:
        list[0] = c.next
    if c.next != NULL:
        c.next.prev = c.prev
    c.prev = NULL
    c.next = w.graves
    w.graves = c

# Frees what was closed, at the end of a turn. What still stands on the todo list is freed after that has been seen.
cdef inline void bury(Worker *w) noexcept nogil:
    cdef Conn *c = w.graves
    cdef Conn *after
    w.graves = NULL
    while c != NULL:
        after = c.next
        if c.flags & C_TODO:
            c.next = w.graves
            w.graves = c
        else:
            if c.kind != K_LISTEN:
                dp.live(dp.LIVE_DOWN if c.kind == K_DOWN else dp.LIVE_UP, -1)
            mapping.unref(c.s.mapping)
            free(c)
        c = after

# ---- reading -----------------------------------------------------------------------------------------------------

# Bytes read into b's room (> 0), AGAIN, READ_CLOSED or READ_BROKEN.
cdef inline i64 receive(Conn *c, Buf *b) noexcept nogil:
    cdef u32 room = buf.room(b)
    cdef ssize_t n
    dp.check(room > 0)
    while True:
        n = csys.recv(c.fd, b.data + b.wpos, room, 0)
        if n > 0:
            b.wpos += <u32>n
            # a short read empties the socket; more bytes, or the end if it is not known yet, bring a new event
            if <u32>n < room and not (c.flags & C_EOF):
                c.flags &= ~C_READABLE
            return n
        if n == 0:
            c.flags &= ~C_READABLE
            c.flags |= C_EOF
            return READ_CLOSED
        if dp.get_errno() == csys.EINTR:
            continue
        c.flags &= ~C_READABLE
        return AGAIN if dp.get_errno() == csys.EAGAIN else READ_BROKEN

# ---- writing -----------------------------------------------------------------------------------------------------

# Room for n contiguous bytes at the end of the queue; NULL when memory is out. Commit with wrote().
cdef inline char *reserve(Conn *c, u32 n) noexcept nogil:
    cdef Buf *b = c.out_last
    if b == NULL or buf.room(b) < n:
        b = buf.alloc(&c.w.slabs, n if n > limits.SLAB_HEAD else limits.SLAB_HEAD)
        if b == NULL:
            return NULL
        if c.out_last == NULL:
            c.out = b
        else:
            c.out_last.next = b
        c.out_last = b
    return b.data + b.wpos

cdef inline void wrote(Conn *c, u32 n) noexcept nogil:
    c.out_last.wpos += n
    c.out_bytes += n

# Copies n bytes to the queue; 0, or OVERLOADED.
cdef inline i64 queue(Conn *c, const char *p, u64 n) noexcept nogil:
    cdef char *w
    cdef u32 part
    while n:
        if c.out_last != NULL and buf.room(c.out_last) > 0:
            part = buf.room(c.out_last)
        else:
            part = limits.SLAB_HEAD if n <= limits.SLAB_HEAD else limits.SLAB_BODY
        if part > n:
            part = <u32>n
        w = reserve(c, part)
        if w == NULL:
            c.flags |= C_BROKEN
            todo(c)
            return fault.OVERLOADED
        buf.put(c.out_last, p, part)
        c.out_bytes += part
        p += part
        n -= part
    return 0

# Takes sent bytes off the queue.
cdef inline void consume(Conn *c, u64 n) noexcept nogil:
    cdef Buf *b
    cdef u32 k
    c.out_bytes -= n
    while n:
        b = c.out
        k = buf.used(b)
        if n < k:
            b.rpos += <u32>n
            return
        n -= k
        c.out = b.next
        if c.out == NULL:
            c.out_last = NULL
        buf.release(&c.w.slabs, b)

# Watches the socket; writes: also for when it can be written to.
cdef inline int watch(Conn *c, bint writes) noexcept nogil:
    cdef int how = csys.EPOLL_CTL_MOD if c.events else csys.EPOLL_CTL_ADD
    c.events = csys.EPOLLIN | csys.EPOLLRDHUP | csys.EPOLLET | (csys.EPOLLOUT if writes else 0)
    return sock.watch(c.w.ep, how, c.fd, c.events, c)

# The kernel takes no more for now. epoll tells when it does again: also when that was before it was asked to.
cdef inline void stuck(Conn *c) noexcept nogil:
    c.flags &= ~C_WRITABLE
    if not (c.events & csys.EPOLLOUT) and watch(c, True) != 0:
        fail_write(c)

cdef inline void fail_write(Conn *c) noexcept nogil:
    c.flags &= ~C_WRITABLE
    c.flags |= C_BROKEN
    todo(c)

# Writes the queue, and behind it p[0:n], as far as the kernel takes it. Returns how much of p was taken.
cdef inline u64 transmit(Conn *c, const char *p, u64 n) noexcept nogil:
    cdef csys.iovec iov[10]
    cdef csys.msghdr m
    cdef Buf *b
    cdef u64 queued, all
    cdef u32 i
    cdef ssize_t sent
    while c.flags & C_WRITABLE:
        i = 0
        queued = 0
        b = c.out
        while b != NULL and i < 8:
            iov[i].iov_base = b.data + b.rpos
            iov[i].iov_len = buf.used(b)
            queued += iov[i].iov_len
            i += 1
            b = b.next
        all = queued
        if n and queued == c.out_bytes:
            iov[i].iov_base = <void *>p
            iov[i].iov_len = n
            all += n
            i += 1
        if i == 0:
            return 0
        if i == 1:
            sent = csys.send(c.fd, iov[0].iov_base, iov[0].iov_len, csys.MSG_NOSIGNAL)
        else:
            m.msg_name = NULL
            m.msg_namelen = 0
            m.msg_iov = iov
            m.msg_iovlen = i
            m.msg_control = NULL
            m.msg_controllen = 0
            m.msg_flags = 0
            sent = csys.sendmsg(c.fd, &m, csys.MSG_NOSIGNAL)
        if sent < 0:
            if dp.get_errno() == csys.EINTR:
                continue
            if dp.get_errno() == csys.EAGAIN:
                stuck(c)
            else:
                fail_write(c)
            return 0
        c.flags |= C_WROTE
        if <u64>sent < all:
            stuck(c)
        if <u64>sent >= queued:
            consume(c, queued)
            if <u64>sent > queued:
                return <u64>sent - queued
            if queued == all and c.out == NULL:
                return 0
        else:
            consume(c, <u64>sent)
    return 0

# Queues p[0:n], or writes it at once where copying would cost more than the system call. Returns the bytes unsent.
cdef inline i64 send_or_queue(Conn *c, const char *p, u64 n) noexcept nogil:
    cdef u64 taken = 0
    cdef i64 r
    if n + c.out_bytes > <u64>limits.SLAB_HEAD:
        taken = transmit(c, p, n)
    if taken < n:
        r = queue(c, p + taken, n - taken)
        if r < 0:
            return r
    return unsent(c)

# The queue's length, for an owner that pauses its source by it: such an owner is owed on_drain.
cdef inline i64 unsent(Conn *c) noexcept nogil:
    if c.out_bytes:
        todo(c)
        if c.out_bytes > <u64>limits.OUT_HIGH:
            c.flags |= C_DRAIN
    return <i64>c.out_bytes

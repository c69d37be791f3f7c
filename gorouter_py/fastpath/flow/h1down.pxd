# L2: an HTTP/1 connection to a client: request heads in, one exchange at a time, answers out in order.
#
# Life: S_IDLE -> S_HEAD -> S_BUSY -> S_IDLE ... A request's head stays in in_ until its exchange lets go, because the
# exchange's Head points into it; bytes of later requests wait behind it or in ahead and are parsed only then, so
# pipelined requests are answered in order. An idle connection holds no buffer.
# service() is called by the worker when the kernel or an exchange has changed something; it never recurses.
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64, i64, AGAIN, PARTIAL, FAULT_FIRST
from gorouter_py.fastpath.base cimport buf, csys, dp, fmt, limits, span
from gorouter_py.fastpath.base.buf cimport Buf
from gorouter_py.fastpath.http cimport heads, h1
from gorouter_py.fastpath.http.heads cimport Head
from gorouter_py.fastpath.net cimport sock, tap, timers
from gorouter_py.fastpath.flow cimport conn, fault, h1read, h1write, mapping
from gorouter_py.fastpath.flow.state cimport *

cdef inline Conn *accept(Worker *w, int fd, const u8 *addr, bint health_only) noexcept nogil:
    cdef Conn *c = conn.create(w, fd, K_DOWN, &w.downs)
    if c == NULL:
        csys.close(fd)
        return NULL
    c.s.ops = &w.down_ops
    c.s.health_only = health_only
    c.s.peer = c.peer_text
    c.s.peer_len = <u16>sock.write_addr(c.peer_text, addr, &c.s.ip_off, &c.s.ip_len)
    c.minor = 1
    c.state = S_IDLE
    c.flags = C_READABLE | C_WRITABLE
    tap.inc(&w.counters.connections)
    tap.inc(&w.counters.connections_open)
    if conn.watch(c, False) != 0:
        conn.kill(c, True)
        return NULL
    timers.set_ms(&w.wheel, &c.timer, w.shared.cfg.head_timeout_ms or w.shared.cfg.idle_timeout_ms)
    conn.todo(c)
    return c

# Answers what is no request, and closes. No exchange is involved; the client sees a whole answer.
cdef inline void refuse(Conn *c, int code) noexcept nogil:
    cdef u16 status = fault.row(code).status if code <= -64 or code == FAULT_FIRST else fault.parse_status(code)
    cdef const char *text = fault.row(code).text
    cdef const char *why = fault.reason(status)
    cdef u32 why_n = <u32>strlen(why), text_n = <u32>strlen(text)
    cdef char *start = conn.reserve(c, 512 + text_n + 2 * why_n)
    cdef char *w = start
    tap.inc(&c.w.counters.bad_requests)
    if start == NULL:
        conn.kill(c, True)
        return
    w = fmt.text(w, b"HTTP/1.1 ")
    w = fmt.dec(w, status)
    w = fmt.text(w, b" ")
    w = fmt.put(w, why, why_n)
    w = fmt.text(w, b"\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
                 b"Connection: close\r\nContent-Length: ")
    w = fmt.dec(w, 3 + 1 + why_n + 2 + text_n + 1)
    w = fmt.text(w, b"\r\n\r\n")
    w = fmt.dec(w, status)
    w = fmt.text(w, b" ")
    w = fmt.put(w, why, why_n)
    w = fmt.text(w, b": ")
    w = fmt.put(w, text, text_n)
    w = fmt.text(w, b"\n")
    conn.wrote(c, <u32>(w - start))
    c.flags &= ~(C_KEEP | C_IN_DONE)        # what else the client sends belongs to what was refused
    close_after_flush(c)

cdef inline void close_after_flush(Conn *c) noexcept nogil:
    conn.set_state(c, S_FLUSH)
    timers.set_ms(&c.w.wheel, &c.timer, c.w.shared.cfg.body_timeout_ms)
    conn.todo(c)

# Everything is written. If the client may still be sending, closing now would make the kernel answer with a reset
# that can overtake the answer: say that nothing more comes, swallow for a while, then close.
cdef inline void flushed(Conn *c) noexcept nogil:
    if (c.flags & (C_IN_DONE | C_EOF)) and not (c.flags & C_READABLE) and c.ahead == NULL:
        conn.kill(c, False)
        return
    if c.flags & C_EOF and c.flags & C_IN_DONE:
        conn.kill(c, False)
        return
    csys.shutdown(c.fd, csys.SHUT_WR)
    conn.set_state(c, S_LINGER)
    c.body_left = limits.LINGER_BYTES
    timers.set_ms(&c.w.wheel, &c.timer, c.w.shared.cfg.linger_timeout_ms or 1000)
    linger(c)

cdef inline void linger(Conn *c) noexcept nogil:
    cdef Buf *b
    cdef i64 n
    while c.flags & C_READABLE:
        b = buf.alloc(&c.w.slabs, limits.SLAB_BODY)
        if b == NULL:
            conn.kill(c, True)
            return
        n = conn.receive(c, b)
        buf.release(&c.w.slabs, b)
        if n == AGAIN:
            return
        if n < 0 or <u64>n >= c.body_left:
            conn.kill(c, False)
            return
        c.body_left -= <u64>n

# Room for more of a head in in_; False when it would grow over the limit or memory is out (the client is told).
cdef inline bint make_room(Conn *c) noexcept nogil:
    cdef Worker *w = c.w
    cdef u32 want
    cdef Buf *b
    if c.in_ == NULL:
        # a head and a small body mostly come together: one read for both
        c.in_ = buf.alloc(&w.slabs, limits.SLAB_BODY)
        if c.in_ == NULL:
            conn.kill(c, True)
            return False
        return True
    if buf.room(c.in_) > 0:
        return True
    want = c.in_.cap if c.in_.rpos else c.in_.cap * 4
    if want > w.shared.cfg.head_bytes_max + limits.SLAB_HEAD:
        want = w.shared.cfg.head_bytes_max + limits.SLAB_HEAD
    b = buf.grow(&w.slabs, c.in_, want)
    if b == NULL:
        tap.inc(&w.counters.buffers_exhausted)
        refuse(c, fault.HEAD_TOO_LARGE)
        return False
    c.in_ = b
    return True

# A whole head is at in_.rpos: hands it to an exchange.
cdef inline void start_request(Conn *c, Head *h, u32 head_n) noexcept nogil:
    cdef Worker *w = c.w
    if c.state == S_IDLE or c.state == S_HEAD:
        conn.set_state(c, S_BUSY)
    timers.set_ms(&w.wheel, &c.timer, 0)
    c.scanned = 0
    c.minor = h.minor
    c.body_at = c.in_.rpos + head_n
    c.flags &= ~(C_IN_DONE | C_OUT_DONE | C_WANT | C_DETACH | C_CLEAN | C_KEEP)
    if h.flags & heads.F_KEEP_ALIVE and not w.draining:
        c.flags |= C_KEEP
    h1read.begin_body(c, h)
    w.begin(w, &c.s, h)

# Parses heads and reads for them until one is complete or the kernel has nothing.
cdef inline void read_head(Conn *c) noexcept nogil:
    cdef Worker *w = c.w
    cdef Head *h = &w.scratch_head
    cdef i64 r
    while c.state == S_IDLE or c.state == S_HEAD:
        if c.in_ != NULL and buf.used(c.in_) > c.scanned:
            h.fields = w.scratch_fields
            h.cap = limits.FIELDS_MAX
            r = h1.parse_request(h, c.in_.data + c.in_.rpos, buf.used(c.in_), &c.scanned)
            if (r if r > 0 else <i64>buf.used(c.in_)) > <i64>w.shared.cfg.head_bytes_max and (r > 0 or r == PARTIAL):
                r = fault.HEAD_TOO_LARGE
            if r > 0:
                start_request(c, h, <u32>r)
                return
            if r != PARTIAL:
                if c.state == S_IDLE:
                    conn.set_state(c, S_HEAD)
                refuse(c, <int>r)
                return
            if c.state == S_IDLE:
                conn.set_state(c, S_HEAD)
                timers.set_ms(&w.wheel, &c.timer, w.shared.cfg.head_timeout_ms)
        if not (c.flags & C_READABLE) or not make_room(c):
            break
        r = conn.receive(c, c.in_)
        if r == AGAIN:
            break
        if r < 0:
            if c.out_bytes and r == conn.READ_CLOSED:
                close_after_flush(c)        # it has ended its side and still waits for answers
            else:
                conn.kill(c, False)
            return
    if c.state == S_IDLE and c.in_ != NULL and buf.used(c.in_) == 0:
        buf.release(&w.slabs, c.in_)
        c.in_ = NULL

# The exchange has let go: the next request, or the end.
cdef inline void finish(Conn *c) noexcept nogil:
    cdef Worker *w = c.w
    cdef bint keep = (c.flags & (C_CLEAN | C_KEEP | C_IN_DONE | C_OUT_DONE)) == (C_CLEAN | C_KEEP | C_IN_DONE | C_OUT_DONE)
    c.flags &= ~C_DETACH
    if not (c.flags & C_CLEAN):
        # RFC 9112 7.1.2, 8: a cut answer must not look like a whole one
        conn.kill(c, True)
        return
    c.in_.rpos = c.body_at
    if c.ahead != NULL:
        buf.release(&w.slabs, c.in_)
        c.in_ = c.ahead
        c.ahead = NULL
    elif buf.used(c.in_) == 0:
        buf.release(&w.slabs, c.in_)
        c.in_ = NULL
    if not keep or w.draining or mapping.is_closed(c.s.mapping):
        close_after_flush(c)
        return
    conn.set_state(c, S_IDLE)
    c.scanned = 0
    arm_idle(c)

# Between requests: a client that does not take its last answer gets less time than one that has nothing to ask.
cdef inline void arm_idle(Conn *c) noexcept nogil:
    cdef Settings *cfg = &c.w.shared.cfg
    timers.set_ms(&c.w.wheel, &c.timer, cfg.body_timeout_ms if c.out_bytes else cfg.idle_timeout_ms)

cdef inline void fail(Conn *c, int code) noexcept nogil:
    if c.s.owner != NULL:
        c.s.events.on_fail(c.s.owner, &c.s, code)
    elif c.state == S_BUSY and c.flags & C_DETACH and not (c.flags & C_BROKEN):
        return
    else:
        conn.kill(c, True)

cdef inline void read_body(Conn *c) noexcept nogil:
    cdef i64 r
    if not (c.flags & C_WANT) or c.flags & (C_IN_DONE | C_DETACH) or c.s.owner == NULL:
        return
    r = h1read.pump(c)
    if r == 0:
        return
    if r == conn.READ_CLOSED and c.flags & C_RAW:
        h1read.end(c, span.make(NULL, 0))
    elif r == conn.READ_CLOSED or r == conn.READ_BROKEN:
        fail(c, fault.CLIENT_GONE)
    elif r == h1read.NO_MEMORY:
        fail(c, fault.OVERLOADED)
    else:
        fail(c, fault.BAD_BODY)

# Arms the timer while the client is what we wait for.
cdef inline void watch_client(Conn *c) noexcept nogil:
    cdef u64 ms = c.w.shared.cfg.tunnel_timeout_ms if c.flags & C_RAW else c.w.shared.cfg.body_timeout_ms
    if c.timer.deadline == 0 and ms and (c.out_bytes or (c.flags & (C_WANT | C_IN_DONE)) == C_WANT):
        timers.set_ms(&c.w.wheel, &c.timer, ms)

cdef inline void service(Conn *c) noexcept nogil:
    if c.state == S_CLOSED:
        return
    if c.flags & C_BROKEN:
        if c.state == S_BUSY and c.s.owner != NULL:
            fail(c, fault.CLIENT_GONE)
        else:
            conn.kill(c, True)
            return
    if c.out_bytes or c.flags & (C_DRAIN | C_SHUT):
        h1write.flush(c)
        if c.flags & C_BROKEN:
            conn.todo(c)
            return
        if c.state == S_IDLE:
            arm_idle(c)
    if c.flags & C_DETACH:
        finish(c)
    # a client that asks and asks but does not read is not asked what else it wants
    if (c.state == S_IDLE or c.state == S_HEAD) and c.out_bytes <= <u64>limits.OUT_HIGH:
        read_head(c)
    if c.state == S_BUSY:
        read_body(c)
        if c.state == S_BUSY:
            watch_client(c)
    elif c.state == S_FLUSH:
        if c.out_bytes == 0:
            flushed(c)
    elif c.state == S_LINGER:
        linger(c)

cdef inline void on_timer(Conn *c) noexcept nogil:
    cdef Worker *w = c.w
    cdef u64 ms = w.shared.cfg.tunnel_timeout_ms if c.flags & C_RAW else w.shared.cfg.body_timeout_ms
    cdef u64 idle = w.now_ms - c.since_ms
    if c.state == S_BUSY:
        if not c.out_bytes and (c.flags & (C_WANT | C_IN_DONE)) != C_WANT:
            return
        if idle < ms:
            timers.set_ms(&w.wheel, &c.timer, ms - idle)
            return
        tap.inc(&w.counters.client_timeouts)
        fail(c, fault.CLIENT_STALLED if c.out_bytes else fault.BODY_TIMEOUT)
    elif c.state == S_HEAD:
        tap.inc(&w.counters.client_timeouts)
        refuse(c, fault.HEAD_TIMEOUT)
    else:
        conn.kill(c, c.state == S_FLUSH)

cdef extern from "<string.h>" nogil:
    size_t strlen(const char *s) noexcept

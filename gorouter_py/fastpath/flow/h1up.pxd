# L2: an HTTP/1 connection to an endpoint: one request out, its answer in, then idle in the pool or closed.
#
# Life: S_CONNECTING -> S_BUSY -> S_IDLE -> S_BUSY ... It is kept only if everything about the last message was clean:
# both sides complete, no octet beyond the answer, no sign of closing, and the endpoint still registered.
# service() is called by the worker; failures go to the owner as one on_fail.
from libc.string cimport memchr
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64, i64, AGAIN, PARTIAL
from gorouter_py.fastpath.base cimport buf, csys, dp, limits, span
from gorouter_py.fastpath.base.buf cimport Buf
from gorouter_py.fastpath.http cimport heads, h1
from gorouter_py.fastpath.http.heads cimport Head
from gorouter_py.fastpath.net cimport pool, sock, tap, timers
from gorouter_py.fastpath.net.pool cimport Idle
from gorouter_py.fastpath.route cimport endpoint
from gorouter_py.fastpath.route.endpoint cimport Endpoint
from gorouter_py.fastpath.flow cimport conn, fault, h1read, h1write
from gorouter_py.fastpath.flow.stream cimport Stream
from gorouter_py.fastpath.flow.state cimport *

cdef extern from * nogil:
    """
    #define DP_CONN_OF_IDLE(i) DP_CONTAINER(i, struct __pyx_t_11gorouter_py_8fastpath_4flow_5state_Conn, idle)
    """
    Conn *conn_of_idle "DP_CONN_OF_IDLE"(Idle *i) noexcept

cdef enum:
    PARTING_MS = 500            # how long an endpoint that said or was told to close has for it
    TAIL_MS = 60000             # a tunnel's last bytes, where no time-out is configured
    QUIET_IDLE_MS = 1000        # a request that may not be repeated takes no connection that idled longer

cdef inline int dial_fault(int err) noexcept nogil:
    if err == csys.ECONNREFUSED:
        return fault.DIAL_REFUSED
    if err == csys.ETIMEDOUT:
        return fault.DIAL_TIMEOUT
    if err == csys.EHOSTUNREACH or err == csys.ENETUNREACH:
        return fault.DIAL_UNREACHABLE
    # EADDRNOTAVAIL: no local port is left, which is no fault of the endpoint
    if (err == csys.EMFILE or err == csys.ENFILE or err == csys.ENOBUFS or err == csys.ENOMEM
            or err == csys.EADDRNOTAVAIL):
        return fault.NO_SOCKETS
    return fault.DIAL_FAILED

cdef inline void close_idle(Conn *c) noexcept nogil:
    conn.kill(c, False)

# A kept connection to ep, out of the pool; NULL if there is none that is good enough.
cdef inline Conn *take_idle(Worker *w, Endpoint *ep, int care) noexcept nogil:
    cdef Idle *i
    cdef Conn *c
    while True:
        i = pool.take(&w.idle, ep)
        if i == NULL:
            return NULL
        c = conn_of_idle(i)
        dp.sub32(&ep.idle, 1)
        tap.dec(&w.counters.upstream_idle)
        if not (c.flags & (C_EOF | C_BROKEN | C_READABLE)):
            if care == CARE_ANY or (w.now_ms - c.since_ms < QUIET_IDLE_MS and sock.is_quiet(c.fd)):
                return c
        conn.kill(c, False)

cdef inline Conn *dial(Worker *w, Endpoint *ep, int *code) noexcept nogil:
    cdef Conn *c
    cdef int fd = sock.start_connect(ep.addr, ep.addr_len)
    if fd < 0:
        code[0] = dial_fault(-fd)
        return NULL
    c = conn.create(w, fd, K_UP, &w.ups)
    if c == NULL:
        csys.close(fd)
        code[0] = fault.OVERLOADED
        return NULL
    tap.inc(&w.counters.upstream_connects)
    tap.inc(&w.counters.upstream_open)
    endpoint.ref(ep)
    c.ep = ep
    c.s.ops = &w.up_ops
    c.minor = 1
    c.state = S_CONNECTING
    if conn.watch(c, True) != 0:
        conn.kill(c, True)
        code[0] = fault.NO_SOCKETS
        return NULL
    return c

# A stream to ep for one request; NULL with *code set when not even a connect could be started.
cdef inline Stream *open_up(Worker *w, Endpoint *ep, u32 method, int care, int *code) noexcept nogil:
    cdef Settings *cfg = &w.shared.cfg
    cdef Conn *c = NULL
    if care != CARE_FRESH and cfg.upstream_keep_alive:
        c = take_idle(w, ep, care)
    if c != NULL:
        conn.set_state(c, S_BUSY)
        c.flags = (c.flags & (C_READABLE | C_WRITABLE | C_TODO)) | C_REUSED | C_WANT
        c.s.reused = 1
        c.s.ready = 1
        tap.inc(&w.counters.upstream_reused)
    else:
        c = dial(w, ep, code)
        if c == NULL:
            return NULL
        c.flags |= C_WANT
    c.method = <u8>method
    c.scanned = 0
    c.interim = 0
    c.interim_bytes = 0
    c.since_ms = w.now_ms
    c.attempt_until_ms = w.now_ms + cfg.request_timeout_ms if cfg.request_timeout_ms else 0
    arm(c)
    return &c.s

# ---- time-outs ---------------------------------------------------------------------------------------------------

cdef inline void arm(Conn *c) noexcept nogil:
    cdef Settings *cfg = &c.w.shared.cfg
    cdef u64 ms
    if c.state == S_CONNECTING:
        ms = cfg.connect_timeout_ms
    elif c.state == S_IDLE:
        ms = cfg.upstream_idle_timeout_ms
    elif c.flags & C_RAW:
        ms = cfg.tunnel_timeout_ms
    else:
        ms = cfg.body_timeout_ms if c.flags & C_HEAD_SEEN else cfg.first_byte_timeout_ms
        if c.attempt_until_ms and (ms == 0 or c.w.now_ms + ms > c.attempt_until_ms):
            ms = c.attempt_until_ms - c.w.now_ms if c.attempt_until_ms > c.w.now_ms else 1
    timers.set_ms(&c.w.wheel, &c.timer, ms)

cdef inline void on_timer(Conn *c) noexcept nogil:
    cdef Settings *cfg = &c.w.shared.cfg
    cdef u64 now = c.w.now_ms
    cdef u64 quiet = now - c.since_ms
    cdef u64 most
    if c.state == S_IDLE:
        close_idle(c)
        return
    if c.state == S_CONNECTING:
        fail(c, fault.DIAL_TIMEOUT)
        return
    if c.state != S_BUSY:
        return
    if c.s.owner == NULL:
        conn.kill(c, not (c.flags & C_PARTING))     # or the tail of a tunnel that nobody takes
        return
    if c.flags & C_RAW:
        most = cfg.tunnel_timeout_ms
    elif c.attempt_until_ms and now >= c.attempt_until_ms:
        fail(c, fault.UP_TIMEOUT)
        return
    else:
        most = cfg.body_timeout_ms if c.flags & C_HEAD_SEEN else cfg.first_byte_timeout_ms
        if c.flags & C_HEAD_SEEN and not (c.flags & C_WANT):
            quiet = 0           # we are the ones who do not read
    if most and quiet >= most:
        fail(c, fault.UP_TIMEOUT)
        return
    arm(c)

# ---- events ------------------------------------------------------------------------------------------------------

cdef inline void fail(Conn *c, int code) noexcept nogil:
    if c.s.owner != NULL:
        c.s.events.on_fail(c.s.owner, &c.s, code)
    else:
        conn.kill(c, False)

# What the end of the connection means at this point.
cdef inline void closed(Conn *c, bint reset) noexcept nogil:
    if c.flags & C_RAW:
        if reset:
            fail(c, fault.UP_RESET)
        else:
            h1read.end(c, span.make(NULL, 0))
    elif not (c.flags & C_HEAD_SEEN):
        if c.in_ != NULL and buf.used(c.in_) or c.interim:
            fail(c, fault.UP_SHORT)
        elif not (c.flags & C_WROTE):
            fail(c, fault.UP_UNSENT)
        else:
            fail(c, fault.UP_RESET if reset else fault.UP_EOF)
    elif c.in_framing == heads.BODY_CLOSE and not reset:
        # RFC 9112 6.3: without any length the end of the connection is the end of the body
        c.flags &= ~C_KEEP
        h1read.end(c, span.make(NULL, 0))
    else:
        fail(c, fault.UP_SHORT)

# The final head: to the owner, then whatever of the body came with it.
cdef inline void deliver(Conn *c, Head *h, u32 head_n) noexcept nogil:
    c.flags |= C_HEAD_SEEN
    c.flags &= ~C_KEEP
    if h.flags & heads.F_KEEP_ALIVE and not (c.flags & C_LAST):
        c.flags |= C_KEEP
    c.body_at = c.in_.rpos + head_n
    h1read.begin_body(c, h)
    if not (c.flags & C_IN_DONE):
        c.since_ms = c.w.now_ms
        arm(c)
    c.s.events.on_head(c.s.owner, &c.s, h)
    if c.flags & C_IN_DONE and h1read.listening(c) and not (c.flags & C_RAW):
        c.s.events.on_end(c.s.owner, &c.s, span.make(NULL, 0))

# Which complaint of gorouter's an unfit head gets; notes what of the status line is to blame.
# gorouter: a line without a space, else its status code, else its version.
cdef inline int head_fault(Conn *c, int code) noexcept nogil:
    cdef const char *p = c.in_.data + c.in_.rpos
    cdef const char *end = p + buf.used(c.in_)
    cdef const char *e
    cdef const char *s
    if code != heads.P_RESP_LINE:
        return fault.UP_BAD_FIELDS
    e = <const char *>memchr(p, c'\n', end - p)
    if e != NULL:
        end = e
    if end > p and end[-1] == c'\r':
        end -= 1
    s = <const char *>memchr(p, c' ', end - p)
    if s == NULL:
        c.s.malformed = span.make(p, <u32>(end - p))
        return fault.UP_MALFORMED
    c.s.malformed = span.make(p, <u32>(s - p))
    while s < end and s[0] == c' ':
        s += 1
    e = <const char *>memchr(s, c' ', end - s)
    if e == NULL:
        e = end
    if e - s == 3 and dp.char_is(s[0], dp.C_DIGIT) and s[0] != c'0' and dp.char_is(s[1], dp.C_DIGIT) and dp.char_is(
            s[2], dp.C_DIGIT):
        return fault.UP_BAD_VERSION
    c.s.malformed = span.make(s, <u32>(e - s))
    return fault.UP_BAD_STATUS

# Parses interim heads and the final one. True when the final head has been delivered.
cdef inline bint read_head(Conn *c) noexcept nogil:
    cdef Worker *w = c.w
    cdef Head *h = &w.scratch_head
    cdef Buf *b
    cdef i64 r
    while h1read.listening(c):
        if c.in_ != NULL and buf.used(c.in_) > c.scanned:
            h.fields = w.scratch_fields
            h.cap = limits.FIELDS_MAX
            r = h1.parse_response(h, c.in_.data + c.in_.rpos, buf.used(c.in_), &c.scanned, c.method)
            if r > 0 and h.status < 200 and h.status != 101:
                c.in_.rpos += <u32>r
                c.scanned = 0
                c.interim += 1
                c.interim_bytes += <u32>r
                if c.interim > limits.INTERIM_MAX or c.interim_bytes > limits.INTERIM_BYTES_MAX:
                    fail(c, fault.UP_INTERIM)
                    return False
                c.s.events.on_head(c.s.owner, &c.s, h)
                continue
            if r > 0:
                deliver(c, h, <u32>r)
                return True
            if r != PARTIAL:
                fail(c, head_fault(c, <int>r))
                return False
        if not (c.flags & C_READABLE):
            return False
        if c.in_ == NULL:
            c.in_ = buf.alloc(&w.slabs, limits.SLAB_BODY)
        elif buf.room(c.in_) == 0:
            if buf.used(c.in_) >= limits.HEAD_BYTES_MAX:
                fail(c, fault.UP_HEAD_TOO_LARGE)
                return False
            b = buf.grow(&w.slabs, c.in_, c.in_.cap if c.in_.rpos else c.in_.cap * 4)
            if b == NULL:
                fail(c, fault.OVERLOADED)
                return False
            c.in_ = b
        if c.in_ == NULL:
            fail(c, fault.OVERLOADED)
            return False
        r = conn.receive(c, c.in_)
        if r == AGAIN:
            return False
        if r < 0:
            closed(c, r == conn.READ_BROKEN)
            return False
    return False

cdef inline void read_body(Conn *c) noexcept nogil:
    cdef i64 r
    if not (c.flags & C_WANT) or c.flags & (C_IN_DONE | C_DETACH) or c.s.owner == NULL:
        return
    r = h1read.pump(c)
    if r == 0:
        return
    if r == conn.READ_CLOSED or r == conn.READ_BROKEN:
        closed(c, r == conn.READ_BROKEN)
    elif r == h1read.NO_MEMORY:
        fail(c, fault.OVERLOADED)
    else:
        fail(c, fault.UP_BAD_BODY)

# The exchange has let go: back to the pool, or the end.
cdef inline void finish(Conn *c) noexcept nogil:
    cdef Worker *w = c.w
    cdef u32 want = C_CLEAN | C_KEEP | C_IN_DONE | C_OUT_DONE
    cdef bint keep = ((c.flags & want) == want and not (c.flags & (C_EOF | C_BROKEN | C_RAW)) and c.out_bytes == 0
                      and (not (c.flags & C_READABLE) or sock.is_quiet(c.fd))
                      and c.ahead == NULL and (c.in_ == NULL or c.in_.wpos == c.body_at)
                      and dp.load8(&c.ep.dead) == 0 and not w.draining and w.shared.cfg.upstream_keep_alive)
    if c.in_ != NULL:
        buf.release(&w.slabs, c.in_)
        c.in_ = NULL
    if not keep and (c.flags & want) == (want & ~C_KEEP) and not (c.flags & (C_EOF | C_BROKEN | C_RAW)) and c.ahead == NULL:
        # Whoever closes first keeps the port for a minute: let it be the endpoint, which has been told.
        c.flags = (c.flags & (C_READABLE | C_WRITABLE | C_TODO)) | C_PARTING
        timers.set_ms(&w.wheel, &c.timer, PARTING_MS)
        return
    if not keep or not pool.put(&w.idle, &c.idle, c.ep, w.shared.cfg.upstream_idle_per_endpoint):
        if c.flags & C_CLEAN and c.flags & C_RAW and c.out_bytes and not (c.flags & C_BROKEN):
            # a tunnel's last bytes; service() comes back when they are written
            timers.set_ms(&w.wheel, &c.timer, w.shared.cfg.body_timeout_ms or TAIL_MS)
            return
        conn.kill(c, not (c.flags & C_CLEAN))
        return
    dp.add32(&c.ep.idle, 1)
    tap.inc(&w.counters.upstream_idle)
    conn.set_state(c, S_IDLE)
    c.flags &= C_WRITABLE | C_TODO
    c.since_ms = w.now_ms
    arm(c)

# A connect that has come to its end, one way or the other.
cdef inline void connected(Conn *c) noexcept nogil:
    cdef int err = sock.pending_error(c.fd)
    if err != 0:
        fail(c, dial_fault(err))
        return
    conn.set_state(c, S_BUSY)
    c.since_ms = c.w.now_ms
    arm(c)
    c.s.ready = 1
    if h1read.listening(c):
        c.s.events.on_ready(c.s.owner, &c.s)

cdef inline void service(Conn *c) noexcept nogil:
    if c.state == S_CLOSED:
        return
    if c.state == S_IDLE or c.flags & C_PARTING:
        if c.flags & (C_READABLE | C_EOF | C_BROKEN):
            close_idle(c)
        return
    if c.state == S_CONNECTING and c.flags & (C_WRITABLE | C_BROKEN) and not (c.flags & C_DETACH):
        connected(c)
    if c.state == S_BUSY:
        # one that has closed before anything was sent gets nothing: the request is still unused then
        if (c.out_bytes or c.flags & (C_DRAIN | C_SHUT)) and (c.flags & C_WROTE or not (c.flags & C_EOF)):
            h1write.flush(c)
        if h1read.listening(c):
            if c.flags & C_HEAD_SEEN or read_head(c):
                read_body(c)
        # a write that failed ends the attempt only when no answer is there to explain it
        if c.flags & C_BROKEN and h1read.listening(c) and not (c.flags & C_READABLE):
            fail(c, fault.UP_SHORT if c.flags & C_HEAD_SEEN else fault.UP_WRITE if c.flags & C_WROTE else fault.UP_UNSENT)
    if c.flags & C_DETACH and c.state != S_CLOSED:
        finish(c)

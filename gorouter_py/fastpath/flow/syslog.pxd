# L2: the access log to a syslog server (RFC 5424 over TCP or UDP), written by the logger thread and by it alone.
#
# Nothing here waits. Over TCP lines gather in one buffer and go as the kernel takes them, each ended by LF (RFC 6587
# 3.4.2); when the buffer is full, lines are dropped and counted. A connection that breaks is opened anew a second later;
# the line that was under way is lost, those behind it are not. Over UDP a line is one datagram, sent or counted.
# Control opens the first connection (a failure then is fatal); the address is the one it found.
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcpy, memmove
from gorouter_py.fastpath.base.types cimport Span, u8, u32, u64
from gorouter_py.fastpath.base cimport clock, csys, dp, fmt, limits, span
from gorouter_py.fastpath.net cimport sock
from gorouter_py.fastpath.flow cimport daytime
from gorouter_py.fastpath.flow.state cimport Syslog, SYSLOG_CLOSED, SYSLOG_CONNECTING, SYSLOG_OPEN

cdef enum:
    RETRY_NS = 1000000000       # between two attempts to connect
    HEADER_ROOM = 640           # priority, time, host, application, process id, BOM

# False: no memory. fd: connected, non-blocking; it belongs to s now.
cdef inline bint open(Syslog *s, int fd, bint tcp) noexcept nogil:
    s.buf = <char *>malloc(limits.SYSLOG_ROOM)
    s.fd = fd
    s.tcp = tcp
    s.state = SYSLOG_OPEN
    s.fresh = 1
    return s.buf != NULL

cdef inline void close(Syslog *s) noexcept nogil:
    if s.fd >= 0:
        csys.close(s.fd)
    s.fd = -1
    s.state = SYSLOG_CLOSED
    free(s.buf)
    s.buf = NULL

cdef inline bint pending(const Syslog *s) noexcept nogil:
    return s.buf != NULL and s.sent < s.n

# ---- lines ---------------------------------------------------------------------------------------------------------

# gorouter: the time of writing, in whole seconds.
cdef inline void begin_line(Syslog *s) noexcept nogil:
    cdef u64 second = clock.wall_ns() // 1000000000
    cdef char *p
    s.fresh = 0
    s.start = s.n
    s.taken = 0
    s.skip = s.n + HEADER_ROOM > limits.SYSLOG_ROOM
    if s.skip:
        return
    if second != s.stamp_s:
        s.stamp_s = second
        s.stamp_n = <u32>(daytime.rfc3339(s.stamp, second) - s.stamp)
    p = fmt.put(s.buf + s.n, b"<14>1 ", 6)
    p = fmt.put(p, s.stamp, s.stamp_n)
    p = fmt.put(p, s.origin, s.origin_n)
    s.n = <u32>(p - s.buf)

cdef inline void lose(Syslog *s) noexcept nogil:
    dp.bump64(&s.lost, 1)

cdef inline void end_line(Syslog *s) noexcept nogil:
    s.fresh = 1
    if s.skip:
        s.n = s.start
        lose(s)
    elif s.tcp:
        s.buf[s.n] = c'\n'
        s.n += 1
    else:
        if csys.send(s.fd, s.buf + s.start, s.n - s.start, csys.MSG_DONTWAIT | csys.MSG_NOSIGNAL) < 0:
            lose(s)
        else:
            dp.bump64(&s.lines, 1)
        s.n = s.start

# Part of the stream of finished lines.
cdef inline void take(Syslog *s, const char *p, u64 n) noexcept nogil:
    cdef const char *end
    cdef u64 part, room
    while n:
        if s.fresh:
            begin_line(s)
        end = <const char *>memchr(p, c'\n', n)
        part = <u64>(end - p) if end != NULL else n
        room = part
        if s.truncate and room > s.truncate - s.taken:
            room = s.truncate - s.taken
        if not s.skip and s.n + room + 1 > limits.SYSLOG_ROOM:
            s.skip = 1
        if not s.skip:
            memcpy(s.buf + s.n, p, room)
            s.n += <u32>room
            s.taken += <u32>room
        if end != NULL:
            end_line(s)
            part += 1
        p += part
        n -= part

# ---- TCP -----------------------------------------------------------------------------------------------------------

cdef inline void drop_connection(Syslog *s) noexcept nogil:
    cdef const char *end
    cdef u32 whole = s.n if s.fresh else s.start
    csys.close(s.fd)
    s.fd = -1
    s.state = SYSLOG_CLOSED
    s.retry_at_ns = clock.mono_ns() + RETRY_NS
    if s.sent and s.sent < whole and s.buf[s.sent - 1] != c'\n':
        end = <const char *>memchr(s.buf + s.sent, c'\n', whole - s.sent)
        s.sent = <u32>(end - s.buf) + 1 if end != NULL else whole
        lose(s)

# The server says nothing; what it does say is that it has gone.
cdef inline bint is_gone(Syslog *s) noexcept nogil:
    cdef char heard[256]
    cdef ssize_t n = csys.recv(s.fd, heard, sizeof(heard), csys.MSG_DONTWAIT)
    return n == 0 or (n < 0 and dp.get_errno() != csys.EAGAIN and dp.get_errno() != csys.EINTR)

cdef inline void connect(Syslog *s) noexcept nogil:
    cdef csys.pollfd p
    if s.state == SYSLOG_CLOSED and clock.mono_ns() >= s.retry_at_ns:
        s.fd = sock.start_connect(s.addr, s.addr_len)
        if s.fd < 0:
            s.retry_at_ns = clock.mono_ns() + RETRY_NS
            return
        s.state = SYSLOG_CONNECTING
    if s.state == SYSLOG_CONNECTING:
        p.fd = s.fd
        p.events = csys.POLLOUT
        p.revents = 0
        if csys.poll(&p, 1, 0) != 1:
            return
        if sock.pending_error(s.fd) != 0:
            drop_connection(s)
            return
        s.state = SYSLOG_OPEN

# Sends what the kernel takes; opens the connection anew when it is time.
cdef inline void flush(Syslog *s) noexcept nogil:
    cdef u32 whole = s.n if s.fresh else s.start
    cdef ssize_t done
    if s.buf == NULL or not s.tcp:
        return
    if s.state == SYSLOG_OPEN and is_gone(s):
        drop_connection(s)
    if s.state != SYSLOG_OPEN:
        connect(s)
    while s.state == SYSLOG_OPEN and s.sent < whole:
        done = csys.send(s.fd, s.buf + s.sent, whole - s.sent, csys.MSG_DONTWAIT | csys.MSG_NOSIGNAL)
        if done > 0:
            count_lines(s, <u32>done)
            s.sent += <u32>done
        elif dp.get_errno() == csys.EAGAIN:
            break
        elif dp.get_errno() != csys.EINTR:
            drop_connection(s)
    if s.sent:
        memmove(s.buf, s.buf + s.sent, s.n - s.sent)
        s.n -= s.sent
        s.start = s.start - s.sent if s.start > s.sent else 0
        s.sent = 0

cdef inline void count_lines(Syslog *s, u32 done) noexcept nogil:
    cdef u32 i
    for i in range(s.sent, s.sent + done):
        if s.buf[i] == c'\n':
            dp.bump64(&s.lines, 1)

# The end: what is left goes, if it goes within limit_ms.
cdef inline void finish(Syslog *s, u32 limit_ms) noexcept nogil:
    cdef csys.pollfd p
    cdef u64 until = clock.mono_ns() + <u64>limit_ms * 1000000
    flush(s)
    while pending(s) and s.state != SYSLOG_CLOSED and clock.mono_ns() < until:
        p.fd = s.fd
        p.events = csys.POLLOUT
        csys.poll(&p, 1, 10)
        flush(s)

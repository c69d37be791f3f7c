# L2: the logger thread: takes finished lines out of the workers' rings and writes them to the access log.
#
# Beside it, where configured, it feeds syslog (flow/syslog) and sends the workers' envelopes to the metron agent.
# It sleeps on an eventfd while all rings are empty (the worker that puts the first line wakes it) and lets lines gather
# for a few milliseconds while there are any, so that a busy router writes many lines with one system call.
# A failing write drops the lines it was given and counts them; the workers never wait for the disk.
from gorouter_py.fastpath.base.types cimport u32, u64
from gorouter_py.fastpath.base cimport clock, csys, dp, limits
from gorouter_py.fastpath.net cimport tap
from gorouter_py.fastpath.net.tap cimport LogRing
from gorouter_py.fastpath.flow cimport syslog
from gorouter_py.fastpath.flow.state cimport Shared, Worker

cdef enum:
    GATHER_NS = 10000000        # how long lines gather
    STEP_MAX = 131072           # bytes of one write; on stdout lines are written PIPE_BUF at a time
    SYSLOG_MS = 100             # how soon what the syslog server did not take is offered again
    FAREWELL_MS = 1000          # how long the end waits for it
    PIPE_ATOMIC = 4096          # POSIX: writes up to PIPE_BUF do not mix with those of others

cdef inline void reopen(Shared *g) noexcept nogil:
    cdef int fd
    if g.log_path[0] == 0:
        return
    fd = csys.open_file(g.log_path, csys.O_WRONLY | csys.O_APPEND | csys.O_CREAT | csys.O_CLOEXEC, 0o644)
    if fd < 0:
        return
    if g.log_fd >= 0:
        csys.close(g.log_fd)
    g.log_fd = fd

# Bytes of whole lines among data[0:n], at most most; n itself if there is no line end.
cdef inline u64 whole_lines(const char *data, u64 n, u64 most) noexcept nogil:
    cdef u64 i = n if n < most else most
    if i == n:
        return n
    while i and data[i - 1] != c'\n':
        i -= 1
    return i if i else most

cdef inline void write_all(int fd, const char *data, u64 n, u64 most) noexcept nogil:
    cdef ssize_t done
    cdef u64 part
    cdef csys.pollfd p
    while n:
        part = whole_lines(data, n, most)
        done = csys.write(fd, data, part)
        if done > 0:
            data += done
            n -= <u64>done
        elif dp.get_errno() == csys.EAGAIN:
            # stdout may be a non-blocking pipe that somebody shares with us
            p.fd = fd
            p.events = csys.POLLOUT
            csys.poll(&p, 1, 1000)
        elif dp.get_errno() != csys.EINTR:
            return

# True if anything was written.
cdef inline bint drain_ring(Shared *g, LogRing *r) noexcept nogil:
    cdef u64 head = dp.load64_acq(&r.head)
    cdef u64 tail = r.tail
    cdef u64 at, n
    if head == tail:
        return False
    while tail != head:
        at = tail & (limits.LOG_RING - 1)
        n = head - tail
        if n > limits.LOG_RING - at:
            n = limits.LOG_RING - at
        if g.log_fd >= 0:
            write_all(g.log_fd, r.data + at, n, STEP_MAX)
        if g.log_stdout:
            write_all(1, r.data + at, n, PIPE_ATOMIC)
        if g.syslog.buf != NULL:
            syslog.take(&g.syslog, r.data + at, n)
        tail += n
        dp.store64_rel(&r.tail, tail)
    return True

# Each envelope is one datagram; an agent that is not there costs them, and nothing else.
cdef inline bint send_datagrams(Shared *g, LogRing *r) noexcept nogil:
    cdef u64 head = dp.load64_acq(&r.head)
    cdef char whole[limits.DATAGRAM_MAX]
    cdef u32 n
    if r.data == NULL or head == r.tail:
        return False
    while r.tail != head:
        tap.log_peek(r, 0, <char *>&n, 4)
        tap.log_peek(r, 4, whole, n)
        if csys.send(g.metron_fd, whole, n, csys.MSG_DONTWAIT | csys.MSG_NOSIGNAL) < 0:
            dp.bump64(&g.envelopes_lost, 1)
        else:
            dp.bump64(&g.envelopes_sent, 1)
        dp.store64_rel(&r.tail, r.tail + 4 + n)
    return True

cdef inline bint drain_all(Shared *g) noexcept nogil:
    cdef u32 i
    cdef bint any = False
    if dp.load32(&g.log_reopen) and dp.xchg32_ar(&g.log_reopen, 0):
        reopen(g)
    for i in range(g.n_workers):
        if drain_ring(g, &g.workers[i].log):
            any = True
        if send_datagrams(g, &g.workers[i].datagrams):
            any = True
    syslog.flush(&g.syslog)
    return any

cdef inline void *run(void *arg) noexcept nogil:
    cdef Shared *g = <Shared *>arg
    cdef clock.timespec pause
    cdef csys.pollfd p
    cdef u64 n
    pause.tv_sec = 0
    pause.tv_nsec = GATHER_NS
    while True:
        if drain_all(g):
            clock.nanosleep(&pause, NULL)
            continue
        if dp.load32(&g.logger_stop):
            syslog.finish(&g.syslog, FAREWELL_MS)
            return NULL
        dp.store32_seq(&g.logger_asleep, 1)
        if drain_all(g):
            dp.store32_seq(&g.logger_asleep, 0)
            continue
        p.fd = g.logger_wake
        p.events = csys.POLLIN
        csys.poll(&p, 1, SYSLOG_MS if syslog.pending(&g.syslog) else 1000)
        csys.read(g.logger_wake, &n, 8)
        dp.store32_seq(&g.logger_asleep, 0)

# L2: the loop of one worker thread: kernel events, mailbox, timers; and the joining of the parts below.
#
# One turn: sleep off-line in epoll_wait; come on-line for the route table; note what the kernel says in the flags of
# each connection and service it; service what that set off; fire timers; free what was closed; pass a quiescent state.
# Nothing here or below blocks, takes the GIL or touches a Python object.
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from gorouter_py.fastpath.base.types cimport u8, u32, u64
from gorouter_py.fastpath.base cimport buf, clock, csys, dp, limits, rng
from gorouter_py.fastpath.net cimport pool, sock, tally, tap, timers
from gorouter_py.fastpath.net.timers cimport Timer
from gorouter_py.fastpath.route cimport endpoint, epoch
from gorouter_py.fastpath.route.endpoint cimport Endpoint
from gorouter_py.fastpath.flow cimport conn, exchange, fault, h1down, h1up, h1write, mapping, mirror, remap, tunnel
from gorouter_py.fastpath.flow.mapping cimport Mapping
from gorouter_py.fastpath.flow.state cimport *

cdef extern from * nogil:
    """
    #define DP_CONN_OF_TIMER(t) DP_CONTAINER(t, struct __pyx_t_11gorouter_py_8fastpath_4flow_5state_Conn, timer)
    #define DP_MIRROR_OF_TIMER(t) DP_CONTAINER(t, struct __pyx_t_11gorouter_py_8fastpath_4flow_5state_Mirror, timer)
    #define DP_EXCHANGE_OF_TIMER(t) DP_CONTAINER(t, struct __pyx_t_11gorouter_py_8fastpath_4flow_5state_Exchange, timer)
    """
    Conn *conn_of_timer "DP_CONN_OF_TIMER"(Timer *t) noexcept
    Mirror *mirror_of_timer "DP_MIRROR_OF_TIMER"(Timer *t) noexcept
    Exchange *exchange_of_timer "DP_EXCHANGE_OF_TIMER"(Timer *t) noexcept

cdef enum:
    SLEEP_MAX_MS = 1000         # so that the turn counter moves even when nothing happens
    SERVICES_MAX = 2048         # connections serviced before the kernel is asked again
    ACCEPT_PAUSE_MS = 100       # without descriptors, accepting waits this long
    FRESH_MS = 250              # in a drain: time a connection that has just been accepted has to ask
    STACK_BYTES = 1048576

# ---- construction ------------------------------------------------------------------------------------------------

cdef inline void join_parts(Worker *w) noexcept nogil:
    w.down_ops.send_head = h1write.send_head
    w.down_ops.send_body = h1write.send_body
    w.down_ops.send_end = h1write.send_end
    w.down_ops.want_body = h1write.want_body
    w.down_ops.tunnel = h1write.tunnel
    w.down_ops.local_addr = h1write.local_addr
    w.down_ops.done = h1write.done
    w.up_ops = w.down_ops
    w.exchange_events.on_ready = exchange.on_ready
    w.exchange_events.on_head = exchange.on_head
    w.exchange_events.on_body = exchange.on_body
    w.exchange_events.on_end = exchange.on_end
    w.exchange_events.on_drain = exchange.on_drain
    w.exchange_events.on_fail = exchange.on_fail
    w.tunnel_events = w.exchange_events
    w.tunnel_events.on_body = tunnel.on_body
    w.tunnel_events.on_end = tunnel.on_end
    w.tunnel_events.on_fail = tunnel.on_fail
    w.mirror_events.on_ready = mirror.on_ready
    w.mirror_events.on_head = mirror.on_head
    w.mirror_events.on_body = mirror.on_body
    w.mirror_events.on_end = mirror.on_end
    w.mirror_events.on_drain = mirror.on_drain
    w.mirror_events.on_fail = mirror.on_fail
    w.begin = exchange.begin
    w.open_up = h1up.open_up

cdef inline Worker *create(Shared *g, u32 id) noexcept nogil:
    cdef Worker *w = <Worker *>dp.aligned_alloc(sizeof(Worker))
    if w == NULL:
        return NULL
    memset(w, 0, sizeof(Worker))
    w.shared = g
    w.id = id
    w.ep = csys.epoll_create1(csys.EPOLL_CLOEXEC)
    w.wake = csys.eventfd(0, csys.EFD_CLOEXEC | csys.EFD_NONBLOCK)
    buf.init(&w.slabs, &g.budget)
    rng.seed(&w.rng)
    refresh_clock(w)
    timers.init(&w.wheel, timers.tick_of(w.now_ms * 1000000))
    join_parts(w)
    if (w.ep < 0 or w.wake < 0 or pool.init(&w.idle) < 0 or tap.log_init(&w.log) < 0
            or (g.metron_fd >= 0 and tap.log_init(&w.datagrams) < 0) or tap.event_init(&w.events) < 0
            or tally.outcome_init(&w.outcomes) < 0 or sock.watch(w.ep, csys.EPOLL_CTL_ADD, w.wake, csys.EPOLLIN, NULL) != 0):
        destroy(w)
        return NULL
    return w

# Everything a worker owns; its thread has ended or never began.
cdef inline void destroy(Worker *w) noexcept nogil:
    cdef u32 i
    cdef Exchange *x
    cdef Command *cmd
    while w.cmd_tail != w.cmd_head:
        cmd = &w.cmds[w.cmd_tail & (limits.MAILBOX - 1)]
        w.cmd_tail += 1
        if cmd.kind == CMD_PURGE:
            endpoint.unref(<Endpoint *>cmd.arg)
            continue
        if cmd.kind == CMD_LISTEN:
            csys.close(cmd.fd)
        mapping.unref(<Mapping *>cmd.arg)
        mapping.unref(<Mapping *>cmd.other)
    while w.listeners != NULL:
        close_listener(w, w.listeners)
    conn.bury(w)
    while w.free_exchanges != NULL:
        x = w.free_exchanges
        w.free_exchanges = x.next_free
        free(x)
    for i in range(limits.SERIES_MAX):
        free(w.series[i])
    buf.drop_free(&w.slabs)
    pool.destroy(&w.idle)
    free(w.log.data)
    free(w.datagrams.data)
    free(w.events.items)
    free(w.outcomes.items)
    if w.ep >= 0:
        csys.close(w.ep)
    if w.wake >= 0:
        csys.close(w.wake)
    free(w)

# The worker takes over a listening socket, and a reference to its mapping if it has one.
cdef inline void add_listener(Worker *w, int fd, bint health_only, Mapping *m) noexcept nogil:
    cdef Conn *c = <Conn *>calloc(1, sizeof(Conn))
    if c == NULL:
        csys.close(fd)
        if m != NULL:
            dp.sub32(&m.listening, 1)
        mapping.unref(m)
        return
    c.s.mapping = m
    c.w = w
    c.fd = fd
    c.kind = K_LISTEN
    c.state = S_IDLE
    c.timer.kind = K_LISTEN
    c.s.health_only = health_only
    c.next = w.listeners
    w.listeners = c
    watch_listener(c)

cdef inline void watch_listener(Conn *c) noexcept nogil:
    c.events = csys.EPOLLIN
    sock.watch(c.w.ep, csys.EPOLL_CTL_ADD, c.fd, c.events, c)

# Freed at the end of the turn, as every Conn: an event of this turn may still point to it.
cdef inline void close_listener(Worker *w, Conn *c) noexcept nogil:
    cdef Conn **at = &w.listeners
    while at[0] != c:
        at = &at[0].next
    at[0] = c.next
    timers.cancel(&w.wheel, &c.timer)
    csys.close(c.fd)
    if c.s.mapping != NULL:
        dp.sub32_ar(&c.s.mapping.listening, 1)
    c.state = S_CLOSED
    c.next = w.graves
    w.graves = c

# ---- accepting ---------------------------------------------------------------------------------------------------

cdef inline bint is_full(Worker *w) noexcept nogil:
    cdef u64 most = w.shared.cfg.max_connections
    cdef u64 open_now = 0
    cdef u32 i
    if most == 0:
        return False
    for i in range(w.shared.n_workers):
        open_now += dp.load64(&w.shared.workers[i].counters.connections_open)
    return open_now >= most

# Accepts until nothing is queued or most were taken. False when descriptors have run out.
cdef inline bint accept_some(Conn *l, u32 most) noexcept nogil:
    cdef u8 addr[128]
    cdef csys.socklen_t n
    cdef u32 i
    cdef int fd, err
    cdef Conn *c
    for i in range(most):
        n = sizeof(addr)
        fd = csys.accept4(l.fd, <csys.sockaddr *>addr, &n, csys.SOCK_NONBLOCK | csys.SOCK_CLOEXEC)
        if fd < 0:
            err = dp.get_errno()
            if err == csys.EINTR or err == csys.ECONNABORTED:
                continue
            return not (err == csys.EMFILE or err == csys.ENFILE or err == csys.ENOBUFS or err == csys.ENOMEM)
        c = h1down.accept(l.w, fd, addr, l.s.health_only)
        if c != NULL and l.s.mapping != NULL:
            remap.attach(&l.w.shared.cfg, &c.s, l.s.mapping, addr)
        if c != NULL and not l.s.health_only and is_full(l.w):
            # the count includes this one: at the limit the client is told, not kept
            conn.set_state(c, S_HEAD)
            h1down.refuse(c, fault.OVERLOADED)
    return True

cdef inline void on_listener(Conn *l) noexcept nogil:
    if accept_some(l, limits.ACCEPT_MAX):
        return
    # a level-triggered socket that cannot be accepted from would spin the loop
    tap.inc(&l.w.counters.accept_paused)
    csys.epoll_ctl(l.w.ep, csys.EPOLL_CTL_DEL, l.fd, NULL)
    l.events = 0
    timers.set_ms(&l.w.wheel, &l.timer, ACCEPT_PAUSE_MS)

# ---- commands of control -----------------------------------------------------------------------------------------

cdef inline void drain(Worker *w) noexcept nogil:
    cdef Conn *c
    cdef Conn *after
    w.draining = 1
    c = w.listeners
    while c != NULL:
        after = c.next
        # gorouter: the status port stays and says 503
        if not c.s.health_only:
            leave_port(w, c)
        c = after
    part(w, NULL)

# What the kernel has accepted would be reset by the close.
cdef inline void leave_port(Worker *w, Conn *c) noexcept nogil:
    csys.epoll_ctl(w.ep, csys.EPOLL_CTL_DEL, c.fd, NULL)
    accept_some(c, limits.MAILBOX)
    close_listener(w, c)

# Ends client connections that have no request in progress: those of a mapping, or (NULL) all but the status port's.
cdef inline void part(Worker *w, const Mapping *m) noexcept nogil:
    cdef Conn *c = w.downs
    cdef Conn *after
    while c != NULL:
        after = c.next
        # a fresh connection may have a request on its way: it is answered with Connection: close
        if c.state == S_IDLE and not c.s.health_only and (m == NULL or c.s.mapping == m):
            if c.flags & C_TODO:
                timers.set_ms(&w.wheel, &c.timer, FRESH_MS)
            elif c.out_bytes:
                h1down.close_after_flush(c)
            else:
                conn.kill(c, False)
        c = after

# Closes the listeners of a mapping, and lets the connections they accepted end.
cdef inline void unlisten(Worker *w, Mapping *m) noexcept nogil:
    cdef Conn *c = w.listeners
    cdef Conn *after
    while c != NULL:
        after = c.next
        if c.s.mapping == m:
            leave_port(w, c)
        c = after
    part(w, m)
    mapping.unref(m)

# What comes by the listeners of old from now on comes by new.
cdef inline void change_mapping(Worker *w, Mapping *old, Mapping *new) noexcept nogil:
    cdef Conn *c = w.listeners
    while c != NULL:
        if c.s.mapping == old:
            mapping.ref(new)
            dp.add32(&new.listening, 1)
            c.s.mapping = new
            dp.sub32_ar(&old.listening, 1)
            mapping.unref(old)
        c = c.next
    part(w, old)
    mapping.unref(old)
    mapping.unref(new)

# Has the drain come to every connection? Not while one may still be about to ask.
cdef inline bint is_settled(Worker *w) noexcept nogil:
    cdef Conn *c = w.downs
    if w.todo_first != NULL:
        return False
    while c != NULL:
        if (c.state == S_IDLE or c.state == S_HEAD) and not c.s.health_only:
            return False
        c = c.next
    return True

cdef inline void purge(Worker *w, Endpoint *e) noexcept nogil:
    cdef pool.Idle *i = pool.peek(&w.idle, e)
    while i != NULL:
        h1up.close_idle(h1up.conn_of_idle(i))
        i = pool.peek(&w.idle, e)
    endpoint.unref(e)

cdef inline void read_mailbox(Worker *w) noexcept nogil:
    cdef u64 n
    cdef Command *cmd
    csys.read(w.wake, &n, 8)
    while dp.load64_acq(&w.cmd_head) != w.cmd_tail:
        cmd = &w.cmds[w.cmd_tail & (limits.MAILBOX - 1)]
        if cmd.kind == CMD_STOP:
            w.stop = 1
        elif cmd.kind == CMD_DRAIN:
            drain(w)
        elif cmd.kind == CMD_PURGE:
            purge(w, <Endpoint *>cmd.arg)
        elif cmd.kind == CMD_LISTEN:
            add_listener(w, cmd.fd, cmd.health_only, <Mapping *>cmd.arg)
        elif cmd.kind == CMD_REMAP:
            change_mapping(w, <Mapping *>cmd.arg, <Mapping *>cmd.other)
        elif cmd.kind == CMD_UNLISTEN:
            unlisten(w, <Mapping *>cmd.arg)
        dp.store64_rel(&w.cmd_tail, w.cmd_tail + 1)

# Control, which alone fills the mailbox: is there room for n commands?
cdef inline bint has_room(Worker *w, u32 n) noexcept nogil:
    return w.cmd_head - dp.load64_acq(&w.cmd_tail) + n <= <u64>limits.MAILBOX

# Control: leaves a command. False when the mailbox is full.
cdef inline bint post(Worker *w, const Command *cmd) noexcept nogil:
    cdef u64 one = 1
    if not has_room(w, 1):
        return False
    w.cmds[w.cmd_head & (limits.MAILBOX - 1)] = cmd[0]
    dp.store64_rel(&w.cmd_head, w.cmd_head + 1)
    csys.write(w.wake, &one, 8)
    return True

cdef inline bint command(Worker *w, u32 kind, void *arg, int fd, bint health_only) noexcept nogil:
    cdef Command cmd
    cmd.kind = kind
    cmd.arg = arg
    cmd.other = NULL
    cmd.fd = fd
    cmd.health_only = health_only
    return post(w, &cmd)

# ---- the loop ----------------------------------------------------------------------------------------------------

cdef inline void refresh_clock(Worker *w) noexcept nogil:
    cdef u64 now = clock.mono_ns()
    w.now_ms = now // 1000000
    w.wall_offset_ns = clock.wall_ns() - now
    w.wheel.clock = timers.tick_of(now)

cdef inline void service(Conn *c) noexcept nogil:
    if c.kind == K_DOWN:
        h1down.service(c)
    else:
        h1up.service(c)

# Services connections that something was left to do for. The rest waits until the kernel has been asked again.
cdef inline void work_off(Worker *w) noexcept nogil:
    cdef Conn *c
    cdef u32 i
    for i in range(SERVICES_MAX):
        c = w.todo_first
        if c == NULL:
            return
        w.todo_first = c.todo
        if c.todo == NULL:
            w.todo_last = NULL
        c.flags &= ~C_TODO
        service(c)

cdef inline void on_event(Conn *c, u32 events) noexcept nogil:
    if c.state == S_CLOSED:
        return
    if c.kind == K_LISTEN:
        on_listener(c)
        return
    if events & (csys.EPOLLIN | csys.EPOLLRDHUP | csys.EPOLLHUP | csys.EPOLLERR):
        c.flags |= C_READABLE
    if events & csys.EPOLLOUT:
        c.flags |= C_WRITABLE
    if events & (csys.EPOLLRDHUP | csys.EPOLLHUP | csys.EPOLLERR):
        c.flags |= C_EOF
    if events & (csys.EPOLLERR | csys.EPOLLHUP):
        c.flags |= C_WRITABLE
        # towards an endpoint an answer may still be readable; a client that is gone takes none
        if c.kind == K_DOWN and (events & csys.EPOLLERR or not (c.flags & C_RAW)):
            c.flags |= C_BROKEN
    conn.todo(c)

cdef inline void on_timer(void *ctx, Timer *t) noexcept nogil:
    cdef Conn *c
    if t.kind == TIMER_EXCHANGE:
        exchange.on_timer(exchange_of_timer(t))
        return
    if t.kind == TIMER_MIRROR:
        mirror.on_timer(mirror_of_timer(t))
        return
    c = conn_of_timer(t)
    if t.kind == K_DOWN:
        h1down.on_timer(c)
    elif t.kind == K_UP:
        h1up.on_timer(c)
    elif c.events == 0:
        watch_listener(c)

# Stops at once: every connection is cut, every exchange logged.
cdef inline void cut_all(Worker *w) noexcept nogil:
    while w.listeners != NULL:
        close_listener(w, w.listeners)
    while w.downs != NULL:
        if w.downs.s.owner != NULL:
            exchange.client_failed(<Exchange *>w.downs.s.owner, fault.STOPPING)
        conn.kill(w.downs, True)
    while w.mirrors != NULL:
        mirror.end(w.mirrors, False)
    while w.ups != NULL:
        conn.kill(w.ups, False)
    while w.todo_first != NULL:
        w.todo_first.flags &= ~C_TODO
        w.todo_first = w.todo_first.todo
    w.todo_last = NULL
    conn.bury(w)

cdef inline void *run(void *arg) noexcept nogil:
    cdef Worker *w = <Worker *>arg
    cdef csys.epoll_event events[limits.EVENTS_MAX]
    cdef int n, i, sleep
    # where a worker shares its CPU with the control thread, a request does not wait for a burst of registrations
    dp.short_slice()
    while not w.stop:
        sleep = 0 if w.todo_first != NULL else timers.sleep_ms(&w.wheel, SLEEP_MAX_MS)
        n = csys.epoll_wait(w.ep, events, limits.EVENTS_MAX, sleep)
        epoch.reader_online(&w.shared.table.epoch, w.id)
        refresh_clock(w)
        for i in range(n):
            if events[i].data.ptr == NULL:
                read_mailbox(w)
            else:
                on_event(<Conn *>events[i].data.ptr, events[i].events)
                if w.todo_first != NULL:
                    work_off(w)
        work_off(w)
        timers.advance(&w.wheel, w.wheel.clock, on_timer, w)
        work_off(w)
        conn.bury(w)
        if w.draining:
            dp.store32(&w.settled, is_settled(w))
        dp.bump64(&w.turns, 1)
        epoch.reader_offline(&w.shared.table.epoch, w.id)
    epoch.reader_online(&w.shared.table.epoch, w.id)
    cut_all(w)
    epoch.reader_offline(&w.shared.table.epoch, w.id)
    return NULL

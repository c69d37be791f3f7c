# L2: one request and its answer: route, choose an instance, forward both ways, try again where that is safe, log.
#
# An Exchange sees two Streams and knows no protocol. It is created by begin() when a request head is complete and ends
# in end(), which writes the log line and lets both streams go. Its reference on the endpoint of the last attempt keeps
# that endpoint and its pool alive until then; nothing else of the route table is kept across events.
# Retry rules: while no byte of the request can have been used anything may be repeated; afterwards only a request
# without a body whose method is safe to repeat, once; never after a byte of the answer, never for a client that left.
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64, i64
from gorouter_py.fastpath.base cimport buf, clock, dp, fmt, limits, rng, span
from gorouter_py.fastpath.http cimport heads
from gorouter_py.fastpath.http.heads cimport Field, Head
from gorouter_py.fastpath.net cimport tap, timers
from gorouter_py.fastpath.route cimport balance, endpoint
from gorouter_py.fastpath.route.endpoint cimport Endpoint
from gorouter_py.fastpath.flow cimport (
    answer, choice, envelope, fault, forward, logline, mapping, mirror, outcome, remap, report, series, trace
)
from gorouter_py.fastpath.flow.stream cimport HeadOut, Stream
from gorouter_py.fastpath.flow.state cimport *

cdef enum:
    FREE_KEEP = 256             # exchanges a worker keeps for reuse
    CONTINUE_MS = 1000          # gorouter: the client's wait for 100 Continue ends after this time

# ---- life --------------------------------------------------------------------------------------------------------

cdef inline Exchange *create(Worker *w, Head *h) noexcept nogil:
    cdef Exchange *x = w.free_exchanges
    if x != NULL:
        w.free_exchanges = x.next_free
        w.n_free_exchanges -= 1
    else:
        x = <Exchange *>calloc(1, sizeof(Exchange))
        if x == NULL:
            return NULL
    memset(x, 0, sizeof(Exchange))
    x.index = buf.alloc(&w.slabs, (h.nfields + remap.ADDED_MAX) * sizeof(Field))
    if x.index == NULL:
        free(x)
        return NULL
    x.w = w
    x.timer.kind = TIMER_EXCHANGE
    memcpy(&x.req, h, sizeof(Head))
    memcpy(x.index.data, h.fields, h.nfields * sizeof(Field))
    x.req.fields = <Field *>x.index.data
    dp.live(dp.LIVE_EXCHANGE, 1)
    return x

cdef inline void destroy(Exchange *x) noexcept nogil:
    cdef Worker *w = x.w
    timers.cancel(&w.wheel, &x.timer)
    buf.release(&w.slabs, x.index)
    buf.release(&w.slabs, x.trace)
    buf.release(&w.slabs, x.way_in)
    buf.release(&w.slabs, x.way_out)
    buf.release(&w.slabs, x.copied)
    if x.ep != NULL:
        endpoint.unref(x.ep)
    outcome.let_go(x)
    dp.live(dp.LIVE_EXCHANGE, -1)
    if w.n_free_exchanges < FREE_KEEP and not dp.POISON_BUILD:
        x.next_free = w.free_exchanges
        w.free_exchanges = x
        w.n_free_exchanges += 1
    else:
        free(x)

# Logs, counts, lets both streams go. clean: the answer the client saw is whole.
cdef inline void end(Exchange *x, bint clean) noexcept nogil:
    cdef Worker *w = x.w
    cdef u64 now = clock.mono_ns()
    release_up(x, clean and (x.flags & (X_REQ_DONE | X_TUNNEL)) != 0)
    if x.up_began_ns and not x.up_ended_ns:
        x.up_ended_ns = now
    if x.rollout != NULL:
        outcome.book(x, now)
    if x.flags & X_TUNNEL:
        tap.dec(&w.counters.tunnels_open)
    else:
        tap.dec(&w.counters.requests_active)
    dp.bump64(&w.counters.request_body_bytes, x.req_bytes)
    dp.bump64(&w.counters.response_body_bytes, x.resp_bytes)
    logline.emit(w, x, now)
    # gorouter: none for an answer that was cut
    if w.shared.cfg.server_events and (clean or not (x.flags & X_RESP_HEAD)) and not (x.flags & X_NO_LOG):
        envelope.start_stop(w, x, envelope.SERVER, x.began_ns, now, x.status, <i64>x.resp_bytes)
    if x.ep != NULL:
        series.observe(w, x.ep.pool, x.status, now - x.began_ns)
        if w.shared.cfg.meter:
            tap.measure(&w.gorouter_time, &w.shared.cfg.gorouter_bounds, logline.own_time(x, now))
    x.down.ops.done(x.down, clean)
    destroy(x)

cdef inline void release_up(Exchange *x, bint clean) noexcept nogil:
    landed(x)
    if x.up != NULL:
        x.up.ops.done(x.up, clean)
        x.up = NULL

# The attempt has its response head or has failed.
# gorouter: in-flight counts attempts without a response head, not bodies in progress.
cdef inline void landed(Exchange *x) noexcept nogil:
    if x.in_flight:
        x.in_flight = 0
        balance.finish(x.ep)

# ---- begin -------------------------------------------------------------------------------------------------------

cdef inline void begin(Worker *w, Stream *down, Head *h) noexcept nogil:
    cdef Exchange *x = create(w, h)
    if x == NULL:
        tap.inc(&w.counters.buffers_exhausted)
        down.ops.done(down, False)
        return
    x.began_ns = clock.mono_ns()
    x.wall_ns = x.began_ns + w.wall_offset_ns
    x.down = down
    down.owner = x
    down.events = &w.exchange_events
    fmt.uuid(x.request_id, rng.next_u64(&w.rng), rng.next_u64(&w.rng))
    tap.inc(&w.counters.requests)
    tap.inc(&w.counters.requests_active)
    if h.framing == heads.BODY_NONE or (h.framing == heads.BODY_LENGTH and h.content_length == 0):
        x.flags |= X_REQ_DONE
    if h.method == heads.M_HEAD:
        x.flags |= X_NO_BODY
    if down.mapping != NULL and not remap.enter(w, x):
        fail_with(x, fault.OVERLOADED)
        return
    if down.health_only or is_health_check(w, &x.req):
        answer.health(x, down.health_only)
        end(x, True)
        return
    if report.has_semicolon(x):
        x.flags |= X_SEMICOLON
        if report.wanted(w, 2):
            report.semicolon(x)
    if refuse_early(x):
        return
    if w.shared.cfg.enable_zipkin or w.shared.cfg.enable_w3c:
        trace.begin(w, x)
    if report.wanted(w, 0):
        report.request(x)
    note_upgrade(x)
    choice.find_sticky(x)
    attempt(x, CARE_ANY if choice.repeatable(x) else CARE_QUIET)

cdef inline bint is_health_check(Worker *w, const Head *h) noexcept nogil:
    cdef Settings *cfg = &w.shared.cfg
    cdef Span agent = heads.get(h, heads.N_USER_AGENT)
    return cfg.health_agent_n != 0 and span.eq(agent, cfg.health_agent, cfg.health_agent_n)

# gorouter: an empty Host, or one that is the client's own address, names no route.
cdef inline bint is_own_address(const Exchange *x) noexcept nogil:
    cdef Span host = heads.host(&x.req)
    cdef u32 i
    if host.n < x.down.ip_len:
        return False
    for i in range(x.down.ip_len):
        if host.p[i] != x.down.peer[x.down.ip_off + i]:
            return False
    return host.n == x.down.ip_len or host.p[x.down.ip_len] == c':'

cdef inline bint refuse_early(Exchange *x) noexcept nogil:
    cdef int code = 0
    if x.req.method == heads.M_CONNECT:
        code = fault.CONNECT_REFUSED
    elif x.req.flags & heads.F_EXPECT_OTHER:
        code = fault.EXPECTATION
    elif x.req.host_len == 0 or is_own_address(x):
        code = fault.EMPTY_HOST
        tap.inc(&x.w.counters.rejected_requests)
    if code == 0:
        return False
    fail_with(x, code)
    return True

# Upgrades are offered to endpoints, but h2c is not: HTTP/2 inside a tunnel would be out of the router's sight.
cdef inline void note_upgrade(Exchange *x) noexcept nogil:
    cdef Span to = heads.get(&x.req, heads.N_UPGRADE)
    if x.req.flags & heads.F_UPGRADE and x.flags & X_REQ_DONE and not (to.n >= 3 and dp.ieq(to.p, b"h2c", 3)):
        x.flags |= X_UPGRADE
        if x.req.flags & heads.F_WEBSOCKET:
            x.flags |= X_WEBSOCKET

# ---- attempts ----------------------------------------------------------------------------------------------------

# Sends the request to an endpoint; tries others as long as connects cannot even be started.
cdef inline void attempt(Exchange *x, int care) noexcept nogil:
    cdef Worker *w = x.w
    cdef Endpoint *e
    cdef HeadOut out
    cdef int code = 0, before = x.fault
    while True:
        e = choice.choose(x)
        x.tried_ns = clock.mono_ns()
        if x.attempts == 0 and w.shared.cfg.meter:
            tap.measure(&w.lookup_time, &w.shared.cfg.lookup_bounds, x.tried_ns - x.began_ns)
        if e == NULL:
            if x.fault == fault.NO_ENDPOINT_LEFT:
                report.selection(x)
            if before:
                x.fault = before        # what went wrong with the attempts made says more
            elif x.fault == fault.UNKNOWN_ROUTE or x.fault <= fault.BAD_APP_INSTANCE and x.fault >= fault.NO_SUCH_INSTANCE:
                tap.inc(&w.counters.rejected_requests)
            fail_with(x, x.fault)
            return
        choice.settle(x, e)
        if x.attempts == 0 and is_too_large(x):
            fail_with(x, fault.HEAD_TOO_LARGE)
            return
        x.attempts += 1
        tap.inc(&w.counters.attempts)
        if x.attempts > 1:
            tap.inc(&w.counters.retries)
        x.dialed_ns = 0
        if x.up_began_ns == 0:
            x.up_began_ns = x.tried_ns
        if report.wanted(w, 0):
            report.attempt(x)
        balance.begin(e)
        x.in_flight = 1
        x.up = w.open_up(w, e, x.req.method, care, &code)
        if x.up != NULL:
            break
        if not note_failure(x, code):
            fail_with(x, code)
            return
        before = code
    x.fault = 0
    x.up.owner = x
    x.up.events = &w.exchange_events
    forward.request(w, x, &out, ends_upstream(x))
    x.up.ops.send_head(x.up, &out)
    if x.rollout != NULL and x.attempts == 1:
        mirror.consider(x)
    if x.flags & X_REQ_DONE:
        x.up.ops.send_end(x.up, span.make(NULL, 0))
        if x.cohort.marks & M_MIRROR:
            mirror.send(x)
    elif x.up.ready:
        on_ready(x, x.up)

# gorouter: counted after the look-up, by this formula, and refused from the limit on.
cdef inline bint is_too_large(const Exchange *x) noexcept nogil:
    cdef Settings *cfg = &x.w.shared.cfg
    cdef const Head *h = &x.req
    cdef u64 total = <u64>h.method_len + h.target_len + 8 + 4
    cdef u32 i, count = h.nfields
    if h.first[heads.N_HOST] >= 0:
        count -= 1                  # no header to gorouter
    if h.first[heads.N_X_VCAP_REQUEST_ID] < 0:
        count += 1                  # set before the count
        total += 17 + fmt.UUID_LEN + 4
    if cfg.max_request_headers and count > cfg.max_request_headers:
        return True
    if cfg.max_request_header_bytes == 0:
        return False
    for i in range(h.nfields):
        total += <u64>h.fields[i].name_len + h.fields[i].value_len + 4
    return total >= cfg.max_request_header_bytes

# gorouter: an endpoint is told that its connection ends when keep-alive is off, and for Expect: 100-continue.
cdef inline bint ends_upstream(const Exchange *x) noexcept nogil:
    cdef Settings *cfg = &x.w.shared.cfg
    return not cfg.upstream_keep_alive or ((x.req.flags & heads.F_EXPECT_100) != 0 and not cfg.keep_alive_100_continue)

# gorouter: no instance is tried twice for one request; attempts go round, so their number tells. One that withdrew
# meanwhile says nothing: the next look-up may find another route.
cdef inline bint tried_all(const Exchange *x) noexcept nogil:
    cdef u32 n = report.pool_size(x)
    return n != 0 and x.attempts >= n

# Books a failed attempt. True if another one may be made.
cdef inline bint note_failure(Exchange *x, int code) noexcept nogil:
    cdef Worker *w = x.w
    cdef const fault.Row *row = fault.row(code)
    cdef bint again, blamed, stale, safe
    landed(x)
    if w.shared.cfg.client_events and not (x.flags & X_RESP_HEAD):
        client_event(x, 0, 0)
    x.fault = code
    x.lost_ns += clock.mono_ns() - x.tried_ns
    tap.inc(&w.counters.endpoint_failures)
    # a reset of a kept connection only says that it had grown too old
    stale = code == fault.UP_RESET and x.up != NULL and x.up.reused
    blamed = row.blame and not stale
    if blamed:
        balance.mark_failed(x.ep, w.now_ms)
    if x.flags & X_BODY_SEEN or x.flags & X_RESP_HEAD:
        again = False
    elif (row.retry == fault.RETRY_ANY and x.attempts < w.shared.cfg.max_attempts
            and (code == fault.UP_UNSENT or not tried_all(x))):
        again = True
    else:
        safe = (row.retry == fault.RETRY_SAFE or code == fault.UP_UNSENT) and choice.repeatable(x)
        again = safe and w.shared.cfg.retry_idempotent and not (x.flags & X_REPEATED)
        if again:
            x.flags |= X_REPEATED
    again = again and x.attempts < limits.ATTEMPTS_MAX
    if x.rollout != NULL:
        if x.blame == 0 and not (again and (stale or code == fault.UP_UNSENT)):
            x.blame = code
        if again and x.blame:
            choice.go_to_stable(x)
    report.failure(x, code, again, blamed)
    return again

# An attempt has its response head (status), or has failed (0).
cdef inline void client_event(Exchange *x, u32 status, i64 length) noexcept nogil:
    envelope.start_stop(x.w, x, envelope.CLIENT, x.tried_ns, clock.mono_ns(), status, length)

# gorouter: -1 where the length is not announced
cdef inline i64 announced_length(const Head *h) noexcept nogil:
    if h.framing == heads.BODY_CHUNKED or h.framing == heads.BODY_CLOSE:
        return -1
    return <i64>h.content_length if h.framing == heads.BODY_LENGTH else 0

# ---- events of the client's stream -------------------------------------------------------------------------------

cdef inline void on_body(void *owner, Stream *s, const char *p, u64 n) noexcept nogil:
    cdef Exchange *x = <Exchange *>owner
    cdef Stream *to
    cdef i64 queued
    if s == x.down:
        x.req_bytes += n
        x.flags |= X_BODY_SEEN
        if x.cohort.marks & M_MIRROR:
            mirror.keep(x, p, n)
        to = x.up
    else:
        x.resp_bytes += n
        to = x.down
    if to == NULL or (s != x.down and x.flags & X_NO_BODY):
        return
    queued = to.ops.send_body(to, p, n)
    if queued > limits.OUT_HIGH:
        s.ops.want_body(s, False)
        x.flags |= X_DOWN_PAUSED if s == x.down else X_UP_PAUSED

cdef inline void on_end(void *owner, Stream *s, Span trailers) noexcept nogil:
    cdef Exchange *x = <Exchange *>owner
    if s == x.down:
        x.flags |= X_REQ_DONE
        if x.up != NULL:
            x.up.ops.send_end(x.up, trailers)
        if x.cohort.marks & M_MIRROR:
            mirror.send(x)
        return
    x.flags |= X_RESP_DONE
    x.down.ops.send_end(x.down, trailers)
    end(x, True)

# The other side has taken what was queued: its source may go on.
cdef inline void on_drain(void *owner, Stream *s) noexcept nogil:
    cdef Exchange *x = <Exchange *>owner
    if s == x.down and x.flags & X_UP_PAUSED:
        x.flags &= ~X_UP_PAUSED
        if x.up != NULL:
            x.up.ops.want_body(x.up, True)
    elif s == x.up and x.flags & X_DOWN_PAUSED:
        x.flags &= ~X_DOWN_PAUSED
        x.down.ops.want_body(x.down, True)

# ---- events of the endpoint's stream -----------------------------------------------------------------------------

# Connected: from now on, and not before, the request's body is read.
cdef inline void on_ready(void *owner, Stream *s) noexcept nogil:
    cdef Exchange *x = <Exchange *>owner
    if not s.reused:
        x.dialed_ns = clock.mono_ns()
    if x.flags & X_REQ_DONE:
        return
    if x.req.flags & heads.F_EXPECT_100 and not (x.flags & X_CONTINUED):
        timers.set_ms(&x.w.wheel, &x.timer, CONTINUE_MS)
    x.down.ops.want_body(x.down, True)

# The endpoint has not said whether it wants the body: the client is told to send it.
cdef inline void on_timer(Exchange *x) noexcept nogil:
    cdef HeadOut out
    if x.flags & (X_BODY_SEEN | X_CONTINUED | X_RESP_HEAD):
        return
    x.flags |= X_CONTINUED
    memset(&out, 0, sizeof(out))
    out.is_response = 1
    out.status = 100
    x.down.ops.send_head(x.down, &out)

cdef inline void on_head(void *owner, Stream *s, Head *h) noexcept nogil:
    cdef Exchange *x = <Exchange *>owner
    cdef HeadOut out
    if h.status == 101:
        switch_protocols(x, h)
        return
    if h.status < 200:
        # RFC 9110 15.2: no interim answers to a client that speaks HTTP/1.0
        if x.req.minor == 0 or (h.status == 100 and x.flags & X_CONTINUED):
            return
        if h.status == 100:
            if not (x.req.flags & heads.F_EXPECT_100):
                return
            x.flags |= X_CONTINUED
        tap.inc(&x.w.counters.responses_1xx)
        forward.interim(h, &out)
        x.down.ops.send_head(x.down, &out)
        return
    landed(x)
    if has_too_much(x, h):
        on_fail(x, s, fault.UP_TOO_MANY_HEADERS if x.w.shared.cfg.max_response_headers
                and h.nfields > x.w.shared.cfg.max_response_headers else fault.UP_HEAD_TOO_LARGE)
        return
    if x.flags & X_WEBSOCKET:
        tap.inc(&x.w.counters.websocket_failures)
    if x.w.shared.cfg.n_log_fields:
        x.local_n = <u8>s.ops.local_addr(s, x.local)
    x.status = h.status
    x.flags |= X_RESP_HEAD
    if x.w.shared.cfg.client_events:
        client_event(x, h.status, announced_length(h))
    if x.rollout != NULL:
        outcome.head_came(x)
    answer.count_status(x)
    forward.response(x.w, x, h, &out, ends_after(x))
    if x.way_in != NULL and not remap.leave(x.w, x, h, &out):
        client_failed(x, fault.OVERLOADED)
        return
    if h.framing == heads.BODY_CHUNKED or h.framing == heads.BODY_CLOSE:
        # RFC 9112 7: chunks are for HTTP/1.1; for older clients the end of the connection ends the body
        out.framing = heads.BODY_CHUNKED if x.req.minor else heads.BODY_CLOSE
        if out.framing == heads.BODY_CLOSE:
            out.close = 1
    if h.framing == heads.BODY_NONE:
        out.framing = heads.BODY_NONE
    x.down.ops.send_head(x.down, &out)

cdef inline bint has_too_much(const Exchange *x, const Head *h) noexcept nogil:
    cdef Settings *cfg = &x.w.shared.cfg
    return (cfg.max_response_headers and h.nfields > cfg.max_response_headers) or (
        cfg.max_response_header_bytes and h.len > cfg.max_response_header_bytes)

# Must the client's connection end with this answer? Also when it comes before the request was read: what follows on
# the connection could not be told from the rest of the body.
cdef inline bint ends_after(const Exchange *x) noexcept nogil:
    return (not (x.req.flags & heads.F_KEEP_ALIVE) or not (x.flags & X_REQ_DONE) or x.w.draining != 0
            or mapping.is_closed(x.down.mapping))

# 101: a tunnel, if it is the protocol that was asked for.
cdef inline void switch_protocols(Exchange *x, Head *h) noexcept nogil:
    cdef HeadOut out
    cdef Span asked = heads.get(&x.req, heads.N_UPGRADE)
    cdef Span got = heads.get(h, heads.N_UPGRADE)
    cdef u32 i
    cdef bint same = (x.flags & X_UPGRADE) != 0 and asked.n == got.n
    if same:
        for i in range(asked.n):
            if dp.lower(asked.p[i]) != dp.lower(got.p[i]):
                same = False
    if not same:
        if x.flags & X_WEBSOCKET:
            tap.inc(&x.w.counters.websocket_failures)
        on_fail(x, x.up, fault.UP_UPGRADE)
        return
    landed(x)
    if x.flags & X_WEBSOCKET:
        tap.inc(&x.w.counters.websocket_upgrades)
    x.status = 101
    x.flags |= X_RESP_HEAD | X_TUNNEL
    if x.w.shared.cfg.client_events:
        client_event(x, 101, 0)
    tap.dec(&x.w.counters.requests_active)
    tap.inc(&x.w.counters.tunnels_open)
    answer.count_status(x)
    forward.response(x.w, x, h, &out, False)
    out.keep_length = 0
    if x.way_in != NULL and not remap.leave(x.w, x, h, &out):
        client_failed(x, fault.OVERLOADED)
        return
    x.down.ops.send_head(x.down, &out)
    x.down.events = &x.w.tunnel_events
    x.up.events = &x.w.tunnel_events
    x.flags &= ~(X_REQ_DONE | X_RESP_DONE)
    x.down.ops.tunnel(x.down)
    x.up.ops.tunnel(x.up)

# ---- failures ----------------------------------------------------------------------------------------------------

cdef inline void on_fail(void *owner, Stream *s, int code) noexcept nogil:
    cdef Exchange *x = <Exchange *>owner
    cdef bint stale_ok
    if s == x.down:
        client_failed(x, code)
        return
    x.malformed_n = <u8>(s.malformed.n if s.malformed.n < sizeof(x.malformed) else sizeof(x.malformed))
    if x.malformed_n:
        memcpy(x.malformed, s.malformed.p, x.malformed_n)
    if note_failure(x, code):
        release_up(x, False)
        stale_ok = fault.row(code).retry == fault.RETRY_ANY and code != fault.UP_UNSENT and choice.repeatable(x)
        attempt(x, CARE_ANY if stale_ok else CARE_FRESH)
        return
    fail_with(x, code)

# The client went away, stalled or sent nonsense. It never counts against the endpoint.
cdef inline void client_failed(Exchange *x, int code) noexcept nogil:
    cdef const fault.Row *row = fault.row(code)
    x.fault = code
    release_up(x, False)
    if code == fault.CLIENT_GONE or row.status == 0 or x.flags & X_RESP_HEAD:
        if code == fault.CLIENT_GONE:
            tap.inc(&x.w.counters.client_aborts)
            if not (x.flags & X_RESP_HEAD):
                x.status = 499
        end(x, False)
        return
    fail_with(x, code)

# Ends the request with what the fault's row says; with a cut if the client has seen part of an answer.
cdef inline void fail_with(Exchange *x, int code) noexcept nogil:
    cdef const fault.Row *row = fault.row(code)
    cdef u32 status = row.status
    x.fault = code
    release_up(x, False)
    if x.flags & X_RESP_HEAD:
        end(x, False)
        return
    answer.error(x, code, 502 if status == 0 else status, ends_after(x))
    end(x, True)

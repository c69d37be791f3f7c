# L2: trace context of a request (B3 and W3C) and the request id that follows from it.
#
# Runs once, when the exchange begins, and only where tracing is configured. What is to be sent instead of received lines
# is rendered into x.trace, whole lines; the received ones are marked DROP_TRACE and stay out of every attempt.
from libc.string cimport memcpy
from gorouter_py.fastpath.base.types cimport Span, u8, u32, u64
from gorouter_py.fastpath.base cimport buf, dp, fmt, limits, rng, span
from gorouter_py.fastpath.http cimport heads
from gorouter_py.fastpath.http.heads cimport Field, Head
from gorouter_py.fastpath.flow.state cimport *

cdef enum:
    TRACESTATE_MAX = 2048       # gorouter: a longer one is dropped
    LINES_ROOM = 3584           # three short lines and tracestate; behind them the ids: length, trace id, span id
    SPAN_AT = LINES_ROOM + 1 + 32
    ROOM = SPAN_AT + 16

cdef inline Field *find(const Head *h, const char *name, u32 n) noexcept nogil:
    cdef u32 i
    for i in range(h.nfields):
        if span.ieq(heads.name(h, &h.fields[i]), name, n):
            return &h.fields[i]
    return NULL

cdef inline bint is_hex(Span s) noexcept nogil:
    return dp.scan_class(s.p, s.p + s.n, dp.C_HEX) == s.p + s.n

cdef inline bint is_trace_id(Span s) noexcept nogil:
    return (s.n == 16 or s.n == 32) and is_hex(s)

cdef inline Span item(Span *rest, char by) noexcept nogil:
    cdef u32 i = 0
    cdef Span out
    while i < rest.n and rest.p[i] != by:
        i += 1
    out = span.make(rest.p, i)
    if i < rest.n:
        i += 1
    rest.p += i
    rest.n -= i
    return out

cdef inline bint is_sampled(Span s) noexcept nogil:
    return s.n == 1 and (s.p[0] == c'0' or s.p[0] == c'1' or s.p[0] == c'd')

# b3: trace-span[-sampled[-parent]]. False if it is not that.
cdef inline bint parse_b3(Span v, Span *trace_id, Span *span_id) noexcept nogil:
    cdef Span t = item(&v, c'-')
    cdef Span s = item(&v, c'-')
    cdef Span parent
    if not is_trace_id(t) or s.n != 16 or not is_hex(s):
        return False
    if v.n and not is_sampled(item(&v, c'-')):
        return False
    if v.n:
        parent = item(&v, c'-')
        if v.n or parent.n != 16 or not is_hex(parent):
            return False
    trace_id[0] = t
    span_id[0] = s
    return True

cdef inline void drop(const Head *h, const char *name, u32 n) noexcept nogil:
    cdef u32 i
    for i in range(h.nfields):
        if span.ieq(heads.name(h, &h.fields[i]), name, n):
            h.fields[i].drop = DROP_TRACE

cdef inline char *lower(char *w, const char *p, u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        w[i] = <char>dp.lower(p[i])
    return w + n

# The request id becomes the trace id, where that makes a UUID.
# gorouter: of a version from 1 to 5, in its parser's eyes.
cdef inline void take_id(Exchange *x, Span trace_id) noexcept nogil:
    cdef char *w = x.request_id
    cdef const char *p = trace_id.p
    if trace_id.n != 32 or p[12] < c'1' or p[12] > c'5':
        return
    w = lower(w, p, 8)
    w[0] = c'-'
    w = lower(w + 1, p + 8, 4)
    w[0] = c'-'
    w = lower(w + 1, p + 12, 4)
    w[0] = c'-'
    w = lower(w + 1, p + 16, 4)
    w[0] = c'-'
    lower(w + 1, p + 20, 12)

# The request id as 32 hex digits.
cdef inline void id_hex(const Exchange *x, char *out) noexcept nogil:
    cdef u32 i
    for i in range(36):
        if x.request_id[i] != c'-':
            out[0] = x.request_id[i]
            out += 1

# X-B3-Sampled as b3 says it; 0 if it says nothing.
cdef inline char sampled_of(Span v) noexcept nogil:
    if span.eq(v, b"1", 1) or span.ieq(v, b"true", 4):
        return c'1'
    if span.eq(v, b"0", 1) or span.ieq(v, b"false", 5):
        return c'0'
    return 0

# gorouter: b3 is passed on if it parses; else it is made from X-B3-TraceId and X-B3-SpanId; else all three are made.
# True with the ids if there is a trace.
cdef inline bint zipkin(Exchange *x, char **at, Span *trace_id, Span *span_id, char *made) noexcept nogil:
    cdef Head *h = &x.req
    cdef Field *b3 = find(h, b"b3", 2)
    cdef Field *t = find(h, b"x-b3-traceid", 12)
    cdef Field *s = find(h, b"x-b3-spanid", 11)
    cdef Field *f
    cdef char sampled
    cdef char *w = at[0]
    if b3 != NULL and parse_b3(heads.value(h, b3), trace_id, span_id):
        take_id(x, trace_id[0])
        return True
    if t != NULL and s != NULL:
        trace_id[0] = heads.value(h, t)
        span_id[0] = heads.value(h, s)
        f = find(h, b"x-b3-sampled", 12)
        sampled = sampled_of(heads.value(h, f)) if f != NULL else c'-'
        if not is_trace_id(trace_id[0]) or span_id.n != 16 or not is_hex(span_id[0]) or sampled == 0:
            return False
        take_id(x, trace_id[0])
        drop(h, b"b3", 2)
        w = fmt.text(w, b"b3: ")
        w = fmt.span(w, trace_id[0])
        w = fmt.text(w, b"-")
        w = fmt.span(w, span_id[0])
        f = find(h, b"x-b3-flags", 10)
        if f != NULL and span.eq(heads.value(h, f), b"1", 1):
            w = fmt.text(w, b"-d")
        elif sampled != c'-':
            w[0] = c'-'
            w[1] = sampled
            w += 2
        f = find(h, b"x-b3-parentspanid", 17)
        if f != NULL and f.value_len == 16 and is_hex(heads.value(h, f)):
            w = fmt.text(w, b"-")
            w = fmt.span(w, heads.value(h, f))
        at[0] = fmt.text(w, b"\r\n")
        return True
    id_hex(x, made)
    trace_id[0] = span.make(made, 32)
    span_id[0] = span.make(made + 16, 16)
    drop(h, b"b3", 2)
    drop(h, b"x-b3-traceid", 12)
    drop(h, b"x-b3-spanid", 11)
    w = fmt.text(w, b"X-B3-TraceId: ")
    w = fmt.span(w, trace_id[0])
    w = fmt.text(w, b"\r\nX-B3-SpanId: ")
    w = fmt.span(w, span_id[0])
    w = fmt.text(w, b"\r\nb3: ")
    w = fmt.span(w, trace_id[0])
    w = fmt.text(w, b"-")
    w = fmt.span(w, span_id[0])
    at[0] = fmt.text(w, b"\r\n")
    return True

# version-trace-parent-flags, all hex (W3C Trace Context 3.2). What is given back is set only if it is that.
# gorouter: neither the version nor the separators are looked at.
cdef inline bint parse_traceparent(Span v, Span *trace_id, Span *flags) noexcept nogil:
    if (v.n != 55 or not is_hex(span.make(v.p, 2)) or not is_hex(span.make(v.p + 3, 32))
            or not is_hex(span.make(v.p + 36, 16)) or not is_hex(span.make(v.p + 53, 2))):
        return False
    trace_id[0] = span.make(v.p + 3, 32)
    flags[0] = span.make(v.p + 53, 2)
    return True

# The received entries without our own older one.
cdef inline char *other_states(char *w, Span v, Span key) noexcept nogil:
    cdef Span one
    while span.next_item(&v, &one):
        if one.n == 0 or (one.n > key.n and one.p[key.n] == c'=' and span.eq(span.make(one.p, key.n), key.p, key.n)):
            continue
        w = fmt.text(w, b",")
        w = fmt.span(w, one)
    return w

cdef inline void w3c(Worker *wk, Exchange *x, char **at, Span trace_id, Span span_id) noexcept nogil:
    cdef Head *h = &x.req
    cdef Settings *cfg = &wk.shared.cfg
    cdef Span key = span.make(cfg.w3c_key, cfg.w3c_key_n)
    cdef Field *parent = find(h, b"traceparent", 11)
    cdef Field *state = find(h, b"tracestate", 10)
    cdef Span flags = span.make(b"01", 2)
    cdef char fresh[32]
    cdef char *w = at[0]
    cdef bint has_trace = trace_id.n != 0
    cdef bint goes_on = parent != NULL and parse_traceparent(heads.value(h, parent), &trace_id, &flags)
    if goes_on:
        if not has_trace:
            take_id(x, trace_id)
        fmt.hex_pad(fresh, rng.next_u64(&wk.rng), 16)
        span_id = span.make(fresh, 16)
    elif trace_id.n != 32:
        id_hex(x, fresh)
        trace_id = span.make(fresh, 32)
        span_id = span.make(fresh + 16, 16)
    drop(h, b"traceparent", 11)
    drop(h, b"tracestate", 10)
    if not has_trace:
        keep_ids(x, trace_id, span_id)
    w = fmt.text(w, b"traceparent: 00-")
    w = lower(w, trace_id.p, trace_id.n)
    w = fmt.text(w, b"-")
    w = lower(w, span_id.p, span_id.n)
    w = fmt.text(w, b"-")
    w = lower(w, flags.p, flags.n)
    w = fmt.text(w, b"\r\ntracestate: ")
    w = fmt.span(w, key)
    w = fmt.text(w, b"=")
    w = fmt.span(w, span_id)
    if goes_on and state != NULL and state.value_len <= TRACESTATE_MAX:
        w = other_states(w, heads.value(h, state), key)
    at[0] = fmt.text(w, b"\r\n")

cdef inline void keep_ids(Exchange *x, Span trace_id, Span span_id) noexcept nogil:
    x.trace.data[LINES_ROOM] = <char>trace_id.n
    lower(x.trace.data + LINES_ROOM + 1, trace_id.p, trace_id.n)
    lower(x.trace.data + SPAN_AT, span_id.p, span_id.n)

# The trace and span id of a request: 32 or 16 digits, and 16.
# gorouter: without a trace both are made of the request id.
cdef inline void ids(const Exchange *x, char *trace_id, u8 *n, char *span_id) noexcept nogil:
    if x.trace != NULL and x.trace.data[LINES_ROOM]:
        n[0] = <u8>x.trace.data[LINES_ROOM]
        memcpy(trace_id, x.trace.data + LINES_ROOM + 1, n[0])
        memcpy(span_id, x.trace.data + SPAN_AT, 16)
        return
    n[0] = 32
    id_hex(x, trace_id)
    memcpy(span_id, trace_id + 16, 16)

cdef inline void begin(Worker *w, Exchange *x) noexcept nogil:
    cdef Settings *cfg = &w.shared.cfg
    cdef Span trace_id = span.make(NULL, 0)
    cdef Span span_id = span.make(NULL, 0)
    cdef char made[32]
    cdef char *at
    x.trace = buf.alloc(&w.slabs, ROOM)
    if x.trace == NULL:
        return
    at = x.trace.data
    at[LINES_ROOM] = 0
    if cfg.enable_zipkin:
        if zipkin(x, &at, &trace_id, &span_id, made):
            keep_ids(x, trace_id, span_id)
        else:
            trace_id = span.make(NULL, 0)
    if cfg.enable_w3c:
        w3c(w, x, &at, trace_id, span_id)
    x.trace.wpos = <u32>(at - x.trace.data)

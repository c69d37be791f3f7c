# L2: dropsonde envelopes of single requests, as finished datagrams in the worker's ring: the access-log line as a
# LogMessage, and HttpStartStop for a request (server) and each attempt (client). The logger thread sends them.
#
# Protocol buffers by hand: fields in the order of their numbers, the endpoint's tags as control encoded them. What is
# not wanted costs one look at a setting, which the callers take.
from libc.string cimport memcpy
from gorouter_py.fastpath.base.types cimport Span, u8, u32, u64, i64
from gorouter_py.fastpath.base cimport clock, csys, dp, fmt, limits, span
from gorouter_py.fastpath.http cimport heads
from gorouter_py.fastpath.http.heads cimport Head
from gorouter_py.fastpath.net cimport tap
from gorouter_py.fastpath.route cimport endpoint
from gorouter_py.fastpath.flow cimport trace
from gorouter_py.fastpath.flow.state cimport *

cdef extern from "sonde.h" nogil:
    enum:
        START_STOP "DP_SONDE_START_STOP"
        LOG_MESSAGE "DP_SONDE_LOG_MESSAGE"
        CLIENT "DP_SONDE_CLIENT"
        SERVER "DP_SONDE_SERVER"
        OUT "DP_SONDE_OUT"
    unsigned method_number "dp_sonde_method"(const char *p, size_t n) noexcept

cdef enum:
    CUT_TEXT = 8192             # bytes of a path or header value in an event
    FORWARDED_MAX = 32          # addresses of X-Forwarded-For in an event
    HEAD_ROOM = 64

# ---- wire format ---------------------------------------------------------------------------------------------------

cdef inline char *varint(char *w, u64 v) noexcept nogil:
    while v > 0x7f:
        w[0] = <char>(v & 0x7f | 0x80)
        w += 1
        v >>= 7
    w[0] = <char>v
    return w + 1

cdef inline u32 varint_size(u64 v) noexcept nogil:
    cdef u32 n = 1
    while v > 0x7f:
        v >>= 7
        n += 1
    return n

cdef inline char *number(char *w, u32 field, u64 v) noexcept nogil:
    return varint(varint(w, field << 3), v)

cdef inline char *chunk(char *w, u32 field, Span s) noexcept nogil:
    return fmt.span(varint(varint(w, field << 3 | 2), s.n), s)

cdef inline int digit(char c) noexcept nogil:
    return c - c'0' if c <= c'9' else (dp.lower(c) - c'a') + 10

# 32 hexadecimal digits, dashes aside, as two numbers of eight bytes each, the first byte lowest. False: it is no UUID.
cdef inline bint read_uuid(Span s, u64 *low, u64 *high) noexcept nogil:
    cdef u64 halves[2]
    cdef u32 i, n = 0
    halves[0] = 0
    halves[1] = 0
    for i in range(s.n):
        if s.p[i] == c'-':
            continue
        if n == 32 or not dp.char_is(s.p[i], dp.C_HEX):
            return False
        # digit n belongs to byte n / 2, whose high half comes first
        halves[n // 16] |= <u64>digit(s.p[i]) << (8 * (n % 16 // 2) + (0 if n & 1 else 4))
        n += 1
    low[0] = halves[0]
    high[0] = halves[1]
    return n == 32

cdef inline char *uuid(char *w, u32 field, Span s) noexcept nogil:
    cdef u64 low, high
    cdef char inner[24]
    if not read_uuid(s, &low, &high):
        return w
    return chunk(w, field, span.make(inner, <u32>(number(number(inner, 1, low), 2, high) - inner)))

# ---- envelopes -----------------------------------------------------------------------------------------------------

# The envelope up to the event of n bytes in `field`.
cdef inline char *begin(char *w, u32 kind, u64 at_ns, u32 field, u32 n) noexcept nogil:
    w = chunk(w, 1, span.make(b"gorouter", 8))
    w = number(w, 2, kind)
    w = number(w, 6, at_ns)
    return varint(varint(w, field << 3 | 2), n)

# An entry of the envelope's map.
cdef inline char *tag(char *w, Span name, Span value) noexcept nogil:
    w = varint(varint(w, 17 << 3 | 2), 2 + varint_size(name.n) + name.n + varint_size(value.n) + value.n)
    return chunk(chunk(w, 1, name), 2, value)

# gorouter: the tags of the instance, and for requests the two ids.
cdef inline char *tags(char *w, const Exchange *x, bint with_ids) noexcept nogil:
    cdef char trace_id[32]
    cdef char span_id[16]
    cdef u8 n
    if x.ep != NULL:
        w = fmt.span(w, endpoint.tags(x.ep))
    if with_ids:
        trace.ids(x, trace_id, &n, span_id)
        w = tag(w, span.make(b"span_id", 7), span.make(span_id, 16))
        w = tag(w, span.make(b"trace_id", 8), span.make(trace_id, n))
    return w

# One datagram of up to four pieces; dropped and counted when the ring is full.
cdef inline void push(Worker *w, Span head, Span line, Span inner, Span tail) noexcept nogil:
    cdef u64 one = 1
    cdef Span pieces[5]
    cdef u32 n = head.n + line.n + inner.n + tail.n
    pieces[0] = span.make(<const char *>&n, 4)
    pieces[1] = head
    pieces[2] = line
    pieces[3] = inner
    pieces[4] = tail
    if n > limits.DATAGRAM_MAX or not tap.log_put_all(&w.datagrams, pieces, 5):
        tap.inc(&w.counters.envelopes_dropped)
        return
    if dp.load32(&w.shared.logger_asleep) and dp.xchg32_ar(&w.shared.logger_asleep, 0):
        csys.write(w.shared.logger_wake, &one, 8)

# The access-log line, without its end, of a request that reached an application's route.
cdef inline void log_line(Worker *w, const Exchange *x, Span line, u64 at_ns) noexcept nogil:
    cdef char head[HEAD_ROOM]
    cdef char inner[400]
    cdef char after[limits.TAGS_MAX + 64]
    cdef Span app = endpoint.app_id(x.ep)
    cdef char *p
    cdef char *q = number(inner, 2, OUT)
    q = number(q, 3, at_ns)
    q = chunk(q, 4, app)
    q = chunk(q, 5, span.make(b"RTR", 3))
    q = chunk(q, 6, span.make(w.shared.source_instance, w.shared.source_instance_n))
    # the line is field 1, so it comes before the rest
    p = begin(head, LOG_MESSAGE, at_ns, 8, 1 + varint_size(line.n) + line.n + <u32>(q - inner))
    p = varint(varint(p, 1 << 3 | 2), line.n)
    push(w, span.make(head, <u32>(p - head)), line, span.make(inner, <u32>(q - inner)),
         span.make(after, <u32>(tags(after, x, False) - after)))

# The path without escapes, as Go keeps it.
cdef inline char *decoded(char *w, Span s) noexcept nogil:
    cdef u32 i = 0
    while i < s.n and i < CUT_TEXT:
        if s.p[i] == c'%' and i + 2 < s.n and dp.char_is(s.p[i + 1], dp.C_HEX) and dp.char_is(s.p[i + 2], dp.C_HEX):
            w[0] = <char>(digit(s.p[i + 1]) << 4 | digit(s.p[i + 2]))
            i += 2
        else:
            w[0] = s.p[i]
        w += 1
        i += 1
    return w

cdef inline Span cut(Span s) noexcept nogil:
    return span.make(s.p, s.n if s.n < CUT_TEXT else CUT_TEXT)

# scheme://host/path
cdef inline char *uri(char *w, const Exchange *x) noexcept nogil:
    cdef Span host = heads.host(&x.req)
    cdef char *room = w + 8     # rendered behind its place, for its length comes first
    cdef u32 i
    cdef char *p = fmt.text(room, b"https://" if x.down.secure else b"http://")
    p = fmt.span(p, span.make(host.p, host.n if host.n < limits.HOST_MAX else limits.HOST_MAX))
    p = decoded(p, heads.path(&x.req))
    w = varint(varint(w, 6 << 3 | 2), <u64>(p - room))
    for i in range(<u32>(p - room)):
        w[i] = room[i]
    return w + (p - room)

# Each address of X-Forwarded-For; in an attempt's event the client's follows.
cdef inline char *forwarded(char *w, const Exchange *x, bint and_client) noexcept nogil:
    cdef const Head *h = &x.req
    cdef u32 i, n = 0
    cdef Span v, one
    if h.first[heads.N_X_FORWARDED_FOR] >= 0:
        for i in range(<u32>h.first[heads.N_X_FORWARDED_FOR], h.nfields):
            if h.fields[i].id != heads.N_X_FORWARDED_FOR:
                continue
            v = heads.value(h, &h.fields[i])
            while n < FORWARDED_MAX and span.next_item(&v, &one):
                w = chunk(w, 15, span.make(one.p, one.n if one.n < 64 else 64))
                n += 1
    if and_client:
        w = chunk(w, 15, span.make(x.down.peer + x.down.ip_off, x.down.ip_len))
    return w

# HttpStartStop from began_ns to now_ns (monotonic). length: of the body; -1 not known.
cdef inline void start_stop(Worker *w, const Exchange *x, u32 peer, u64 began_ns, u64 now_ns, u32 status,
                            i64 length) noexcept nogil:
    cdef char head[HEAD_ROOM]
    cdef char after[limits.TAGS_MAX + 192]
    cdef u64 base = x.wall_ns - x.began_ns
    cdef Span method = heads.method(&x.req)
    cdef Span index
    cdef u64 at = 0
    cdef u32 i
    cdef char *p = w.scratch
    p = number(p, 1, base + began_ns)
    p = number(p, 2, base + now_ns)
    p = uuid(p, 3, span.make(x.request_id, fmt.UUID_LEN))
    p = number(p, 4, peer)
    p = number(p, 5, method_number(method.p, method.n))
    p = uri(p, x)
    p = chunk(p, 7, span.make(x.down.peer, x.down.peer_len))
    p = chunk(p, 8, cut(heads.get(&x.req, heads.N_USER_AGENT)))
    p = number(p, 9, status)
    p = number(p, 10, <u64>length)
    if x.ep != NULL:
        p = uuid(p, 12, endpoint.app_id(x.ep))
        index = endpoint.instance_index(x.ep)
        if 0 < index.n < 10 and dp.scan_class(index.p, index.p + index.n, dp.C_DIGIT) == index.p + index.n:
            for i in range(index.n):
                at = at * 10 + <u64>(index.p[i] - c'0')
            p = number(p, 13, at)
        index = endpoint.shown_id(x.ep)
        p = chunk(p, 14, index)
    p = forwarded(p, x, peer == CLIENT)
    push(w, span.make(head, <u32>(begin(head, START_STOP, base + now_ns, 7, <u32>(p - w.scratch)) - head)),
         span.make(w.scratch, <u32>(p - w.scratch)), span.make(NULL, 0),
         span.make(after, <u32>((tags(after, x, True) - after) if peer == SERVER else 0)))

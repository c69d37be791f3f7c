# L2: the sending half of an HTTP/1 connection, the same towards client and endpoint.
#
# The outgoing framing is written from the parsed decision, never copied: one length decision per message.
from gorouter_py.fastpath.base.types cimport Span, u8, u32, u64, i64
from gorouter_py.fastpath.base cimport dp, fmt, limits
from gorouter_py.fastpath.http cimport chunked, heads
from gorouter_py.fastpath.http.heads cimport Head
from gorouter_py.fastpath.net cimport sock
from gorouter_py.fastpath.flow cimport conn, fault
from gorouter_py.fastpath.flow.stream cimport HeadOut, Stream
from gorouter_py.fastpath.flow.state cimport *

cdef enum:
    HEAD_SLACK = 256            # framing and connection lines the writer adds

# The received field lines without the dropped ones, values replaced where edits say so.
cdef inline char *field_lines(char *w, const HeadOut *o) noexcept nogil:
    cdef const Head *h = o.src
    cdef u32 i, k, run, at
    cdef u8 edit
    if h.nfields == 0:
        return w
    run = h.fields[0].name
    for i in range(h.nfields):
        at = h.fields[i].name
        if h.fields[i].drop:
            w = fmt.put(w, h.base + run, at - run)
            run = heads.line_end(h, i)
            continue
        for edit in range(o.n_edits):
            if o.edits[edit].field == i:
                w = fmt.put(w, h.base + run, at - run + h.fields[i].name_len)
                w = fmt.put(w, b": ", 2)
                w = fmt.span(w, o.edits[edit].value)
                w = fmt.put(w, b"\r\n", 2)
                run = heads.line_end(h, i)
                break
    return fmt.put(w, h.base + run, h.len - 2 - run)

cdef inline char *start_line(char *w, const Conn *c, const HeadOut *o) noexcept nogil:
    cdef const Head *h = o.src
    if not o.is_response:
        w = fmt.put(w, h.base, h.target + h.target_len)
        return fmt.put(w, b" HTTP/1.1\r\n", 11)
    w = fmt.put(w, b"HTTP/1.", 7)
    w[0] = <char>(c'0' + c.minor)
    w[1] = c' '
    w = fmt.dec_pad(w + 2, o.status, 3)
    w[0] = c' '
    w += 1
    if h != NULL:
        w = fmt.put(w, h.base + h.reason, h.reason_len)
    else:
        w = fmt.text(w, fault.reason(o.status))
    return fmt.put(w, b"\r\n", 2)

cdef inline char *framing_lines(char *w, const Conn *c, const HeadOut *o) noexcept nogil:
    if o.framing == heads.BODY_LENGTH or (o.framing == heads.BODY_NONE and o.zero_length):
        w = fmt.put(w, b"Content-Length: ", 16)
        w = fmt.dec(w, o.content_length if o.framing == heads.BODY_LENGTH else 0)
        w = fmt.put(w, b"\r\n", 2)
    elif o.framing == heads.BODY_CHUNKED:
        w = fmt.put(w, b"Transfer-Encoding: chunked\r\n", 28)
    if o.upgrade:
        w = fmt.put(w, b"Connection: Upgrade\r\nUpgrade: ", 30)
        w = fmt.span(w, o.upgrade_value)
        w = fmt.put(w, b"\r\n", 2)
    elif o.close:
        w = fmt.put(w, b"Connection: close\r\n", 19)
    elif o.is_response and c.minor == 0 and o.status >= 200:
        w = fmt.put(w, b"Connection: keep-alive\r\n", 24)
    return w

cdef inline i64 send_head(Stream *s, HeadOut *o) noexcept nogil:
    cdef Conn *c = <Conn *>s
    cdef u32 most = HEAD_SLACK + o.extra.n + o.upgrade_value.n * o.upgrade
    cdef char *start
    cdef char *w
    cdef u8 edit
    if o.src != NULL:
        most += o.src.len
    for edit in range(o.n_edits):
        most += o.edits[edit].value.n
    start = conn.reserve(c, most)
    if start == NULL:
        c.flags |= C_BROKEN
        conn.todo(c)
        return fault.OVERLOADED
    w = start_line(start, c, o)
    if o.src != NULL:
        w = field_lines(w, o)
    w = fmt.span(w, o.extra)
    w = framing_lines(w, c, o)
    w = fmt.put(w, b"\r\n", 2)
    conn.wrote(c, <u32>(w - start))
    if not (o.is_response and o.status < 200):
        c.out_framing = o.framing
        c.out_left = o.content_length if o.framing == heads.BODY_LENGTH else 0
        if o.close:
            c.flags = (c.flags & ~C_KEEP) | C_LAST
    conn.todo(c)
    return <i64>c.out_bytes

cdef inline i64 send_body(Stream *s, const char *p, u64 n) noexcept nogil:
    cdef Conn *c = <Conn *>s
    cdef char size[24]
    cdef u32 size_n
    cdef i64 r
    if n == 0 or c.flags & (C_BROKEN | C_OUT_DONE):
        return 0
    if c.out_framing == heads.BODY_CHUNKED:
        size_n = chunked.write_size(size, n)
        r = conn.queue(c, size, size_n)
        if r < 0:
            return r
        r = conn.send_or_queue(c, p, n)
        if r < 0:
            return r
        r = conn.queue(c, b"\r\n", 2)
        return r if r < 0 else conn.unsent(c)
    if c.out_framing == heads.BODY_LENGTH:
        if dp.bug(n > c.out_left):
            n = c.out_left
        c.out_left -= n
    return conn.send_or_queue(c, p, n)

cdef inline i64 send_end(Stream *s, Span trailers) noexcept nogil:
    cdef Conn *c = <Conn *>s
    cdef i64 r = 0
    if c.flags & C_OUT_DONE:
        return 0
    c.flags |= C_OUT_DONE
    if c.out_framing == heads.BODY_CHUNKED:
        r = conn.queue(c, b"0\r\n", 3)
        if r >= 0 and trailers.n:
            r = conn.queue(c, trailers.p, trailers.n)
        if r >= 0:
            r = conn.queue(c, b"\r\n", 2)
    elif c.flags & C_RAW:
        c.flags |= C_SHUT
    conn.todo(c)
    return r if r < 0 else <i64>c.out_bytes

cdef inline void want_body(Stream *s, bint on) noexcept nogil:
    cdef Conn *c = <Conn *>s
    if on:
        if not (c.flags & C_WANT):
            c.flags |= C_WANT
            c.since_ms = c.w.now_ms
            conn.todo(c)
    else:
        c.flags &= ~C_WANT

# From here on the connection carries bytes, not messages.
cdef inline void tunnel(Stream *s) noexcept nogil:
    cdef Conn *c = <Conn *>s
    c.flags |= C_RAW | C_WANT
    c.flags &= ~(C_IN_DONE | C_OUT_DONE | C_KEEP)
    c.in_framing = heads.BODY_TUNNEL
    c.out_framing = heads.BODY_TUNNEL
    c.attempt_until_ms = 0
    c.since_ms = c.w.now_ms
    conn.todo(c)

cdef inline u32 local_addr(Stream *s, char *w) noexcept nogil:
    return sock.write_local(w, (<Conn *>s).fd)

cdef inline void done(Stream *s, bint clean) noexcept nogil:
    cdef Conn *c = <Conn *>s
    s.owner = NULL
    c.flags |= C_DETACH
    if clean:
        c.flags |= C_CLEAN
    c.flags &= ~C_WANT
    conn.todo(c)

# Writes what is queued. True when nothing is left.
cdef inline bint flush(Conn *c) noexcept nogil:
    cdef u64 before = c.out_bytes
    if c.out_bytes:
        conn.transmit(c, NULL, 0)
        if c.out_bytes != before:
            c.since_ms = c.w.now_ms
    if c.out_bytes:
        return False
    if (c.flags & (C_SHUT | C_SHUT_DONE)) == C_SHUT:
        c.flags |= C_SHUT_DONE
        conn.csys.shutdown(c.fd, conn.csys.SHUT_WR)
    if c.flags & C_DRAIN:
        c.flags &= ~C_DRAIN
        if c.s.owner != NULL:
            c.s.events.on_drain(c.s.owner, &c.s)
    return True

# L2: answers the router makes itself: health, and one error page per row of the failure table.
from libc.string cimport memset
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64
from gorouter_py.fastpath.base cimport dp, fmt, span, limits
from gorouter_py.fastpath.http cimport heads
from gorouter_py.fastpath.http.heads cimport Head
from gorouter_py.fastpath.net cimport tap
from gorouter_py.fastpath.route cimport endpoint
from gorouter_py.fastpath.flow cimport choice, daytime, fault, logline, page, report, rewrite
from gorouter_py.fastpath.flow.stream cimport HeadOut, Stream
from gorouter_py.fastpath.flow.state cimport *

cdef enum:
    BODY_ROOM = 4096

cdef inline void count_status(Exchange *x) noexcept nogil:
    cdef tap.Counters *n = &x.w.counters
    cdef u32 cls = x.status // 100
    if cls == 2:
        tap.inc(&n.responses_2xx)
    elif cls == 3:
        tap.inc(&n.responses_3xx)
    elif cls == 4:
        tap.inc(&n.responses_4xx)
    elif cls == 5:
        tap.inc(&n.responses_5xx)
        if x.status == 502:
            tap.inc(&n.bad_gateways)
    else:
        tap.inc(&n.responses_xxx)

# Sends status, lines and body as a whole answer.
cdef inline void send(Exchange *x, u16 status, Span lines, Span body, bint close) noexcept nogil:
    cdef HeadOut out
    memset(&out, 0, sizeof(out))
    out.is_response = 1
    out.status = status
    out.extra = lines
    out.framing = heads.BODY_LENGTH
    out.content_length = body.n
    out.close = close
    rewrite.apply(x.w, &out)
    x.status = status
    x.flags |= X_LOCAL | X_RESP_HEAD | X_RESP_DONE
    x.down.ops.send_head(x.down, &out)
    x.resp_bytes = body.n
    if not (x.flags & X_NO_BODY):
        x.down.ops.send_body(x.down, body.p, body.n)
    x.down.ops.send_end(x.down, span.make(NULL, 0))

# gorouter: GET /health, and any request whose User-Agent is the load balancer's.
cdef inline void health(Exchange *x, bint status_port) noexcept nogil:
    cdef Worker *w = x.w
    cdef char *p = w.scratch
    cdef Span path = heads.path(&x.req)
    cdef bint alive = status_port and span.eq(path, b"/is-process-alive-do-not-use-for-loadbalancing", 46)
    cdef bint healthy = alive or dp.load32(&w.shared.healthy) != 0
    cdef bint close = not (x.req.flags & heads.F_KEEP_ALIVE) or not (x.flags & X_REQ_DONE)
    tap.inc(&w.counters.health_checks)
    if status_port:
        x.flags |= X_NO_LOG
        if not alive and not span.eq(path, b"/health", 7):
            p = fmt.text(p, b"Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n")
            send(x, 404, span.make(w.scratch, <u32>(p - w.scratch)), span.make(b"404 page not found\n", 19), close)
            return
        if healthy:
            p = fmt.text(p, b"Content-Type: text/plain; charset=utf-8\r\n")
    p = fmt.text(p, b"Cache-Control: private, max-age=0\r\nExpires: 0\r\nDate: ")
    p = fmt.span(p, daytime.date(w, x.wall_ns // 1000000000))
    p = fmt.text(p, b"\r\n")
    send(x, 200 if healthy else 503, span.make(w.scratch, <u32>(p - w.scratch)),
         span.make(b"ok\n", 3 if healthy else 0), close)

# The row's text with %H (the request's Host) and %I (the instance a header names) filled in.
cdef inline char *fill(char *w, const char *p, const Head *h) noexcept nogil:
    cdef Span host = heads.host(h)
    while p[0]:
        if p[0] == c'%' and p[1] == c'I':
            w = choice.describe(w, h)
            p += 2
            continue
        if p[0] == c'%' and p[1] == c'H':
            w = fmt.span(w, span.make(host.p, host.n if host.n < limits.HOST_MAX else limits.HOST_MAX))
            p += 2
        else:
            w[0] = p[0]
            w += 1
            p += 1
    return w

cdef inline bint is_of_endpoint(const fault.Row *row) noexcept nogil:
    return row.what != NULL and row.what[0] == c'e' and row.what[8] == c'_'     # endpoint_failure

# The operator's page speaks for the router's own errors; those of endpoints keep their fixed text.
# gorouter: errors of the round trip do not use the template.
cdef inline bint uses_page(const Settings *cfg, const fault.Row *row) noexcept nogil:
    return cfg.n_page != 0 and row.text[0] != 0 and not is_of_endpoint(row)

cdef inline void error(Exchange *x, int code, u16 status, bint close) noexcept nogil:
    cdef Worker *w = x.w
    cdef Settings *cfg = &w.shared.cfg
    cdef const fault.Row *row = fault.row(code)
    cdef bint html = uses_page(cfg, row)
    cdef page.PageData d
    cdef char *p = w.scratch
    cdef char *body
    cdef char *message
    cdef char *q
    p = fmt.text(p, b"Content-Type: ")
    p = fmt.text(p, b"text/html; charset=utf-8" if html else b"text/plain; charset=utf-8")
    p = fmt.text(p, b"\r\nX-Content-Type-Options: nosniff\r\n")
    if row.what != NULL:
        p = fmt.text(p, b"X-Cf-RouterError: ")
        p = logline.router_error(p, x, code)
        p = fmt.text(p, b"\r\n")
    if code == fault.UNKNOWN_ROUTE or (code <= fault.BAD_APP_INSTANCE and code >= fault.NO_SUCH_INSTANCE):
        p = fmt.text(p, b"Cache-Control: no-cache, no-store\r\n")
    elif code == fault.EMPTY_HOST or code == fault.NO_ENDPOINTS:
        p = fmt.text(p, b"Cache-Control: public,max-age=2\r\n")
    p = fmt.text(p, b"Date: ")
    p = fmt.span(p, daytime.date(w, x.wall_ns // 1000000000))
    p = fmt.text(p, b"\r\n")
    body = p
    q = p
    if row.text[0]:
        q = fmt.dec(q, status)
        q = fmt.text(q, b" ")
        q = fmt.text(q, fault.reason(status))
        q = fmt.text(q, b": ")
        message = q
        q = fill(q, row.text, &x.req)
        # gorouter: neither for 404 nor for what endpoints did
        if status != 404 and not is_of_endpoint(row) and report.wanted(w, 1):
            report.status(x, span.make(body, <u32>(q - body)))
        if html:
            d.status = status
            d.message = span.make(message, <u32>(q - message))  # gorouter: without the status, unlike the plain text
            d.lines = span.make(w.scratch, <u32>(body - w.scratch))
            body = q
            q = page.render(cfg, body, body + PAGE_BYTES_MAX, &d)
        else:
            q = fmt.text(q, b"\n")
    send(x, status, span.make(w.scratch, <u32>(p - w.scratch)), span.make(body, <u32>(q - body)), close)
    count_status(x)

# L2: the access-log line, in gorouter's format, written into the worker's ring when a request ends.
#
# A line always fits the scratch: each column is cut to a share of it, and the extra headers, the only columns without a
# fixed number, end once the line has limits.LOG_LINE_MAX bytes. What was cut says so in gorouter's words; gorouter cuts
# only what would not fit a datagram.
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64
from gorouter_py.fastpath.base cimport csys, dp, fmt, sha1, span, limits
from gorouter_py.fastpath.http cimport heads
from gorouter_py.fastpath.http.heads cimport Head
from gorouter_py.fastpath.route cimport endpoint
from gorouter_py.fastpath.net cimport tap
from gorouter_py.fastpath.flow cimport cohort, daytime, envelope, fault, forward, rewrite
from gorouter_py.fastpath.flow.state cimport *

cdef enum:
    CUT_TARGET = 8192           # bytes of each kind that a line shows; escaped they are three times as many
    CUT_FIELD = 1024            # escaped four times as many
    ROUTER_ERROR_MAX = 1024     # a row's text, an address, and a quoted status line

# Bytes of s as strconv.Quote writes them, without the quotes, at most most source bytes.
# gorouter: quotes with Go's strconv.Quote; bytes over 0x7f that are no UTF-8 appear as \xNN there and here.
cdef inline char *escaped(char *w, Span s, u32 most) noexcept nogil:
    cdef u32 i = 0, k, n = s.n if s.n < most else most
    cdef u8 c
    while i < n:
        c = <u8>s.p[i]
        if c >= 0x20 and c < 0x7f and c != c'"' and c != c'\\':
            w[0] = <char>c
            w += 1
        elif c >= 0x80:
            k = utf8_length(s.p + i, n - i)
            if k and not is_printable(s.p + i, k):
                w = fmt.text(w, b"\\U" if k == 4 else b"\\u")
                w = fmt.hex_pad(w, code_point(s.p + i, k), 8 if k == 4 else 4)
                i += k
                continue
            if k:
                w = fmt.put(w, s.p + i, k)
                i += k
                continue
            w = fmt.put(w, b"\\x", 2)
            w = fmt.hex_pad(w, c, 2)
        elif c == c'"' or c == c'\\':
            w[0] = c'\\'
            w[1] = <char>c
            w += 2
        elif c == c'\t':
            w = fmt.put(w, b"\\t", 2)
        else:
            w = fmt.put(w, b"\\x", 2)
            w = fmt.hex_pad(w, c, 2)
        i += 1
    return w

# Length of the well-formed UTF-8 character at p, 0 if there is none (RFC 3629).
cdef inline u32 utf8_length(const char *p, u32 n) noexcept nogil:
    cdef u8 a = <u8>p[0]
    cdef u8 b = <u8>p[1] if n > 1 else 0
    cdef u32 k, i
    if a >= 0xc2 and a <= 0xdf:
        k = 2
    elif a >= 0xe0 and a <= 0xef:
        k = 3
        if (a == 0xe0 and b < 0xa0) or (a == 0xed and b > 0x9f):
            return 0
    elif a >= 0xf0 and a <= 0xf4:
        k = 4
        if (a == 0xf0 and b < 0x90) or (a == 0xf4 and b > 0x8f):
            return 0
    else:
        return 0
    if n < k:
        return 0
    for i in range(1, k):
        if (<u8>p[i] & 0xc0) != 0x80:
            return 0
    return k

cdef inline u32 code_point(const char *p, u32 k) noexcept nogil:
    cdef u32 v = <u8>p[0] & (0x1f if k == 2 else 0x0f if k == 3 else 0x07)
    cdef u32 i
    for i in range(1, k):
        v = (v << 6) | (<u8>p[i] & 0x3f)
    return v

# Controls, format characters, separators, private use and noncharacters are not.
# gorouter: Go's unicode.IsPrint, but for code points that are not assigned.
cdef inline bint is_printable(const char *p, u32 k) noexcept nogil:
    cdef u32 c = code_point(p, k)
    if c <= 0xa0 or c == 0xad or c == 0x61c or c == 0x1680 or c == 0x180e or c == 0x3000 or c == 0xfeff:
        return False
    if (0x2000 <= c <= 0x200f) or (0x2028 <= c <= 0x202f) or (0x205f <= c <= 0x206f) or (0xfff0 <= c <= 0xfffb):
        return False
    return not ((0xe000 <= c <= 0xf8ff) or c >= 0xe0000 or (c & 0xfffe) == 0xfffe)

cdef inline bint is_plain(Span s) noexcept nogil:
    cdef u32 i
    for i in range(s.n):
        if <u8>s.p[i] < 0x20 or <u8>s.p[i] >= 0x7f or s.p[i] == c'"' or s.p[i] == c'\\':
            return False
    return True

# A quoted string, "-" when empty.
cdef inline char *quoted(char *w, Span s) noexcept nogil:
    if s.n == 0:
        return fmt.put(w, b'"-"', 3)
    w[0] = c'"'
    w += 1
    if s.n <= CUT_FIELD and is_plain(s):
        w = fmt.span(w, s)
    else:
        w = escaped(w, s, CUT_FIELD)
    w[0] = c'"'
    return w + 1

# The same, with a mark where it was cut.
cdef inline char *quoted_field(char *w, Span s, const char *mark) noexcept nogil:
    w = quoted(w, s)
    return put_mark(w - 1, mark) if s.n > CUT_FIELD else w

# In place of the closing quote.
cdef inline char *put_mark(char *w, const char *mark) noexcept nogil:
    w = fmt.text(w, b"...")
    w = fmt.text(w, mark)
    return fmt.text(w, b'-TOO-LONG-TO-LOG--TRUNCATED"')

# What follows scheme and authority in an absolute target; may be empty or begin with the query.
cdef inline Span behind_authority(Span t) noexcept nogil:
    cdef u32 i = 8 if dp.lower(t.p[4]) == c's' else 7      # https://, http://
    while i < t.n and t.p[i] != c'/' and t.p[i] != c'?':
        i += 1
    return span.make(t.p + i, t.n - i)

# URL.RequestURI(): the target with bytes over 0x7f escaped, absolute form without scheme and authority; its query as
# redact says (a Redact).
# gorouter: an empty query has nothing to hide, and its question mark stays.
cdef inline char *target(char *w, const Head *h, u8 redact) noexcept nogil:
    cdef const char *digits = b"0123456789ABCDEF"
    cdef Span t = heads.target(h)
    cdef u32 i, n
    if h.flags & heads.F_ABSOLUTE:
        t = behind_authority(t)
        if t.n == 0 or t.p[0] != c'/':
            w[0] = c'/'
            w += 1
    n = t.n if t.n < CUT_TARGET else CUT_TARGET
    for i in range(n):
        if redact and t.p[i] == c'?' and i + 1 < t.n:
            if redact == REDACT_HASH:
                w = sha1.hex_of(fmt.text(w, b"?hash="), span.make(t.p + i + 1, t.n - i - 1))
            return w
        if <u8>t.p[i] >= 0x80:
            w[0] = c'%'
            w[1] = digits[<u8>t.p[i] >> 4]
            w[2] = digits[<u8>t.p[i] & 15]
            w += 3
        elif t.p[i] == c'"' or t.p[i] == c'\\':
            w[0] = c'\\'
            w[1] = t.p[i]
            w += 2
        else:
            w[0] = t.p[i]
            w += 1
    if n < t.n:
        w = put_mark(w, b"REQUEST-URI") - 1
    return w

# X-Forwarded-For as it went to the endpoint: received values joined, then the client; the first received one alone if
# the request did not get that far.
cdef inline char *forwarded_for(char *w, const Exchange *x) noexcept nogil:
    cdef const Head *h = &x.req
    cdef u32 i, left = CUT_FIELD
    cdef int first = h.first[heads.N_X_FORWARDED_FOR]
    cdef Span v
    if x.attempts == 0:
        return quoted_field(w, heads.get(h, heads.N_X_FORWARDED_FOR), b"X-FORWARDED-FOR")
    w[0] = c'"'
    w += 1
    if first >= 0:
        for i in range(<u32>first, h.nfields):
            v = heads.value(h, &h.fields[i])
            if h.fields[i].id != heads.N_X_FORWARDED_FOR or v.n == 0:
                continue
            w = escaped(w, v, left)
            if v.n > left:
                return put_mark(w, b"X-FORWARDED-FOR")
            w = fmt.put(w, b", ", 2)
            left -= v.n
    w = fmt.put(w, x.down.peer + x.down.ip_off, x.down.ip_len)
    w[0] = c'"'
    return w + 1

cdef inline Span forwarded_proto(const Settings *cfg, const Exchange *x) noexcept nogil:
    if x.attempts:
        return forward.forwarded_proto(cfg, x)
    return heads.get(&x.req, heads.N_X_FORWARDED_PROTO)

# What X-Cf-RouterError said: the row's text filled in (see fault.h). At most ROUTER_ERROR_MAX bytes.
cdef inline char *router_error(char *w, const Exchange *x, int code) noexcept nogil:
    cdef const fault.Row *row = fault.row(code)
    cdef const char *p = row.what
    if p == NULL:
        return w
    while p[0]:
        if p[0] == c'%' and p[1] == c'A':
            if x.ep != NULL:
                w = fmt.span(w, endpoint.addr_text(x.ep))
            p += 2
        elif p[0] == c'%' and p[1] == c'L':
            w[0] = c'"'
            w = escaped(w + 1, span.make(x.malformed, x.malformed_n), sizeof(x.malformed))
            w[0] = c'"'
            w += 1
            p += 2
        elif p[0] == c'%' and p[1] == c'M':
            w = fmt.dec(w, x.w.shared.cfg.max_response_header_bytes or limits.HEAD_BYTES_MAX)
            p += 2
        else:
            w[0] = p[0]
            w += 1
            p += 1
    return w

# gorouter: only GET queries are redacted.
cdef inline char *request_line(char *p, const Head *h, u8 redact) noexcept nogil:
    p[0] = c'"'
    p = escaped(p + 1, heads.method(h), 64)
    p[0] = c' '
    p = target(p + 1, h, redact if h.method == heads.M_GET else REDACT_NONE)
    p = fmt.put(p, b" HTTP/1.", 8)
    p[0] = <char>(c'0' + h.minor)
    return fmt.put(p + 1, b'" ', 2)

cdef inline char *duration(char *w, bint known, u64 ns) noexcept nogil:
    return fmt.seconds(w, ns) if known else fmt.put(w, b'"-"', 3)

# A column of extra_access_log_fields; away: ns from the first attempt to the end of the answer.
# gorouter: a phase that did not happen took 0, all are "-" if no attempt succeeded.
cdef inline char *extra_field(char *w, const Exchange *x, u8 column, u64 away) noexcept nogil:
    cdef bint worked = x.ep != NULL and (x.flags & X_RESP_HEAD) != 0 and not (x.flags & X_LOCAL)
    cdef u32 failed = x.attempts - (1 if worked else 0)
    if column == L_FAILED_ATTEMPTS:
        return fmt.dec(fmt.text(w, b" failed_attempts:"), failed)
    if column == L_FAILED_ATTEMPTS_TIME:
        return duration(fmt.text(w, b" failed_attempts_time:"), failed != 0, x.lost_ns)
    if column == L_DNS_TIME:
        return duration(fmt.text(w, b" dns_time:"), worked, 0)
    if column == L_DIAL_TIME:
        return duration(fmt.text(w, b" dial_time:"), worked, x.dialed_ns - x.tried_ns if x.dialed_ns else 0)
    if column == L_TLS_TIME:
        return duration(fmt.text(w, b" tls_time:"), worked, 0)
    if column == L_VERSION:
        return quoted(fmt.text(w, b" version:"), cohort.version_name(x))
    if column == L_BACKEND_TIME:
        return duration(fmt.text(w, b" backend_time:"), worked, away - x.lost_ns if away > x.lost_ns else 0)
    return quoted(fmt.text(w, b" local_address:"), span.make(x.local, x.local_n if worked else 0))

# The value of a request header as it went to the endpoint; the trace lines hide what they replaced.
# gorouter: Host is no header to it.
cdef inline Span sent_value(const Exchange *x, const NamedText *t) noexcept nogil:
    cdef const Head *h = &x.req
    cdef Span rest, line
    cdef u32 i
    if span.eq(span.make(t.name, t.name_n), b"host", 4):
        return span.make(NULL, 0)
    if span.eq(span.make(t.name, t.name_n), b"x-vcap-request-id", 17):
        return span.make(x.request_id, fmt.UUID_LEN)
    if span.eq(span.make(t.name, t.name_n), b"x-forwarded-proto", 17):
        return forwarded_proto(&x.w.shared.cfg, x)
    if x.trace != NULL:
        rest = span.make(x.trace.data, x.trace.wpos)
        while rewrite.next_line(&rest, &line):
            if rewrite.is_named(line, t):
                return span.trim(span.make(line.p + t.name_n + 1, line.n - t.name_n - 3))
    for i in range(h.nfields):
        if span.ieq(heads.name(h, &h.fields[i]), t.name, t.name_n):
            return heads.value(h, &h.fields[i])
    return span.make(NULL, 0)

# From the first attempt to the end of the answer.
cdef inline u64 time_away(const Exchange *x) noexcept nogil:
    return x.up_ended_ns - x.up_began_ns if x.up_ended_ns > x.up_began_ns else 0

# The rest: what the router itself took.
# gorouter: 0 when no endpoint was chosen
cdef inline u64 own_time(const Exchange *x, u64 ended_ns) noexcept nogil:
    cdef u64 total = ended_ns - x.began_ns
    cdef u64 away = time_away(x)
    return total - away if x.ep != NULL and total > away else 0

cdef inline void emit(Worker *w, Exchange *x, u64 ended_ns) noexcept nogil:
    cdef Settings *cfg = &w.shared.cfg
    cdef const Head *h = &x.req
    cdef char *p = w.scratch
    cdef Span host = heads.host(h)
    cdef Span v
    cdef u32 i
    cdef char error[ROUTER_ERROR_MAX]
    if not cfg.log_enabled or (x.flags & X_NO_LOG):
        return
    p = escaped(p, host, limits.HOST_MAX)
    p = fmt.put(p, b" - [", 4)
    p = fmt.span(p, daytime.stamp(w, x.wall_ns // 1000000000))
    p = fmt.dec_pad(p, x.wall_ns % 1000000000, 9)
    p = fmt.put(p, b"Z] ", 3)
    p = request_line(p, h, cfg.redact_query)
    p = fmt.dec(p, x.status) if x.status else fmt.put(p, b'"-"', 3)
    p[0] = c' '
    p = fmt.dec(p + 1, x.req_bytes)
    p[0] = c' '
    p = fmt.dec(p + 1, x.resp_bytes)
    p[0] = c' '
    p = quoted_field(p + 1, heads.get(h, heads.N_REFERER), b"REFERER")
    p[0] = c' '
    p = quoted_field(p + 1, heads.get(h, heads.N_USER_AGENT), b"USER-AGENT")
    p[0] = c' '
    p = quoted(p + 1, span.make(x.down.peer, x.down.peer_len if cfg.log_source_ip else 0))
    p[0] = c' '
    p = quoted(p + 1, endpoint.addr_text(x.ep) if x.ep != NULL else span.make(NULL, 0))
    p = fmt.put(p, b" x_forwarded_for:", 17)
    p = forwarded_for(p, x) if cfg.log_forwarded_for else fmt.put(p, b'"-"', 3)
    p = fmt.put(p, b" x_forwarded_proto:", 19)
    p = quoted_field(p, forwarded_proto(cfg, x), b"X-FORWARDED-PROTO")
    p = fmt.put(p, b" vcap_request_id:", 17)
    p = quoted(p, span.make(x.request_id, fmt.UUID_LEN))
    p = fmt.put(p, b" response_time:", 15)
    p = fmt.seconds(p, ended_ns - x.began_ns)
    p = fmt.put(p, b" gorouter_time:", 15)
    p = fmt.seconds(p, own_time(x, ended_ns))
    p = fmt.put(p, b" app_id:", 8)
    p = quoted(p, endpoint.app_id(x.ep) if x.ep != NULL else span.make(NULL, 0))
    p = fmt.put(p, b" app_index:", 11)
    p = quoted(p, endpoint.instance_index(x.ep) if x.ep != NULL else span.make(NULL, 0))
    p = fmt.put(p, b" instance_id:", 13)
    p = quoted(p, endpoint.instance_id(x.ep) if x.ep != NULL else span.make(NULL, 0))
    for i in range(cfg.n_log_fields):
        p = extra_field(p, x, cfg.log_fields[i], time_away(x))
    p = fmt.put(p, b" x_cf_routererror:", 18)
    if x.fault and fault.row(x.fault).what != NULL:
        v = span.make(error, <u32>(router_error(error, x, x.fault) - error))
        p = quoted(p, v)
    elif x.flags & X_SEMICOLON:
        # gorouter: a header of its own making, set when the answer was written already
        p = fmt.text(p, b'"deprecated-semicolon-params"')
    else:
        p = fmt.put(p, b'"-"', 3)
    for i in range(cfg.n_log_headers):
        p[0] = c' '
        p += 1
        if p - w.scratch > limits.LOG_LINE_MAX:
            p = put_mark(p, b"EXTRA-REQUEST-HEADERS") - 1
            break
        p = fmt.put(p, cfg.log_headers[i].text, cfg.log_headers[i].text_n)
        p[0] = c':'
        p = quoted(p + 1, sent_value(x, &cfg.log_headers[i]))
    # gorouter: the agent gets only what belongs to an application
    if cfg.log_envelopes and x.ep != NULL and x.ep.app_len:
        envelope.log_line(w, x, span.make(w.scratch, <u32>(p - w.scratch)), x.wall_ns + ended_ns - x.began_ns)
    p[0] = c'\n'
    p += 1
    if cfg.log_ring:
        push(w, span.make(w.scratch, <u32>(p - w.scratch)))

cdef inline void push(Worker *w, Span line) noexcept nogil:
    cdef u64 one = 1
    if line.n > limits.LOG_RING // 2 or not tap.log_put(&w.log, line.p, line.n):
        tap.inc(&w.counters.access_log_dropped)
        return
    tap.inc(&w.counters.access_log_lines)
    if dp.load32(&w.shared.logger_asleep) and dp.xchg32_ar(&w.shared.logger_asleep, 0):
        csys.write(w.shared.logger_wake, &one, 8)

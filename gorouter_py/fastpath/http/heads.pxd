# L1: one message head, whichever protocol it came by: contiguous bytes plus an index of fields.
#
# A Head owns nothing: base points into a Buf, fields into another, both kept by the caller for as long as the
# Head is used. Offsets are relative to base; base[0:len] is the whole head as text in the form of HTTP/1,
# start line first, the empty line last (an HTTP/2 session writes this form when a HEADERS block is complete).
# For i < nfields - 1: fields[i].name + len < fields[i].value, and field i's whole line is
# [fields[i].name, fields[i + 1].name); the last line ends at len - 2.
# There is one decision about the body (framing, content_length), made once, by the parser.
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64, i32
from gorouter_py.fastpath.base cimport dp, span

cdef extern from "names.h" nogil:
    enum:
        HOP "DP_N_HOP"
        ONCE "DP_N_ONCE"
        FRAMING "DP_N_FRAMING"
        N_OTHER "DP_N_OTHER"
        N_HOST "DP_N_HOST"
        N_CONNECTION "DP_N_CONNECTION"
        N_CONTENT_LENGTH "DP_N_CONTENT_LENGTH"
        N_TRANSFER_ENCODING "DP_N_TRANSFER_ENCODING"
        N_TE "DP_N_TE"
        N_TRAILER "DP_N_TRAILER"
        N_UPGRADE "DP_N_UPGRADE"
        N_KEEP_ALIVE "DP_N_KEEP_ALIVE"
        N_PROXY_CONNECTION "DP_N_PROXY_CONNECTION"
        N_PROXY "DP_N_PROXY"
        N_EXPECT "DP_N_EXPECT"
        N_COOKIE "DP_N_COOKIE"
        N_SET_COOKIE "DP_N_SET_COOKIE"
        N_AUTHORIZATION "DP_N_AUTHORIZATION"
        N_USER_AGENT "DP_N_USER_AGENT"
        N_REFERER "DP_N_REFERER"
        N_DATE "DP_N_DATE"
        N_IDEMPOTENCY_KEY "DP_N_IDEMPOTENCY_KEY"
        N_X_IDEMPOTENCY_KEY "DP_N_X_IDEMPOTENCY_KEY"
        N_X_FORWARDED_FOR "DP_N_X_FORWARDED_FOR"
        N_X_FORWARDED_PROTO "DP_N_X_FORWARDED_PROTO"
        N_X_REQUEST_START "DP_N_X_REQUEST_START"
        N_X_VCAP_REQUEST_ID "DP_N_X_VCAP_REQUEST_ID"
        N_X_CF_APPLICATIONID "DP_N_X_CF_APPLICATIONID"
        N_X_CF_INSTANCEID "DP_N_X_CF_INSTANCEID"
        N_X_CF_INSTANCEINDEX "DP_N_X_CF_INSTANCEINDEX"
        N_X_CF_APP_INSTANCE "DP_N_X_CF_APP_INSTANCE"
        N_X_CF_PROXY_SIGNATURE "DP_N_X_CF_PROXY_SIGNATURE"
        N_X_CF_ROUTERERROR "DP_N_X_CF_ROUTERERROR"
        N_COUNT "DP_N_COUNT"
    ctypedef struct NameRow "dp_name_row":
        const char *text
        u16 len
        u16 flags
    const NameRow names "dp_names"[]

cdef enum Method:
    M_OTHER = 0
    M_GET
    M_HEAD
    M_OPTIONS
    M_TRACE
    M_POST
    M_PUT
    M_DELETE
    M_PATCH
    M_CONNECT

# How the body is delimited (RFC 9112 6.3), as received.
cdef enum Framing:
    BODY_NONE = 0           # no body
    BODY_LENGTH = 1         # content_length bytes
    BODY_CHUNKED = 2        # chunks, then trailers
    BODY_CLOSE = 3          # until the connection closes (responses only)
    BODY_TUNNEL = 4         # after 101: not HTTP any more

cdef enum HeadFlag:
    F_KEEP_ALIVE = 1        # the sender will read or send another message on this connection
    F_EXPECT_100 = 2        # Expect: 100-continue
    F_EXPECT_OTHER = 4      # an expectation nobody here can meet: 417
    F_UPGRADE = 8           # Connection lists upgrade and Upgrade is present
    F_WEBSOCKET = 16        # ... and its value is websocket
    F_TE_TRAILERS = 32      # TE lists trailers
    F_NOMINATES = 64        # Connection names fields besides close, keep-alive, upgrade, te
    F_ABSOLUTE = 128        # target in absolute form
    F_IDEMPOTENT = 256      # method GET HEAD OPTIONS TRACE, or (X-)Idempotency-Key present
    F_HAS_COOKIE = 512
    F_HAS_LENGTH = 1024     # a Content-Length line is there (also on HEAD and 304 answers)
    F_SETS_COOKIE = 2048

cdef struct Field:          # 16 bytes
    u32 name
    u32 value               # without the white space around it
    u32 value_len
    u16 name_len
    u8 id                   # names.h, N_OTHER for the rest
    u8 drop                 # set by flow: this line is not forwarded

cdef struct Head:
    const char *base
    Field *fields
    u32 len
    u32 nfields
    u32 cap                 # room in fields
    u32 flags
    u64 content_length
    u8 framing
    u8 minor                # HTTP/1.minor
    u8 method
    u8 is_response
    u16 status
    u16 method_len          # the method starts at 0
    u32 target              # as received, byte for byte
    u32 target_len
    u32 path                # origin form: target from its first '/', without query; '*' for OPTIONS *
    u32 path_len
    u32 host                # effective authority: the target's in absolute form, else Host's value
    u32 host_len
    u32 reason
    u32 reason_len
    i32 first[40]           # index of the first field with that id, -1 if none; ids above 39 are not indexed

cdef inline Span method(const Head *h) noexcept nogil:
    return span.make(h.base, h.method_len)

cdef inline Span target(const Head *h) noexcept nogil:
    return span.make(h.base + h.target, h.target_len)

cdef inline Span path(const Head *h) noexcept nogil:
    return span.make(h.base + h.path, h.path_len)

cdef inline Span host(const Head *h) noexcept nogil:
    return span.make(h.base + h.host, h.host_len)

cdef inline Span name(const Head *h, const Field *f) noexcept nogil:
    return span.make(h.base + f.name, f.name_len)

cdef inline Span value(const Head *h, const Field *f) noexcept nogil:
    return span.make(h.base + f.value, f.value_len)

# The first line with that known name, NULL if there is none.
cdef inline Field *find(const Head *h, u32 id) noexcept nogil:
    cdef i32 i = h.first[id]
    return &h.fields[i] if i >= 0 else NULL

# Its value; an empty span with p == NULL if there is none.
cdef inline Span get(const Head *h, u32 id) noexcept nogil:
    cdef i32 i = h.first[id]
    return value(h, &h.fields[i]) if i >= 0 else span.make(NULL, 0)

# Where line i ends (just behind its CRLF).
cdef inline u32 line_end(const Head *h, u32 i) noexcept nogil:
    return h.fields[i + 1].name if i + 1 < h.nfields else h.len - 2

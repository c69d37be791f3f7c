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
        N_PROXY_AUTHENTICATE "DP_N_PROXY_AUTHENTICATE"
        N_PROXY_AUTHORIZATION "DP_N_PROXY_AUTHORIZATION"
        N_PROXY "DP_N_PROXY"
        N_HTTP2_SETTINGS "DP_N_HTTP2_SETTINGS"
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
        N_X_CF_PROCESS_INSTANCE "DP_N_X_CF_PROCESS_INSTANCE"
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
    BODY_LENGTH = 1         # content_length bytes, which may be 0
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

# What is wrong with a message; every parser of this layer returns these (-17 to -63) besides PARTIAL.
cdef enum ParseFault:
    P_REQ_LINE = -17            # request line is not METHOD SP TARGET SP VERSION CRLF (HTTP/0.9, extra spaces)
    P_METHOD = -18              # method is not a token, or longer than limits.METHOD_MAX
    P_TARGET = -19              # a form or a character the request target may not have
    P_TARGET_TOO_LONG = -20     # longer than limits.TARGET_MAX: 414
    P_VERSION = -21             # well-formed, but neither HTTP/1.1 nor HTTP/1.0: 505
    P_FIELD_NAME = -22          # empty name, a character outside token, or white space before the colon
    P_FIELD_VALUE = -23         # NUL or another control in a field value
    P_BARE_LF = -24             # LF without CR before it
    P_BARE_CR = -25             # CR without LF behind it
    P_OBS_FOLD = -26            # a field line that starts with white space
    P_HOST_MISSING = -27        # HTTP/1.1 request without Host
    P_HOST_DUPLICATE = -28      # more than one Host line
    P_HOST_INVALID = -29        # Host or authority is not uri-host [":" port]
    P_LENGTH_INVALID = -30      # Content-Length empty, signed, listed, repeated or over 2^63 - 1
    P_LENGTH_AND_CODING = -31   # Content-Length and Transfer-Encoding together
    P_CODING_UNKNOWN = -32      # Transfer-Encoding other than one single chunked
    P_CODING_OLD_VERSION = -33  # Transfer-Encoding in HTTP/1.0
    P_TOO_MANY_FIELDS = -34     # more field lines than Head.cap: 431 once cap is limits.FIELDS_MAX
    P_RESP_LINE = -35           # status line is not HTTP/1.x SP 3DIGIT [SP reason] CRLF
    P_CHUNK_SIZE = -36          # chunk size missing, not hex, or over 2^63 - 1
    P_CHUNK_EXT = -37           # bad chunk extension, or more of them than data justifies
    P_CHUNK_END = -38           # chunk line or chunk data not ended by CRLF
    P_TRAILER = -39             # trailer section with bad syntax or a name that may not stand there
    P_TRAILER_TOO_LONG = -40    # longer than limits.TRAILER_BYTES_MAX
    P_CONNECTION_TOO_LONG = -41 # Connection fields of more than limits.CONNECTION_BYTES_MAX octets together
    P_LAST = -41

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
    u32 path                # origin form: without query, always from a '/'; '*' for OPTIONS *; empty for CONNECT
    u32 path_len
    u32 host                # effective authority: the target's in absolute and CONNECT form, else Host's value
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

# The row in names that can match a name of n bytes, told by its length and one or two characters.
cdef inline u32 _candidate(const char *p, u32 n) noexcept nogil:
    cdef u8 c = dp.lower(p[0])
    if n == 2:
        return N_TE
    elif n == 4:
        return N_HOST if c == c'h' else N_DATE
    elif n == 5:
        return N_PROXY
    elif n == 6:
        return N_COOKIE if c == c'c' else N_EXPECT
    elif n == 7:
        return N_REFERER if c == c'r' else (N_UPGRADE if c == c'u' else N_TRAILER)
    elif n == 10:
        if c == c'c':
            return N_CONNECTION
        if c == c'u':
            return N_USER_AGENT
        return N_SET_COOKIE if c == c's' else N_KEEP_ALIVE
    elif n == 13:
        return N_AUTHORIZATION
    elif n == 14:
        return N_CONTENT_LENGTH if c == c'c' else N_HTTP2_SETTINGS
    elif n == 15:
        if c == c'i':
            return N_IDEMPOTENCY_KEY
        c = dp.lower(p[2])
        return N_X_FORWARDED_FOR if c == c'f' else (N_X_REQUEST_START if c == c'r' else N_X_CF_INSTANCEID)
    elif n == 16:
        return N_PROXY_CONNECTION if c == c'p' else N_X_CF_ROUTERERROR
    elif n == 17:
        if c == c't':
            return N_TRANSFER_ENCODING
        c = dp.lower(p[2])
        if c == c'f':
            return N_X_FORWARDED_PROTO
        if c == c'v':
            return N_X_VCAP_REQUEST_ID
        return N_X_IDEMPOTENCY_KEY if c == c'i' else N_X_CF_APP_INSTANCE
    elif n == 18:
        if c == c'p':
            return N_PROXY_AUTHENTICATE
        return N_X_CF_APPLICATIONID if dp.lower(p[5]) == c'a' else N_X_CF_INSTANCEINDEX
    elif n == 19:
        return N_PROXY_AUTHORIZATION
    elif n == 20:
        return N_X_CF_PROXY_SIGNATURE
    elif n == 21:
        return N_X_CF_PROCESS_INSTANCE
    return N_OTHER

# The id of a field name in any case, N_OTHER for one that is not in names.h.
cdef inline u32 name_id(const char *p, u32 n) noexcept nogil:
    cdef u32 id
    if n == 0:
        return N_OTHER
    id = _candidate(p, n)
    if id != N_OTHER and names[id].len == n and dp.ieq(p, names[id].text, n):
        return id
    return N_OTHER

# L2: the seam. A Stream is one request or one answer in transit on some connection, whatever the protocol.
#
# exchange and tunnel talk to two Streams (down: the client's side, up: the endpoint's) and never to a descriptor.
# A connection provides ops; the stream's owner (an Exchange) provides events. Rules:
# - ops never call events. What they set off (reading on, writing out, failing) happens when the worker services the
#   connection later in the same turn. So an owner is never re-entered.
# - send_* take all they are given; what the kernel does not take is queued, and the queue's length is returned: an
#   owner that sees more than limits.OUT_HIGH stops the other stream with want_body(False) until on_drain.
# - on_fail is the last event of a stream. After done() the stream belongs to its connection again.
# - Views passed to events live until the event returns, but for a request's Head, which lives until done().
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64, i64
from gorouter_py.fastpath.http.heads cimport Head
from gorouter_py.fastpath.flow.mapping cimport Mapping

# A field whose value is replaced, by index.
cdef struct Edit:
    u32 field
    Span value

cdef enum:
    EDITS_MAX = 4

# A head on its way out: a received head with edits, or (src NULL) one that the router makes.
cdef struct HeadOut:
    Head *src               # fields with .drop set are left out
    Span extra              # whole lines to append
    u64 content_length
    u16 status              # responses
    u8 is_response
    u8 framing              # heads.BODY_*: decides which framing line is written
    u8 keep_length          # the received Content-Length line stays (HEAD, 304)
    u8 zero_length          # write "Content-Length: 0" for BODY_NONE
    u8 close                # this connection ends with this message
    u8 upgrade              # write Connection: Upgrade and the Upgrade value
    u8 n_edits
    Span upgrade_value
    Edit edits[EDITS_MAX]

cdef struct Stream:
    const StreamOps *ops
    const StreamEvents *events
    void *owner             # NULL: nobody listens
    const char *peer        # "ip:port"
    u16 peer_len
    u16 ip_off              # the address without port and brackets is peer[ip_off:][:ip_len]
    u16 ip_len
    u8 secure               # TLS between the peer and this process
    u8 health_only          # accepted on the status port
    u8 ready                # up: connected; else on_ready will tell
    u8 reused               # up: a kept connection
    Span malformed          # up: what of the status line is wrong; a view, until on_fail returns
    u8 trusted              # down, with a mapping: what the peer says of its own client is believed
    Mapping *mapping        # down: of the listener it came by, with a reference; NULL for an ordinary one

cdef struct StreamOps:
    i64 (*send_head)(Stream *s, HeadOut *h) noexcept nogil
    i64 (*send_body)(Stream *s, const char *p, u64 n) noexcept nogil
    i64 (*send_end)(Stream *s, Span trailers) noexcept nogil
    void (*want_body)(Stream *s, bint on) noexcept nogil
    void (*tunnel)(Stream *s) noexcept nogil        # from here on bytes, not messages
    u32 (*local_addr)(Stream *s, char *w) noexcept nogil   # writes our "ip:port", at most 55 bytes; its length
    void (*done)(Stream *s, bint clean) noexcept nogil   # clean: the connection may carry another message

cdef struct StreamEvents:
    void (*on_ready)(void *owner, Stream *s) noexcept nogil      # up: connected, a body may follow the head
    void (*on_head)(void *owner, Stream *s, Head *h) noexcept nogil   # up: interim or final response head
    void (*on_body)(void *owner, Stream *s, const char *p, u64 n) noexcept nogil
    void (*on_end)(void *owner, Stream *s, Span trailers) noexcept nogil
    void (*on_drain)(void *owner, Stream *s) noexcept nogil      # the queue is empty again
    void (*on_fail)(void *owner, Stream *s, int fault) noexcept nogil

# L2: what follows a 101: bytes both ways between two Streams, each side's end passed on by itself (half-close).
#
# The Exchange stays the owner, so the log line shows the whole life of the tunnel; bytes are not counted as body.
# gorouter: status 101, 0 bytes, written when the connection ends.
from gorouter_py.fastpath.base.types cimport Span, u64, i64
from gorouter_py.fastpath.base cimport limits, span
from gorouter_py.fastpath.flow cimport exchange
from gorouter_py.fastpath.flow.stream cimport Stream
from gorouter_py.fastpath.flow.state cimport *

cdef inline void on_body(void *owner, Stream *s, const char *p, u64 n) noexcept nogil:
    cdef Exchange *x = <Exchange *>owner
    cdef Stream *to = x.up if s == x.down else x.down
    if to.ops.send_body(to, p, n) > limits.OUT_HIGH:
        s.ops.want_body(s, False)
        x.flags |= X_DOWN_PAUSED if s == x.down else X_UP_PAUSED

cdef inline void on_end(void *owner, Stream *s, Span trailers) noexcept nogil:
    cdef Exchange *x = <Exchange *>owner
    cdef Stream *to = x.up if s == x.down else x.down
    x.flags |= X_REQ_DONE if s == x.down else X_RESP_DONE
    to.ops.send_end(to, span.make(NULL, 0))
    if (x.flags & (X_REQ_DONE | X_RESP_DONE)) == (X_REQ_DONE | X_RESP_DONE):
        exchange.end(x, True)

cdef inline void on_fail(void *owner, Stream *s, int code) noexcept nogil:
    exchange.end(<Exchange *>owner, False)

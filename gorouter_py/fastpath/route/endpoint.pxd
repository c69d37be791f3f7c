# L1: one app instance as the workers see it.
#
# An Endpoint belongs to exactly one Pool and holds a reference to it, so whoever holds an endpoint may read
# its pool's constant part (key, context). It outlives every array that lists it: refs counts arrays, exchanges, idle and busy
# upstream connections. Constant after endpoint_new: everything but the four atomics at the top.
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64
from gorouter_py.fastpath.base cimport dp, span

cdef struct Endpoint

# The instances of a route; immutable once published, replaced as a whole, reclaimed by route/epoch.
cdef struct EndpointArray:
    u32 n
    Endpoint *items[1]

# One route. Allocated on its own cache lines: cursor is written by every request.
cdef struct Pool:
    u32 cursor              # atomic: round robin of all workers
    u32 refs                # atomic: the table, every endpoint, a series
    EndpointArray *array    # atomic pointer; NULL = no instance
    u32 series              # atomic: number of this route's counters in net/tap, 0 = none yet
    u16 key_len             # key = host + context path, lower case, as /routes shows it
    u16 host_len
    u16 context_len         # context path in its original case, for cookies; "/" if none
    u8 balance              # reserved for the balancer's kind: 0 round robin
    u8 spare
    char key[1]             # key, then the context path

cdef struct Endpoint:
    u32 refs                # atomic
    u32 in_flight           # atomic: attempts that have no response head yet
    u32 idle                # atomic: idle upstream connections, all workers
    u32 dead                # atomic: unregistered or replaced; its idle connections close
    u64 failed_at_ms        # atomic, monotonic; 0 = healthy
    Pool *pool
    u64 id_hash             # hash of the instance id (sticky sessions)
    u64 serial              # unique for the life of the process; what control calls this endpoint
    u8 addr[28]             # sockaddr_in or sockaddr_in6
    u8 addr_len
    u8 index_len
    u8 app_len
    u8 id_len
    u16 text_len            # "ip:port" at text[0]
    u16 header_off          # ready-made "X-Cf-Applicationid: ..." lines at text[header_off:][:header_len]
    u16 header_len
    u16 app_off
    u16 id_off              # private_instance_id; id_len 0 when the registration had none
    u16 index_off
    char text[1]

cdef inline Span addr_text(const Endpoint *e) noexcept nogil:
    return span.make(e.text, e.text_len)

cdef inline Span header_block(const Endpoint *e) noexcept nogil:
    return span.make(e.text + e.header_off, e.header_len)

cdef inline Span app_id(const Endpoint *e) noexcept nogil:
    return span.make(e.text + e.app_off, e.app_len)

cdef inline Span instance_id(const Endpoint *e) noexcept nogil:
    return span.make(e.text + e.id_off, e.id_len)

cdef inline Span instance_index(const Endpoint *e) noexcept nogil:
    return span.make(e.text + e.index_off, e.index_len)

cdef inline Span pool_key(const Pool *p) noexcept nogil:
    return span.make(p.key, p.key_len)

cdef inline Span pool_context(const Pool *p) noexcept nogil:
    return span.make(p.key + p.key_len, p.context_len)

cdef inline void ref(Endpoint *e) noexcept nogil:
    dp.add32(&e.refs, 1)

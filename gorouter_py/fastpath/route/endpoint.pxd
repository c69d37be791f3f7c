# L1: one app instance as the workers see it, and the pool of a route that it belongs to.
#
# An Endpoint belongs to exactly one Pool and holds a reference to it, so whoever holds an endpoint may read
# its pool's constant part (key, context). It outlives every array that lists it: refs counts the table (one, for as
# long as a reader may find it in an array), exchanges, idle and busy upstream connections.
# Constant after endpoint_new: everything but pool (set once, before publication) and the atomics at the top.
# endpoint_new and pool_new: the writer's thread. ref, unref, pool_ref, pool_unref: any thread that holds a reference.
from libc.string cimport memcpy
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64
from gorouter_py.fastpath.base cimport dp, fmt, limits, span
from gorouter_py.fastpath.route cimport cells

# Faults of the writer's side; they never meet a request, so flow/fault has no rows for them.
cdef enum:
    NO_MEMORY = -200
    KEY_EMPTY = -201        # no host in the uri
    KEY_LONG = -202         # over limits.HOST_MAX or limits.KEY_MAX
    KEY_BYTES = -203        # a byte that cannot stand in a request target
    KEY_DEEP = -204         # over limits.PATH_SEGMENTS_MAX
    VALUE_BYTES = -205      # a control character in a value that goes into a header
    VALUE_LONG = -206       # over 255 bytes
    NOT_LISTED = -207       # the endpoint is not in the table

cdef enum:
    NO_VERSION = 255

cdef struct Endpoint

# The instances of a route; immutable once published, replaced as a whole, reclaimed by route/epoch.
# Behind the items stand n u64, the id_hash of each, so that a search by id touches no endpoint; and behind those, where
# the route has a rollout, the address of its split.Split over these very endpoints.
cdef struct EndpointArray:
    u32 n
    u32 is_split
    Endpoint *items[1]

# How a pool chooses, where the registration said so. Few differ, so pools share them and hold a number (Table.options).
cdef struct PoolOptions:
    double factor           # hash: an endpoint with more than factor times the mean in flight is passed over; 0 = never
    u8 balance              # a Balance
    u8 header_n
    char header[64]         # hash: name of the request's header, lower case

cdef enum Balance:
    ROUND_ROBIN = 0
    LEAST_CONNECTION = 1
    HASH = 2

# One route, and the node of the table under its key. Allocated on its own cache lines: cursor is written by
# every request. A host that has routes with a context path only is a Pool with array NULL, never given to anybody.
cdef struct Pool:
    u32 cursor              # atomic: round robin of all workers
    u32 refs                # atomic: the table, every endpoint, a series
    EndpointArray *array    # atomic pointer; NULL = no such route, n == 0 = a route without an instance
    u32 series              # atomic: number of this route's counters in net/tap, 0 = none yet
    u32 below               # writer only: nodes with a context path under this host
    u16 key_len             # key = host + context path, lower case, as /routes shows it
    u16 host_len
    u16 context_len         # context path in its original case, for cookies; "/" if none
    u8 depth                # atomic: at least the segments of the deepest context path under this host
    u16 options             # atomic: index of the table's options; 0 = as configured for all
    char key[1]             # key, then the context path

cdef struct Endpoint:
    u32 refs                # atomic
    u32 in_flight           # atomic: attempts that have no response head yet
    u32 idle                # atomic: idle upstream connections, all workers
    u32 born_s              # monotonic, of its registration
    u64 failed_at_ms        # atomic, monotonic; 0 = healthy
    Pool *pool              # NULL until it is in a table
    u64 id_hash             # low half: hash of the instance id (0 = none); high half: of "ip:port"
    u64 serial              # unique for the life of the table; what control calls this endpoint
    u8 addr[28]             # sockaddr_in or sockaddr_in6
    u8 addr_len
    u8 index_len
    u8 app_len
    u8 id_len
    u16 text_len            # "ip:port" at text[0]
    u16 header_off          # ready-made "X-Cf-Applicationid: ..." lines at text[header_off:][:header_len]
    u16 header_len
    u16 app_off             # app, id and index are views into those lines
    u16 id_off              # private_instance_id; id_len 0 when the registration had none
    u16 index_off
    u16 process_off         # tags.process_id, behind the header lines
    u16 tags_len            # encoded tags, behind that
    u8 process_len
    u8 local                # in this router's zone
    u8 dead                 # atomic: unregistered or replaced; its idle connections close
    u8 version              # atomic: index of a rollout's version; NO_VERSION = of none
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

cdef inline Span process_id(const Endpoint *e) noexcept nogil:
    return span.make(e.text + e.process_off, e.process_len)

# The instance id, or what stands for it.
cdef inline Span shown_id(const Endpoint *e) noexcept nogil:
    return instance_id(e) if e.id_len else addr_text(e)

# All tags as fields of an envelope.
cdef inline Span tags(const Endpoint *e) noexcept nogil:
    return span.make(e.text + e.process_off + e.process_len, e.tags_len)

cdef inline Span pool_key(const Pool *p) noexcept nogil:
    return span.make(p.key, p.key_len)

cdef inline Span pool_context(const Pool *p) noexcept nogil:
    return span.make(p.key + p.key_len, p.context_len)

# -- pool --------------------------------------------------------------------------------------------------------------

cdef inline size_t pool_size(u32 key_n, u32 context_n) noexcept nogil:
    cdef Pool p
    return <size_t>(<char *>p.key - <char *>&p) + key_n + context_n

# One reference, the caller's; context empty stands for "/". NULL when memory is out.
cdef inline Pool *pool_new(cells.Cells *c, Span key, u32 host_n, Span context) noexcept nogil:
    cdef Pool *p
    if context.n == 0:
        context = span.make(b"/", 1)
    p = <Pool *>cells.alloc(c, pool_size(key.n, context.n))
    if p == NULL:
        return NULL
    p.cursor = 0
    p.refs = 1
    p.array = NULL
    p.series = 0
    p.below = 0
    p.key_len = <u16>key.n
    p.host_len = <u16>host_n
    p.context_len = <u16>context.n
    p.depth = 0
    p.options = 0
    memcpy(p.key, key.p, key.n)
    memcpy(p.key + key.n, context.p, context.n)
    dp.live(dp.LIVE_POOL, 1)
    return p

cdef inline void pool_ref(Pool *p) noexcept nogil:
    dp.add32(&p.refs, 1)

cdef inline void pool_unref(Pool *p) noexcept nogil:
    if dp.sub32_ar(&p.refs, 1) == 1:
        dp.check(p.array == NULL)
        dp.live(dp.LIVE_POOL, -1)
        cells.release(p, pool_size(p.key_len, p.context_len))

# -- endpoint ----------------------------------------------------------------------------------------------------------

cdef inline void ref(Endpoint *e) noexcept nogil:
    dp.add32(&e.refs, 1)

cdef inline size_t endpoint_size(u32 text_n) noexcept nogil:
    cdef Endpoint e
    return <size_t>(<char *>e.text - <char *>&e) + text_n

# Drops one reference; the last one frees the endpoint and lets its pool go.
cdef inline void unref(Endpoint *e) noexcept nogil:
    cdef Pool *p
    if dp.sub32_ar(&e.refs, 1) == 1:
        p = e.pool
        dp.live(dp.LIVE_ENDPOINT, -1)
        cells.release(e, endpoint_size(e.process_off + e.process_len + e.tags_len))
        if p != NULL:
            pool_unref(p)

cdef inline int check_value(Span s) noexcept nogil:
    if s.n > 255:
        return VALUE_LONG
    if s.n and dp.scan_value(s.p, s.p + s.n) != s.p + s.n:
        return VALUE_BYTES
    return 0

# What a search by instance id or address compares first; never 0.
cdef inline u32 id_tag(Span s) noexcept nogil:
    return <u32>dp.hash64(s.p, s.n, 0) | 1

# name + value + CRLF; notes where the value went.
cdef inline char *put_line(char *w, const Endpoint *e, const char *name, u32 name_n, Span value, u16 *off) noexcept nogil:
    w = fmt.put(w, name, name_n)
    off[0] = <u16>(w - e.text)
    w = fmt.span(w, value)
    return fmt.put(w, b"\r\n", 2)

# An endpoint with one reference, the caller's, in *out; 0 or a fault (then *out is NULL).
# addr: the socket address; text: the same as "ip:port"; app, id, index, process: empty = not known; tags: for envelopes,
# encoded. All are copied.
cdef inline int endpoint_new(cells.Cells *c, Endpoint **out, const u8 *addr, u8 addr_len, Span text, Span app,
                             Span id, Span index, Span process, Span tags) noexcept nogil:
    cdef Endpoint *e
    cdef Span shown = id if id.n else text
    cdef u32 header_n = 17 + shown.n + 2
    cdef u16 unused = 0
    cdef int rc
    cdef char *w
    out[0] = NULL
    rc = check_value(text)
    if rc == 0:
        rc = check_value(app)
    if rc == 0:
        rc = check_value(id)
    if rc == 0:
        rc = check_value(index)
    if rc == 0:
        rc = check_value(process)
    if rc == 0 and (addr_len > 28 or text.n == 0 or tags.n > limits.TAGS_MAX):
        rc = VALUE_LONG
    if rc < 0:
        return rc
    if app.n:
        header_n += 20 + app.n + 2
    if index.n:
        header_n += 20 + index.n + 2
    e = <Endpoint *>cells.alloc(c, endpoint_size(text.n + header_n + process.n + tags.n))
    if e == NULL:
        return NO_MEMORY
    e.refs = 1
    e.in_flight = 0
    e.idle = 0
    e.dead = 0
    e.failed_at_ms = 0
    e.pool = NULL
    e.id_hash = (<u64>id_tag(text) << 32) | (id_tag(id) if id.n else 0)
    c.serial += 1
    e.serial = c.serial
    memcpy(e.addr, addr, addr_len)
    e.addr_len = addr_len
    e.app_len = <u8>app.n
    e.id_len = <u8>id.n
    e.index_len = <u8>index.n
    e.app_off = 0
    e.index_off = 0
    e.text_len = <u16>text.n
    e.header_off = <u16>text.n
    e.header_len = <u16>header_n
    w = fmt.span(e.text, text)
    if app.n:
        w = put_line(w, e, b"X-Cf-Applicationid: ", 20, app, &e.app_off)
    # gorouter: an instance without an id of its own is called by its address
    w = put_line(w, e, b"X-Cf-Instanceid: ", 17, shown, &e.id_off)
    if index.n:
        w = put_line(w, e, b"X-Cf-Instanceindex: ", 20, index, &e.index_off)
    dp.check(w == e.text + text.n + header_n)
    e.process_off = <u16>(w - e.text)
    e.process_len = <u8>process.n
    e.local = 0
    e.tags_len = <u16>tags.n
    fmt.span(fmt.span(w, process), tags)
    e.version = NO_VERSION
    e.born_s = 0
    dp.live(dp.LIVE_ENDPOINT, 1)
    out[0] = e
    return 0

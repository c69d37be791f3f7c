# L1: the instance that a client is bound to. Reading and writing the cookies is flow's work.
#
# A reader within a turn of its epoch; the endpoint comes with a reference.
from libc.string cimport memcmp
from gorouter_py.fastpath.base.types cimport Span, u32, u64
from gorouter_py.fastpath.base cimport dp
from gorouter_py.fastpath.route cimport endpoint
from gorouter_py.fastpath.route.endpoint cimport Endpoint, EndpointArray, Pool

cdef inline bint same(Span a, Span b) noexcept nogil:
    return a.n == b.n and memcmp(a.p, b.p, a.n) == 0

# The endpoint whose private_instance_id or "ip:port" is id; NULL if the pool has none such.
# gorouter: one index holds both; of two instances with one id the later registration counts.
cdef inline Endpoint *find_instance(Pool *p, Span id) noexcept nogil:
    return find_in(<EndpointArray *>dp.loadp_acq(<void **>&p.array), id)

cdef inline Endpoint *find_in(EndpointArray *a, Span id) noexcept nogil:
    cdef Endpoint *e
    cdef u64 *ids
    cdef u32 tag
    cdef u32 i
    if a == NULL or id.n == 0:
        return NULL
    ids = <u64 *>&a.items[a.n]      # as endpoint.EndpointArray says
    tag = endpoint.id_tag(id)
    i = a.n
    while i:
        i -= 1
        if <u32>ids[i] == tag or <u32>(ids[i] >> 32) == tag:
            e = a.items[i]
            if same(endpoint.instance_id(e), id) or same(endpoint.addr_text(e), id):
                endpoint.ref(e)
                return e
    return NULL

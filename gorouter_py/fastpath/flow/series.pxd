# L2: counters and latencies per route. A route gets a number at its first request; the rest of the structure is per
# worker and made on demand, so routes without traffic cost nothing. Beyond limits.SERIES_MAX all share number 0.
from libc.stdlib cimport calloc
from gorouter_py.fastpath.base.types cimport u32, u64
from gorouter_py.fastpath.base cimport dp, limits
from gorouter_py.fastpath.net cimport tap
from gorouter_py.fastpath.net.tap cimport Series
from gorouter_py.fastpath.route cimport endpoint
from gorouter_py.fastpath.route.endpoint cimport Pool
from gorouter_py.fastpath.flow.state cimport Shared, Worker

# The route's number; several workers may meet a new route at once, one number wins and the others stay unused.
cdef inline u32 number(Shared *g, Pool *p) noexcept nogil:
    cdef u32 n = dp.load32(&p.series)
    if n:
        return n
    if dp.load32(&g.series_next) >= limits.SERIES_MAX - 1:
        return 0
    n = dp.add32(&g.series_next, 1) + 1
    if n >= limits.SERIES_MAX:
        return 0
    if not dp.cas32(&p.series, 0, n):
        return dp.load32(&p.series)
    endpoint.pool_ref(p)
    dp.storep_rel(<void **>&g.series_owner[n], p)
    return n

cdef inline void observe(Worker *w, Pool *p, u32 status, u64 ns) noexcept nogil:
    cdef u32 n = number(w.shared, p)
    cdef Series *s = w.series[n]
    if s == NULL:
        s = <Series *>calloc(1, sizeof(Series))
        if s == NULL:
            return
        dp.storep_rel(<void **>&w.series[n], s)
    tap.observe(s, status, ns)

# L2: what a listener of the port map stands for: one app's host, and the tag its cookies get.
#
# Made by control, never changed, shared by the listeners of all workers and the connections they accepted; freed with
# the last reference. A changed entry is a new Mapping that takes the old one's listeners over. What belongs to one public port (a
# certificate, one day) hangs here.
from libc.stdlib cimport free
from gorouter_py.fastpath.base.types cimport Span, u16, u32
from gorouter_py.fastpath.base cimport dp, limits, span
from gorouter_py.fastpath.http.tagged cimport CookieName

cdef struct Mapping:
    u32 refs                    # atomic
    u32 closed                  # atomic: removed or replaced; its connections end with the request in progress
    u32 listening               # atomic: open listeners of workers
    u16 port                    # that its listeners are bound to
    u32 host_n
    char host[limits.HOST_MAX]  # lower case, without a port
    char tag[16]                # http/tagged.TAG_LEN bytes
    u32 n_cookies
    CookieName cookies[limits.COOKIE_NAMES_MAX + 1]     # __VCAP_ID__ is the first

cdef inline Span host(const Mapping *m) noexcept nogil:
    return span.make(m.host, m.host_n)

cdef inline void ref(Mapping *m) noexcept nogil:
    dp.add32(&m.refs, 1)

# Also for none.
cdef inline void unref(Mapping *m) noexcept nogil:
    if m == NULL or dp.sub32_ar(&m.refs, 1) != 1:
        return
    dp.live(dp.LIVE_MAPPING, -1)
    free(m)

# Shall connections that came by it end? Not those of an ordinary listener.
cdef inline bint is_closed(Mapping *m) noexcept nogil:
    return m != NULL and dp.load32(&m.closed) != 0

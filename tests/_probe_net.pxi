# The timer wheel and the idle pool for tests: plain calls, no sockets and no threads.
from libc.stdlib cimport calloc as net_calloc, free as net_free
from libc.stdint cimport uint64_t, uint32_t
from gorouter_py.fastpath.net cimport timers as net_timers, pool as net_pool

cdef struct NetFired:
    net_timers.Timer *base
    uint32_t n
    uint32_t ids[4096]


cdef void net_fire(void *ctx, net_timers.Timer *t) noexcept nogil:
    cdef NetFired *f = <NetFired *>ctx
    if f.n < 4096:
        f.ids[f.n] = <uint32_t>(t - f.base)
        f.n += 1


cdef class TimerWheel:
    """`count` timers on a wheel that starts at a tick."""
    cdef net_timers.Wheel w
    cdef net_timers.Timer *all
    cdef NetFired fired

    def __cinit__(self, uint32_t count, uint64_t start):
        net_timers.init(&self.w, start)
        self.all = <net_timers.Timer *>net_calloc(count, sizeof(net_timers.Timer))
        self.fired.base = self.all

    def __dealloc__(self):
        net_free(self.all)

    def set_ms(self, uint32_t timer, uint64_t ms):
        """Arms (0: disarms) and returns the tick it will fire at."""
        net_timers.set_ms(&self.w, &self.all[timer], ms)
        return self.all[timer].deadline

    def cancel(self, uint32_t timer):
        net_timers.cancel(&self.w, &self.all[timer])

    def advance(self, uint64_t tick):
        """Numbers of the timers fired on the way to a tick, in their order."""
        self.fired.n = 0
        self.w.clock = tick
        net_timers.advance(&self.w, tick, net_fire, &self.fired)
        return [self.fired.ids[i] for i in range(self.fired.n)]

    def sleep_ms(self, int most):
        return net_timers.sleep_ms(&self.w, most)

    @property
    def linked(self):
        return self.w.linked


cdef class IdleConnections:
    """The idle pool over `count` connections; keys are small numbers."""
    cdef net_pool.IdlePool p
    cdef net_pool.Idle *all

    def __cinit__(self, uint32_t count):
        self.all = <net_pool.Idle *>net_calloc(count, sizeof(net_pool.Idle))
        if net_pool.init(&self.p) < 0:
            raise MemoryError

    def __dealloc__(self):
        net_pool.destroy(&self.p)
        net_free(self.all)

    def put(self, uint32_t connection, uint64_t key, uint32_t most):
        return net_pool.put(&self.p, &self.all[connection], <void *>key, most)

    def take(self, uint64_t key):
        cdef net_pool.Idle *i = net_pool.take(&self.p, <void *>key)
        return None if i == NULL else i - self.all

    def peek(self, uint64_t key):
        cdef net_pool.Idle *i = net_pool.peek(&self.p, <void *>key)
        return None if i == NULL else i - self.all

    def remove(self, uint32_t connection):
        net_pool.remove(&self.p, &self.all[connection])

    @property
    def total(self):
        return self.p.total

# L1: a hierarchical timer wheel, one per worker, in ticks of limits.TICK_MS.
#
# Re-arming to a later time only stores the new deadline; the wheel looks again when the old slot comes up.
# So a keep-alive connection that moves its time-out at every request costs a store, not a list operation.
# Invariant: a linked timer sits in a slot whose time is <= its deadline. deadline 0 = disarmed (it may stay
# linked until its slot comes up). A timer must be cancelled before its memory goes away.
from gorouter_py.fastpath.base.types cimport u8, u32, u64
from gorouter_py.fastpath.base cimport dp, limits

cdef struct Timer:
    Timer *next
    Timer **prev            # NULL when not linked
    u64 deadline            # tick
    u64 slot_at             # tick at which the slot it sits in comes up
    u8 kind                 # what the owner is; see flow

cdef struct Wheel:
    u64 now                 # tick up to which everything has fired
    u64 clock               # tick of this turn; ahead of now until advance()
    u32 linked
    u64 bits[4]             # level-0 slots that may hold timers
    Timer *l0[256]
    Timer *l1[256]
    Timer *l2[64]

ctypedef void (*fire_fn)(void *ctx, Timer *t) noexcept nogil

cdef inline u64 tick_of(u64 ns) noexcept nogil:
    return ns // (<u64>limits.TICK_MS * 1000000)

cdef inline void init(Wheel *w, u64 now_tick) noexcept nogil:
    cdef u32 i
    w.now = now_tick
    w.clock = now_tick
    w.linked = 0
    for i in range(4):
        w.bits[i] = 0
    for i in range(256):
        w.l0[i] = NULL
        w.l1[i] = NULL
    for i in range(64):
        w.l2[i] = NULL

cdef inline void unlink(Wheel *w, Timer *t) noexcept nogil:
    if t.prev != NULL:
        t.prev[0] = t.next
        if t.next != NULL:
            t.next.prev = t.prev
        t.prev = NULL
        t.next = NULL
        w.linked -= 1

cdef inline void cancel(Wheel *w, Timer *t) noexcept nogil:
    unlink(w, t)
    t.deadline = 0

cdef inline void push(Wheel *w, Timer *t, Timer **slot, u64 at) noexcept nogil:
    t.slot_at = at
    t.next = slot[0]
    t.prev = slot
    if t.next != NULL:
        t.next.prev = &t.next
    slot[0] = t
    w.linked += 1

cdef inline void link(Wheel *w, Timer *t, u64 at) noexcept nogil:
    cdef u64 delta
    cdef Timer **slot
    if at <= w.now:
        at = w.now + 1
    delta = at - w.now
    if delta >= 64 * 65536:
        at = w.now + 64 * 65536 - 1
        delta = at - w.now
    if delta < 256:
        slot = &w.l0[at & 255]
        w.bits[(at & 255) >> 6] |= <u64>1 << (at & 63)
    elif delta < 65536:
        at &= ~<u64>255
        slot = &w.l1[(at >> 8) & 255]
    else:
        at &= ~<u64>65535
        slot = &w.l2[(at >> 16) & 63]
    push(w, t, slot, at)

# Arms t to fire ms from this turn's clock; 0 disarms.
cdef inline void set_ms(Wheel *w, Timer *t, u64 ms) noexcept nogil:
    if ms == 0:
        t.deadline = 0
        return
    t.deadline = w.clock + (ms + limits.TICK_MS - 1) // limits.TICK_MS + 1
    if t.prev != NULL:
        if t.slot_at <= t.deadline:
            return
        unlink(w, t)
    link(w, t, t.deadline)

# Moves the timers of a slot of level 1 or 2 down when it comes up: w.now is its first tick, which advance() has yet to
# fire. So what is due now may go to the present slot of level 0, and whatever is due later in this slot is less than
# a slot away: nothing comes back to where it is taken from.
cdef inline void cascade(Wheel *w, Timer **slot) noexcept nogil:
    cdef Timer *t
    while slot[0] != NULL:
        t = slot[0]
        unlink(w, t)
        if t.deadline == 0:
            continue
        if t.deadline <= w.now:
            push(w, t, &w.l0[w.now & 255], w.now)
        else:
            link(w, t, t.deadline)

# Fires everything due up to now_tick. fire may arm and cancel any timer.
cdef inline void advance(Wheel *w, u64 now_tick, fire_fn fire, void *ctx) noexcept nogil:
    cdef Timer *t
    cdef u32 i
    while w.now < now_tick:
        if w.linked == 0:
            w.now = now_tick
            return
        w.now += 1
        if (w.now & 255) == 0:
            if (w.now & 65535) == 0:
                cascade(w, &w.l2[(w.now >> 16) & 63])
            cascade(w, &w.l1[(w.now >> 8) & 255])
        i = w.now & 255
        if w.l0[i] == NULL:
            w.bits[i >> 6] &= ~(<u64>1 << (i & 63))
            continue
        while w.l0[i] != NULL:
            t = w.l0[i]
            unlink(w, t)
            if t.deadline == 0:
                continue
            if t.deadline > w.now:
                link(w, t, t.deadline)
                continue
            t.deadline = 0
            fire(ctx, t)
        w.bits[i >> 6] &= ~(<u64>1 << (i & 63))

# Milliseconds the worker may sleep, at most cap_ms.
cdef inline int sleep_ms(Wheel *w, int cap_ms) noexcept nogil:
    cdef u64 at = w.now + 1
    cdef u64 last = w.now | 255
    if w.linked == 0:
        return cap_ms
    while at <= last:
        if w.bits[(at & 255) >> 6] >> (at & 63) == 0:
            at = (at | 63) + 1
            continue
        if (w.bits[(at & 255) >> 6] >> (at & 63)) & 1:
            break
        at += 1
    at = (at - w.now) * limits.TICK_MS
    return cap_ms if at > <u64>cap_ms else <int>at

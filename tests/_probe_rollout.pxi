# What a rollout is made of, as the tests see it: coordinates and their cookie, draws, bitmaps, budget, users.
from libc.stdint cimport int64_t as rollout_i64
from gorouter_py.fastpath.base cimport clock as rollout_clock, limits as rollout_limits, siphash as rollout_siphash
from gorouter_py.fastpath.http cimport coordinate as rollout_coordinate
from gorouter_py.fastpath.net cimport tally as rollout_tally


def siphash(bytes key, bytes data):
    """SipHash-2-4 of data under a key of 16 bytes."""
    return rollout_siphash.hash(<const uint8_t *><const char *>key, <const char *>data, len(data))


def coordinate_parse(bytes value, bytes key=b""):
    """The 64 bits of gr_c, None if it is malformed or forged."""
    cdef uint64_t id = 0
    cdef const char *p = guarded(value, len(value))
    if not rollout_coordinate.parse(route_span.make(p, <uint32_t>len(value)),
                                    <const uint8_t *><const char *>key if key else NULL, &id):
        return None
    return id


def coordinate_spot(bytes data):
    """What the quick look finds in a request's head, None where it is unsure and False where there is nothing; and what
    the thorough one finds, None for nothing."""
    cdef Field fields[64]
    cdef Head h
    cdef bint absent = False
    cdef uint64_t quick, id = 0
    cdef u32 scanned = 0
    h.fields = fields
    h.cap = 64
    if h1.parse_request(&h, guarded(data, len(data)), <u32>len(data), &scanned) <= 0:
        raise ValueError("not a request head")
    quick = rollout_coordinate.spot(&h, &absent)
    return False if absent else quick or None, id if rollout_coordinate.read(&h, NULL, &id) else None


def coordinate_write(uint64_t id, bytes key=b""):
    cdef char text[32]
    cdef char *end = rollout_coordinate.write(text, id, <const uint8_t *><const char *>key if key else NULL)
    return text[:end - text]


def few_draws(uint32_t n, uint32_t share):
    """The least and the most of n draws in turn that fall below share (of 65536), over all states to begin with."""
    cdef Rollout r
    cdef uint32_t start, i, hits, least = n, most = 0
    for start in range(65536):
        r.first = start
        hits = 0
        for i in range(n):
            hits += route_rollout.nth_draw(&r, i) < share
        least = min(least, hits)
        most = max(most, hits)
    return least, most


cdef class RolloutState:
    """A Rollout by itself."""
    cdef Rollout *r

    def __cinit__(self, start=0):
        self.r = route_rollout.create(1, start)
        if self.r == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.r != NULL:
            route_rollout.destroy(self.r)

    def draw_shared(self, uint64_t key, uint64_t random, uint64_t now_ms):
        """(id, place, shared)."""
        cdef int place = 0
        cdef bint shared = False
        id = route_rollout.draw_shared(self.r, key, random, now_ms, &place, &shared)
        return id, place, bool(shared)

    def answered(self, int place, uint64_t id):
        route_rollout.answered(self.r, place, id)

    @property
    def draws(self):
        return self.r.draws

    def mark(self, uint64_t unit, metric=0):
        return bool(route_rollout.mark(self.r, metric, unit))

    def marked(self, metric=0):
        return self.r.marked[<int>metric]

    def grant(self, uint64_t requests, uint32_t percent, uint64_t now_ms):
        return bool(route_rollout.grant(self.r, requests, percent, now_ms))

    @property
    def denied(self):
        return self.r.denied

    def may_grant(self, uint64_t requests, uint32_t percent, uint64_t now_ms):
        return bool(route_rollout.may_grant(self.r, requests, percent, now_ms))

    def may_probe(self, version, uint64_t now_ms):
        return bool(route_rollout.may_probe(self.r, version, now_ms))

    def is_well(self, version):
        route_rollout.is_well(self.r, version)

    def count_address(self, uint64_t address):
        route_rollout.count_address(self.r, address)

    def is_over_cap(self, uint64_t address, uint32_t cap):
        return bool(route_rollout.is_over_cap(self.r, address, cap))


def registers_of(units):
    """The registers of users after these units."""
    cdef rollout_tally.Lane *l = <rollout_tally.Lane *>route_calloc(1, sizeof(rollout_tally.Lane))
    if l == NULL:
        raise MemoryError
    for unit in units:
        rollout_tally.see(l, unit)
    got = (<char *>l.registers)[:rollout_tally.REGISTERS]
    route_free(l)
    return got


def time_version_of(uint32_t intervals, uint32_t rounds):
    """Nanoseconds from a coordinate to its version, over that many intervals."""
    cdef Plan *plan = route_plan(NULL, intervals)
    cdef uint32_t i
    cdef uint64_t total = 0
    cdef uint64_t began
    if plan == NULL:
        raise MemoryError
    with nogil:
        began = rollout_clock.mono_ns()
        for i in range(rounds):
            total += route_split.version_of(plan, route_split.slot_of(plan, <uint16_t>(i * 40503)))
        began = rollout_clock.mono_ns() - began
    route_split.plan_unref(plan)
    return began / <double>rounds, total

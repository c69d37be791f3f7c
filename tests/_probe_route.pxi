# The routing layer as the tests see it: a table with its handles, and the threads that stress it.
#
# Inputs of a lookup are copied to the end of a page with an unmapped page behind it.
from libc.stdlib cimport calloc as route_calloc, malloc as route_malloc, free as route_free
from libc.string cimport memcpy as route_memcpy, memset as route_memset, memcmp as route_memcmp
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from gorouter_py.fastpath.base cimport clock as route_clock, dp as route_dp, limits as route_limits, rng as route_rng
from gorouter_py.fastpath.base cimport fmt as route_fmt, span as route_span
from gorouter_py.fastpath.base.types cimport Span
from gorouter_py.fastpath.route cimport balance as route_balance, cells as route_cells, endpoint as route_endpoint
from gorouter_py.fastpath.route cimport epoch as route_epoch, rollout as route_rollout, split as route_split
from gorouter_py.fastpath.route cimport sticky as route_sticky, table as route_table
from gorouter_py.fastpath.route.endpoint cimport Endpoint, EndpointArray, Pool
from gorouter_py.fastpath.route.rollout cimport Rollout
from gorouter_py.fastpath.route.split cimport Plan, Split

cdef extern from * nogil:
    """
    #include <pthread.h>
    #include <sched.h>
    #include <sys/mman.h>
    #include <stdint.h>
    /* Planted by the test of the stress test itself. 1: readers that never say that they are there; 2: readers that keep a
     * pool over a quiescent state. */
    #if defined(ROUTE_PLANT_SILENT)
    #define ROUTE_PLANTED 1
    #elif defined(ROUTE_PLANT_KEPT)
    #define ROUTE_PLANTED 2
    #else
    #define ROUTE_PLANTED 0
    #endif
    #define ROUTE_EDGE 131072
    static char *route_edge_map(void) {
        char *p = mmap(NULL, ROUTE_EDGE + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) return NULL;
        mprotect(p + ROUTE_EDGE, 4096, PROT_NONE);
        return p;
    }
    static void route_edge_unmap(char *p) { if (p) munmap(p, ROUTE_EDGE + 4096); }
    static char *route_edge_put(char *map, const char *p, uint32_t n) { return memcpy(map + ROUTE_EDGE - n, p, n); }
    """
    ctypedef unsigned long pthread_t
    int pthread_create(pthread_t *t, void *attr, void *(*fn)(void *) noexcept nogil, void *arg) noexcept
    int pthread_join(pthread_t t, void **out) noexcept
    int sched_yield() noexcept
    const int ROUTE_PLANTED
    const uint32_t ROUTE_EDGE
    char *route_edge_map() noexcept
    void route_edge_unmap(char *p) noexcept
    char *route_edge_put(char *map, const char *p, uint32_t n) noexcept


ROUTE_FAULTS = {
    route_endpoint.NO_MEMORY: "NO_MEMORY",
    route_endpoint.KEY_EMPTY: "KEY_EMPTY",
    route_endpoint.KEY_LONG: "KEY_LONG",
    route_endpoint.KEY_BYTES: "KEY_BYTES",
    route_endpoint.KEY_DEEP: "KEY_DEEP",
    route_endpoint.VALUE_BYTES: "VALUE_BYTES",
    route_endpoint.VALUE_LONG: "VALUE_LONG",
    route_endpoint.NOT_LISTED: "NOT_LISTED",
}


class RouteFault(Exception):
    """A fault of the routing layer, by its name."""


cdef object route_check(int rc):
    if rc <= -16:
        raise RouteFault(ROUTE_FAULTS[rc])
    return rc


cdef bytes route_bytes(Span s):
    return s.p[:s.n]


cdef Span route_view(bytes b):
    return route_span.make(<const char *>b, <uint32_t>len(b))


def route_live():
    """(endpoints, pools, nodes, splits) alive in this unit; zeroes in builds without assertions."""
    return (
        route_dp.live_counts[<int>route_dp.LIVE_ENDPOINT],
        route_dp.live_counts[<int>route_dp.LIVE_POOL],
        route_dp.live_counts[<int>route_dp.LIVE_NODE],
        route_dp.live_counts[<int>route_dp.LIVE_SPLIT],
    )


def route_debug_build():
    return bool(route_dp.DEBUG_BUILD)


cdef class RoutePick:
    """One request's choices."""
    cdef route_balance.Pick k

    def __cinit__(self):
        route_memset(&self.k, 0, sizeof(self.k))


cdef class RouteTable:
    """A table, one reader (number 0) that the caller puts on- and off-line, and endpoints by serial.

    The object holds a reference of its own to every endpoint it made, until forget() or close()."""
    cdef route_table.Table *t
    cdef public dict made
    cdef char *host_edge
    cdef char *path_edge

    def __cinit__(self):
        self.made = {}
        self.host_edge = route_edge_map()
        self.path_edge = route_edge_map()
        self.t = <route_table.Table *>route_malloc(sizeof(route_table.Table))
        if self.host_edge == NULL or self.path_edge == NULL or self.t == NULL or route_table.init(self.t) < 0:
            route_free(self.t)
            self.t = NULL
            raise MemoryError

    def __dealloc__(self):
        self.close()
        route_edge_unmap(self.host_edge)
        route_edge_unmap(self.path_edge)

    def close(self, forget=True):
        """Destroys the table; forget=False keeps the object's references to endpoints, which must survive it."""
        if self.t != NULL:
            route_table.destroy(self.t)
            route_free(self.t)
            self.t = NULL
        if forget:
            for serial in list(self.made):
                self.forget(serial)

    cdef Endpoint *at(self, serial) except NULL:
        return <Endpoint *><size_t>self.made[serial]

    # -- writer --

    def make(self, bytes text=b"10.0.0.1:8080", bytes app=b"", bytes id=b"", bytes index=b"", bytes addr=b"\x02\x00",
             bytes process=b"", bint local=False):
        cdef Endpoint *e
        route_check(route_endpoint.endpoint_new(self.t.cells, &e, <const uint8_t *><const char *>addr, <uint8_t>len(addr),
                                                route_view(text), route_view(app), route_view(id), route_view(index),
                                                route_view(process), route_span.make(NULL, 0)))
        e.local = local
        self.made[e.serial] = <size_t>e
        return e.serial

    def add(self, bytes uri, serial):
        cdef Endpoint *e = self.at(serial)
        route_endpoint.ref(e)
        rc = route_table.add_endpoint(self.t, uri, len(uri), e)
        if rc < 0:
            route_endpoint.unref(e)
        return route_check(rc)

    def remove(self, serial, keep_empty=False):
        return route_check(route_table.remove_endpoint(self.t, self.at(serial), keep_empty))

    def replace(self, old, new):
        cdef Endpoint *e = self.at(new)
        route_endpoint.ref(e)
        rc = route_table.replace_endpoint(self.t, self.at(old), e)
        if rc < 0:
            route_endpoint.unref(e)
        return route_check(rc)

    def forget(self, serial):
        route_endpoint.unref(<Endpoint *><size_t>self.made.pop(serial))

    def vacate(self, bytes uri):
        """The serials of who was taken out."""
        cdef EndpointArray *gone = NULL
        cdef uint32_t i
        route_check(route_table.vacate(self.t, uri, len(uri), &gone))
        serials = []
        if gone != NULL:
            for i in range(gone.n):
                serials.append(gone.items[i].serial)
                route_endpoint.unref(gone.items[i])
            route_free(gone)
        return serials

    def drop_empty(self, bytes uri):
        return bool(route_check(route_table.drop_empty(self.t, uri, len(uri))))

    def poll(self):
        return route_epoch.poll(&self.t.epoch)

    @property
    def count(self):
        return route_table.count(self.t)

    @property
    def wildcards(self):
        return self.t.wildcards

    @property
    def nodes(self):
        return self.t.used

    @property
    def slots(self):
        return self.t.slots.mask + 1

    @property
    def tombs(self):
        return self.t.tombs

    # -- reader --

    def online(self, reader=0):
        route_epoch.reader_online(&self.t.epoch, reader)

    def offline(self, reader=0):
        route_epoch.reader_offline(&self.t.epoch, reader)

    def quiesce(self, reader=0):
        route_epoch.quiesce(&self.t.epoch, reader)

    cdef Pool *pool(self, bytes host, bytes path):
        cdef char *h = route_edge_put(self.host_edge, host, <uint32_t>len(host))
        cdef char *p = route_edge_put(self.path_edge, path, <uint32_t>len(path))
        return route_table.find(self.t, h, <uint32_t>len(host), p, <uint32_t>len(path))

    def find(self, bytes host, bytes path=b"/"):
        """(key, context, serials) or None."""
        cdef Pool *p = self.pool(host, path)
        if p == NULL:
            return None
        return (route_bytes(route_endpoint.pool_key(p)), route_bytes(route_endpoint.pool_context(p)),
                [p.array.items[i].serial for i in range(p.array.n)])

    def choose(self, bytes host, RoutePick pick, now_ms=0, cool_down_ms=30000, keep=False, max_conns=0, balance=0,
               prefer_local=False, hash=0):
        """Serial of the endpoint chosen, None if there is none, "full"; keep: without giving the reference back."""
        cdef Pool *p = self.pool(host, b"/")
        cdef route_balance.Rules rules
        cdef bint full = False
        cdef Endpoint *e
        route_memset(&rules, 0, sizeof(rules))
        rules.cool_down_ms = cool_down_ms
        rules.max_conns = max_conns
        rules.hash = hash
        rules.options = route_table.options_of(self.t, p)
        rules.balance = balance
        rules.prefer_local = prefer_local
        if p == NULL:
            return None
        e = route_balance.choose(p, &pick.k, now_ms, &rules, &full)
        if e == NULL:
            return "full" if full else None
        serial = e.serial
        if not keep:
            route_endpoint.unref(e)
        return serial

    def set_options(self, bytes host, balance, factor=0.0):
        """How a route chooses from now on; balance None: as all do."""
        cdef route_endpoint.PoolOptions options
        route_memset(&options, 0, sizeof(options))
        options.balance = balance or 0
        options.header_n = 0
        options.factor = factor
        route_check(route_table.set_options(self.t, self.pool(host, b"/"), &options if balance is not None else NULL))

    # -- versions --

    def set_version(self, serial, uint8_t version):
        self.at(serial).version = version

    def set_plan(self, bytes uri, versions, salt=0):
        """Splits a route evenly over so many versions; 0: not at all. False if there is no such route."""
        cdef Pool *p = route_table.exact(self.t, uri, len(uri))
        cdef Plan *plan = NULL
        if p == NULL:
            return False
        if versions:
            plan = route_plan(NULL, versions)
            plan.salt = salt
        rc = route_table.set_plan(self.t, p, plan)
        if plan != NULL:
            route_split.plan_unref(plan)
        route_check(rc)
        return True

    def split_of(self, bytes uri):
        """The serials of each version, as a reader finds them; None without a rollout."""
        cdef Pool *p = route_table.exact(self.t, uri, len(uri))
        cdef Split *s = route_split.of(p) if p != NULL else NULL
        cdef EndpointArray *a
        if s == NULL:
            return None
        found = []
        for v in range(s.n):
            a = s.arrays[<int>v]
            for i in range(a.n):
                assert route_table.array_ids(a)[<int>i] == a.items[<int>i].id_hash
            found.append([a.items[<int>i].serial for i in range(a.n)])
        return found

    def version_at(self, bytes uri, uint16_t u):
        """The version that a coordinate falls into."""
        cdef Split *s = route_split.of(route_table.exact(self.t, uri, len(uri)))
        return route_split.version_of(s.plan, route_split.slot_of(s.plan, u))

    def begin(self, serial):
        route_balance.begin(self.at(serial))

    def note(self, serial, RoutePick pick):
        route_balance.note(&pick.k, self.at(serial))

    def instance(self, bytes host, bytes id):
        cdef Pool *p = self.pool(host, b"/")
        cdef Endpoint *e
        if p == NULL:
            return None
        e = route_sticky.find_instance(p, route_view(id))
        if e == NULL:
            return None
        serial = e.serial
        route_endpoint.unref(e)
        return serial

    # -- endpoints --

    def mark_failed(self, serial, now_ms):
        route_balance.mark_failed(self.at(serial), now_ms)

    def begin(self, serial):
        route_balance.begin(self.at(serial))

    def finish(self, serial):
        route_balance.finish(self.at(serial))

    def describe(self, serial):
        cdef Endpoint *e = self.at(serial)
        return {
            "refs": e.refs, "in_flight": e.in_flight, "dead": e.dead, "failed_at_ms": e.failed_at_ms,
            "text": route_bytes(route_endpoint.addr_text(e)), "header": route_bytes(route_endpoint.header_block(e)),
            "app": route_bytes(route_endpoint.app_id(e)), "id": route_bytes(route_endpoint.instance_id(e)),
            "index": route_bytes(route_endpoint.instance_index(e)),
            "addr": (<char *>e.addr)[:e.addr_len],
            "route": None if e.pool == NULL else route_bytes(route_endpoint.pool_key(e.pool)),
            "aligned": <size_t>e % 64 == 0 and (e.pool == NULL or <size_t>e.pool % 64 == 0),
        }

    def time_lookups(self, hosts, uint32_t rounds):
        """Nanoseconds of one lookup and choice, hosts in the order given, rounds times over."""
        cdef uint32_t n = <uint32_t>len(hosts)
        cdef const char **p = <const char **>route_malloc(n * sizeof(char *))
        cdef uint32_t *size = <uint32_t *>route_malloc(n * sizeof(uint32_t))
        cdef uint32_t i
        cdef uint32_t r
        cdef uint64_t t0
        cdef uint64_t took = 0
        cdef uint64_t missed = 0
        cdef Pool *pool
        for i in range(n):
            p[i] = <const char *><bytes>hosts[i]
            size[i] = <uint32_t>len(hosts[i])
        with nogil:
            t0 = route_clock.mono_ns()
            for r in range(rounds):
                for i in range(n):
                    pool = route_table.find(self.t, p[i], size[i], b"/index.html", 11)
                    missed += 1 if pool == NULL else 0
            took = route_clock.mono_ns() - t0
        route_free(p)
        route_free(size)
        return took / (<double>rounds * n), missed


# A plan of as many versions as there are, with equal weights; one reference.
cdef Plan *route_plan(Rollout *state, uint32_t versions) noexcept nogil:
    cdef Plan *plan = <Plan *>route_calloc(1, sizeof(Plan))
    cdef uint32_t i
    if plan == NULL:
        return NULL
    plan.refs = 1
    plan.state = state
    plan.n_versions = <uint8_t>versions
    plan.n_intervals = versions
    for i in range(versions):
        plan.ends[i] = (i + 1) * 65536 // versions
        plan.owners[i] = <uint8_t>i
    return plan


# -- threads ------------------------------------------------------------------------------------------------------------

cdef enum:
    ROUTE_NAMES = 48        # uris that come and go
    ROUTE_EACH = 6          # endpoints under one of them at most
    ROUTE_HELD = 8          # references that a reader keeps over its turns

cdef struct RouteName:
    char uri[64]
    uint32_t uri_n
    char host[64]           # what a reader asks for
    uint32_t host_n
    char path[64]
    uint32_t path_n
    uint32_t n
    Endpoint *list[ROUTE_EACH]

cdef struct RouteStress:
    route_table.Table t
    Rollout *rollout        # shared by all routes that are split
    RouteName names[ROUTE_NAMES]
    Endpoint *steady
    uint32_t stop           # atomic
    uint64_t lookups        # atomic
    uint64_t served         # atomic
    uint64_t wrong          # atomic: an answer that can never be right

cdef struct RouteReader:
    RouteStress *s
    uint32_t number
    uint64_t seed
    Pool *kept              # of the planted mistake
    pthread_t thread


# Every endpoint carries its route's key as its app id, so any mix-up shows.
cdef bint route_fits(Pool *p, Endpoint *e) noexcept nogil:
    cdef Span key = route_endpoint.pool_key(p)
    cdef Span app = route_endpoint.app_id(e)
    return e.pool == p and key.n == app.n and route_memcmp(key.p, app.p, key.n) == 0


# What a reader does with a split: draws, looks up, takes an endpoint of the version. False: something cannot be right.
cdef bint route_split_once(RouteStress *s, Pool *p, uint64_t x) noexcept nogil:
    cdef Split *split = route_split.of(p)
    cdef Rollout *state
    cdef route_balance.Pick pick
    cdef route_balance.Rules rules
    cdef EndpointArray *a
    cdef Endpoint *e
    cdef bint full, shared
    cdef bint fine = True
    cdef uint8_t version
    cdef uint64_t id
    cdef int place
    cdef uint32_t i
    if split == NULL:
        return True
    state = split.plan.state
    id = route_rollout.draw_shared(state, x >> 50, x, x & 0xffff, &place, &shared)
    version = route_split.version_of(split.plan, route_split.slot_of(split.plan, <uint16_t>(id >> 48)))
    a = split.arrays[version]
    for i in range(a.n):
        fine = fine and route_fits(p, a.items[i]) and route_dp.load8(&a.items[i].version) <= 3
    route_memset(&pick, 0, sizeof(pick))
    route_memset(&rules, 0, sizeof(rules))
    rules.cool_down_ms = 10
    e = route_balance.choose_of(a, route_rollout.cursor(state, version), &pick, x & 0xffff, &rules, True, &full)
    if e != NULL:
        fine = fine and route_fits(p, e)
        route_endpoint.unref(e)
    if (x >> 8) % 4 == 0:
        route_rollout.mark(state, 0, x)
        route_rollout.grant(state, x & 0xff, 20, x & 0xffff)
    if place >= 0 and (x >> 12) % 2:
        route_rollout.answered(state, place, id)
    return fine and version < split.n and (id != 0)


cdef void route_read_once(RouteReader *r, route_rng.Rng *g, Endpoint **held) noexcept nogil:
    cdef RouteStress *s = r.s
    cdef uint64_t x = route_rng.next_u64(g)
    cdef RouteName *name = &s.names[x % ROUTE_NAMES]
    cdef uint32_t slot = <uint32_t>((x >> 32) % ROUTE_HELD)
    cdef route_balance.Pick pick
    cdef route_balance.Rules rules
    cdef bint full
    cdef Pool *p
    cdef Endpoint *e
    cdef bint steady = (x >> 16) % 4 == 0
    route_memset(&rules, 0, sizeof(rules))
    rules.cool_down_ms = 10
    rules.hash = x
    if steady:
        p = route_table.find(&s.t, b"Steady.Test:80", 14, b"/Deep/er/x", 10)
    else:
        p = route_table.find(&s.t, name.host, name.host_n, name.path, name.path_n)
    route_dp.add64(&s.lookups, 1)
    if p == NULL:
        if steady:
            route_dp.add64(&s.wrong, 1)
        return
    if ROUTE_PLANTED == 2:
        if r.kept == NULL or (x >> 40) % 64 == 0:
            r.kept = p
        elif (x >> 48) % 4 == 0:
            p = r.kept
    route_memset(&pick, 0, sizeof(pick))
    e = route_balance.choose(p, &pick, x & 0xffff, &rules, &full)
    if e == NULL:
        if steady:
            route_dp.add64(&s.wrong, 1)
        return
    if not route_fits(p, e):
        route_dp.add64(&s.wrong, 1)
    if (x >> 20) % 8 == 0:
        route_balance.mark_failed(e, x & 0xffff)
    route_balance.begin(e)
    route_dp.add64(&s.served, 1)
    if not route_split_once(s, p, x):
        route_dp.add64(&s.wrong, 1)
    if held[slot] != NULL:
        # Kept over turns: it may be out of the table for long, and its pool with it.
        if not route_fits(held[slot].pool, held[slot]):
            route_dp.add64(&s.wrong, 1)
        route_balance.finish(held[slot])
        route_endpoint.unref(held[slot])
    held[slot] = e
    e = route_sticky.find_instance(p, route_endpoint.addr_text(held[slot]))
    if e != NULL:
        if not route_fits(p, e):
            route_dp.add64(&s.wrong, 1)
        route_endpoint.unref(e)


cdef void *route_reader(void *arg) noexcept nogil:
    cdef RouteReader *r = <RouteReader *>arg
    cdef RouteStress *s = r.s
    cdef route_rng.Rng g
    cdef Endpoint *held[ROUTE_HELD]
    cdef uint32_t i
    cdef uint32_t turn = 0
    route_memset(held, 0, sizeof(held))
    for i in range(4):
        g.s[i] = route_dp.mix64(r.seed + i, 0x9e3779b97f4a7c15ULL) | 1
    if ROUTE_PLANTED != 1:
        route_epoch.reader_online(&s.t.epoch, r.number)
    while route_dp.load32_acq(&s.stop) == 0:
        for i in range(8):
            route_read_once(r, &g, held)
        turn += 1
        if ROUTE_PLANTED != 1:
            if turn % 32:
                route_epoch.quiesce(&s.t.epoch, r.number)
            else:
                route_epoch.reader_offline(&s.t.epoch, r.number)
                sched_yield()
                route_epoch.reader_online(&s.t.epoch, r.number)
    if ROUTE_PLANTED != 1:
        route_epoch.reader_offline(&s.t.epoch, r.number)
    for i in range(ROUTE_HELD):
        if held[i] != NULL:
            route_balance.finish(held[i])
            route_endpoint.unref(held[i])
    return NULL


cdef Endpoint *route_new(RouteStress *s, const char *uri, uint32_t uri_n, uint64_t number) noexcept nogil:
    cdef Endpoint *e
    cdef char text[32]
    cdef uint32_t n = 0
    cdef uint8_t addr[16]
    cdef char app[64]
    cdef uint32_t i
    route_memset(addr, 0, sizeof(addr))
    route_memcpy(text, b"127.0.0.1:", 10)
    n = 10
    while True:
        text[n] = <char>(c'0' + number % 10)
        number //= 10
        n += 1
        if number == 0:
            break
    for i in range(uri_n):
        app[i] = <char>route_dp.lower(uri[i])
    if route_endpoint.endpoint_new(s.t.cells, &e, addr, 16, route_span.make(text, n), route_span.make(app, uri_n),
                                   route_span.make(NULL, 0), route_span.make(NULL, 0), route_span.make(NULL, 0),
                                   route_span.make(NULL, 0)) < 0:
        return NULL
    e.version = <uint8_t>(text[n - 1] & 3)
    return e


# Splits a route over two or three versions, or no more.
cdef void route_plan_once(RouteStress *s, RouteName *name, uint64_t x) noexcept nogil:
    cdef Pool *p = route_table.exact(&s.t, name.uri, name.uri_n)
    cdef Plan *plan = route_plan(s.rollout, 2 + x % 2) if x % 8 else NULL
    if p != NULL and route_table.set_plan(&s.t, p, plan) < 0:
        route_dp.add64(&s.wrong, 1)
    if plan != NULL:
        route_split.plan_unref(plan)


cdef void route_write_once(RouteStress *s, route_rng.Rng *g) noexcept nogil:
    cdef uint64_t x = route_rng.next_u64(g)
    cdef RouteName *name = &s.names[x % ROUTE_NAMES]
    cdef uint32_t what = <uint32_t>((x >> 24) % 16)
    cdef uint32_t at
    cdef Endpoint *e
    cdef EndpointArray *gone = NULL
    cdef uint64_t number = (x >> 40) % 60000
    # Names of the shapes 3 and 5 share their route with another, whose list would still have what is taken out.
    cdef bint vacates = what == 7 and (x >> 60) == 0 and (x % ROUTE_NAMES) % 6 != 3 and (x % ROUTE_NAMES) % 6 != 5
    if (x >> 20) % 16 == 0:
        route_plan_once(s, name, x >> 40)
    if what < 6 and name.n < ROUTE_EACH:
        e = route_new(s, name.uri, name.uri_n, number)
        if e == NULL or route_table.add_endpoint(&s.t, name.uri, name.uri_n, e) < 0:
            route_dp.add64(&s.wrong, 1)
            return
        name.list[name.n] = e
        name.n += 1
    elif what < 12 and name.n and not vacates:
        at = <uint32_t>((x >> 32) % name.n)
        if route_table.remove_endpoint(&s.t, name.list[at], what == 6) < 0:
            route_dp.add64(&s.wrong, 1)
        name.n -= 1
        name.list[at] = name.list[name.n]
    elif vacates:
        if route_table.vacate(&s.t, name.uri, name.uri_n, &gone) < 0:
            route_dp.add64(&s.wrong, 1)
            return
        if (gone.n if gone != NULL else 0) != name.n:
            route_dp.add64(&s.wrong, 1)
        name.n = 0
        if gone != NULL:
            for at in range(gone.n):
                route_endpoint.unref(gone.items[at])
            route_free(gone)
    elif what == 12:
        route_table.drop_empty(&s.t, name.uri, name.uri_n)
    elif what == 13:
        e = route_new(s, b"Steady.Test/Deep/er", 19, number)
        if e == NULL or route_table.replace_endpoint(&s.t, s.steady, e) < 0:
            route_dp.add64(&s.wrong, 1)
            return
        s.steady = e
    elif name.n:
        at = <uint32_t>((x >> 32) % name.n)
        e = route_new(s, name.uri, name.uri_n, number)
        if e == NULL or route_table.replace_endpoint(&s.t, name.list[at], e) < 0:
            route_dp.add64(&s.wrong, 1)
            return
        name.list[at] = e


def route_stress(uint32_t readers=3, uint64_t rounds=20000, uint64_t seed=1, uint64_t lookups=20000):
    """One writer (this thread, `rounds` changes or more) against `readers` threads (at least `lookups` lookups in all).

    Returns lookups, served (lookups that gave an endpoint), wrong (answers that can never be right) and waiting (objects
    retired and not yet free when the readers had gone, after a poll)."""
    cdef RouteStress *s = <RouteStress *>route_calloc(1, sizeof(RouteStress))
    cdef RouteReader *r = <RouteReader *>route_calloc(readers, sizeof(RouteReader))
    cdef route_rng.Rng g
    cdef uint64_t i
    cdef uint32_t k
    cdef uint64_t waiting
    if s == NULL or r == NULL or readers > 16 or route_table.init(&s.t) < 0:
        raise MemoryError
    s.rollout = route_rollout.create(1, 0)
    if s.rollout == NULL:
        raise MemoryError
    for i in range(ROUTE_NAMES):
        shape = i % 6
        host = b"Host-%d.Apps.Test" % i
        uri, path = ((host, b"/"), (host + b"/A", b"/a/b"), (host + b"/a/b/C", b"/a/b/c/d"), (b"*.w%d.Test" % (i // 6), b"/x"),
                     (b"Shared.Test/p%d" % i, b"/p%d/" % i), (b"*.w%d.test/Deep" % (i // 6), b"/deep/er"))[shape]
        host = (host, host, host, b"any.w%d.test:80" % (i // 6), b"sHARED.test", b"a.b.w%d.test" % (i // 6))[shape]
        s.names[i].uri_n, s.names[i].host_n, s.names[i].path_n = len(uri), len(host), len(path)
        route_memcpy(s.names[i].uri, <const char *>uri, len(uri))
        route_memcpy(s.names[i].host, <const char *>host, len(host))
        route_memcpy(s.names[i].path, <const char *>path, len(path))
    for k in range(4):
        g.s[k] = route_dp.mix64(seed + k, 0xa0761d6478bd642fULL) | 1
    with nogil:
        s.steady = route_new(s, b"Steady.Test/Deep/er", 19, 1)
        route_table.add_endpoint(&s.t, b"Steady.Test/Deep/er", 19, s.steady)
        for k in range(readers):
            r[k].s = s
            r[k].number = k
            r[k].seed = seed * 1000 + k
            pthread_create(&r[k].thread, NULL, route_reader, &r[k])
        i = 0
        while i < rounds or route_dp.load64(&s.lookups) < lookups:
            route_write_once(s, &g)
            i += 1
            if i % 64 == 0:
                sched_yield()
        route_dp.store32_rel(&s.stop, 1)
        for k in range(readers):
            pthread_join(r[k].thread, NULL)
        waiting = route_epoch.poll(&s.t.epoch)
        route_table.destroy(&s.t)
    out = {"lookups": s.lookups, "served": s.served, "wrong": s.wrong, "waiting": waiting, "changes": i,
           "draws": s.rollout.draws}
    route_rollout.destroy(s.rollout)
    route_free(s)
    route_free(r)
    return out


cdef struct RouteSpin:
    route_table.Table *t
    Endpoint **order        # by place in the array
    uint64_t *counts        # picks of this thread, by place
    uint32_t n
    uint64_t picks
    uint32_t number
    pthread_t thread


cdef void *route_spinner(void *arg) noexcept nogil:
    cdef RouteSpin *r = <RouteSpin *>arg
    cdef route_balance.Pick pick
    cdef route_balance.Rules rules
    cdef bint full
    cdef Pool *p
    cdef Endpoint *e
    cdef uint64_t i
    cdef uint32_t k
    route_memset(&rules, 0, sizeof(rules))
    for i in range(r.picks):
        route_epoch.reader_online(&r.t.epoch, r.number)
        p = route_table.find(r.t, b"spin.test", 9, b"/", 1)
        route_memset(&pick, 0, sizeof(pick))
        e = route_balance.choose(p, &pick, 0, &rules, &full)
        route_epoch.reader_offline(&r.t.epoch, r.number)
        for k in range(r.n):
            if r.order[k] == e:
                r.counts[k] += 1
        route_endpoint.unref(e)
    return NULL


def route_rotation(RouteTable table, uint32_t threads, uint64_t picks):
    """How often each endpoint of spin.test was chosen by `threads` threads with `picks` requests each."""
    cdef Pool *p = table.pool(b"spin.test", b"/")
    cdef uint32_t n = p.array.n
    cdef RouteSpin *r = <RouteSpin *>route_calloc(threads, sizeof(RouteSpin))
    cdef uint64_t *counts = <uint64_t *>route_calloc(threads * n, sizeof(uint64_t))
    cdef uint32_t k
    if r == NULL or counts == NULL:
        raise MemoryError
    with nogil:
        for k in range(threads):
            r[k].t = table.t
            r[k].order = p.array.items
            r[k].counts = counts + k * n
            r[k].n = n
            r[k].picks = picks
            r[k].number = k
            pthread_create(&r[k].thread, NULL, route_spinner, &r[k])
        for k in range(threads):
            pthread_join(r[k].thread, NULL)
    total = [sum([counts[j * n + i] for j in range(threads)]) for i in range(n)]
    route_free(r)
    route_free(counts)
    return total


def route_footprint(uint32_t n):
    """Resident bytes per route of a table with n routes of one instance, and how many of its names were found.

    Names as platforms give them (27 octets), ids of 36 octets; nothing of Python is allocated meanwhile."""
    cdef route_table.Table *t = <route_table.Table *>route_calloc(1, sizeof(route_table.Table))
    cdef char uri[64]
    cdef char id[64]
    cdef char *end
    cdef uint8_t addr[16]
    cdef Endpoint *e
    cdef uint32_t i
    cdef uint32_t uri_n = 0
    cdef uint32_t found = 0
    if t == NULL or route_table.init(t) < 0:
        raise MemoryError
    route_memset(addr, 0, sizeof(addr))
    route_memcpy(id, b"11111111-2222-3333-4444-555555555555", 36)
    before = route_resident()
    with nogil:
        for i in range(n):
            end = route_fmt.put(uri, b"app-", 4)
            end = route_fmt.dec_pad(end, i, 6)
            end = route_fmt.put(end, b".apps.example.com", 17)
            uri_n = <uint32_t>(end - uri)
            if route_endpoint.endpoint_new(t.cells, &e, addr, 16, route_span.make(b"10.123.45.67:61001", 18),
                                           route_span.make(id, 36), route_span.make(id, 36), route_span.make(b"0", 1),
                                           route_span.make(NULL, 0), route_span.make(NULL, 0)) < 0:
                break
            if route_table.add_endpoint(t, uri, uri_n, e) < 0:
                break
        for i in range(n):
            route_fmt.dec_pad(uri + 4, i, 6)
            found += 1 if route_table.find(t, uri, uri_n, b"/", 1) != NULL else 0
    route_epoch.poll(&t.epoch)
    after = route_resident()
    route_table.destroy(t)
    route_free(t)
    return (after - before) / n, found


cdef object route_resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

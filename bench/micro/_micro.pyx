# Loops around single steps of the data plane, so that nanoseconds can be measured without Python in between. A unit of
# its own, compiled by bench/micro/build.py with the flags of the release build; it cimports the header modules the
# router is made of.
#
# Every method runs its step n times with the GIL released and returns what the last turn made, so that a test can
# see that the work was done. One thread; nothing is shared with a running router.
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from gorouter_py.fastpath.base.types cimport Span, i64, u32, u64, u8
from gorouter_py.fastpath.base cimport dp, fmt, limits, rng, span
from gorouter_py.fastpath.http cimport h1, heads
from gorouter_py.fastpath.http.heads cimport Field, Head
from gorouter_py.fastpath.route cimport balance, endpoint, epoch, rollout, split, table
from gorouter_py.fastpath.route.endpoint cimport Endpoint, Pool
from gorouter_py.fastpath.route.split cimport Plan, Split
from gorouter_py.fastpath.flow cimport choice, cohort, forward, h1write, logline, outcome, worker
from gorouter_py.fastpath.flow.stream cimport HeadOut, Stream
from gorouter_py.fastpath.flow.state cimport Conn, Exchange, Shared, Worker

cdef enum:
    OUT_MAX = 65536

cdef bytes CLIENT = b"192.0.2.33:50123"


cdef Span view(bytes data):
    return span.make(<const char *>data, <u32>len(data))


cdef class Heads:
    """Parsing of one head, over and over."""

    cdef Field fields[limits.FIELDS_MAX]
    cdef Head head

    def __cinit__(self):
        self.head.fields = self.fields
        self.head.cap = limits.FIELDS_MAX

    def request(self, bytes data, u32 n):
        """(length of the head, number of fields) of the last of n parses; negative lengths are faults."""
        cdef const char *p = data
        cdef u32 size = <u32>len(data)
        cdef u32 i
        cdef u32 scanned = 0
        cdef i64 got = 0
        with nogil:
            for i in range(n):
                got = h1.parse_request(&self.head, p, size, &scanned)
        return got, self.head.nfields

    def response(self, bytes data, u32 n):
        """The same for a response to a GET."""
        cdef const char *p = data
        cdef u32 size = <u32>len(data)
        cdef u32 i
        cdef u32 scanned = 0
        cdef i64 got = 0
        with nogil:
            for i in range(n):
                got = h1.parse_response(&self.head, p, size, &scanned, heads.M_GET)
        return got, self.head.nfields


cdef class Names:
    """Hosts to look up, ready for a loop without Python."""

    cdef Span *spans
    cdef u32 n
    cdef object kept

    def __cinit__(self, hosts):
        cdef u32 i
        self.kept = list(hosts)
        self.n = <u32>len(self.kept)
        self.spans = <Span *>malloc(self.n * sizeof(Span) + 1)
        if self.spans == NULL:
            raise MemoryError
        for i in range(self.n):
            self.spans[i] = view(self.kept[i])

    def __dealloc__(self):
        free(self.spans)


cdef class Routes:
    """A route table with one instance per route."""

    cdef table.Table *t

    def __cinit__(self):
        self.t = <table.Table *>dp.aligned_alloc(sizeof(table.Table))
        if self.t == NULL or table.init(self.t) < 0:
            free(self.t)
            self.t = NULL
            raise MemoryError

    def __dealloc__(self):
        if self.t != NULL:
            table.destroy(self.t)
            free(self.t)

    def add(self, uris):
        """Registers every uri; ValueError for one that the table refuses."""
        cdef Endpoint *e
        cdef int rc
        for uri in uris:
            rc = endpoint.endpoint_new(self.t.cells, &e, <const u8 *>b"\x02\x00", 2, view(b"10.0.0.1:8080"), view(b"app"),
                                       view(b"instance"), view(b"0"), view(b""), view(b""))
            if rc == 0:
                rc = table.add_endpoint(self.t, <bytes>uri, len(uri), e)
                if rc < 0:
                    endpoint.unref(e)
            if rc < 0:
                raise ValueError(f"{uri!r}: fault {rc}")

    def find(self, Names hosts, bytes path, u32 rounds):
        """Looks all hosts up in the order given, `rounds` times over; returns how many look-ups found a route."""
        cdef u32 i, r
        cdef u64 found = 0
        cdef const char *p = path
        cdef u32 size = <u32>len(path)
        with nogil:
            epoch.reader_online(&self.t.epoch, 0)
            for r in range(rounds):
                for i in range(hosts.n):
                    if table.find(self.t, hosts.spans[i].p, hosts.spans[i].n, p, size) != NULL:
                        found += 1
            epoch.reader_offline(&self.t.epoch, 0)
        return found


cdef class Forwarding:
    """A request on its way to an endpoint: what is rewritten, and the log line about it."""

    cdef Shared *shared
    cdef Worker *w
    cdef Conn *down
    cdef Conn *up
    cdef Exchange *x
    cdef Endpoint *e
    cdef Pool *pool
    cdef Field fields[limits.FIELDS_MAX]
    cdef Field up_fields[limits.FIELDS_MAX]
    cdef Head answer
    cdef object kept
    cdef char *out

    def __cinit__(self, bytes request, bytes response):
        cdef u32 scanned = 0
        self.kept = (request, response)
        self.shared = <Shared *>dp.aligned_alloc(sizeof(Shared))
        self.down = <Conn *>calloc(1, sizeof(Conn))
        self.up = <Conn *>calloc(1, sizeof(Conn))
        self.x = <Exchange *>calloc(1, sizeof(Exchange))
        self.out = <char *>malloc(OUT_MAX)
        if self.shared == NULL or self.down == NULL or self.up == NULL or self.x == NULL or self.out == NULL:
            raise MemoryError
        memset(self.shared, 0, sizeof(Shared))
        self.configure()
        self.w = worker.create(self.shared, 0)
        if self.w == NULL or table.init(&self.shared.table) < 0:
            raise MemoryError
        self.down.minor = 1
        self.down.s.peer = CLIENT
        self.down.s.peer_len = <u32>len(CLIENT)
        self.down.s.ip_len = <u32>CLIENT.index(b":")
        self.x.w = self.w
        self.x.down = &self.down.s
        self.x.req.fields = self.fields
        self.x.req.cap = limits.FIELDS_MAX
        if h1.parse_request(&self.x.req, request, <u32>len(request), &scanned) != len(request):
            raise ValueError("not one whole request head")
        self.answer.fields = self.up_fields
        self.answer.cap = limits.FIELDS_MAX
        if h1.parse_response(&self.answer, response, <u32>len(response), &scanned, self.x.req.method) != len(response):
            raise ValueError("not one whole response head")
        self.add_endpoint()
        self.x.wall_ns = 1_800_000_000_123_456_789
        self.x.began_ns = 1000
        self.x.up_began_ns = 5000
        self.x.up_ended_ns = 90000
        self.x.status = self.answer.status

    cdef configure(self):
        self.shared.cfg.log_enabled = True
        self.shared.cfg.log_forwarded_for = True
        self.shared.cfg.log_source_ip = True
        self.shared.cfg.n_sticky = 1
        self.shared.cfg.sticky[0].n = 10
        memcpy(self.shared.cfg.sticky[0].text, b"JSESSIONID", 10)

    cdef add_endpoint(self):
        cdef int rc = endpoint.endpoint_new(
            self.shared.table.cells, &self.e, <const u8 *>b"\x02\x00", 2, view(b"10.0.16.7:61001"),
            view(b"11111111-2222-3333-4444-555555555555"), view(b"66666666-7777-8888-9999-aaaaaaaaaaaa"), view(b"3"), view(b""), view(b""))
        if rc == 0:
            endpoint.ref(self.e)
            rc = table.add_endpoint(&self.shared.table, b"app.example.com", 15, self.e)
        if rc < 0:
            raise ValueError(f"endpoint: fault {rc}")
        self.x.ep = self.e

    def __dealloc__(self):
        if self.w != NULL:
            if self.e != NULL:
                endpoint.unref(self.e)
            worker.destroy(self.w)
            table.destroy(&self.shared.table)
        free(self.shared)
        free(self.down)
        free(self.up)
        free(self.x)
        free(self.out)

    cdef u32 write(self, HeadOut *o, Conn *c) noexcept nogil:
        cdef char *at = h1write.start_line(self.out, c, o)
        at = h1write.field_lines(at, o)
        at = fmt.span(at, o.extra)
        at = h1write.framing_lines(at, c, o)
        at = fmt.put(at, b"\r\n", 2)
        return <u32>(at - self.out)

    def request(self, u32 n):
        """The head that goes to the endpoint, made n times: identity, policy and writing."""
        cdef HeadOut o
        cdef u32 i
        cdef u32 size = 0
        memset(&o, 0, sizeof(HeadOut))
        with nogil:
            for i in range(n):
                fmt.uuid(self.x.request_id, rng.next_u64(&self.w.rng), rng.next_u64(&self.w.rng))
                forward.request(self.w, self.x, &o, False)
                size = self.write(&o, self.up)
        return self.out[:size]

    def response(self, u32 n):
        """The head that goes to the client, made n times."""
        cdef HeadOut o
        cdef u32 i
        cdef u32 size = 0
        memset(&o, 0, sizeof(HeadOut))
        with nogil:
            for i in range(n):
                forward.response(self.w, self.x, &self.answer, &o, False)
                size = self.write(&o, self.down)
        return self.out[:size]

    def log_line(self, u32 n):
        """The access-log line, rendered and put into the ring n times; the ring is emptied each time."""
        cdef u32 i
        cdef u64 size
        with nogil:
            for i in range(n):
                self.w.log.tail = self.w.log.head = 0
                logline.emit(self.w, self.x, 120000)
        size = self.w.log.head
        return self.w.log.data[:size]


cdef class Splitting(Forwarding):
    """A request to a route of two versions: what its rollout adds, and the choice of an endpoint without one."""

    cdef rollout.Rollout *state
    cdef Split *parts
    cdef Plan *plan

    def __cinit__(self, bytes request, bytes response):
        self.state = rollout.create(1, 0)
        self.plan = <Plan *>calloc(1, sizeof(Plan))
        if self.state == NULL or self.plan == NULL:
            raise MemoryError
        self.plan.refs = 1
        self.plan.state = self.state
        self.plan.n_versions = 2
        self.plan.salt = 4711
        self.plan.retry_on_stable = True
        self.plan.n_intervals = 2
        self.plan.ends[0], self.plan.owners[0] = 62259, 0
        self.plan.ends[1], self.plan.owners[1] = 65536, 1
        split.seal(self.plan)
        dp.store8(&self.e.version, 0)
        self.parts = split.split_new(self.plan, <endpoint.EndpointArray *>dp.loadp_acq(<void **>&self.e.pool.array))
        if self.parts == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.parts != NULL:
            split.split_free(self.parts)    # and with it the plan
        if self.state != NULL:
            rollout.destroy(self.state)

    def plain(self, u32 n):
        """Chooses an endpoint n times as without a rollout; returns how often there was one."""
        cdef balance.Rules rules
        cdef Endpoint *e
        cdef u32 i
        cdef u32 found = 0
        cdef bint full = False
        memset(&rules, 0, sizeof(rules))
        with nogil:
            for i in range(n):
                memset(&self.x.pick, 0, sizeof(balance.Pick))
                e = balance.choose(self.e.pool, &self.x.pick, self.w.now_ms, &rules, &full)
                if e != NULL:
                    found += 1
                    endpoint.unref(e)
        return found

    def decide(self, u32 n):
        """Reads the coordinate and takes the version n times; returns the last one's (version, coordinate)."""
        cdef u32 i
        with nogil:
            for i in range(n):
                cohort.decide_bare(&self.x.req, self.plan, &self.x.cohort)
        return self.x.cohort.version, self.x.cohort.u

    def whole(self, bint counted, u32 n):
        """Enters the rollout, chooses in the version and leaves n times, the outcome counted or not; as plain()."""
        cdef balance.Rules rules
        cdef Endpoint *e
        cdef u32 i
        cdef u32 found = 0
        cdef bint full = False
        memset(&rules, 0, sizeof(rules))
        self.x.head_ns = self.x.began_ns + 100000
        with nogil:
            for i in range(n):
                memset(&self.x.pick, 0, sizeof(balance.Pick))
                if choice.enter(self.x, self.parts, False):
                    e = choice.choose_version(self.x, self.e.pool, self.parts, &rules, &full)
                    if e != NULL:
                        found += 1
                        endpoint.unref(e)
                    if counted:
                        outcome.book(self.x, self.x.head_ns)
                    outcome.let_go(self.x)
        return found

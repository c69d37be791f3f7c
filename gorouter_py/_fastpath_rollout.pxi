# Rollouts as control sees them: a spec in, numbers and outcomes out. Included by _fastpath.pyx; see _fastpath.pyi.

_ROLLOUT_MODES = {"cookie": split.MODE_COOKIE, "identity": split.MODE_IDENTITY, "request": split.MODE_REQUEST}
_RULE_KINDS = {
    "header": split.BY_HEADER, "cookie": split.BY_COOKIE, "user_agent": split.BY_AGENT, "address": split.BY_ADDRESS,
    "cohort": split.BY_COHORT,
}
_RULE_OPS = {
    "equals": split.OP_EQUALS, "prefix": split.OP_PREFIX, "contains": split.OP_CONTAINS, "present": split.OP_PRESENT,
}
_METRICS = {rollout.M_FAILURE: "failure", rollout.M_SLOW: "slow", rollout.M_CLIENT_ERROR: "client_error"}
_CAUSES = {
    tally.CAUSE_STATUS: "status", tally.CAUSE_CONNECT: "connect", tally.CAUSE_TIMEOUT: "timeout",
    tally.CAUSE_RESET: "reset", tally.CAUSE_PROTOCOL: "protocol", tally.CAUSE_LIMIT: "limit",
}
ROLLOUT_DEFAULTS = {
    "id": 0, "versions": (), "stable": 0, "intervals": (), "salt": 0, "mode": "cookie", "identity": ("address", "32/64"),
    "sessions_new_only": False, "cookie_max_age_s": 2592000, "cookie_key": b"", "rules": (), "overrides": (),
    "sticky": "move", "keep_versions": (), "retry_on_stable": True, "retry_budget_percent": 20, "slow_ns": None,
    "warmup_ms": 10000, "address_cap": 64, "forwarded_for": False, "count_4xx": False, "mirror_version": -1,
    "mirror_share": 0, "propagate": False,
}


# -- a spec, checked -----------------------------------------------------------------------------------------------

cdef object unfit(str key, value, str valid):
    return ValueError(f"{key} {value!r}: {valid}")


cdef object whole_number(dict spec, str key, low, high):
    value = spec[key]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise unfit(key, value, f"must be an integer from {low} to {high}")
    return value


cdef object one_of(str key, value, known):
    if value not in known:
        raise unfit(key, value, f"must be one of {', '.join(known)}")
    return known[value]


cdef object version_index(str key, value, int n):
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < n:
        raise unfit(key, value, f"must be the index of a version, from 0 to {n - 1}")
    return value


cdef bytes text_of(str key, value, int most):
    if not isinstance(value, str):
        raise unfit(key, value, "must be a string")
    raw = value.encode()
    if len(raw) > most:
        raise unfit(key, value, f"must have at most {most} bytes")
    return raw


cdef class _Texts:
    """The bytes that a plan points into, in one piece."""
    cdef char *data
    cdef size_t used
    cdef size_t room

    def __cinit__(self, size_t room):
        self.data = <char *>malloc(room)
        self.room = room
        if self.data == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.data)

    cdef Span keep(self, bytes raw) except *:
        cdef char *at = self.data + self.used
        if len(raw) > self.room - self.used:
            raise ValueError("names, rules and overrides are longer than 1 MiB together")
        memcpy(at, <const char *>raw, len(raw))
        self.used += len(raw)
        return span.make(at, <u32>len(raw))

    cdef char *give(self):
        cdef char *data = self.data
        self.data = NULL
        return data


cdef int fill_net(Match *m, str value) except -1:
    import ipaddress

    try:
        net = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise unfit("rules value", value, "must be an address or a network as 10.0.0.0/8") from None
    packed = net.network_address.packed
    m.net_len = <u8>len(packed)
    m.bits = <u8>net.prefixlen
    memcpy(m.net, <const char *><bytes>packed, m.net_len)
    return 0


cdef int fill_share(Match *m, bytes label, str value) except -1:
    try:
        percent = float(value)
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise unfit("rules value", value, "must be a percentage from 0 to 100")
    m.share = <u32>round(percent * 655.36)
    m.label = dp.hash64(label, len(label), 1)
    return 0


cdef int fill_rule(Plan *p, Match *m, rule, _Texts texts) except -1:
    kind = one_of("rules kind", rule.get("kind"), _RULE_KINDS)
    name = text_of("rules name", rule.get("name", ""), 255)
    value = text_of("rules value", rule.get("value", ""), 4096)
    m.where = kind
    m.op = one_of("rules op", rule.get("op", "equals"), _RULE_OPS)
    m.version = version_index("rules version", rule.get("version"), p.n_versions)
    if kind in (split.BY_HEADER, split.BY_COOKIE, split.BY_COHORT) and not name:
        raise unfit("rules name", "", f"a rule of kind {rule['kind']!r} needs one")
    m.name = texts.keep(name.lower() if kind == split.BY_HEADER else name)
    m.value = texts.keep(value)
    if kind == split.BY_ADDRESS:
        fill_net(m, rule.get("value", ""))
    elif kind == split.BY_COHORT:
        fill_share(m, name, rule.get("value", ""))
    return 0


cdef int fill_identity(Plan *p, identity, _Texts texts) except -1:
    kind, name = identity
    p.identity_where = one_of("identity", kind, {"header": split.BY_HEADER, "cookie": split.BY_COOKIE,
                                                 "address": split.BY_ADDRESS})
    if p.identity_where != split.BY_ADDRESS:
        raw = text_of("identity", name, 255)
        if not raw:
            raise unfit("identity", identity, "needs a name")
        p.identity = texts.keep(raw.lower() if p.identity_where == split.BY_HEADER else raw)
        return 0
    found = re.fullmatch(r"(\d{1,2})/(\d{1,3})", name)
    if not found or not 1 <= int(found[1]) <= 32 or not 1 <= int(found[2]) <= 128:
        raise unfit("identity", identity, "an address is cut to bits of IPv4/IPv6, as in '32/64'")
    p.identity_bits4 = int(found[1])
    p.identity_bits6 = int(found[2])
    return 0


cdef int fill_intervals(Plan *p, intervals) except -1:
    last = 0
    if not 1 <= len(intervals) <= limits.INTERVALS_MAX:
        raise unfit("intervals", len(intervals), f"must be from 1 to {limits.INTERVALS_MAX}")
    for i, (end, version) in enumerate(intervals):
        if isinstance(end, bool) or not isinstance(end, int) or not last < end <= 65536:
            raise unfit("intervals end", end, f"must be an integer from {last + 1} to 65536")
        p.ends[i] = end
        p.owners[i] = version_index("intervals version", version, p.n_versions)
        last = end
    if last != 65536:
        raise unfit("intervals end", last, "the last one must be 65536")
    p.n_intervals = <u32>len(intervals)
    return 0


cdef int fill_lists(Plan *p, dict spec, _Texts texts) except -1:
    cdef bytes raw
    for i, name in enumerate(spec["versions"]):
        raw = text_of("versions", name, 255)
        if not raw or dp.scan_value(raw, <const char *>raw + len(raw)) != <const char *>raw + len(raw):
            raise unfit("versions", name, "a name must have no control characters and not be empty")
        p.names[i] = texts.keep(raw)
    for key in ("rules", "overrides"):
        if len(spec[key]) > limits.MATCHES_MAX:
            raise unfit(key, len(spec[key]), f"must be at most {limits.MATCHES_MAX}")
    for i, rule in enumerate(spec["rules"]):
        fill_rule(p, &p.rules[i], rule, texts)
    p.n_rules = <u32>len(spec["rules"])
    for i, (token, version) in enumerate(spec["overrides"]):
        raw = text_of("overrides", token, 255)
        if not raw:
            raise unfit("overrides", token, "a token must not be empty")
        p.overrides[i].value = texts.keep(raw)
        p.overrides[i].version = version_index("overrides version", version, p.n_versions)
    p.n_overrides = <u32>len(spec["overrides"])
    for version in spec["keep_versions"]:
        p.keep[<int>version_index("keep_versions", version, p.n_versions)] = 1
    return 0


cdef int fill_plan(Plan *p, dict spec, _Texts texts) except -1:
    key = spec["cookie_key"]
    names = spec["versions"]
    if isinstance(names, str) or not 1 <= len(names) <= limits.VERSIONS_MAX or len(set(names)) != len(names):
        raise unfit("versions", names, f"must be 1 to {limits.VERSIONS_MAX} different names")
    p.n_versions = <u8>len(names)
    p.stable = version_index("stable", spec["stable"], p.n_versions)
    p.salt = whole_number(spec, "salt", 0, 65535)
    p.mode = one_of("mode", spec["mode"], _ROLLOUT_MODES)
    if not isinstance(key, bytes) or len(key) not in (0, 16):
        raise ValueError("cookie_key: must have 16 bytes, or none for cookies without a signature")
    p.is_signed = len(key) == 16
    memcpy(p.key, <const char *><bytes>key, len(key))
    p.sessions_new_only = bool(spec["sessions_new_only"])
    p.cookie_max_age_s = whole_number(spec, "cookie_max_age_s", 1, 2**31)
    p.sticky_keep = one_of("sticky", spec["sticky"], {"move": False, "keep": True})
    p.retry_on_stable = bool(spec["retry_on_stable"])
    p.retry_budget_percent = whole_number(spec, "retry_budget_percent", 0, 1000)
    p.forwarded_for = bool(spec["forwarded_for"])
    p.propagate = bool(spec["propagate"])
    p.mirror_version = whole_number(spec, "mirror_version", -1, p.n_versions - 1)
    p.mirror_share = whole_number(spec, "mirror_share", 0, 65536)
    fill_intervals(p, spec["intervals"])
    fill_identity(p, spec["identity"], texts)
    fill_lists(p, spec, texts)
    split.seal(p)
    return 0


cdef dict whole_spec(spec):
    unknown = sorted(set(spec) - set(ROLLOUT_DEFAULTS))
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}: must be one of {', '.join(ROLLOUT_DEFAULTS)}")
    whole = {**ROLLOUT_DEFAULTS, **spec}
    whole_number(whole, "id", 1, 2**63 - 1)
    whole_number(whole, "warmup_ms", 0, 2**40)
    whole_number(whole, "address_cap", 0, 2**31)
    if whole["slow_ns"] is not None:
        whole_number(whole, "slow_ns", 0, 2**62)
    return whole


cdef Plan *new_plan(dict spec) except NULL:
    """One reference, the caller's."""
    cdef Plan *p = <Plan *>calloc(1, sizeof(Plan))
    cdef _Texts texts = _Texts(1048576)
    if p == NULL:
        raise MemoryError
    try:
        fill_plan(p, spec, texts)
    except BaseException:
        free(p)
        raise
    p.refs = 1
    p.text = texts.give()
    return p


cdef Rollout *new_rollout(u64 id) except NULL:
    cdef rng.Rng random
    cdef Rollout *r
    rng.seed(&random)
    r = rollout.create(id, <u16>rng.next_u64(&random))
    if r == NULL:
        raise MemoryError
    return r


cdef int set_options(Rollout *r, dict spec) except -1:
    if spec["slow_ns"] is not None:
        dp.store64(&r.slow_ns, spec["slow_ns"])
    dp.store64(&r.warmup_ms, spec["warmup_ms"])
    dp.store32(&r.address_cap, spec["address_cap"])
    dp.store32(&r.count_4xx, bool(spec["count_4xx"]))
    dp.store32(&r.forwarded_for, bool(spec["forwarded_for"]))
    return 0


cdef int check_members(Pool *p, str uri, members, int n_versions) except -1:
    listed = {<size_t>p.array.items[i] for i in range(p.array.n)}
    for handle, version in members.items():
        if handle not in listed:
            raise LookupError(f"route {uri!r} has no endpoint with the handle {handle}")
        if version != endpoint.NO_VERSION:
            version_index("members version", version, n_versions)
    return 0


# -- numbers -------------------------------------------------------------------------------------------------------

cdef Tally *tally_at(Rollout *r, u32 worker):
    return <Tally *>dp.loadp_acq(&r.tallies[worker])


cdef Lane *lane_at(Rollout *r, u32 worker, u32 version):
    cdef Tally *t = tally_at(r, worker)
    return <Lane *>dp.loadp_acq(<void **>&t.lanes[version]) if t != NULL else NULL


cdef int highest_lane(Rollout *r):
    """The highest version with numbers, -1 if there is none."""
    cdef u32 i
    cdef int v, highest = -1
    for i in range(limits.WORKERS_MAX):
        for v in range(limits.VERSIONS_MAX):
            if v > highest and lane_at(r, i, v) != NULL:
                highest = v
    return highest


cdef u64 sum_lanes(Rollout *r, u32 version, size_t offset):
    """The sum of one of a version's numbers over all workers."""
    cdef u64 n = 0
    cdef u32 i
    cdef Lane *l
    for i in range(limits.WORKERS_MAX):
        l = lane_at(r, i, version)
        if l != NULL:
            n += dp.load64(<u64 *>(<char *>l + offset))
    return n


cdef double count_users(Rollout *r, u32 version):
    """Different units seen: HyperLogLog over the workers' registers, with linear counting for few."""
    cdef double total = 0
    cdef u32 i, k, empty = 0
    cdef u8 highest, rank
    cdef Lane *l
    for k in range(tally.REGISTERS):
        highest = 0
        for i in range(limits.WORKERS_MAX):
            l = lane_at(r, i, version)
            if l != NULL:
                rank = dp.load8(&l.registers[k])
                if rank > highest:
                    highest = rank
        total += 1.0 / <double>(<u64>1 << highest)
        empty += highest == 0
    if empty and 2 * empty > tally.REGISTERS // 5:
        return tally.REGISTERS * log(tally.REGISTERS / <double>empty)
    return 0.7213 / (1 + 1.079 / tally.REGISTERS) * tally.REGISTERS * tally.REGISTERS / total


cdef size_t offset_in(Lane *l, void *field):
    return <size_t>(<char *>field - <char *>l)


cdef dict lane_numbers(Rollout *r, u32 version, u32 endpoints):
    cdef Lane l
    cdef u32 k
    one = {
        "requests": 0,
        "by_class": tuple([sum_lanes(r, version, offset_in(&l, &l.series.by_class[k])) for k in range(6)]),
        "failures": {_CAUSES[k]: sum_lanes(r, version, offset_in(&l, &l.failures[k])) for k in range(tally.CAUSES)},
        "users": round(count_users(r, version)),
        "drawn": sum_lanes(r, version, offset_in(&l, &l.drawn)),
        "failovers": sum_lanes(r, version, offset_in(&l, &l.failovers)),
        "retries_on_stable": sum_lanes(r, version, offset_in(&l, &l.retries)),
        "kept": sum_lanes(r, version, offset_in(&l, &l.kept)),
        "forced": sum_lanes(r, version, offset_in(&l, &l.forced)),
        "excluded": sum_lanes(r, version, offset_in(&l, &l.excluded)),
        "mirrored": sum_lanes(r, version, offset_in(&l, &l.mirrored)),
        "mirror_failures": sum_lanes(r, version, offset_in(&l, &l.mirror_failures)),
        "mirror_skipped": sum_lanes(r, version, offset_in(&l, &l.mirror_skipped)),
        "buckets": tuple([
            sum_lanes(r, version, offset_in(&l, &l.series.buckets[k])) for k in range(limits.HIST_BUCKETS)
        ]),
        "sum_ns": sum_lanes(r, version, offset_in(&l, &l.series.sum_ns)),
        "endpoints": endpoints,
    }
    one["requests"] = sum(one["by_class"])
    return one


cdef list sampled_clients(Rollout *r, u32 version):
    """(unit, what the client is called) of a version's latest sampled requests."""
    cdef tally.Sample one
    cdef tally.Sample *s
    cdef Lane *l
    cdef u32 i, k, word
    found = []
    for i in range(limits.WORKERS_MAX):
        l = lane_at(r, i, version)
        for k in range(tally.SAMPLES if l != NULL else 0):
            s = &l.samples[k]
            one.unit = dp.load64_acq(&s.unit)
            for word in range(tally.SAMPLE_WORDS):
                one.words[word] = dp.load64(&s.words[word])
            if one.unit and dp.load64_acq(&s.unit) == one.unit:
                raw = (<char *>one.words)[:sizeof(one.words)]
                found.append((one.unit, raw.rstrip(b"\0").decode("utf-8", "replace")))
    return found


cdef u64 sum_outcomes_dropped(Rollout *r):
    cdef u64 n = 0
    cdef u32 i
    cdef Tally *t
    for i in range(limits.WORKERS_MAX):
        t = tally_at(r, i)
        if t != NULL:
            n += dp.load64(&t.outcomes_dropped)
    return n


cdef bint release_rollout(Rollout *r, bint at_once):
    """Frees a rollout if nobody can reach it and nobody holds it; at_once: the workers are gone."""
    cdef u64 held = 0
    cdef u32 i
    cdef Tally *t
    for i in range(limits.WORKERS_MAX):
        t = tally_at(r, i)
        if t != NULL:
            held += dp.load64_acq(&t.held)
    if not at_once and (held or not r.lost):
        return False
    dp.check(held == 0)
    for i in range(limits.WORKERS_MAX):
        tally.destroy(tally_at(r, i))
    rollout.destroy(r)
    return True


cdef list read_outcomes(Shared *g, int limit):
    cdef tally.OutcomeRing *ring
    cdef tally.Outcome *o
    cdef u32 i
    found = []
    for i in range(g.n_workers):
        ring = &g.workers[i].outcomes
        while len(found) < limit and dp.load64_acq(&ring.head) != ring.tail:
            o = &ring.items[ring.tail & (limits.OUTCOME_RING - 1)]
            found.append({
                "rollout": o.rollout,
                "version": o.version,
                "metric": _METRICS[o.metric],
                "unit": o.unit,
                "u": o.u,
                "status": o.status,
                "cause": fault.row(o.fault).name.decode() if o.fault else _CAUSES.get(o.cause, ""),
                "method": o.method[:o.method_n].decode("utf-8", "replace"),
                "path": o.path[:o.path_n].decode("utf-8", "replace"),
                "request_id": o.request_id[:36].decode(),
                "address": o.address[:o.address_n].decode("utf-8", "replace"),
                "latency_ns": o.latency_ns,
                "at_ns": o.at_ns,
            })
            dp.store64_rel(&ring.tail, ring.tail + 1)
    return found


# -- explain -------------------------------------------------------------------------------------------------------

_REASONS = {
    WHY_NONE: "stable", WHY_INSTANCE: "instance", WHY_OVERRIDE: "override", WHY_STICKY: "sticky",
    WHY_IDENTITY: "identity", WHY_COOKIE: "cookie", WHY_NEW_SESSIONS: "new-sessions-only", WHY_DRAW: "draw",
    WHY_SHARED: "draw",
}


cdef int parse_head(bytes raw, Head *h, Field *fields) except -1:
    cdef u32 scanned = 0
    cdef i64 got
    h.fields = fields
    h.cap = limits.FIELDS_MAX
    got = h1.parse_request(h, raw, <u32>len(raw), &scanned)
    if got <= 0:
        raise ValueError("head: must be a whole request head, as b'GET / HTTP/1.1\\r\\nHost: a.example\\r\\n\\r\\n'")
    return 0


cdef bint has_fit(EndpointArray *a, u64 now_ms, u64 cool_down_ms):
    cdef u32 i
    for i in range(a.n):
        if not balance.cooling(a.items[i], now_ms, cool_down_ms):
            return True
    return False


cdef dict explain_cohort(Shared *g, Split *s, Head *h, bytes peer):
    cdef cohort.Asker a
    cdef Cohort d
    cdef bint bound = False
    a.h = h
    a.cfg = &g.cfg
    a.peer = view(peer)
    a.sticky_id = choice.sticky_of(h, &g.cfg, &bound)
    a.now_ms = clock.mono_ns() // 1000000
    a.rng = NULL
    if not cohort.decide_bare(h, s.plan, &d):   # as choice.enter() does
        cohort.decide(&a, s, &d)
    return {
        "version": d.version,
        "version_name": unview(s.plan.names[d.version]).decode(),
        "reason": f"rule {d.rule + 1}" if d.reason == WHY_RULE else _REASONS[d.reason],
        "u": d.u if d.marks & M_HAS_U else None,
        "slot": d.slot if d.marks & M_HAS_U else None,
        "fallback": d.version != s.plan.stable and not has_fit(s.arrays[d.version], a.now_ms, g.cfg.cool_down_ms),
    }


cdef dict explain_request(Shared *g, bytes raw, str address):
    cdef Head h
    cdef Field *fields = <Field *>calloc(limits.FIELDS_MAX, sizeof(Field))
    cdef Span host, path
    cdef Pool *p
    cdef Split *s
    if fields == NULL:
        raise MemoryError
    try:
        parse_head(raw, &h, fields)
        host = heads.host(&h)
        path = heads.path(&h)
        p = table.find(&g.table, host.p, host.n, path.p, path.n)
        if p == NULL:
            raise LookupError(f"no route for {unview(host).decode('utf-8', 'replace')!r}")
        found = {"route": unview(endpoint.pool_key(p)).decode("utf-8", "replace"), "version": None, "version_name": "",
                 "reason": "no-rollout", "u": None, "slot": None, "fallback": False}
        s = split.of(p)
        if s != NULL:
            found.update(explain_cohort(g, s, &h, address.encode()))
        return found
    finally:
        free(fields)


# -- the rollouts of a data plane ----------------------------------------------------------------------------------

@cython.no_gc
cdef class _Rollouts:
    """States by route key, and those that have ended but may still be in use."""
    cdef dict states            # route key (bytes) -> address of its Rollout
    cdef list ended

    def __cinit__(self):
        self.states = {}
        self.ended = []

    cdef bytes key_of(self, str uri):
        cdef route_key.Key k
        cdef bytes raw = uri.encode()
        cdef int code = route_key.parse(&k, raw, len(raw))
        if code < 0:
            raise route_error(code, uri)
        return k.text[:k.n]

    cdef Rollout *state_of(self, str uri) except NULL:
        address = self.states.get(self.key_of(uri))
        if address is None:
            raise LookupError(f"route {uri!r} has no rollout")
        return <Rollout *><size_t>address

    cdef int publish(self, Shared *g, str uri, spec, members) except -1:
        cdef bytes key = self.key_of(uri)
        cdef Pool *p = table.exact(&g.table, key, len(key))
        cdef Rollout *old = <Rollout *><size_t>self.states.get(key, 0)
        cdef Rollout *r
        cdef Plan *plan
        cdef int code
        if spec is None:
            if p != NULL:
                table.set_plan(&g.table, p, NULL)
            self.retire(g, old)
            self.states.pop(key, None)
            return 0
        if p == NULL:
            raise LookupError(f"route {uri!r} is not in the table")
        whole = whole_spec(spec)
        plan = new_plan(whole)
        try:
            check_members(p, uri, members, plan.n_versions)
            r = old if old != NULL and old.id == <u64>whole["id"] else new_rollout(whole["id"])
            plan.state = r
            set_options(r, whole)
            for handle, version in members.items():
                dp.store8(&(<Endpoint *><size_t>handle).version, version)
            code = table.set_plan(&g.table, p, plan)
        finally:
            split.plan_unref(plan)
        if code < 0:
            if r != old:
                rollout.destroy(r)
            raise MemoryError(uri)
        self.states[key] = <size_t>r
        if r != old:
            self.retire(g, old)
        return 0

    cdef void retire(self, Shared *g, Rollout *r):
        # No split leads there any more.
        if r != NULL:
            epoch.retire(&g.table.epoch, r, rollout.lose)
            self.ended.append(<size_t>r)

    cdef int sweep(self) except -1:
        """Frees ended rollouts that nobody uses; returns how many still wait."""
        kept = []
        for address in self.ended:
            if not release_rollout(<Rollout *><size_t>address, False):
                kept.append(address)
        self.ended = kept
        return len(kept)

    cdef void free_all(self):
        for address in [*self.states.values(), *self.ended]:
            release_rollout(<Rollout *><size_t>address, True)
        self.states.clear()
        self.ended.clear()

    cdef dict numbers_of(self, Shared *g, bytes key):
        cdef Rollout *r = <Rollout *><size_t>self.states[key]
        cdef Pool *p = table.exact(&g.table, key, len(key))
        cdef Split *s = split.of(p) if p != NULL else NULL
        cdef u32 v
        count = s.n if s != NULL else highest_lane(r) + 1
        return {
            "id": r.id,
            "route": key.decode("utf-8", "replace"),
            "draws": dp.load64(&r.draws),
            "versions": [lane_numbers(r, v, s.arrays[v].n if s != NULL else 0) for v in range(count)],
            "bitmap_fill": {_METRICS[m]: dp.load64(&r.marked[<int>m]) / <double>limits.UNIT_BITS for m in _METRICS},
            "outcomes_dropped": sum_outcomes_dropped(r),
            "retry_budget_denied": dp.load64(&r.denied),
        }

    cdef list clients(self, str uri):
        cdef Rollout *r = self.state_of(uri)
        cdef int v
        return [sampled_clients(r, v) for v in range(highest_lane(r) + 1)]

    cdef list numbers(self, Shared *g):
        return [self.numbers_of(g, key) for key in self.states]

# L2: http_rewrite: headers that the operator removes from, or adds to, every answer, the router's own included.
#
# gorouter: first the removals, then what is not present is added; a name given twice is added twice.
from libc.string cimport memmove
from gorouter_py.fastpath.base.types cimport Span, u32, u64
from gorouter_py.fastpath.base cimport dp, fmt, span
from gorouter_py.fastpath.http cimport heads
from gorouter_py.fastpath.flow.stream cimport HeadOut
from gorouter_py.fastpath.flow.state cimport NamedText, Settings, Worker

cdef enum:
    AT = 32768                  # where in the scratch the changed lines are built; below it are the old ones
    ROOM = 24576                # for received and added lines; the configuration is held to half of it

# The first line of a block; advances rest.
cdef inline bint next_line(Span *rest, Span *line) noexcept nogil:
    cdef u32 i = 0
    if rest.n == 0:
        return False
    while rest.p[i] != c'\n':
        i += 1
    line[0] = span.make(rest.p, i + 1)
    rest.p += i + 1
    rest.n -= i + 1
    return True

cdef inline bint is_named(Span line, const NamedText *t) noexcept nogil:
    return line.n > t.name_n and line.p[t.name_n] == c':' and dp.ieq(line.p, t.name, t.name_n)

cdef inline bint is_present(const HeadOut *o, Span added, const NamedText *t) noexcept nogil:
    cdef Span line
    cdef u32 i
    if o.src != NULL:
        for i in range(o.src.nfields):
            if not o.src.fields[i].drop and span.ieq(heads.name(o.src, &o.src.fields[i]), t.name, t.name_n):
                return True
    while next_line(&added, &line):
        if is_named(line, t):
            return True
    return False

cdef inline bint is_removed(const Settings *cfg, Span line) noexcept nogil:
    cdef u32 i
    for i in range(cfg.n_remove):
        if is_named(line, &cfg.remove[i]):
            return True
    return False

# Changes what o will send. o.extra moves within the scratch.
cdef inline void apply(Worker *w, HeadOut *o) noexcept nogil:
    cdef Settings *cfg = &w.shared.cfg
    cdef char *start = w.scratch + AT
    cdef char *at = start
    cdef Span rest = o.extra, line, kept
    cdef u32 i, k
    if (cfg.n_remove == 0 and cfg.n_add == 0) or o.extra.n > ROOM // 2:
        return
    while next_line(&rest, &line):
        if not is_removed(cfg, line):
            at = fmt.span(at, line)
    if o.src != NULL:
        for i in range(o.src.nfields):
            for k in range(cfg.n_remove):
                if span.ieq(heads.name(o.src, &o.src.fields[i]), cfg.remove[k].name, cfg.remove[k].name_n):
                    o.src.fields[i].drop = 1
    kept = span.make(start, <u32>(at - start))
    for i in range(cfg.n_add):
        if not is_present(o, kept, &cfg.add[i]):
            at = fmt.put(at, cfg.add[i].text, cfg.add[i].text_n)
    o.extra = span.make(start, <u32>(at - start))

# L2: the operator's HTML error page: a small program that control compiled from html_error_template_file.
#
# The program is a flat list of steps; a condition that does not hold jumps forward. It is run into memory of a known
# size: what does not fit is cut. Values are escaped as HTML text, since they can come from the request.
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32
from gorouter_py.fastpath.base cimport fmt, span
from gorouter_py.fastpath.flow cimport fault, rewrite
from gorouter_py.fastpath.flow.state cimport *

# What the page can speak of. lines: the answer's headers so far.
cdef struct PageData:
    u32 status
    Span message
    Span lines

cdef inline char *escape(char *w, char *end, Span s) noexcept nogil:
    cdef u32 i
    for i in range(s.n):
        if end - w < 8:
            return w
        if s.p[i] == c'<':
            w = fmt.text(w, b"&lt;")
        elif s.p[i] == c'>':
            w = fmt.text(w, b"&gt;")
        elif s.p[i] == c'&':
            w = fmt.text(w, b"&amp;")
        elif s.p[i] == c'"':
            w = fmt.text(w, b"&#34;")
        elif s.p[i] == c"'":
            w = fmt.text(w, b"&#39;")
        else:
            w[0] = s.p[i]
            w += 1
    return w

cdef inline Span header(Span lines, const NamedText *name) noexcept nogil:
    cdef Span one
    while rewrite.next_line(&lines, &one):
        if rewrite.is_named(one, name):
            return span.trim(span.make(one.p + name.name_n + 1, one.n - name.name_n - 3))
    return span.make(NULL, 0)

# The value a step speaks of; digits is room for a number.
cdef inline Span value(const PageStep *s, const PageData *d, char *digits) noexcept nogil:
    cdef const char *text
    cdef u32 n = 0
    if s.field == PAGE_STATUS:
        return span.make(digits, <u32>(fmt.dec(digits, d.status) - digits))
    if s.field == PAGE_STATUS_TEXT:
        text = fault.reason(d.status)
        while text[n]:
            n += 1
        return span.make(text, n)
    if s.field == PAGE_MESSAGE:
        return d.message
    return header(d.lines, &s.name)

cdef inline bint holds(const Settings *cfg, const PageStep *s, Span v) noexcept nogil:
    cdef u32 i
    if s.n_constants == 0:
        return v.n != 0
    for i in range(s.first_constant, s.first_constant + s.n_constants):
        if span.eq(v, cfg.page_constants[i].text, cfg.page_constants[i].text_n):
            return True
    return False

# Runs the program into [w, end); returns the new end.
cdef inline char *render(const Settings *cfg, char *w, char *end, const PageData *d) noexcept nogil:
    cdef const PageStep *s
    cdef char digits[24]
    cdef Span v
    cdef u32 i = 0
    while i < cfg.n_page:
        s = &cfg.page[i]
        i += 1
        if s.kind == PAGE_LITERAL:
            v = span.make(s.name.text, s.name.text_n)
            if end - w < v.n:
                v.n = <u32>(end - w)
            w = fmt.span(w, v)
        elif s.kind == PAGE_VALUE:
            w = escape(w, end, value(s, d, digits))
        elif s.kind == PAGE_JUMP or not holds(cfg, s, value(s, d, digits)):
            i = s.jump
    return w

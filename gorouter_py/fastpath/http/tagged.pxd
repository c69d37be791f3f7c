# L1: cookies that several apps of one address must not take from each other: names with a tag per app, both ways.
#
# A cookie belongs to a host, not to a port (RFC 6265 8.5). So a listener of the port map gives named cookies of its app
# the name "NAME~xxxxxxxx" on their way to the client, and takes the tag off on the way back; what bears another app's
# tag, or a tagged name without the tag, is not this app's and stays behind. Prefixes such as __Host- keep their place.
# Pure functions on bytes; callers give room for twice the value (a blank may come behind each semicolon) and a tag.
from gorouter_py.fastpath.base.types cimport Span, u8, u32
from gorouter_py.fastpath.base cimport dp, fmt, span
from gorouter_py.fastpath.http cimport cookies

cdef enum:
    TAG_LEN = 9                 # "~" and eight lower-case hex digits

cdef struct CookieName:
    u8 n
    char text[63]

cdef inline bint is_listed(const CookieName *names, u32 n, Span name) noexcept nogil:
    cdef u32 i
    for i in range(n):
        if span.eq(name, names[i].text, names[i].n):
            return True
    return False

# Does a cookie's name end in some app's tag?
cdef inline bint has_tag(Span name) noexcept nogil:
    cdef u32 i
    if name.n <= TAG_LEN or name.p[name.n - TAG_LEN] != c'~':
        return False
    for i in range(name.n - TAG_LEN + 1, name.n):
        if not dp.char_is(name.p[i], dp.C_HEX) or (name.p[i] >= c'A' and name.p[i] <= c'F'):
            return False
    return True

# A Cookie value as the app is to see it; returns w where nothing is left of it.
cdef inline char *strip(char *w, Span line, const char *tag, const CookieName *names, u32 n_names) noexcept nogil:
    cdef char *start = w
    cdef Span part, key, value
    while cookies.next_part(&line, &part):
        if part.n == 0:
            continue
        if not cookies.split(part, &key, &value):
            key = part
        if w != start:
            w[0] = c';'
            w[1] = c' '
            w += 2
        if has_tag(key):
            if span.eq(span.make(key.p + key.n - TAG_LEN, TAG_LEN), tag, TAG_LEN):
                w = fmt.put(w, key.p, key.n - TAG_LEN)
                w = fmt.put(w, key.p + key.n, <u32>(part.p + part.n - key.p) - key.n)
                continue
        elif not is_listed(names, n_names, key):
            w = fmt.span(w, part)
            continue
        if w != start:
            w -= 2                      # this one is another's
    return w

# RFC 6265 5.1.3: does a Domain attribute reach host (lower case)? The host itself and its parents do.
cdef inline bint reaches(Span domain, Span host) noexcept nogil:
    cdef u32 at
    if domain.n and domain.p[0] == c'.':
        domain = span.make(domain.p + 1, domain.n - 1)
    if domain.n == 0 or domain.n > host.n:
        return False
    at = host.n - domain.n
    return dp.ieq(domain.p, host.p + at, domain.n) and (at == 0 or host.p[at - 1] == c'.')

cdef inline bint _is_domain(Span part, Span *value) noexcept nogil:
    cdef Span key
    return cookies.split(part, &key, value) and span.ieq(key, b"domain", 6)

# RFC 6265 5.3: the last Domain attribute is the one that counts.
cdef inline bint _loses_domain(Span line, Span host) noexcept nogil:
    cdef Span part, value
    cdef bint found = False
    if not cookies.next_part(&line, &part):
        return False
    while cookies.next_part(&line, &part):
        if _is_domain(part, &value):
            found = reaches(value, host)
    return found

# A Set-Cookie value as the client is to see it: without a Domain that reaches host, a listed name with the tag.
cdef inline char *mark(char *w, Span line, Span host, const char *tag, const CookieName *names,
                       u32 n_names) noexcept nogil:
    cdef Span name = cookies.set_cookie_name(line)
    cdef bint drop = _loses_domain(line, host)
    cdef bint tagged = name.p != NULL and is_listed(names, n_names, name)
    cdef Span rest = line, part, value
    cdef bint first = True
    if not drop and not tagged:
        return fmt.span(w, line)
    while cookies.next_part(&rest, &part):
        if first and tagged:
            w = fmt.span(w, name)
            w = fmt.put(w, tag, TAG_LEN)
            w = fmt.put(w, name.p + name.n, <u32>(part.p + part.n - name.p) - name.n)
        elif first:
            w = fmt.span(w, part)
        elif part.n and not (drop and _is_domain(part, &value)):
            w = fmt.put(w, b"; ", 2)
            w = fmt.span(w, part)
        first = False
    return w

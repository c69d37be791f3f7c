# The hole through which pytest, hypothesis and the fuzzers reach the header modules. Not shipped.
#
# Every input is copied so that it ends where an unmapped page begins: one octet read too far is a crash here,
# with or without a sanitizer. One process, one thread: the region is shared by all calls.
# Verdicts come back as plain values: a dict, or the name of a ParseFault ("P_BARE_LF"), or "PARTIAL".
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from gorouter_py.fastpath.base.types cimport FAULT_FIRST, PARTIAL, Span, i64, u8, u32, u64
from gorouter_py.fastpath.base cimport clock, dp, limits, sha1, span
from gorouter_py.fastpath.http cimport chunked, cookies, h1, heads, links, tagged, target
from gorouter_py.fastpath.http.chunked cimport Chunked
from gorouter_py.fastpath.http.cookies cimport SetCookie
from gorouter_py.fastpath.http.heads cimport Field, Head

include "_probe_route.pxi"
include "_probe_net.pxi"
include "_probe_rollout.pxi"

cdef extern from "<sys/mman.h>" nogil:
    enum:
        PROT_NONE
        PROT_READ
        PROT_WRITE
        MAP_PRIVATE
        MAP_ANONYMOUS
    void *mmap(void *addr, size_t n, int prot, int flags, int fd, long offset)
    int mprotect(void *addr, size_t n, int prot)

cdef enum:
    REGION = 1 << 22        # the largest input, 4 MiB
    PAGE = 4096

cdef char *region = NULL

cdef char *guarded(bytes data, Py_ssize_t n) except NULL:
    """The first n octets of data, ending at an unmapped page; valid until the next call."""
    global region
    cdef void *got
    if n > REGION or n > PyBytes_GET_SIZE(data):
        raise ValueError("input too long for the probe")
    if region == NULL:
        got = mmap(NULL, REGION + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        if got == <void *>-1 or mprotect(<char *>got + REGION, PAGE, PROT_NONE) != 0:
            raise MemoryError("mmap")
        region = <char *>got
    memcpy(region + REGION - n, PyBytes_AS_STRING(data), n)
    return region + REGION - n

cdef dict FAULTS = {
    heads.P_REQ_LINE: "P_REQ_LINE", heads.P_METHOD: "P_METHOD", heads.P_TARGET: "P_TARGET",
    heads.P_TARGET_TOO_LONG: "P_TARGET_TOO_LONG", heads.P_VERSION: "P_VERSION", heads.P_FIELD_NAME: "P_FIELD_NAME",
    heads.P_FIELD_VALUE: "P_FIELD_VALUE", heads.P_BARE_LF: "P_BARE_LF", heads.P_BARE_CR: "P_BARE_CR",
    heads.P_OBS_FOLD: "P_OBS_FOLD", heads.P_HOST_MISSING: "P_HOST_MISSING",
    heads.P_HOST_DUPLICATE: "P_HOST_DUPLICATE", heads.P_HOST_INVALID: "P_HOST_INVALID",
    heads.P_LENGTH_INVALID: "P_LENGTH_INVALID", heads.P_LENGTH_AND_CODING: "P_LENGTH_AND_CODING",
    heads.P_CODING_UNKNOWN: "P_CODING_UNKNOWN", heads.P_CODING_OLD_VERSION: "P_CODING_OLD_VERSION",
    heads.P_TOO_MANY_FIELDS: "P_TOO_MANY_FIELDS", heads.P_RESP_LINE: "P_RESP_LINE",
    heads.P_CHUNK_SIZE: "P_CHUNK_SIZE", heads.P_CHUNK_EXT: "P_CHUNK_EXT", heads.P_CHUNK_END: "P_CHUNK_END",
    heads.P_TRAILER: "P_TRAILER", heads.P_TRAILER_TOO_LONG: "P_TRAILER_TOO_LONG",
    heads.P_CONNECTION_TOO_LONG: "P_CONNECTION_TOO_LONG", PARTIAL: "PARTIAL",
}
FRAMINGS = ("none", "length", "chunked", "close", "tunnel")
METHODS = ("", "GET", "HEAD", "OPTIONS", "TRACE", "POST", "PUT", "DELETE", "PATCH", "CONNECT")
FLAGS = {
    "keep-alive": heads.F_KEEP_ALIVE, "expect-100": heads.F_EXPECT_100, "expect-other": heads.F_EXPECT_OTHER,
    "upgrade": heads.F_UPGRADE, "websocket": heads.F_WEBSOCKET, "te-trailers": heads.F_TE_TRAILERS,
    "nominates": heads.F_NOMINATES, "absolute": heads.F_ABSOLUTE, "idempotent": heads.F_IDEMPOTENT,
    "cookie": heads.F_HAS_COOKIE, "length": heads.F_HAS_LENGTH, "sets-cookie": heads.F_SETS_COOKIE,
}
LIMITS = {
    "TARGET_MAX": limits.TARGET_MAX, "METHOD_MAX": limits.METHOD_MAX, "CHUNK_LINE_MAX": limits.CHUNK_LINE_MAX,
    "CHUNK_WASTE_MAX": limits.CHUNK_WASTE_MAX, "TRAILER_BYTES_MAX": limits.TRAILER_BYTES_MAX,
    "CONNECTION_BYTES_MAX": limits.CONNECTION_BYTES_MAX, "FIELDS_FIRST": limits.FIELDS_FIRST, "FIELDS_MAX": limits.FIELDS_MAX,
}
ASSERTS = bool(dp.DEBUG_BUILD)

cdef object text(Span s):
    return s.p[:s.n] if s.p != NULL else None

cdef str verdict(i64 r):
    if r >= 0 or (r != PARTIAL and (r > heads.P_REQ_LINE or r < heads.P_LAST)):
        raise AssertionError(f"not a verdict: {r}")
    return FAULTS[r]

cdef dict shown(const Head *h, i64 length):
    """Everything a Head says, and its lines as [name, next name) cuts them."""
    cdef u32 i
    cdef list fields = []
    cdef list lines = []
    cdef dict first = {}
    for i in range(h.nfields):
        fields.append((text(heads.name(h, &h.fields[i])), text(heads.value(h, &h.fields[i])), h.fields[i].id))
        lines.append(h.base[h.fields[i].name:heads.line_end(h, i)])
        if h.fields[i].drop:
            raise AssertionError("a fresh field is marked dropped")
    for i in range(heads.N_COUNT):
        if h.first[i] >= 0:
            first[heads.names[i].text.decode()] = h.first[i]
    return {
        "length": length, "head_len": h.len, "is_response": bool(h.is_response), "minor": h.minor,
        "method": text(heads.method(h)), "method_id": METHODS[h.method], "target": text(heads.target(h)),
        "path": text(heads.path(h)), "host": text(heads.host(h)), "status": h.status,
        "reason": h.base[h.reason:h.reason + h.reason_len], "framing": FRAMINGS[h.framing],
        "content_length": h.content_length, "flags": {name for name, bit in FLAGS.items() if h.flags & <u32>bit},
        "stray_flags": h.flags >> 12, "fields": fields, "lines": lines, "first": first,
    }

cdef object parse(bytes data, object cuts, u32 cap, object request_method):
    cdef Head h
    cdef u32 scanned = 0
    cdef u32 n
    cdef i64 r = PARTIAL
    cdef char *p
    cdef u32 method_id = 0
    cdef bint response = request_method is not None
    if response:
        method_id = METHODS.index(request_method)
    h.fields = <Field *>malloc(cap * sizeof(Field))
    h.cap = cap
    if h.fields == NULL:
        raise MemoryError
    try:
        for n in (*cuts, len(data)):
            p = guarded(data, n)
            # What the last call left must not matter: a worker has one Head for many connections.
            memset(<char *>&h + sizeof(h.base) + sizeof(h.fields), 0xa5, sizeof(Head) - sizeof(h.base) - sizeof(h.fields))
            h.cap = cap
            memset(h.fields, 0xa5, cap * sizeof(Field))
            if response:
                r = h1.parse_response(&h, p, n, &scanned, method_id)
            else:
                r = h1.parse_request(&h, p, n, &scanned)
            if r != PARTIAL:
                break
            if scanned > n:
                raise AssertionError("scanned more than there was")
        return shown(&h, r) if r > 0 else verdict(r)
    finally:
        free(h.fields)

def parse_request(bytes data, cuts=(), u32 cap=4096):
    """What a request head says (a dict), or the verdict's name. With cuts it arrives in pieces that end there."""
    return parse(data, cuts, cap, None)

def parse_response(bytes data, str request_method="GET", cuts=(), u32 cap=4096):
    """What a response head says to a request with that method, as parse_request."""
    return parse(data, cuts, cap, request_method)

def parse_request_growing(bytes data, cuts, list caps):
    """As parse_request, with the next index size of caps after each P_TOO_MANY_FIELDS and nothing else reset."""
    cdef Head h
    cdef u32 scanned = 0
    cdef u32 n
    cdef i64 r = PARTIAL
    cdef char *p
    cdef int at = 0
    h.cap = caps[0]
    h.fields = <Field *>malloc(h.cap * sizeof(Field))
    try:
        for n in (*cuts, len(data)):
            p = guarded(data, n)
            r = h1.parse_request(&h, p, n, &scanned)
            while r == heads.P_TOO_MANY_FIELDS and at + 1 < len(caps):
                at += 1
                free(h.fields)
                h.cap = caps[at]
                h.fields = <Field *>malloc(h.cap * sizeof(Field))
                r = h1.parse_request(&h, p, n, &scanned)
            if r != PARTIAL:
                break
        return shown(&h, r) if r > 0 else verdict(r)
    finally:
        free(h.fields)

def drip(bytes data, bint response=False):
    """Feeds data one octet more at each call, without copying: (verdict or length, calls)."""
    cdef Head h
    cdef Field fields[64]
    cdef u32 scanned = 0
    cdef u32 n = 0
    cdef i64 r = PARTIAL
    cdef char *p = guarded(data, len(data))
    cdef u32 total = <u32>len(data)
    h.fields = fields
    h.cap = 64
    while r == PARTIAL and n < total:
        n += 1
        r = h1.parse_response(&h, p, n, &scanned, heads.M_GET) if response else h1.parse_request(&h, p, n, &scanned)
    return (r if r > 0 else verdict(r)), n

def nominated(bytes data, bytes name):
    """Does the Connection field of this request name that field?"""
    cdef Head h
    cdef Field fields[64]
    cdef u32 scanned = 0
    h.fields = fields
    h.cap = 64
    if h1.parse_request(&h, guarded(data, len(data)), <u32>len(data), &scanned) <= 0:
        raise ValueError("not a request head")
    return bool(h1.nominated(&h, span.make(PyBytes_AS_STRING(name), <u32>len(name))))

def check_host(bytes data, bint port_required=False):
    return bool(target.check_host(guarded(data, len(data)), <u32>len(data), port_required))

def name_table():
    """[(id, text, hop-by-hop, once, framing)] of every known name."""
    return [
        (i, heads.names[i].text, bool(heads.names[i].flags & heads.HOP), bool(heads.names[i].flags & heads.ONCE),
         bool(heads.names[i].flags & heads.FRAMING))
        for i in range(1, heads.N_COUNT)
    ]

def name_id(bytes name):
    return heads.name_id(guarded(name, len(name)), <u32>len(name))

def decode_chunks(pieces, u32 room=limits.TRAILER_BYTES_MAX, bint whole_reads=True):
    """Feeds the pieces one after the other: dict with body, trailer, done, left (octets behind the end), fault."""
    cdef Chunked c
    cdef const char *data
    cdef size_t data_n
    cdef i64 r
    cdef char *p
    cdef size_t at
    cdef size_t n
    cdef bytes piece
    cdef object fault = None
    cdef list body = []
    cdef size_t left = 0
    chunked.init(&c)
    try:
        for piece in pieces:
            n = len(piece)
            at = 0
            if not c.done and fault is None:
                p = guarded(piece, n)
                while at < n and not c.done:
                    r = chunked.next(&c, p + at, n - at, &data, &data_n)
                    if r == chunked.NEED_TRAILER_ROOM:
                        if c.trailer != NULL:
                            raise AssertionError("asks twice for trailer room")
                        c.trailer = <char *>malloc(room)
                        c.trailer_cap = room
                        continue
                    if r < 0:
                        fault = verdict(r)
                        break
                    if r == 0:
                        raise AssertionError("no progress")
                    if data_n:
                        if data < p + at or data + data_n > p + at + r:
                            raise AssertionError("data outside what was consumed")
                        body.append(data[:data_n])
                    at += <size_t>r
            left += n - at
        return {
            "body": b"".join(body), "done": bool(c.done), "fault": fault, "left": left, "pieces": len(body),
            "trailer": c.trailer[:c.trailer_n] if c.trailer != NULL else b"", "asked": c.trailer != NULL,
        }
    finally:
        free(c.trailer)

def write_size(u64 n):
    cdef char *w = guarded(b"\xaa" * chunked.SIZE_LINE_MAX, chunked.SIZE_LINE_MAX)
    cdef u32 k = chunked.write_size(w, n)
    return w[:k]

def get_cookie(bytes data, bytes name):
    """The cookie's value in this request head, None without one."""
    cdef Head h
    cdef Field fields[64]
    cdef u32 scanned = 0
    h.fields = fields
    h.cap = 64
    if h1.parse_request(&h, guarded(data, len(data)), <u32>len(data), &scanned) <= 0:
        raise ValueError("not a request head")
    return text(cookies.get_cookie(&h, PyBytes_AS_STRING(name), <u32>len(name)))

def sha1_hex(bytes data):
    cdef char out[sha1.HEX_LEN]
    sha1.hex_of(out, span.make(guarded(data, len(data)), <u32>len(data)))
    return out[:sha1.HEX_LEN].decode()

def set_cookie_name(bytes line):
    return text(cookies.set_cookie_name(span.make(guarded(line, len(line)), <u32>len(line))))

def parse_set_cookie(bytes line):
    """What a Set-Cookie value says (a dict), None if it sets nothing."""
    cdef SetCookie out
    memset(&out, 0xa5, sizeof(out))
    if not cookies.parse_set_cookie(span.make(guarded(line, len(line)), <u32>len(line)), &out):
        return None
    return {
        "name": text(out.name), "value": text(out.value), "path": text(out.path), "expires": text(out.expires),
        "same_site": text(out.same_site), "site": ("", "lax", "strict", "none", "other")[out.site],
        "secure": bool(out.secure), "http_only": bool(out.http_only), "partitioned": bool(out.partitioned),
        "max_age": None if not out.has_max_age else bool(out.max_age_positive),
    }

def time_requests(bytes data, u32 rounds):
    """Nanoseconds one parse of this request head takes, mean of that many."""
    cdef Head h
    cdef Field fields[64]
    cdef u32 scanned
    cdef u32 n = <u32>len(data)
    cdef u32 i
    cdef u64 began
    cdef u64 sum = 0
    cdef char *p = guarded(data, n)
    h.fields = fields
    h.cap = 64
    began = clock.mono_ns()
    for i in range(rounds):
        scanned = 0
        sum += <u64>h1.parse_request(&h, p, n, &scanned)
    began = clock.mono_ns() - began
    if sum != <u64>n * rounds:
        raise ValueError("not a request head")
    return began / rounds


# ---- what a listener of the port map turns ---------------------------------------------------------------------------

cdef Span borrowed(bytes data):
    """A view that ends where its bytes do; several may be alive at once."""
    return span.make(PyBytes_AS_STRING(data), <u32>len(data))

cdef object written(char *start, char *end):
    try:
        return start[:end - start] if end != NULL else None
    finally:
        free(start)

def turn(bytes uri, bytes host, bytes scheme, bytes authority):
    """The URI reference turned to the authority, None if it does not name host."""
    cdef char *room = <char *>malloc(len(uri) + len(authority) + 16)
    return written(room, links.turn(room, span.make(guarded(uri, len(uri)), <u32>len(uri)), borrowed(host),
                                    borrowed(scheme), borrowed(authority)))

def turn_refresh(bytes value, bytes host, bytes scheme, bytes authority):
    """The same for the value of a Refresh field."""
    cdef char *room = <char *>malloc(len(value) + len(authority) + 16)
    return written(room, links.turn_refresh(room, span.make(guarded(value, len(value)), <u32>len(value)),
                                            borrowed(host), borrowed(scheme), borrowed(authority)))

cdef u32 fill_names(tagged.CookieName *into, list names):
    for i, name in enumerate(names):
        into[i].n = len(name)
        memcpy(into[i].text, <const char *>name, len(name))
    return <u32>len(names)

def strip_cookies(bytes value, bytes tag, list names):
    """A Cookie value as the app sees it."""
    cdef tagged.CookieName listed[16]
    cdef u32 n = fill_names(listed, names)
    cdef char *room = <char *>malloc(2 * len(value) + 1)
    return written(room, tagged.strip(room, span.make(guarded(value, len(value)), <u32>len(value)),
                                      PyBytes_AS_STRING(tag), listed, n))

def mark_cookie(bytes value, bytes host, bytes tag, list names):
    """A Set-Cookie value as the client sees it."""
    cdef tagged.CookieName listed[16]
    cdef u32 n = fill_names(listed, names)
    # a blank is written behind each semicolon: room for as many more
    cdef char *room = <char *>malloc(2 * len(value) + 16)
    return written(room, tagged.mark(room, span.make(guarded(value, len(value)), <u32>len(value)), borrowed(host),
                                     PyBytes_AS_STRING(tag), listed, n))

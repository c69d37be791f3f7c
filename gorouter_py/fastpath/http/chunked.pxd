# L1: the chunked transfer coding (RFC 9112 7.1), both ways. Holds no bytes: data is shown where it lies.
#
# Strict: only CR LF ends a line or a chunk, extensions have the grammar of 7.1.1 without its optional white space
# (which nobody may send), a chunk line has at most limits.CHUNK_LINE_MAX octets, a size at most 16 digits and
# 2^63 - 1. The trailer section is checked as a head's fields are, and may not name what heads.FRAMING marks.
#
# States: SIZE -> (EXT_...) -> LINE_LF -> DATA -> DATA_CR -> DATA_LF -> SIZE, and after a zero size
# LINE_LF -> LINE_START -> (TRAILER -> LINE_START)* -> LAST_LF -> done. Once a fault was returned, c is spent.
# Called by flow on the worker that owns the connection.
from libc.string cimport memchr, memcpy, memset
from gorouter_py.fastpath.base.types cimport u8, u32, u64, i64
from gorouter_py.fastpath.base cimport dp, fmt, limits
from gorouter_py.fastpath.http cimport heads

cdef enum:
    NEED_TRAILER_ROOM = -3  # set c.trailer and c.trailer_cap, then call again with the same bytes
    SIZE_LINE_MAX = 18      # what write_size writes at most

cdef enum State:
    SIZE = 0                # in the hex digits
    EXT_NAME                # behind ';' or in the name
    EXT_VALUE               # behind '=' (a token or a quoted string starts) or in a token
    EXT_QUOTED
    EXT_ESCAPED             # behind a backslash in a quoted string
    EXT_END                 # behind a quoted string
    LINE_LF
    DATA
    DATA_CR
    DATA_LF
    LINE_START              # where a trailer line or the final CR LF starts
    TRAILER
    LAST_LF

cdef struct Chunked:
    u64 left                # octets of the current chunk still to come (in SIZE: its size so far)
    char *trailer           # given by the caller on demand; trailer[0:trailer_n] are whole checked lines once done
    u32 trailer_cap
    u32 trailer_n
    u32 line                # octets of this chunk line, or where in trailer this trailer line started
    u32 waste               # framing octets that the data so far does not justify
    u8 state
    u8 digits               # hex digits of this size
    u8 part                 # octets of this extension name or value, saturating
    u8 done

cdef inline void init(Chunked *c) noexcept nogil:
    memset(c, 0, sizeof(Chunked))

# Takes from p[0:n]: the octets consumed (0 only for n == 0 or when done), NEED_TRAILER_ROOM, or a ParseFault.
# data[0:data_n] is then a piece of the body inside p[0:n], living as long as p; data_n is 0 if there is none.
# Call while input remains and not c.done; what follows the last chunk is never consumed.
cdef inline i64 next(Chunked *c, const char *p, size_t n, const char **data, size_t *data_n) noexcept nogil:
    cdef size_t i = 0
    cdef size_t k
    cdef i64 r
    data[0] = NULL
    data_n[0] = 0
    while i < n and not c.done:
        if c.state == DATA:
            k = n - i if c.left > n - i else <size_t>c.left
            c.left -= k
            if c.left == 0:
                c.state = DATA_CR
            data[0] = p + i
            data_n[0] = k
            return <i64>(i + k)
        if c.state < LINE_LF:
            r = _chunk_line(c, p[i])
        elif c.state < LINE_START:
            r = _line_ends(c, p[i])
        else:
            r = _trailer(c, p + i, n - i)
            if r == NEED_TRAILER_ROOM and i:
                return <i64>i
        if r < 0:
            return r
        i += <size_t>r
    return <i64>i

# One octet of a chunk line before its LF: 1 or a fault.
cdef inline i64 _chunk_line(Chunked *c, char ch) noexcept nogil:
    c.line += 1
    if c.line > limits.CHUNK_LINE_MAX:
        return heads.P_CHUNK_SIZE if c.state == SIZE else heads.P_CHUNK_EXT
    if c.state == SIZE:
        if dp.char_is(ch, dp.C_HEX):
            # RFC 9112 7.1: recipients must not overflow. Sixteen digits fit 64 bits; the top one is checked here.
            if c.digits == 16 or c.left >> 59:
                return heads.P_CHUNK_SIZE
            c.digits += 1
            c.left = c.left << 4 | _hex(ch)
            return 1
        if c.digits == 0:
            return heads.P_CHUNK_END if ch == c'\r' or ch == c'\n' else heads.P_CHUNK_SIZE
        return _part_ends(c, ch, heads.P_CHUNK_SIZE)
    if c.state == EXT_NAME or c.state == EXT_VALUE:
        if dp.char_is(ch, dp.C_TOKEN):
            c.part = 1
            return 1
        if c.state == EXT_VALUE and not c.part and ch == c'"':
            c.state = EXT_QUOTED
            return 1
        if not c.part:
            return heads.P_CHUNK_EXT
        if c.state == EXT_NAME and ch == c'=':
            c.state = EXT_VALUE
            c.part = 0
            return 1
        return _part_ends(c, ch, heads.P_CHUNK_EXT)
    if c.state == EXT_END:
        return _part_ends(c, ch, heads.P_CHUNK_EXT)
    # RFC 9110 5.6.4: quoted-string, here without CR, LF and the other controls, also behind a backslash.
    if not dp.char_is(ch, dp.C_VALUE):
        return heads.P_CHUNK_END if ch == c'\r' or ch == c'\n' else heads.P_CHUNK_EXT
    if c.state == EXT_ESCAPED:
        c.state = EXT_QUOTED
    elif ch == c'"':
        c.state = EXT_END
    elif ch == c'\\':
        c.state = EXT_ESCAPED
    return 1

# Behind a size, a name or a value: the line ends, or an extension follows.
cdef inline i64 _part_ends(Chunked *c, char ch, i64 other) noexcept nogil:
    if ch == c'\r':
        c.state = LINE_LF
        return 1
    if ch == c';':
        c.state = EXT_NAME
        c.part = 0
        return 1
    return heads.P_CHUNK_END if ch == c'\n' else other

cdef inline u64 _hex(char ch) noexcept nogil:
    return <u64>(ch - c'0') if ch <= c'9' else <u64>((ch | 32) - c'a' + 10)

# The octets of CR LF behind a chunk line and behind chunk data: 1 or a fault.
cdef inline i64 _line_ends(Chunked *c, char ch) noexcept nogil:
    cdef u64 earned
    if ch != (c'\r' if c.state == DATA_CR else c'\n'):
        return heads.P_CHUNK_END
    if c.state == DATA_CR:
        c.state = DATA_LF
    elif c.state == DATA_LF:
        c.state = SIZE
        c.digits = 0
        c.line = 0
    else:
        earned = 16 + (c.left * 2 if c.left < limits.CHUNK_WASTE_MAX else 2 * limits.CHUNK_WASTE_MAX)
        c.waste += c.line + 1
        c.waste = c.waste - <u32>earned if c.waste > earned else 0
        if c.waste > limits.CHUNK_WASTE_MAX:
            return heads.P_CHUNK_EXT
        c.state = DATA if c.left else LINE_START
    return 1

# Octets of the trailer section (RFC 9112 7.1.2): how many were taken, NEED_TRAILER_ROOM, or a fault.
cdef inline i64 _trailer(Chunked *c, const char *p, size_t n) noexcept nogil:
    cdef const char *lf
    cdef size_t k = n
    if c.state == LAST_LF:
        if p[0] != c'\n':
            return heads.P_TRAILER
        c.done = 1
        return 1
    if c.state == LINE_START:
        if p[0] == c'\r':
            c.state = LAST_LF
            return 1
        if c.trailer == NULL:
            return NEED_TRAILER_ROOM
        c.state = TRAILER
        c.line = c.trailer_n
    lf = <const char *>memchr(p, c'\n', n)
    if lf != NULL:
        k = <size_t>(lf - p) + 1
    if k > limits.TRAILER_BYTES_MAX - c.trailer_n or k > c.trailer_cap - c.trailer_n:
        return heads.P_TRAILER_TOO_LONG
    memcpy(c.trailer + c.trailer_n, p, k)
    c.trailer_n += <u32>k
    if lf != NULL:
        c.state = LINE_START
        if not _trailer_line_ok(c.trailer + c.line, c.trailer_n - c.line):
            return heads.P_TRAILER
    return <i64>k

# A whole line with its LF: field syntax (RFC 9112 5), and a name that may stand in a trailer (RFC 9110 6.5.1).
cdef inline bint _trailer_line_ok(const char *p, u32 n) noexcept nogil:
    cdef const char *end = p + n
    cdef const char *colon
    if n < 3 or (end - 2)[0] != c'\r':
        return False
    end -= 2
    colon = dp.scan_class(p, end, dp.C_TOKEN)
    if colon == end or colon == p or colon[0] != c':' or dp.scan_value(colon, end) != end:
        return False
    return not heads.names[heads.name_id(p, <u32>(colon - p))].flags & heads.FRAMING

# Writes a chunk line, "1a2b\r\n"; at most SIZE_LINE_MAX octets. The number of them.
cdef inline u32 write_size(char *w, u64 n) noexcept nogil:
    cdef char *e = fmt.hex_min(w, n)
    e[0] = c'\r'
    e[1] = c'\n'
    return <u32>(e + 2 - w)

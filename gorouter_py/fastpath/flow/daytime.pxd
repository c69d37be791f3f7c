# L2: wall-clock texts, rendered once a second and kept in the worker.
from gorouter_py.fastpath.base.types cimport Span, u64
from gorouter_py.fastpath.base cimport clock, fmt, span
from gorouter_py.fastpath.flow.state cimport Worker

# IMF-fixdate of a second (RFC 9110 5.6.7); lives until the next call.
cdef inline Span date(Worker *w, u64 second) noexcept nogil:
    cdef clock.tm t
    cdef clock.time_t at = <clock.time_t>second
    cdef const char *days = b"SunMonTueWedThuFriSat"
    cdef const char *months = b"JanFebMarAprMayJunJulAugSepOctNovDec"
    cdef char *p = w.date_text
    if w.date_s != second:
        w.date_s = second
        clock.gmtime_r(&at, &t)
        p = fmt.put(p, days + t.tm_wday * 3, 3)
        p = fmt.put(p, b", ", 2)
        p = fmt.dec_pad(p, t.tm_mday, 2)
        p = fmt.put(p, b" ", 1)
        p = fmt.put(p, months + t.tm_mon * 3, 3)
        p = fmt.put(p, b" ", 1)
        p = fmt.dec_pad(p, t.tm_year + 1900, 4)
        p = fmt.put(p, b" ", 1)
        p = fmt.dec_pad(p, t.tm_hour, 2)
        p = fmt.put(p, b":", 1)
        p = fmt.dec_pad(p, t.tm_min, 2)
        p = fmt.put(p, b":", 1)
        p = fmt.dec_pad(p, t.tm_sec, 2)
        fmt.put(p, b" GMT", 4)
    return span.make(w.date_text, 29)

# "2006-01-02T15:04:05." of a second in local time; lives until the next call.
# gorouter: local time with a literal Z behind the nanoseconds.
cdef inline Span stamp(Worker *w, u64 second) noexcept nogil:
    cdef clock.tm t
    cdef clock.time_t at = <clock.time_t>second
    if w.stamp_s != second:
        w.stamp_s = second
        clock.localtime_r(&at, &t)
        fmt.put(iso(w.stamp_text, &t), b".", 1)
    return span.make(w.stamp_text, 20)

# 2006-01-02T15:04:05
cdef inline char *iso(char *p, const clock.tm *t) noexcept nogil:
    p = fmt.dec_pad(p, t.tm_year + 1900, 4)
    p = fmt.put(p, b"-", 1)
    p = fmt.dec_pad(p, t.tm_mon + 1, 2)
    p = fmt.put(p, b"-", 1)
    p = fmt.dec_pad(p, t.tm_mday, 2)
    p = fmt.put(p, b"T", 1)
    p = fmt.dec_pad(p, t.tm_hour, 2)
    p = fmt.put(p, b":", 1)
    p = fmt.dec_pad(p, t.tm_min, 2)
    p = fmt.put(p, b":", 1)
    return fmt.dec_pad(p, t.tm_sec, 2)

# A second in local time with its offset (RFC 3339 5.6), at most 25 bytes.
cdef inline char *rfc3339(char *p, u64 second) noexcept nogil:
    cdef clock.tm t
    cdef clock.time_t at = <clock.time_t>second
    cdef long minutes
    clock.localtime_r(&at, &t)
    p = iso(p, &t)
    if t.tm_gmtoff == 0:
        return fmt.put(p, b"Z", 1)
    minutes = (t.tm_gmtoff if t.tm_gmtoff > 0 else -t.tm_gmtoff) // 60
    p = fmt.put(p, b"+" if t.tm_gmtoff > 0 else b"-", 1)
    p = fmt.dec_pad(p, minutes // 60, 2)
    p = fmt.put(p, b":", 1)
    return fmt.dec_pad(p, minutes % 60, 2)

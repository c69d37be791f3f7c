# L0: time. Durations and deadlines are monotonic; wall-clock time is only written into logs and headers.
from gorouter_py.fastpath.base.types cimport i64, u64

cdef extern from "<time.h>" nogil:
    ctypedef long time_t
    cdef struct timespec:
        time_t tv_sec
        long tv_nsec
    cdef struct tm:
        int tm_sec, tm_min, tm_hour, tm_mday, tm_mon, tm_year, tm_wday, tm_yday, tm_isdst
        long tm_gmtoff
    int clock_gettime(int clk, timespec *ts) noexcept
    tm *localtime_r(const time_t *t, tm *out) noexcept
    tm *gmtime_r(const time_t *t, tm *out) noexcept
    int nanosleep(const timespec *req, timespec *rem) noexcept
    enum:
        CLOCK_MONOTONIC
        CLOCK_REALTIME

cdef inline u64 mono_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <u64>t.tv_sec * 1000000000 + <u64>t.tv_nsec

cdef inline u64 wall_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_REALTIME, &t)
    return <u64>t.tv_sec * 1000000000 + <u64>t.tv_nsec

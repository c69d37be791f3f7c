# L0: integer names and the result convention of the data plane.
#
# A function that can fail returns an int or i64: >= 0 is progress, PARTIAL and AGAIN ask for more input or
# for a later call, and every value <= FAULT_FIRST names a fault (rows in flow/fault.h).
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int32_t, int64_t

ctypedef uint8_t u8
ctypedef uint16_t u16
ctypedef uint32_t u32
ctypedef uint64_t u64
ctypedef int32_t i32
ctypedef int64_t i64

cdef enum:
    PARTIAL = -1
    AGAIN = -2
    FAULT_FIRST = -16

# A view of bytes that somebody else owns; the function that returns one says how long it lives.
cdef struct Span:
    const char *p
    u32 n

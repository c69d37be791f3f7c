# L1: is an address within a network? IPv4 is taken as the part ::ffff:0:0/96 of IPv6, so there is one comparison.
from libc.string cimport memcmp, memcpy, memset
from gorouter_py.fastpath.base.types cimport u8, u16, u32
from gorouter_py.fastpath.base cimport csys

cdef struct Network:
    u8 addr[16]                 # bits behind the prefix are zero
    u8 bits                     # 0 to 128

# The sixteen bytes of a sockaddr; False for another family.
cdef inline bint widen(u8 *out, const u8 *addr) noexcept nogil:
    cdef u16 family = (<csys.sockaddr *>addr).sa_family
    if family == csys.AF_INET6:
        memcpy(out, addr + 8, 16)
        return True
    if family != csys.AF_INET:
        return False
    memset(out, 0, 10)
    out[10] = out[11] = 0xff
    memcpy(out + 12, addr + 4, 4)
    return True

cdef inline bint holds(const Network *n, const u8 *wide) noexcept nogil:
    cdef u32 whole = n.bits // 8
    cdef u32 rest = n.bits % 8
    if memcmp(n.addr, wide, whole) != 0:
        return False
    return rest == 0 or ((n.addr[whole] ^ wide[whole]) >> (8 - rest)) == 0

# L1: what the data plane does with sockets besides moving bytes. No state.
from gorouter_py.fastpath.base.types cimport u8, u16, u32
from gorouter_py.fastpath.base cimport csys, dp, fmt

# Small writes do not wait for the peer's acknowledgement of the last one.
cdef inline void no_delay(int fd) noexcept nogil:
    cdef int one = 1
    csys.setsockopt(fd, csys.IPPROTO_TCP, csys.TCP_NODELAY, &one, sizeof(one))

# A non-blocking TCP socket that has started to connect. >= 0 the descriptor, else -errno.
cdef inline int start_connect(const u8 *addr, u32 addr_len) noexcept nogil:
    cdef int err
    cdef int fd = csys.socket((<csys.sockaddr *>addr).sa_family, csys.SOCK_STREAM | csys.SOCK_NONBLOCK | csys.SOCK_CLOEXEC, 0)
    if fd < 0:
        return -dp.get_errno()
    no_delay(fd)
    if csys.connect(fd, <const csys.sockaddr *>addr, addr_len) == 0:
        return fd
    err = dp.get_errno()
    if err == csys.EINPROGRESS:
        return fd
    csys.close(fd)
    return -err

cdef inline int pending_error(int fd) noexcept nogil:
    cdef int err = 0
    cdef csys.socklen_t n = sizeof(err)
    if csys.getsockopt(fd, csys.SOL_SOCKET, csys.SO_ERROR, &err, &n) != 0:
        return dp.get_errno()
    return err

# True if the peer has neither closed nor sent anything: a kept connection that is fit for use.
cdef inline bint is_quiet(int fd) noexcept nogil:
    cdef char c
    return csys.recv(fd, &c, 1, csys.MSG_PEEK | csys.MSG_DONTWAIT) < 0 and dp.get_errno() == csys.EAGAIN

# close() that sends RST, so that the peer sees a cut and not an end.
cdef inline void abort_close(int fd) noexcept nogil:
    cdef csys.linger_t l
    l.l_onoff = 1
    l.l_linger = 0
    csys.setsockopt(fd, csys.SOL_SOCKET, csys.SO_LINGER, &l, sizeof(l))
    csys.close(fd)

# how: EPOLL_CTL_ADD, or EPOLL_CTL_MOD for a socket that is watched already.
cdef inline int watch(int ep, int how, int fd, u32 events, void *ptr) noexcept nogil:
    cdef csys.epoll_event ev
    ev.events = events
    ev.data.ptr = ptr
    return csys.epoll_ctl(ep, how, fd, &ev)

# "ip:port" ("[v6]:port") of a sockaddr; returns the length, *ip_len that of the address part (without brackets
# when read from ip_off).
cdef inline u32 write_addr(char *w, const u8 *addr, u16 *ip_off, u16 *ip_len) noexcept nogil:
    cdef char *start = w
    cdef u16 family = (<csys.sockaddr *>addr).sa_family
    cdef u32 port = (<u32>addr[2] << 8) | addr[3]
    cdef int i
    if family == csys.AF_INET or (family == csys.AF_INET6 and is_v4_mapped(addr)):
        addr += 4 if family == csys.AF_INET else 20
        for i in range(4):
            if i:
                w[0] = c'.'
                w += 1
            w = fmt.dec(w, addr[i])
        ip_off[0] = 0
        ip_len[0] = <u16>(w - start)
    elif family == csys.AF_INET6:
        w[0] = c'['
        w = write_v6(w + 1, addr + 8)
        ip_off[0] = 1
        ip_len[0] = <u16>(w - start - 1)
        w[0] = c']'
        w += 1
    else:
        w[0] = c'@'
        ip_off[0] = 0
        ip_len[0] = 1
        return 1
    w[0] = c':'
    w = fmt.dec(w + 1, port)
    return <u32>(w - start)

# Our own end of a connection, "ip:port"; 0 if it cannot be had.
cdef inline u32 write_local(char *w, int fd) noexcept nogil:
    cdef u8 addr[128]
    cdef csys.socklen_t n = sizeof(addr)
    cdef u16 off, ip_n
    if csys.getsockname(fd, <csys.sockaddr *>addr, &n) != 0:
        return 0
    return write_addr(w, addr, &off, &ip_n)

cdef inline bint is_v4_mapped(const u8 *addr) noexcept nogil:
    cdef int i
    for i in range(8, 18):
        if addr[i]:
            return False
    return addr[18] == 0xff and addr[19] == 0xff

# RFC 5952: lower case, the longest run of two or more zero groups as "::".
cdef inline char *write_v6(char *w, const u8 *a) noexcept nogil:
    cdef int i, j, best = -1, best_n = 1, n
    i = 0
    while i < 8:
        n = 0
        while i + n < 8 and a[2 * (i + n)] == 0 and a[2 * (i + n) + 1] == 0:
            n += 1
        if n > best_n:
            best = i
            best_n = n
        i += n + 1
    i = 0
    while i < 8:
        if i == best:
            w[0] = c':'
            w[1] = c':'
            w += 2
            i += best_n
            continue
        if i and i != best + best_n:
            w[0] = c':'
            w += 1
        elif i and best < 0:
            w[0] = c':'
            w += 1
        w = fmt.hex_min(w, (<u32>a[2 * i] << 8) | a[2 * i + 1])
        i += 1
    return w

# L0: the kernel calls of the data plane, declared once.
from gorouter_py.fastpath.base.types cimport u8, u16, u32, u64

cdef extern from "<sys/types.h>" nogil:
    pass

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    cdef struct sockaddr:
        u16 sa_family
    cdef struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    int socket(int domain, int type, int protocol) noexcept
    int connect(int fd, const sockaddr *addr, socklen_t n) noexcept
    int accept4(int fd, sockaddr *addr, socklen_t *n, int flags) noexcept
    ssize_t recv(int fd, void *p, size_t n, int flags) noexcept
    ssize_t send(int fd, const void *p, size_t n, int flags) noexcept
    ssize_t sendmsg(int fd, const msghdr *m, int flags) noexcept
    int shutdown(int fd, int how) noexcept
    int getsockname(int fd, sockaddr *addr, socklen_t *n) noexcept
    int setsockopt(int fd, int level, int name, const void *p, socklen_t n) noexcept
    int getsockopt(int fd, int level, int name, void *p, socklen_t *n) noexcept
    enum:
        AF_INET
        AF_INET6
        AF_UNIX
        SOCK_STREAM
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        SOL_SOCKET
        SO_ERROR
        SO_KEEPALIVE
        SO_LINGER
        SHUT_WR
        SHUT_RD
        MSG_NOSIGNAL
        MSG_DONTWAIT
        MSG_PEEK
        MSG_MORE
    cdef struct linger_t "linger":
        int l_onoff
        int l_linger

cdef extern from "<netinet/in.h>" nogil:
    enum:
        IPPROTO_TCP

cdef extern from "<netinet/tcp.h>" nogil:
    enum:
        TCP_NODELAY

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        void *ptr
        u64 u64_ "u64"
    cdef struct epoll_event:
        u32 events
        epoll_data_t data
    int epoll_create1(int flags) noexcept
    int epoll_ctl(int ep, int op, int fd, epoll_event *ev) noexcept
    int epoll_wait(int ep, epoll_event *evs, int n, int timeout_ms) noexcept
    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_DEL
        EPOLL_CTL_MOD
        EPOLLIN
        EPOLLOUT
        EPOLLRDHUP
        EPOLLHUP
        EPOLLERR
        EPOLLET

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int v, int flags) noexcept
    enum:
        EFD_CLOEXEC
        EFD_NONBLOCK

cdef extern from "<fcntl.h>" nogil:
    int open_file "open"(const char *path, int flags, int mode) noexcept
    enum:
        O_WRONLY
        O_APPEND
        O_CREAT
        O_CLOEXEC

cdef extern from "<unistd.h>" nogil:
    int close(int fd) noexcept
    ssize_t read(int fd, void *p, size_t n) noexcept
    ssize_t write(int fd, const void *p, size_t n) noexcept

cdef extern from "<poll.h>" nogil:
    cdef struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *p, unsigned long n, int timeout_ms) noexcept
    enum:
        POLLIN
        POLLOUT

cdef extern from "<errno.h>" nogil:
    enum:
        EAGAIN
        EINTR
        EINPROGRESS
        ECONNREFUSED
        ECONNRESET
        ETIMEDOUT
        EHOSTUNREACH
        ENETUNREACH
        EPIPE
        EMFILE
        ENFILE
        ENOBUFS
        ENOMEM
        ECONNABORTED
        EADDRNOTAVAIL

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int sigfillset(sigset_t *s) noexcept
    enum:
        SIG_SETMASK

cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t
    ctypedef struct pthread_attr_t:
        pass
    int pthread_attr_init(pthread_attr_t *a) noexcept
    int pthread_attr_setstacksize(pthread_attr_t *a, size_t n) noexcept
    int pthread_attr_destroy(pthread_attr_t *a) noexcept
    int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *) noexcept nogil, void *arg) noexcept
    int pthread_timedjoin_np(pthread_t t, void **out, const void *abstime) noexcept
    int pthread_sigmask(int how, const sigset_t *set, sigset_t *old) noexcept
    int pthread_setname_np(pthread_t t, const char *name) noexcept
    pthread_t pthread_self() noexcept

cdef extern from "<arpa/inet.h>" nogil:
    int inet_pton(int family, const char *text, void *addr) noexcept

/* A small and fast HTTP/1.1 origin for measurements: what stands behind the proxies under test.
 *
 * One thread, one epoll loop, any number of loopback ports (-p, repeatable). It answers every request with 200 and a
 * body of its own name (-n, default "hello world"); a target that starts with /64k gets 65,536 bytes, /login also gets a
 * session cookie (JSESSIONID). -d delays each answer by so many milliseconds, so that requests are in flight when a
 * test kills the process. Keep-alive and pipelining work; request bodies need a Content-Length and are thrown away.
 * It is no web server: it trusts its clients, who are the proxies of the bench.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { IN_MAX = 32768, FDS_MAX = 1 << 18, EVENTS = 512, BIG = 65536, LOGIN_HEAD_MAX = 512 };

struct conn {
    int fd, listening, closing, waiting, want_out;
    uint32_t generation;    /* tells a delayed answer that its connection is another one by now */
    uint64_t skip;          /* bytes of the request body still to come */
    size_t in_len, out_off, out_len;
    const char *out;
    char login[LOGIN_HEAD_MAX];
    char in[IN_MAX];
};

struct due { uint64_t at_ns; uint32_t fd, generation; };

static struct conn *conns[FDS_MAX];
static int loop_fd;
static char *small_answer, *big_answer;
static size_t small_len, big_len;
static char body_name[128] = "hello world";
static uint64_t delay_ns, session;
static struct due *dues;        /* constant delay, so first in is first due */
static size_t due_head, due_tail, due_cap = 1 << 16;

static void die(const char *what) { perror(what); exit(1); }

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void build_answers(void) {
    size_t n = strlen(body_name) + 1;
    small_answer = malloc(n + 256);
    small_len = (size_t)sprintf(small_answer,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%s\n", n, body_name);
    big_answer = malloc(BIG + 256);
    int head = sprintf(big_answer, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", BIG);
    memset(big_answer + head, 'x', BIG);
    big_len = (size_t)head + BIG;
}

static void drop(struct conn *c) {
    conns[c->fd] = NULL;
    close(c->fd);
    free(c);
}

static void watch(struct conn *c, int out) {
    if (c->want_out == out) return;
    c->want_out = out;
    struct epoll_event e = {.events = out ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.fd = c->fd};
    if (epoll_ctl(loop_fd, EPOLL_CTL_MOD, c->fd, &e)) die("epoll_ctl");
}

/* Sends what is left of the answer. 1 done, 0 the socket is full, -1 the connection is gone. */
static int flush(struct conn *c) {
    while (c->out_off < c->out_len) {
        ssize_t n = send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) { watch(c, 1); return 0; }
            return -1;
        }
        c->out_off += (size_t)n;
    }
    c->out_len = c->out_off = 0;
    watch(c, 0);
    return c->closing ? -1 : 1;
}

/* Reads what matters of a head: how long the body is, whether the connection ends. -1: chunked, not spoken here. */
static int read_fields(struct conn *c, const char *p, const char *end) {
    c->skip = 0;
    while ((p = memchr(p, '\n', (size_t)(end - p))) && ++p < end) {
        if ((*p | 32) == 'c') {
            if (!strncasecmp(p, "content-length:", 15)) c->skip = strtoull(p + 15, NULL, 10);
            else if (!strncasecmp(p, "connection: close", 17)) c->closing = 1;
        } else if ((*p | 32) == 't' && !strncasecmp(p, "transfer-encoding:", 18)) return -1;
    }
    return 0;
}

static void choose_answer(struct conn *c) {
    const char *target = memchr(c->in, ' ', 16);
    c->out = small_answer;
    c->out_len = small_len;
    if (target && !memcmp(target, " /64k", 5)) {
        c->out = big_answer;
        c->out_len = big_len;
    } else if (target && !memcmp(target, " /login", 7)) {
        c->out = c->login;
        c->out_len = (size_t)snprintf(c->login, sizeof c->login,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nSet-Cookie: JSESSIONID=%08llx%08x; Path=/; HttpOnly\r\n"
            "Content-Length: %zu\r\n\r\n%s\n", (unsigned long long)++session, (unsigned)getpid(),
            strlen(body_name) + 1, body_name);
    }
}

static void wait_until_due(struct conn *c) {
    if (due_tail - due_head == due_cap) { fprintf(stderr, "origin: too many delayed answers\n"); exit(1); }
    dues[due_tail++ % due_cap] = (struct due){now_ns() + delay_ns, (uint32_t)c->fd, c->generation};
    c->waiting = 1;
}

/* Takes as many whole requests from the buffer as can be answered at once. -1: close. */
static int serve(struct conn *c) {
    for (;;) {
        if (c->skip) {
            size_t n = c->skip < c->in_len ? (size_t)c->skip : c->in_len;
            memmove(c->in, c->in + n, c->in_len - n);
            c->in_len -= n;
            c->skip -= n;
            if (c->skip) return 0;
            if (delay_ns) { wait_until_due(c); return 0; }
            int done = flush(c);
            if (done <= 0) return done;
        }
        char *end = c->in_len ? memmem(c->in, c->in_len, "\r\n\r\n", 4) : NULL;
        if (!end) return c->in_len == IN_MAX ? -1 : 0;
        if (read_fields(c, c->in, end) < 0) return -1;
        choose_answer(c);
        size_t head = (size_t)(end + 4 - c->in);
        memmove(c->in, c->in + head, c->in_len - head);
        c->in_len -= head;
        if (c->skip) continue;      /* the answer goes out when the body is in */
        if (delay_ns) { wait_until_due(c); return 0; }
        int done = flush(c);
        if (done <= 0) return done;
    }
}

static void on_readable(struct conn *c) {
    ssize_t n = recv(c->fd, c->in + c->in_len, IN_MAX - c->in_len, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) { drop(c); return; }
    if (n < 0) return;
    c->in_len += (size_t)n;
    if (c->waiting || c->want_out) return;
    if (serve(c) < 0) drop(c);
}

static void on_accept(int listener) {
    for (int i = 0; i < 64; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
        static uint32_t generations;
        if (fd < 0) return;
        if (fd >= FDS_MAX) { close(fd); return; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct conn *c = conns[fd] = calloc(1, sizeof *c);
        c->fd = fd;
        c->generation = ++generations;
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(loop_fd, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl");
    }
}

static int fire_dues(void) {
    uint64_t now = delay_ns ? now_ns() : 0;
    while (due_head != due_tail) {
        struct due *d = &dues[due_head % due_cap];
        if (d->at_ns > now) return (int)((d->at_ns - now) / 1000000u) + 1;
        due_head++;
        struct conn *c = conns[d->fd];
        if (!c || c->generation != d->generation) continue;
        c->waiting = 0;
        int done = flush(c);
        if (done < 0 || (done > 0 && serve(c) < 0)) drop(c);
    }
    return -1;
}

static void listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 4096)) die("listen");
    struct conn *c = conns[fd] = calloc(1, sizeof *c);
    c->fd = fd;
    c->listening = 1;
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(loop_fd, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl");
}

int main(int argc, char **argv) {
    int opt, ports[64], nports = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while ((opt = getopt(argc, argv, "p:d:n:")) != -1) {
        if (opt == 'p' && nports < 64) ports[nports++] = atoi(optarg);
        else if (opt == 'd') delay_ns = (uint64_t)atoi(optarg) * 1000000u;
        else if (opt == 'n') snprintf(body_name, sizeof body_name, "%s", optarg);
        else { fprintf(stderr, "usage: origin -p PORT [-p PORT ...] [-d MS] [-n NAME]\n"); return 2; }
    }
    struct rlimit lim;
    if (!getrlimit(RLIMIT_NOFILE, &lim)) { lim.rlim_cur = lim.rlim_max; setrlimit(RLIMIT_NOFILE, &lim); }
    loop_fd = epoll_create1(EPOLL_CLOEXEC);
    dues = calloc(due_cap, sizeof *dues);
    build_answers();
    for (int i = 0; i < nports; i++) listen_on(ports[i]);
    for (;;) {
        static struct epoll_event events[EVENTS];
        int n = epoll_wait(loop_fd, events, EVENTS, fire_dues());
        for (int i = 0; i < n; i++) {
            struct conn *c = conns[events[i].data.fd];
            if (!c) continue;
            if (c->listening) { on_accept(c->fd); continue; }
            if (events[i].events & EPOLLOUT) {
                int done = flush(c);
                if (done < 0 || (done > 0 && serve(c) < 0)) { drop(c); continue; }
            }
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(c);
        }
    }
}

/* A steady, strict client: so many GETs a second whatever the answers do, each timed from when it was due.
 *
 * An open loop hides nothing: a request that has to wait because the router stalls keeps its scheduled start, so the stall
 * is in the latencies of all requests it held up (no "coordinated omission"). One thread, one epoll loop, -c keep-alive
 * connections; it repeats nothing on its own account: a refused connection, one that ends before a whole answer, a status
 * other than 200, a body other than the expected one (-b, compared as prefix) or no answer in -T ms count as failures.
 * A connection that the server closes while no request is on it is just opened again. Prints one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
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
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { IN_MAX = 16384, CONNS_MAX = 1024 };
enum { F_CONNECT, F_CLOSED, F_SHORT, F_STATUS, F_BODY, F_FRAMING, F_TIMEOUT, F_KINDS };
static const char *const kinds[F_KINDS] = {"connect", "closed", "short", "status", "body", "framing", "timeout"};
enum state { CLOSED, CONNECTING, IDLE, BUSY };

struct conn {
    int fd;
    enum state state;
    int has_request;
    uint64_t due_ns, sent_ns;
    size_t len, head_len, need;     /* need: whole answer, 0 while the head is not complete */
    char in[IN_MAX];
};

static struct conn conns[CONNS_MAX];
static int nconns = 16, loop_fd, timer_fd;
static struct sockaddr_in addr = {.sin_family = AF_INET};
static char request[4096];
static size_t request_len;
static const char *expected;
static uint64_t failures[F_KINDS], statuses[600], timeout_ns = 5000000000u;
static uint32_t *latencies_us;
static uint64_t *waiting;           /* due times without a free connection yet */
static size_t total, issued, done, good, wait_head, wait_tail;

static void die(const char *what) { perror(what); exit(1); }

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void hang_up(struct conn *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->state = CLOSED;
    c->len = c->need = 0;
}

static void fail(struct conn *c, int kind) {
    failures[kind]++;
    done++;
    c->has_request = 0;
    hang_up(c);
}

static void dial(struct conn *c) {
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->fd, (struct sockaddr *)&addr, sizeof addr) && errno != EINPROGRESS) {
        hang_up(c);
        if (c->has_request) fail(c, F_CONNECT);
        return;
    }
    c->state = CONNECTING;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    if (epoll_ctl(loop_fd, EPOLL_CTL_ADD, c->fd, &e)) die("epoll_ctl");
}

static void send_request(struct conn *c) {
    c->state = BUSY;
    c->len = c->need = 0;
    if (send(c->fd, request, request_len, MSG_NOSIGNAL) != (ssize_t)request_len) fail(c, F_CLOSED);
}

static void give(struct conn *c, uint64_t due, uint64_t now) {
    c->has_request = 1;
    c->due_ns = due;
    c->sent_ns = now;
    if (c->state == IDLE) send_request(c);
    else if (c->state == CLOSED) dial(c);
}

/* Hands waiting requests to free connections; open idle ones first. */
static void spread(uint64_t now) {
    for (int pass = 0; pass < 2 && wait_head != wait_tail; pass++)
        for (int i = 0; i < nconns && wait_head != wait_tail; i++) {
            struct conn *c = &conns[(issued + (size_t)i) % (size_t)nconns];
            if (c->has_request || c->state != (pass ? CLOSED : IDLE)) continue;
            give(c, waiting[wait_head++ % total], now);
        }
}

static void answered(struct conn *c) {
    int status = atoi(c->in + 9);
    if (status >= 100 && status < 600) statuses[status]++;
    uint64_t us = (now_ns() - c->due_ns) / 1000u;
    int closing = memmem(c->in, c->head_len, "onnection: close", 16) != NULL;
    if (status != 200) {
        failures[F_STATUS]++;
    } else if (expected && strncmp(c->in + c->head_len, expected, strlen(expected))) {
        failures[F_BODY]++;
    } else {
        latencies_us[good++] = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
    }
    done++;
    c->has_request = 0;
    if (closing || c->len != c->need) hang_up(c);
    else c->state = IDLE;
    c->len = c->need = 0;
}

static void read_head(struct conn *c) {
    c->in[c->len] = 0;
    char *end = memmem(c->in, c->len, "\r\n\r\n", 4);
    if (!end) { if (c->len >= IN_MAX - 1) fail(c, F_FRAMING); return; }
    c->head_len = (size_t)(end + 4 - c->in);
    for (char *p = memchr(c->in, '\n', c->head_len); p && p < end; p = memchr(p, '\n', (size_t)(end + 4 - p)))
        if (!strncasecmp(++p, "content-length:", 15)) { c->need = c->head_len + strtoull(p + 15, NULL, 10); break; }
    if (!c->need || c->need >= IN_MAX) fail(c, F_FRAMING);
}

static void on_event(struct conn *c, uint32_t events) {
    if (c->state == CLOSED) return;
    if (c->state == CONNECTING && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
        int error = 0;
        socklen_t n = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n);
        if (error) { if (c->has_request) fail(c, F_CONNECT); else hang_up(c); return; }
        c->state = IDLE;
        if (c->has_request) send_request(c);
    }
    while (c->state == IDLE || c->state == BUSY) {
        ssize_t n = recv(c->fd, c->in + c->len, IN_MAX - 1 - c->len, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            if (c->state == BUSY) fail(c, c->len ? F_SHORT : F_CLOSED); else hang_up(c);
            return;
        }
        if (c->state == IDLE) { hang_up(c); failures[F_FRAMING]++; return; }   /* bytes nobody asked for */
        c->len += (size_t)n;
        if (!c->need) read_head(c);
        if (c->state == BUSY && c->need && c->len >= c->need) answered(c);
    }
}

static void expire(uint64_t now) {
    for (int i = 0; i < nconns; i++)
        if (conns[i].has_request && now - conns[i].sent_ns > timeout_ns) fail(&conns[i], F_TIMEOUT);
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t rank(double share) {
    size_t i = (size_t)(share * (double)good);
    return good ? latencies_us[i < good ? i : good - 1] : 0;
}

static void report(void) {
    uint64_t failed = 0;
    qsort(latencies_us, good, sizeof *latencies_us, ascending);
    printf("{\"scheduled\": %zu, \"good\": %zu, \"failures\": {", total, good);
    for (int i = 0; i < F_KINDS; i++) {
        printf("%s\"%s\": %llu", i ? ", " : "", kinds[i], (unsigned long long)failures[i]);
        failed += failures[i];
    }
    printf("}, \"failed\": %llu, \"statuses\": {", (unsigned long long)failed);
    for (int i = 0, first = 1; i < 600; i++)
        if (statuses[i]) { printf("%s\"%d\": %llu", first ? "" : ", ", i, (unsigned long long)statuses[i]); first = 0; }
    printf("}, \"p50_us\": %u, \"p90_us\": %u, \"p99_us\": %u, \"p999_us\": %u, \"max_us\": %u}\n", rank(0.50), rank(0.90),
           rank(0.99), rank(0.999), good ? latencies_us[good - 1] : 0);
}

static void set_timer(uint64_t at_ns) {
    struct itimerspec t = {.it_value = {(time_t)(at_ns / 1000000000u), (long)(at_ns % 1000000000u)}};
    if (timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &t, NULL)) die("timerfd_settime");
}

static void read_options(int argc, char **argv, double *rate, double *seconds) {
    const char *host = "localhost", *path = "/";
    int opt, port = 0;
    while ((opt = getopt(argc, argv, "p:H:u:r:t:c:b:T:")) != -1) {
        if (opt == 'p') port = atoi(optarg);
        else if (opt == 'H') host = optarg;
        else if (opt == 'u') path = optarg;
        else if (opt == 'r') *rate = atof(optarg);
        else if (opt == 't') *seconds = atof(optarg);
        else if (opt == 'c') nconns = atoi(optarg);
        else if (opt == 'b') expected = optarg;
        else if (opt == 'T') timeout_ns = (uint64_t)atoi(optarg) * 1000000u;
        else exit(2);
    }
    if (!port || *rate <= 0 || *seconds <= 0 || nconns < 1 || nconns > CONNS_MAX) {
        fprintf(stderr, "usage: steady -p PORT [-H HOST] [-u PATH] -r RATE -t SECONDS [-c CONNS] [-b BODY] [-T MS]\n");
        exit(2);
    }
    addr.sin_port = htons((uint16_t)port);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    request_len = (size_t)snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: steady\r\nAccept: */*\r\n\r\n", path, host);
}

int main(int argc, char **argv) {
    double rate = 0, seconds = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1);
    read_options(argc, argv, &rate, &seconds);
    total = (size_t)(rate * seconds);
    latencies_us = calloc(total + 1, sizeof *latencies_us);
    waiting = calloc(total + 1, sizeof *waiting);
    loop_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(loop_fd, EPOLL_CTL_ADD, timer_fd, &e)) die("epoll_ctl");
    for (int i = 0; i < nconns; i++) { conns[i].fd = -1; dial(&conns[i]); }
    const double gap_ns = 1e9 / rate;
    const uint64_t start = now_ns() + 50000000u, end = start + (uint64_t)(seconds * 1e9) + 2 * timeout_ns;
    uint64_t next_check = start + 100000000u;
    set_timer(start);
    while (done < total && now_ns() < end) {
        struct epoll_event events[256];
        int n = epoll_wait(loop_fd, events, 256, 100);
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr) on_event(events[i].data.ptr, events[i].events);
        uint64_t now = now_ns();
        while (issued < total && start + (uint64_t)((double)issued * gap_ns) <= now) {
            waiting[wait_tail++ % total] = start + (uint64_t)((double)issued * gap_ns);
            issued++;
        }
        spread(now);
        if (issued < total) set_timer(start + (uint64_t)((double)issued * gap_ns));
        else { struct itimerspec off = {0}; timerfd_settime(timer_fd, 0, &off, NULL); }
        if (now >= next_check) { expire(now); next_check = now + 100000000u; }
    }
    failures[F_TIMEOUT] += total - done;    /* never sent or never answered */
    report();
    return 0;
}

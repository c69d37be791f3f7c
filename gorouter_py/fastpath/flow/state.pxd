# L2: the structures of a worker, types only: Shared, Worker, Conn, Exchange.
#
# Shared is written by control before the threads start, but for its atomics. A Worker and everything that hangs off
# it belongs to one thread; only its counters, rings, mailbox and series pointers are seen by others.
from gorouter_py.fastpath.base.types cimport Span, u8, u16, u32, u64, i64
from gorouter_py.fastpath.base cimport limits
from gorouter_py.fastpath.base.buf cimport Buf, Slabs
from gorouter_py.fastpath.base.rng cimport Rng
from gorouter_py.fastpath.http.heads cimport Field, Head
from gorouter_py.fastpath.http.chunked cimport Chunked
from gorouter_py.fastpath.http.tagged cimport CookieName
from gorouter_py.fastpath.route.endpoint cimport Endpoint, Pool
from gorouter_py.fastpath.route.rollout cimport Rollout
from gorouter_py.fastpath.route.table cimport Table
from gorouter_py.fastpath.route.balance cimport Pick
from gorouter_py.fastpath.net.timers cimport Timer, Wheel
from gorouter_py.fastpath.net.cidr cimport Network
from gorouter_py.fastpath.net.pool cimport Idle, IdlePool
from gorouter_py.fastpath.net.tally cimport OutcomeRing, Tally
from gorouter_py.fastpath.net.tap cimport Bounds, Counters, EventRing, LogRing, Meter, Series
from gorouter_py.fastpath.flow.stream cimport Stream, StreamEvents, StreamOps

# A header the configuration names: name in lower case, and a text (a whole line, or a label). The bytes belong to the
# DataPlane and live as long as the threads.
cdef struct NamedText:
    const char *name
    const char *text
    u32 name_n
    u32 text_n

cdef enum:
    NAMES_MAX = 64              # headers of one kind that the configuration may name
    DROP_TRACE = 2              # Field.drop: stays out of every attempt, trace lines take its place

cdef enum PageKind:
    PAGE_LITERAL = 1            # name.text
    PAGE_VALUE                  # of field
    PAGE_UNLESS                 # jumps unless field is one of the constants (without any: unless it is not empty)
    PAGE_JUMP

cdef enum PageField:
    PAGE_STATUS = 1
    PAGE_STATUS_TEXT
    PAGE_MESSAGE
    PAGE_HEADER                 # name.name

cdef struct PageStep:
    u8 kind
    u8 field
    u16 jump
    u16 first_constant
    u16 n_constants
    NamedText name

cdef enum:
    PAGE_STEPS_MAX = 256
    PAGE_CONSTANTS_MAX = 256
    PAGE_BYTES_MAX = 24576      # of a rendered page
    TRUSTED_MAX = 64            # networks whose X-Forwarded-* a mapped listener believes

# What the access log shows of a GET's query.
cdef enum Redact:
    REDACT_NONE = 0
    REDACT_ALL
    REDACT_HASH             # ?hash=<SHA-1>

# Columns of extra_access_log_fields.
cdef enum LogField:
    L_BACKEND_TIME = 1
    L_DIAL_TIME
    L_DNS_TIME
    L_FAILED_ATTEMPTS
    L_FAILED_ATTEMPTS_TIME
    L_LOCAL_ADDRESS
    L_TLS_TIME
    L_VERSION

cdef struct Settings:       # meaning and defaults: _fastpath.pyi
    u32 workers
    u64 head_timeout_ms
    u64 body_timeout_ms
    u64 connect_timeout_ms
    u64 first_byte_timeout_ms
    u64 request_timeout_ms
    u64 idle_timeout_ms
    u64 tunnel_timeout_ms
    u64 upstream_idle_timeout_ms
    u64 linger_timeout_ms
    u64 cool_down_ms
    u32 upstream_idle_per_endpoint
    u32 max_attempts
    u32 head_bytes_max
    u64 max_connections
    u64 max_conns           # attempts in flight per endpoint, 0 = no bound
    u8 balance              # endpoint.Balance of routes without options
    bint prefer_local
    bint upstream_keep_alive
    bint retry_idempotent
    bint empty_pool_503
    bint force_forwarded_proto_https
    bint sanitize_forwarded_proto
    bint secure_cookies
    bint sticky_auth_negotiate
    bint keep_alive_100_continue
    bint log_forwarded_for
    bint log_source_ip
    bint log_enabled        # lines are made
    bint log_ring           # ... for the logger thread: file, stdout, syslog
    bint log_envelopes      # ... for the metron agent
    bint server_events      # HttpStartStop of requests
    bint client_events      # ... and of attempts
    bint enable_zipkin
    bint enable_w3c
    u8 redact_query         # a Redact
    bint meter              # lookups and the router's own time
    u32 max_request_header_bytes    # gorouter's formula; 0 = no bound but head_bytes_max
    u32 max_request_headers         # 0 = no bound
    u32 max_response_header_bytes
    u32 max_response_headers
    u32 n_add
    u32 n_remove
    u32 n_keep
    u32 n_log_headers
    u32 n_log_fields
    NamedText add[NAMES_MAX]        # text: the line
    NamedText remove[NAMES_MAX]
    NamedText keep[NAMES_MAX]       # names that Connection cannot take away
    NamedText log_headers[NAMES_MAX]    # text: the label
    u8 log_fields[8]
    u32 n_page                      # steps of the error page; 0 = plain text
    PageStep page[PAGE_STEPS_MAX]
    NamedText page_constants[PAGE_CONSTANTS_MAX]
    u32 w3c_key_n
    char w3c_key[272]
    u32 trace_key_n
    char trace_key[256]
    u32 router_ip_n
    char router_ip[48]
    u32 n_sticky
    CookieName sticky[limits.COOKIE_NAMES_MAX]
    u32 health_agent_n
    char health_agent[256]
    Bounds lookup_bounds
    Bounds gorouter_bounds
    u32 n_trusted
    Network trusted[TRUSTED_MAX]

cdef enum SyslogState:
    SYSLOG_CLOSED = 0           # to be opened at retry_at_ns
    SYSLOG_CONNECTING
    SYSLOG_OPEN

cdef struct Syslog:             # the logger thread's, but for its atomics
    u64 lines                   # atomic: sent
    u64 lost                    # atomic: dropped
    char *buf                   # limits.SYSLOG_ROOM; NULL = no syslog
    u32 n                       # bytes in it
    u32 sent                    # ... of which are gone
    u32 start                   # where the line that is being taken begins
    u32 taken                   # bytes of its text
    u32 truncate                # most bytes of a text; 0 = all
    bint fresh                  # between two lines
    bint skip                   # this one is dropped
    bint tcp
    int fd
    u32 state                   # a SyslogState
    u64 retry_at_ns
    u64 stamp_s                 # second that stamp shows
    u32 stamp_n
    char stamp[32]
    u32 origin_n
    char origin[512]            # " host application process-id - BOM"
    u8 addr[28]
    u8 addr_len

cdef struct Shared:
    u32 log_level           # atomic: lowest level of the component log, 0 debug to 3 error
    Settings cfg
    Table table
    u64 budget              # atomic: bytes in large buffers
    u32 healthy             # atomic
    u32 series_next         # atomic: series numbers given out
    Pool *series_owner[limits.SERIES_MAX]   # atomic pointers; each holds a reference
    u32 n_workers
    Worker *workers[limits.WORKERS_MAX]
    u32 logger_asleep       # atomic
    u32 logger_stop         # atomic
    int logger_wake         # eventfd
    int log_fd              # the file; -1 none
    bint log_stdout
    u32 log_reopen          # atomic
    char log_path[4096]
    Syslog syslog
    int metron_fd           # connected UDP socket; -1 none
    u64 envelopes_sent      # atomic, the logger's
    u64 envelopes_lost      # atomic: the kernel did not take them
    u32 source_instance_n
    char source_instance[24]

# ---- connections -------------------------------------------------------------------------------------------------

cdef enum ConnKind:
    K_DOWN = 1
    K_UP
    K_LISTEN
    TIMER_EXCHANGE          # not a connection: the kind of an exchange's timer
    TIMER_MIRROR            # ... and of a mirror's

# Legal moves are in flow/conn.set_state.
cdef enum ConnState:
    S_CLOSED = 0            # descriptor gone, freed at the end of the turn
    S_IDLE                  # between messages
    S_HEAD                  # part of a head is here
    S_BUSY                  # an exchange owns the stream
    S_CONNECTING            # up: connect() has not ended
    S_LINGER                # down: answered early, swallowing what the client still sends
    S_FLUSH                 # down: last answer queued, closes when it is written

cdef enum ConnFlag:
    C_READABLE = 1          # the kernel may have bytes (edge-triggered)
    C_WRITABLE = 2          # the kernel takes bytes
    C_WANT = 4              # the owner takes body bytes
    C_TODO = 8              # on the worker's todo list
    C_EOF = 16              # the peer has ended its side
    C_BROKEN = 32           # a write failed or the kernel reported an error
    C_IN_DONE = 64          # the incoming message is complete
    C_OUT_DONE = 128        # the outgoing message is complete
    C_RAW = 256             # a tunnel
    C_REUSED = 512          # up: not the first message of this connection
    C_KEEP = 1024           # may carry another message after this one
    C_DETACH = 2048         # done() was called; the connection goes on when it is serviced
    C_CLEAN = 4096          # ... and done() said clean
    C_DRAIN = 8192          # on_drain is owed
    C_SHUT = 16384          # shutdown(SHUT_WR) when the queue is empty
    C_SHUT_DONE = 32768
    C_HEAD_SEEN = 65536     # up: final response head delivered
    C_WROTE = 131072        # bytes of this message have left
    C_LAST = 524288         # the peer was told that the connection ends with this message
    C_PARTING = 262144      # up: all is said; the endpoint is expected to close

cdef struct Conn:
    Stream s                # first: a Conn* is a Stream*
    Worker *w
    Timer timer
    Conn *next              # worker's list of all connections, by kind
    Conn *prev
    Conn *todo
    Buf *in_                # down: the request head, and bytes behind it
    Buf *ahead              # down: bytes of later requests, read with a body
    Buf *out
    Buf *out_last
    u64 out_bytes
    u64 body_left           # incoming body, BODY_LENGTH
    u64 out_left            # outgoing body, BODY_LENGTH
    Chunked chunk
    Buf *trailer
    int fd
    u32 flags
    u32 scanned
    u32 body_at             # offset in in_ of body bytes that came with the head
    u8 kind
    u8 state
    u8 in_framing
    u8 out_framing
    u8 minor                # down: the client's HTTP/1.x
    u8 method               # up: of the request in transit
    u8 interim              # up: 1xx heads seen
    u32 interim_bytes
    u32 events              # what epoll watches it for; 0 = not watched
    Endpoint *ep            # up: holds a reference
    Idle idle
    u64 since_ms            # idle since; listener: paused until
    u64 attempt_until_ms    # up: end of the whole attempt, 0 none
    char peer_text[56]

# ---- one request and its answer ----------------------------------------------------------------------------------

cdef enum ExchangeFlag:
    X_REQ_DONE = 1          # request fully received and passed on
    X_RESP_HEAD = 2         # final head sent to the client
    X_RESP_DONE = 4
    X_STICKY = 8            # the request named an instance
    X_STICKY_MISS = 16      # ... that did not serve it
    X_UPGRADE = 32          # asked for and allowed
    X_WEBSOCKET = 64
    X_TUNNEL = 128
    X_REPEATED = 256        # the one repetition of a safe request was used
    X_BODY_SEEN = 512       # body bytes were read from the client: no more attempts
    X_CONTINUED = 1024      # 100 Continue went to the client
    X_NO_BODY = 2048        # answer to HEAD
    X_LOCAL = 4096          # answered by the router itself
    X_NO_LOG = 8192
    X_UP_PAUSED = 32768
    X_DOWN_PAUSED = 65536
    X_BOUND = 131072        # sticky without an alternative
    X_SEMICOLON = 262144    # the target has one

# Why a request goes to its version.
cdef enum Reason:
    WHY_NONE = 0
    WHY_INSTANCE            # a header names the instance
    WHY_OVERRIDE
    WHY_RULE
    WHY_STICKY
    WHY_IDENTITY
    WHY_COOKIE
    WHY_NEW_SESSIONS
    WHY_DRAW
    WHY_SHARED              # as another request that has no answer yet

cdef enum CohortMark:
    M_HAS_U = 1             # u is the client's own
    M_FORCED = 2            # no part of the experiment: instance header, override or rule
    M_KEPT = 4              # a sticky client whose coordinate is another version's
    M_DRAWN = 8
    M_TO_STABLE = 16        # the next attempt goes to the stable version
    M_STAY = 32             # ... or, without a token of the budget, to none but its own
    M_FAILOVER = 64         # nothing fit was in its version
    M_PROBE = 128           # the first attempt tries a version that has failed
    M_MIRROR = 256          # a copy goes to another version

# The version of a request and why.
cdef struct Cohort:
    u64 unit                # who asks: coordinate, identity or address, hashed; 0 of those that are M_FORCED
    u64 id                  # coordinate to hand out by Set-Cookie; 0 = none
    u32 share               # the draw others may follow until there is an answer: its place and one; 0 = none
    u16 marks
    u8 reason
    u8 rule                 # WHY_RULE: its index
    u16 u
    u16 slot
    u8 version              # chosen

cdef struct Exchange:
    Worker *w
    Exchange *next_free
    Stream *down
    Stream *up
    Endpoint *ep            # of the last attempt; holds a reference
    Buf *index              # fields of req
    Head req
    Timer timer             # 100-continue
    Pick pick
    u32 flags
    u32 attempts
    int fault               # last fault, for the log's x_cf_routererror
    u16 status
    u8 in_flight            # ep.in_flight was counted
    u64 began_ns            # monotonic
    u64 wall_ns
    u64 up_began_ns
    u64 up_ended_ns
    u64 req_bytes
    u64 resp_bytes
    u64 tried_ns            # when the last attempt began
    u64 lost_ns             # spent on attempts that failed
    u64 dialed_ns           # when its connection was there; 0: it was there before
    Buf *trace              # lines in place of those marked DROP_TRACE; NULL without tracing
    Span sticky_id          # view into req
    Buf *way_in             # by a mapping: the request's head as the app is to see it; else NULL
    Buf *way_out            # ... and lines of its answer as the client is to see them
    Span asked              # ... and the authority that the client used
    u32 series
    Buf *copied             # the body so far, of a request that is mirrored
    Rollout *rollout        # of the route; counted in the worker's tally. NULL = none
    Tally *tally            # the worker's numbers of that
    Cohort cohort
    u8 booked               # the version whose endpoint got the first attempt: what becomes of the request is its doing
    u8 turn_of              # the version whose turn pick began with
    int blame               # fault of the first attempt that failed; 0 = none
    u64 head_ns             # when the response head came; 0 outside a rollout
    char request_id[36]
    u8 local_n
    char local[55]          # our "ip:port" towards the endpoint, where the log wants it
    u8 malformed_n
    char malformed[119]     # the wrong part of an endpoint's status line, cut

# A copy of a request on its way to another version.
cdef struct Mirror:
    Worker *w
    Mirror *next            # of the worker's
    Mirror *prev
    Stream *up
    Endpoint *ep            # holds a reference
    Rollout *rollout        # counted in the worker's tally
    Buf *body               # until it is sent
    Timer timer
    u16 status
    u8 version

# How careful open_up is with a kept connection.
cdef enum Care:
    CARE_ANY = 0            # may be stale: the request can be repeated
    CARE_QUIET              # just looked at, and not idle for long
    CARE_FRESH              # a new connection

# ---- worker ------------------------------------------------------------------------------------------------------

cdef enum CommandKind:
    CMD_STOP = 1
    CMD_DRAIN               # close listeners, then finish
    CMD_PURGE               # close idle connections to an endpoint (holds a reference)
    CMD_LISTEN              # take over a listening socket
    CMD_REMAP               # listeners of one mapping stand for another from now on
    CMD_UNLISTEN            # close the listeners of a mapping

cdef struct Command:
    u32 kind
    int fd                  # CMD_LISTEN
    bint health_only        # CMD_LISTEN
    void *arg               # CMD_PURGE; CMD_LISTEN, CMD_UNLISTEN, CMD_REMAP: the mapping, with a reference
    void *other             # CMD_REMAP: the mapping to come, with a reference

cdef struct Worker:
    Shared *shared
    u32 id
    int ep                  # epoll
    int wake                # eventfd of the mailbox
    u32 stop                # thread-local: leave the loop
    u32 draining
    u32 settled             # atomic: the drain has come to every connection
    u64 turns               # atomic: loop turns, for the watchdog
    u64 now_ms              # monotonic, refreshed each turn
    u64 wall_offset_ns      # wall clock minus monotonic clock, refreshed each turn
    Slabs slabs
    Wheel wheel
    IdlePool idle
    Rng rng
    Counters counters
    LogRing log
    LogRing datagrams       # u32 length and bytes, for metron; data NULL = none wanted
    EventRing events
    OutcomeRing outcomes
    Series *series[limits.SERIES_MAX]       # atomic pointers
    Meter lookup_time
    Meter gorouter_time
    Conn *todo_first
    Conn *todo_last
    Conn *graves            # closed this turn
    Conn *downs             # all client connections
    Conn *ups               # all upstream connections
    Conn *listeners
    Exchange *free_exchanges
    u32 n_free_exchanges
    u64 date_s              # second that date_text shows
    char date_text[29]      # IMF-fixdate, RFC 9110 5.6.7
    u64 stamp_s             # second that stamp_text shows
    char stamp_text[20]     # "2006-01-02T15:04:05."
    Head scratch_head       # response heads, used up within one event
    Field scratch_fields[limits.FIELDS_MAX]
    char scratch[65536]     # lines to append; a log line
    u64 cmd_head            # mailbox: atomic, written by control
    u64 cmd_tail            # atomic, written by the worker
    Command cmds[limits.MAILBOX]
    # how exchange opens and a connection starts one, without knowing each other
    StreamOps down_ops
    StreamOps up_ops
    StreamEvents exchange_events
    StreamEvents tunnel_events
    StreamEvents mirror_events
    Mirror *mirrors         # copies in flight
    u32 n_mirrors
    void (*begin)(Worker *w, Stream *down, Head *h) noexcept nogil
    Stream *(*open_up)(Worker *w, Endpoint *ep, u32 method, int care, int *fault) noexcept nogil

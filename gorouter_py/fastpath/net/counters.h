/* L1: every counter of a worker, one row each: name as code, /metrics, tests and docs spell it, and its help text. */
#ifndef GOROUTER_COUNTERS_H
#define GOROUTER_COUNTERS_H
#include "../base/dp.h"
#define DP_COUNTERS(X) \
    X(connections, "Client connections accepted") \
    X(connections_open, "Client connections open now") \
    X(requests, "Requests whose head was complete") \
    X(requests_active, "Requests in progress now") \
    X(rejected_requests, "Requests for an unknown route or without a usable host") \
    X(bad_requests, "Messages refused because their syntax was wrong or ambiguous") \
    X(bad_gateways, "Requests answered 502") \
    X(responses_1xx, "Interim responses forwarded") \
    X(responses_2xx, "Responses 2xx") \
    X(responses_3xx, "Responses 3xx") \
    X(responses_4xx, "Responses 4xx") \
    X(responses_5xx, "Responses 5xx") \
    X(responses_xxx, "Responses of other status") \
    X(client_aborts, "Requests whose client went away first") \
    X(client_timeouts, "Client connections cut because head or body did not come") \
    X(attempts, "Attempts to have a request answered by an endpoint") \
    X(retries, "Attempts after the first") \
    X(endpoint_failures, "Attempts that failed") \
    X(backend_exhausted_conns, "Requests whose route had all endpoints at their connection limit") \
    X(upstream_connects, "Connections opened to endpoints") \
    X(upstream_reused, "Attempts on a kept connection") \
    X(upstream_open, "Connections to endpoints open now") \
    X(upstream_idle, "Connections to endpoints idle now") \
    X(websocket_upgrades, "Upgrades to websocket") \
    X(websocket_failures, "Upgrades to websocket that failed") \
    X(tunnels_open, "Upgraded connections open now") \
    X(sticky_hits, "Requests sent to the instance their cookie names") \
    X(sticky_misses, "Requests whose cookie names an instance that is gone") \
    X(health_checks, "Health checks answered") \
    X(request_body_bytes, "Bytes of request bodies") \
    X(response_body_bytes, "Bytes of response bodies") \
    X(access_log_lines, "Access-log lines written to the ring") \
    X(access_log_dropped, "Access-log lines dropped because the ring was full") \
    X(envelopes_dropped, "Envelopes for the metron agent dropped because the ring was full") \
    X(events_dropped, "Events dropped because the ring was full") \
    X(accept_paused, "Times accepting paused for lack of descriptors") \
    X(buffers_exhausted, "Requests refused for lack of buffer memory")
typedef struct {
#define X(name, help) uint64_t name;
    DP_COUNTERS(X)
#undef X
} dp_counters;
typedef struct { const char *name; const char *help; size_t offset; } dp_counter_row;
static const dp_counter_row dp_counter_rows[] = {
#define X(name, help) {#name, help, offsetof(dp_counters, name)},
    DP_COUNTERS(X)
#undef X
};
enum { DP_COUNTER_COUNT = sizeof(dp_counter_rows) / sizeof(dp_counter_rows[0]) };
#endif

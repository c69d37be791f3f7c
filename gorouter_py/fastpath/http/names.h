/* L1: the field names the data plane knows, one row each: id, lower-case text, flags.
 * DP_N_HOP: hop-by-hop, never forwarded as received (RFC 9110 7.6.1). DP_N_ONCE: a second line is an error.
 * DP_N_FRAMING: describes one message's framing, credentials or routing; never allowed in a trailer section
 * (RFC 9110 6.5.1). That includes what the router itself vouches for (X-Forwarded-*, X-Cf-*): an application that
 * merges trailers into its fields would take them for ours.
 * A row here needs its place in heads._candidate. */
#ifndef GOROUTER_NAMES_H
#define GOROUTER_NAMES_H
#include "../base/dp.h"
enum { DP_N_HOP = 1, DP_N_ONCE = 2, DP_N_FRAMING = 4 };
#define DP_NAMES(X) \
    X(HOST, "host", DP_N_ONCE | DP_N_FRAMING) \
    X(CONNECTION, "connection", DP_N_HOP | DP_N_FRAMING) \
    X(CONTENT_LENGTH, "content-length", DP_N_FRAMING) \
    X(TRANSFER_ENCODING, "transfer-encoding", DP_N_HOP | DP_N_FRAMING) \
    X(TE, "te", DP_N_HOP | DP_N_FRAMING) \
    X(TRAILER, "trailer", DP_N_FRAMING) \
    X(UPGRADE, "upgrade", DP_N_HOP | DP_N_FRAMING) \
    X(KEEP_ALIVE, "keep-alive", DP_N_HOP | DP_N_FRAMING) \
    X(PROXY_CONNECTION, "proxy-connection", DP_N_HOP | DP_N_FRAMING) \
    X(PROXY_AUTHENTICATE, "proxy-authenticate", DP_N_HOP | DP_N_FRAMING) \
    X(PROXY_AUTHORIZATION, "proxy-authorization", DP_N_HOP | DP_N_FRAMING) \
    X(PROXY, "proxy", DP_N_HOP | DP_N_FRAMING) \
    X(HTTP2_SETTINGS, "http2-settings", DP_N_HOP | DP_N_FRAMING) \
    X(EXPECT, "expect", DP_N_FRAMING) \
    X(COOKIE, "cookie", DP_N_FRAMING) \
    X(SET_COOKIE, "set-cookie", DP_N_FRAMING) \
    X(AUTHORIZATION, "authorization", DP_N_FRAMING) \
    X(USER_AGENT, "user-agent", 0) \
    X(REFERER, "referer", 0) \
    X(DATE, "date", 0) \
    X(IDEMPOTENCY_KEY, "idempotency-key", 0) \
    X(X_IDEMPOTENCY_KEY, "x-idempotency-key", 0) \
    X(X_FORWARDED_FOR, "x-forwarded-for", DP_N_FRAMING) \
    X(X_FORWARDED_PROTO, "x-forwarded-proto", DP_N_FRAMING) \
    X(X_REQUEST_START, "x-request-start", DP_N_FRAMING) \
    X(X_VCAP_REQUEST_ID, "x-vcap-request-id", DP_N_FRAMING) \
    X(X_CF_APPLICATIONID, "x-cf-applicationid", DP_N_FRAMING) \
    X(X_CF_INSTANCEID, "x-cf-instanceid", DP_N_FRAMING) \
    X(X_CF_INSTANCEINDEX, "x-cf-instanceindex", DP_N_FRAMING) \
    X(X_CF_APP_INSTANCE, "x-cf-app-instance", DP_N_FRAMING) \
    X(X_CF_PROCESS_INSTANCE, "x-cf-process-instance", DP_N_FRAMING) \
    X(X_CF_PROXY_SIGNATURE, "x-cf-proxy-signature", DP_N_FRAMING) \
    X(X_CF_ROUTERERROR, "x-cf-routererror", DP_N_FRAMING)
enum {
    DP_N_OTHER = 0,
#define X(id, text, flags) DP_N_##id,
    DP_NAMES(X)
#undef X
    DP_N_COUNT
};
_Static_assert(DP_N_COUNT <= 40, "Head.first has 40 places");
typedef struct { const char *text; uint16_t len; uint16_t flags; } dp_name_row;
static const dp_name_row dp_names[] = {
    {"", 0, 0},
#define X(id, text, flags) {text, sizeof(text) - 1, flags},
    DP_NAMES(X)
#undef X
};
#endif

/* L2: everything that can go wrong with a request, one row each.
 *
 * X(id, code, status, retry, blame, what, text)
 *   code    the value functions return; parse faults (-17..-63) are those of http/heads
 *   status  what the client is told, 0 = nothing can be told (the connection is cut)
 *   retry   DP_RETRY_ANY: no byte of the request can have been used; DP_RETRY_SAFE: repeatable requests only; DP_RETRY_NO
 *   blame   1 = the endpoint is passed over for a while
 *   what    X-Cf-RouterError; NULL = no such header. %A the endpoint's address, %L what of its status line is malformed,
 *           quoted, %M the most bytes that its head may have. gorouter: texts are those of Go's net and net/http.
 *   text    the body's message; for what == "endpoint_failure (...)" the whole body
 * Adding a failure = one row here and one test. */
#ifndef GOROUTER_FAULT_H
#define GOROUTER_FAULT_H
#include "../base/dp.h"
enum { DP_RETRY_NO, DP_RETRY_SAFE, DP_RETRY_ANY };
#define DP_BADGW "Registered endpoint failed to handle the request."
#define DP_FAULTS(X) \
    X(NONE, 0, 200, DP_RETRY_NO, 0, NULL, "") \
    /* what the client sent */ \
    X(BAD_REQUEST, -16, 400, DP_RETRY_NO, 0, NULL, "The request could not be understood") \
    X(EMPTY_HOST, -64, 400, DP_RETRY_NO, 0, "empty_host", "Request had empty Host header") \
    X(UNKNOWN_ROUTE, -65, 404, DP_RETRY_NO, 0, "unknown_route", "Requested route ('%H') does not exist.") \
    X(NO_ENDPOINTS, -66, 503, DP_RETRY_NO, 0, "no_endpoints", "Requested route ('%H') has no available endpoints.") \
    X(CONNECTION_LIMIT, -76, 503, DP_RETRY_NO, 0, "Connection Limit Reached", "Requested route ('%H') has reached the connection limit.") \
    X(BAD_APP_INSTANCE, -77, 400, DP_RETRY_NO, 0, "invalid_cf_app_instance_header", "Invalid X-CF-App-Instance Header") \
    X(BAD_PROCESS_INSTANCE, -78, 400, DP_RETRY_NO, 0, "invalid_cf_process_instance_header", "Invalid X-CF-Process-Instance Header") \
    X(NO_SUCH_INSTANCE, -79, 400, DP_RETRY_NO, 0, "unknown_route", "%I does not exist for route ('%H')") \
    X(EXPECTATION, -67, 417, DP_RETRY_NO, 0, NULL, "Only the expectation 100-continue can be met") \
    X(CONNECT_REFUSED, -68, 405, DP_RETRY_NO, 0, NULL, "CONNECT is not offered") \
    X(HEAD_TOO_LARGE, -69, 431, DP_RETRY_NO, 0, "max-request-size-exceeded", "") \
    X(HEAD_TIMEOUT, -70, 408, DP_RETRY_NO, 0, NULL, "The request head did not arrive in time") \
    X(BODY_TIMEOUT, -71, 408, DP_RETRY_NO, 0, NULL, "The request body did not arrive in time") \
    X(BAD_BODY, -72, 400, DP_RETRY_NO, 0, NULL, "The request body is malformed") \
    X(CLIENT_GONE, -73, 499, DP_RETRY_NO, 0, NULL, "The client went away") \
    X(CLIENT_STALLED, -74, 0, DP_RETRY_NO, 0, NULL, "The client did not take the response") \
    X(OVERLOADED, -75, 503, DP_RETRY_NO, 0, "overloaded", "The router has no memory or connections to spare") \
    /* what the endpoint did */ \
    X(DIAL_REFUSED, -80, 502, DP_RETRY_ANY, 1, "endpoint_failure (dial tcp %A: connect: connection refused)", DP_BADGW) \
    X(DIAL_TIMEOUT, -81, 502, DP_RETRY_ANY, 1, "endpoint_failure (dial tcp %A: i/o timeout)", DP_BADGW) \
    X(DIAL_UNREACHABLE, -82, 502, DP_RETRY_ANY, 1, "endpoint_failure (dial tcp %A: connect: no route to host)", DP_BADGW) \
    X(DIAL_FAILED, -83, 502, DP_RETRY_ANY, 1, "endpoint_failure (dial tcp %A: connect failed)", DP_BADGW) \
    X(UP_EOF, -84, 502, DP_RETRY_SAFE, 0, "endpoint_failure (EOF)", DP_BADGW) \
    X(UP_RESET, -85, 502, DP_RETRY_SAFE, 1, "endpoint_failure (read: connection reset by peer)", DP_BADGW) \
    X(UP_UNSENT, -101, 502, DP_RETRY_ANY, 0, "endpoint_failure (EOF)", DP_BADGW) \
    X(UP_WRITE, -86, 502, DP_RETRY_SAFE, 0, "endpoint_failure (write: broken pipe)", DP_BADGW) \
    X(UP_TIMEOUT, -87, 502, DP_RETRY_NO, 0, "endpoint_failure (context deadline exceeded)", DP_BADGW) \
    X(UP_HEAD_TOO_LARGE, -88, 502, DP_RETRY_NO, 0, "endpoint_failure (net/http: HTTP/1.x transport connection broken: net/http: server response headers exceeded %M bytes; aborted)", DP_BADGW) \
    X(UP_MALFORMED, -89, 502, DP_RETRY_NO, 0, "endpoint_failure (net/http: HTTP/1.x transport connection broken: malformed HTTP response %L)", DP_BADGW) \
    X(UP_BAD_STATUS, -97, 502, DP_RETRY_NO, 0, "endpoint_failure (net/http: HTTP/1.x transport connection broken: malformed HTTP status code %L)", DP_BADGW) \
    X(UP_BAD_VERSION, -98, 502, DP_RETRY_NO, 0, "endpoint_failure (net/http: HTTP/1.x transport connection broken: malformed HTTP version %L)", DP_BADGW) \
    X(UP_BAD_FIELDS, -99, 502, DP_RETRY_NO, 0, "endpoint_failure (net/http: HTTP/1.x transport connection broken: malformed MIME header)", DP_BADGW) \
    X(UP_BAD_BODY, -90, 0, DP_RETRY_NO, 0, "endpoint_failure (malformed response body)", DP_BADGW) \
    X(UP_SHORT, -91, 0, DP_RETRY_NO, 0, "endpoint_failure (net/http: HTTP/1.x transport connection broken: unexpected EOF)", DP_BADGW) \
    X(UP_INTERIM, -92, 502, DP_RETRY_NO, 0, "endpoint_failure (too many 1xx responses)", DP_BADGW) \
    X(UP_UPGRADE, -93, 502, DP_RETRY_NO, 0, "endpoint_failure (unexpected switch of protocols)", DP_BADGW) \
    X(NO_ENDPOINT_LEFT, -94, 502, DP_RETRY_NO, 0, "endpoint_failure (No endpoints available)", DP_BADGW) \
    X(UP_TOO_MANY_HEADERS, -96, 502, DP_RETRY_NO, 0, "endpoint_failure (Too many response headers)", DP_BADGW) \
    X(NO_SOCKETS, -95, 503, DP_RETRY_NO, 0, "overloaded", "The router has no descriptors to spare") \
    /* the router itself */ \
    X(STOPPING, -100, 0, DP_RETRY_NO, 0, NULL, "The router is stopping")
enum {
#define X(id, code, status, retry, blame, what, text) DP_F_##id = code,
    DP_FAULTS(X)
#undef X
};
typedef struct {
    const char *name;
    const char *what;
    const char *text;
    int16_t code;
    uint16_t status;
    uint8_t retry;
    uint8_t blame;
} dp_fault_row;
static const dp_fault_row dp_fault_rows[] = {
#define X(id, code, status, retry, blame, what, text) {#id, what, text, code, status, retry, blame},
    DP_FAULTS(X)
#undef X
};
enum { DP_FAULT_COUNT = sizeof(dp_fault_rows) / sizeof(dp_fault_rows[0]) };

/* Reason phrases the router writes itself (RFC 9110 15; 499, 525, 526 as gorouter's users know them). */
static inline const char *dp_reason(unsigned status) {
    switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 414: return "URI Too Long";
    case 417: return "Expectation Failed";
    case 431: return "Request Header Fields Too Large";
    case 499: return "Request Cancelled";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return "Unknown";
    }
}
#endif

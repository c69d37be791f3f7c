/* L2: numbers of the public sonde protocol (version 1): kinds of envelopes, peers, and HTTP methods by name. */
#ifndef GOROUTER_SONDE_H
#define GOROUTER_SONDE_H
#include <string.h>
enum { DP_SONDE_START_STOP = 4, DP_SONDE_LOG_MESSAGE = 5, DP_SONDE_CLIENT = 1, DP_SONDE_SERVER = 2, DP_SONDE_OUT = 1 };
/* In the order of their numbers, which begin with 1. */
static const char *const dp_sonde_methods[] = {
    "GET", "POST", "PUT", "DELETE", "HEAD", "ACL", "BASELINE_CONTROL", "BIND", "CHECKIN", "CHECKOUT", "CONNECT", "COPY",
    "DEBUG", "LABEL", "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE",
    "OPTIONS", "ORDERPATCH", "PATCH", "PRI", "PROPFIND", "PROPPATCH", "REBIND", "REPORT", "SEARCH", "SHOWMETHOD",
    "SPACEJUMP", "TEXTSEARCH", "TRACE", "TRACK", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK", "UPDATE", "UPDATEREDIRECTREF",
    "VERSION_CONTROL",
};
/* 0 for a method that the protocol does not know. */
static inline unsigned dp_sonde_method(const char *p, size_t n) {
    for (unsigned i = 0; i < sizeof(dp_sonde_methods) / sizeof(dp_sonde_methods[0]); i++)
        if (strlen(dp_sonde_methods[i]) == n && memcmp(dp_sonde_methods[i], p, n) == 0) return i + 1;
    return 0;
}
#endif

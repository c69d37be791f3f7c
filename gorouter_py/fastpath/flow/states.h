/* L2: the legal moves of a connection, one row each; the numbers are ConnState in state.pxd. */
#ifndef GOROUTER_STATES_H
#define GOROUTER_STATES_H
#include "../base/dp.h"
enum { DP_S_CLOSED, DP_S_IDLE, DP_S_HEAD, DP_S_BUSY, DP_S_CONNECTING, DP_S_LINGER, DP_S_FLUSH, DP_S_COUNT };
#define DP_TO(s) (1u << DP_S_##s)
#define DP_MOVES(X) \
    X(CLOSED, 0)                                                    /* the end */ \
    X(IDLE, DP_TO(HEAD) | DP_TO(BUSY) | DP_TO(FLUSH) | DP_TO(CLOSED)) /* first byte, or the end; up: taken from the pool */ \
    X(HEAD, DP_TO(BUSY) | DP_TO(FLUSH) | DP_TO(CLOSED))             /* head complete; refused */ \
    X(BUSY, DP_TO(IDLE) | DP_TO(LINGER) | DP_TO(FLUSH) | DP_TO(CLOSED)) /* done and clean; done with input unread */ \
    X(CONNECTING, DP_TO(BUSY) | DP_TO(CLOSED))                      /* connected; failed */ \
    X(LINGER, DP_TO(CLOSED))                                        /* swallowed enough */ \
    X(FLUSH, DP_TO(LINGER) | DP_TO(CLOSED))                         /* last bytes written */
static const unsigned dp_moves[DP_S_COUNT] = {
#define X(from, to) [DP_S_##from] = (to),
    DP_MOVES(X)
#undef X
};
static const char *const dp_state_names[DP_S_COUNT] __attribute__((unused)) = {
#define X(from, to) #from,
    DP_MOVES(X)
#undef X
};
static inline int dp_may_move(unsigned from, unsigned to) { return (dp_moves[from] >> to) & 1; }
#endif

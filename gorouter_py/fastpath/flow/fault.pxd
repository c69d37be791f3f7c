# L2: the face of fault.h, and the mapping from parse faults to what the client is told.
from gorouter_py.fastpath.base.types cimport u8, u16, i64
from gorouter_py.fastpath.http cimport heads

cdef extern from "fault.h" nogil:
    enum:
        RETRY_NO "DP_RETRY_NO"
        RETRY_SAFE "DP_RETRY_SAFE"
        RETRY_ANY "DP_RETRY_ANY"
        NONE "DP_F_NONE"
        BAD_REQUEST "DP_F_BAD_REQUEST"
        EMPTY_HOST "DP_F_EMPTY_HOST"
        UNKNOWN_ROUTE "DP_F_UNKNOWN_ROUTE"
        NO_ENDPOINTS "DP_F_NO_ENDPOINTS"
        CONNECTION_LIMIT "DP_F_CONNECTION_LIMIT"
        BAD_APP_INSTANCE "DP_F_BAD_APP_INSTANCE"
        BAD_PROCESS_INSTANCE "DP_F_BAD_PROCESS_INSTANCE"
        NO_SUCH_INSTANCE "DP_F_NO_SUCH_INSTANCE"
        EXPECTATION "DP_F_EXPECTATION"
        CONNECT_REFUSED "DP_F_CONNECT_REFUSED"
        HEAD_TOO_LARGE "DP_F_HEAD_TOO_LARGE"
        HEAD_TIMEOUT "DP_F_HEAD_TIMEOUT"
        BODY_TIMEOUT "DP_F_BODY_TIMEOUT"
        BAD_BODY "DP_F_BAD_BODY"
        CLIENT_GONE "DP_F_CLIENT_GONE"
        CLIENT_STALLED "DP_F_CLIENT_STALLED"
        OVERLOADED "DP_F_OVERLOADED"
        DIAL_REFUSED "DP_F_DIAL_REFUSED"
        DIAL_TIMEOUT "DP_F_DIAL_TIMEOUT"
        DIAL_UNREACHABLE "DP_F_DIAL_UNREACHABLE"
        DIAL_FAILED "DP_F_DIAL_FAILED"
        UP_EOF "DP_F_UP_EOF"
        UP_RESET "DP_F_UP_RESET"
        UP_UNSENT "DP_F_UP_UNSENT"
        UP_WRITE "DP_F_UP_WRITE"
        UP_TIMEOUT "DP_F_UP_TIMEOUT"
        UP_HEAD_TOO_LARGE "DP_F_UP_HEAD_TOO_LARGE"
        UP_MALFORMED "DP_F_UP_MALFORMED"
        UP_BAD_STATUS "DP_F_UP_BAD_STATUS"
        UP_BAD_VERSION "DP_F_UP_BAD_VERSION"
        UP_BAD_FIELDS "DP_F_UP_BAD_FIELDS"
        UP_BAD_BODY "DP_F_UP_BAD_BODY"
        UP_SHORT "DP_F_UP_SHORT"
        UP_INTERIM "DP_F_UP_INTERIM"
        UP_UPGRADE "DP_F_UP_UPGRADE"
        NO_ENDPOINT_LEFT "DP_F_NO_ENDPOINT_LEFT"
        NO_SOCKETS "DP_F_NO_SOCKETS"
        UP_TOO_MANY_HEADERS "DP_F_UP_TOO_MANY_HEADERS"
        STOPPING "DP_F_STOPPING"
        FAULT_COUNT "DP_FAULT_COUNT"
    ctypedef struct Row "dp_fault_row":
        const char *name
        const char *what
        const char *text
        short code
        u16 status
        u8 retry
        u8 blame
    const Row rows "dp_fault_rows"[]
    const char *reason "dp_reason"(unsigned status) noexcept

# The row of a code; that of BAD_REQUEST for a parse fault.
cdef inline const Row *row(int code) noexcept nogil:
    cdef int i
    for i in range(FAULT_COUNT):
        if rows[i].code == code:
            return &rows[i]
    return &rows[1]

# The status a request is refused with when its head does not parse.
cdef inline u16 parse_status(int code) noexcept nogil:
    if code == heads.P_VERSION:
        return 505
    if code == heads.P_TARGET_TOO_LONG:
        return 414
    if code == heads.P_TOO_MANY_FIELDS:
        return 431
    if code == heads.P_CODING_UNKNOWN:
        return 501
    return 400

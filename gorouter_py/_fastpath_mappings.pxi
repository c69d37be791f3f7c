# Mappings of public ports to apps, made of Python values. Part of _fastpath.pyx, control thread only; see _fastpath.pyi.

_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_STICKY_COOKIE = "__VCAP_ID__"


def cookie_tag(host):
    """What the names of an app's cookies get at their end on its mapped ports; the same on every router."""
    return "~" + hashlib.sha1(host.lower().encode()).hexdigest()[:tagged.TAG_LEN - 1]


cdef Mapping *new_mapping(str host, int port, cookies) except NULL:
    cdef Mapping *m
    cdef bytes name = host.lower().encode()
    cdef bytes tag = cookie_tag(host).encode()
    cdef u32 i
    names = list(dict.fromkeys((_STICKY_COOKIE, *cookies)))
    if not _HOST.fullmatch(name.decode()) or len(name) > limits.HOST_MAX:
        raise ValueError(f"{host!r} is no host name")
    if not 0 < port < 65536:
        raise ValueError(f"port {port} must be from 1 to 65535")
    if len(names) > limits.COOKIE_NAMES_MAX + 1:
        raise ValueError(f"{len(names) - 1} cookies; at most {limits.COOKIE_NAMES_MAX}")
    for each in names:
        if not TOKEN.fullmatch(each) or len(each) > 63:
            raise ValueError(f"{each!r} is no name of a cookie")
    m = <Mapping *>calloc(1, sizeof(Mapping))
    if m == NULL:
        raise MemoryError
    m.refs = 1
    m.port = port
    m.host_n = <u32>len(name)
    memcpy(m.host, <const char *>name, len(name))
    memcpy(m.tag, <const char *>tag, len(tag))
    m.n_cookies = <u32>len(names)
    for i, each in enumerate(names):
        text = each.encode()
        m.cookies[i].n = <u8>len(text)
        memcpy(m.cookies[i].text, <const char *>text, len(text))
    dp.live(dp.LIVE_MAPPING, 1)
    return m

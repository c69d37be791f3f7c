"""What an instance receives of a request head: what passes unchanged, what is added, what is taken out."""

import re
import time

import pytest

from tests.support.origins import Origin
from tests.support.plane import MakeOrigin, MakeRouter, Router

IDENTITY = {"app": "11111111-2222-3333-4444-555555555555", "instance_id": "inst-a", "instance_index": "0"}
ADDED = [
    "X-Forwarded-For", "X-Cf-Applicationid", "X-Cf-Instanceid", "X-Cf-Instanceindex", "X-Forwarded-Proto",
    "X-Request-Start", "X-Vcap-Request-Id",
]  # fmt: skip
# gorouter: gouuid writes the variant into the wrong bits, so the fourth group starts with 4 to 7.
REQUEST_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[4-7][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture
def app(origin: MakeOrigin) -> Origin:
    return origin()


@pytest.fixture
def front(router: MakeRouter, app: Origin) -> Router:
    one = router()
    one.add(app, **IDENTITY)
    return one


def test_order_and_case_of_fields_are_kept(front: Router, app: Origin) -> None:
    front.ask(
        b"GET /p?x=1 HTTP/1.1\r\nx-LOWER-upper: 1\r\nhOST: App.Test:80\r\nA: 1\r\nUser-Agent: t\r\nA: 2\r\n"
        b"X_under:\t v \t\r\nB: \r\n\r\n"
    )
    sent = app.last()
    assert sent.names() == ["x-LOWER-upper", "hOST", "A", "User-Agent", "A", "X_under", "B", *ADDED]
    assert sent.get("Host") == "App.Test:80"
    assert sent.all("A") == ["1", "2"]
    assert sent.get("X_under") == "v"
    assert sent.get("B") == ""


def test_field_values_pass_octet_for_octet(front: Router, app: Origin) -> None:
    value = bytes([*range(0x21, 0x7F), 0x20, 0x09, *range(0x80, 0x100)])
    front.ask(b"GET / HTTP/1.1\r\nHost: app.test\r\nX-Odd: " + value + b"\r\n\r\n")
    assert app.last().get("X-Odd") == value.decode("latin-1")


@pytest.mark.parametrize(
    "target",
    [
        "/", "/a/../b/./c", "/%2e%2e/%2F?q=%0a&;=b;c", "//", "//a/b?x=1;y=2", "//other.test/x", "/a//b", "/?", "/a?",
        "/a?b?c", "/[]{}|^`<>\\\"", "/\u00e9".encode().decode("latin-1"), "/a:b@c!$&'()*+,=~", "/" + "a" * 8000,
    ],
)  # fmt: skip
def test_target_passes_byte_for_byte(front: Router, app: Origin, target: str) -> None:
    answer = front.ask(b"GET " + target.encode("latin-1") + b" HTTP/1.1\r\nHost: app.test\r\n\r\n")
    assert answer.status == 200
    assert app.last().target == target.encode("latin-1")


def test_absolute_target_passes_and_names_the_host(front: Router, app: Origin) -> None:
    assert front.ask(b"GET http://app.test/abs?q HTTP/1.1\r\nHost: other.test\r\n\r\n").status == 200
    sent = app.last()
    assert sent.target == b"http://app.test/abs?q"
    assert sent.get("Host") == "app.test", "RFC 9112 3.2.2: the received Host is replaced"


@pytest.mark.parametrize("method", ["GET", "get", "POST", "DELETE", "PROPFIND", "X-Own", "TRACE", "OPTIONS"])
def test_method_passes(front: Router, app: Origin, method: str) -> None:
    assert front.ask(f"{method} / HTTP/1.1\r\nHost: app.test\r\n\r\n".encode()).status == 200
    assert app.last().method == method


def test_options_asterisk_is_answered(front: Router, app: Origin) -> None:
    """It asks the server as a whole; the route's instance stands for that."""
    answer = front.ask(b"OPTIONS * HTTP/1.1\r\nHost: app.test\r\n\r\n")
    assert answer.status == 200
    assert app.last().target == b"*"


def test_identity_lines(front: Router, app: Origin) -> None:
    before = int(time.time() * 1000)
    front.get()
    sent = app.last()
    assert sent.get("X-Forwarded-For") == "127.0.0.1"
    assert sent.get("X-Forwarded-Proto") == "http"
    assert sent.get("X-Cf-Applicationid") == IDENTITY["app"]
    assert sent.get("X-Cf-Instanceid") == "inst-a"
    assert sent.get("X-Cf-Instanceindex") == "0"
    assert before <= int(sent.get("X-Request-Start") or 0) <= int(time.time() * 1000)


def test_instance_without_id_is_called_by_its_address(router: MakeRouter, app: Origin) -> None:
    front = router()
    front.add(app)
    front.get(lines="X-CF-InstanceID: mine\r\nX-CF-ApplicationID: mine\r\nX-CF-InstanceIndex: 9\r\n")
    sent = app.last()
    assert sent.get("X-Cf-Instanceid") == app.address
    assert sent.get("X-Cf-Applicationid") is None
    assert sent.get("X-Cf-Instanceindex") is None


def test_request_ids_are_new_each_time_and_of_gorouters_form(front: Router, app: Origin) -> None:
    shown = []
    with front.client() as client:
        for _ in range(50):
            client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\nX-Vcap-Request-Id: mine\r\n\r\n")
            shown.append(client.answer().get("X-Vcap-Request-Id"))
    sent = [request.get("X-Vcap-Request-Id") for request in app.requests]
    assert sent == shown
    assert len(set(sent)) == 50
    assert all(REQUEST_ID.fullmatch(one or "") for one in sent), sent


@pytest.mark.parametrize(
    ("lines", "joined"),
    [
        (["1.2.3.4"], "1.2.3.4, 127.0.0.1"),
        (["1.2.3.4, 5.6.7.8"], "1.2.3.4, 5.6.7.8, 127.0.0.1"),
        (["1.2.3.4", "5.6.7.8", "::1"], "1.2.3.4, 5.6.7.8, ::1, 127.0.0.1"),
        ([""], "127.0.0.1"),
        (["", "1.1.1.1"], "1.1.1.1, 127.0.0.1"),
        (["a" * 3000, "b" * 3000], "a" * 3000 + ", " + "b" * 3000 + ", 127.0.0.1"),
    ],
)
def test_forwarded_for_is_joined_and_extended(front: Router, app: Origin, lines: list[str], joined: str) -> None:
    text = "".join(f"X-Forwarded-For: {line}\r\nFiller: {i}\r\n" for i, line in enumerate(lines))
    front.get(lines=text)
    assert app.last().get("X-Forwarded-For") == joined


@pytest.mark.parametrize(
    ("settings", "sent", "seen"),
    [
        ({}, None, "http"), ({}, "https", "https"), ({}, "", "http"), ({}, "weird", "weird"),
        ({"sanitize_forwarded_proto": True}, "https", "http"),
        ({"force_forwarded_proto_https": True}, "http", "https"),
        ({"force_forwarded_proto_https": True}, None, "https"),
    ],
)  # fmt: skip
def test_forwarded_proto(
    router: MakeRouter, app: Origin, settings: dict[str, bool], sent: str | None, seen: str
) -> None:
    front = router(**settings)
    front.add(app)
    front.get(lines="" if sent is None else f"X-Forwarded-Proto: {sent}\r\n")
    assert app.last().get("X-Forwarded-Proto") == seen


def test_request_start_of_the_client_is_kept(front: Router, app: Origin) -> None:
    front.get(lines="x-request-start: 42\r\n")
    assert app.last().get("X-Request-Start") == "42"


def test_hop_by_hop_fields_end_here(front: Router, app: Origin) -> None:
    front.get(
        lines="Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\n"
        "Proxy-Authenticate: x\r\nTE: gzip\r\nTrailer: X\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        "Proxy: http://evil.test\r\nConnection: keep-alive, Upgrade, HTTP2-Settings\r\nX-CF-App-Instance: "
        "11111111-2222-3333-4444-555555555555:0\r\nX-CF-Process-Instance: kept\r\nVia: 1.1 a\r\nForwarded: for=a\r\n"
        "X-Forwarded-Host: h\r\nAccept-Encoding: br\r\nCookie: a=b\r\n"
    )
    assert app.last().names() == [
        "Host", "Trailer", "X-CF-Process-Instance", "Via", "Forwarded", "X-Forwarded-Host", "Accept-Encoding", "Cookie",
        *ADDED,
    ]  # fmt: skip


def test_te_trailers_passes_alone(front: Router, app: Origin) -> None:
    front.get(lines="TE: deflate;q=0.5, trailers\r\nConnection: TE\r\n")
    assert app.last().get("TE") == "trailers"


def test_nominated_fields_end_here(front: Router, app: Origin) -> None:
    front.get(
        lines="Connection: x-one, X-Two,close\r\nX-One: 1\r\nx-two: 2\r\nX-Three: 3\r\nConnection: X-Four\r\n"
        "X-Four: 4\r\n"
    )
    sent = app.last()
    assert [name for name in sent.names() if name not in ADDED] == ["Host", "X-Three"]


@pytest.mark.parametrize(
    "name",
    [
        "X-Forwarded-For", "X-Forwarded-Proto", "X-Request-Start", "X-Vcap-Request-Id", "X-Cf-Applicationid",
        "X-Cf-Instanceid", "Host", "B3", "X-B3-TraceId", "Traceparent", "X-Forwarded-Client-Cert", "Cookie",
        "Content-Length", "Authorization",
    ],
)  # fmt: skip
def test_nominating_does_not_take_what_the_router_sets_or_needs(front: Router, app: Origin, name: str) -> None:
    value = "3" if name == "Content-Length" else "app.test" if name == "Host" else "7"
    given = "" if name == "Host" else f"{name}: {value}\r\n"
    front.ask(f"POST / HTTP/1.1\r\nHost: app.test\r\n{given}Connection: {name}\r\n\r\nabc".encode())
    got = app.last().get(name)
    assert got
    if name not in ("X-Vcap-Request-Id", "X-Cf-Applicationid", "X-Cf-Instanceid"):
        assert got.startswith(value)


def test_the_operator_protects_more_headers(router: MakeRouter, app: Origin) -> None:
    """The list adds to what is always protected; what travels one hop only ends here all the same."""
    front = router(keep_nominated_headers=("x-mine", "Keep-Alive", "Upgrade"))
    front.add(app)
    lines = "X-Mine: 1\r\nX-Other: 2\r\nKeep-Alive: timeout=5\r\n"
    front.get(lines=lines + "Connection: X-MINE, x-other, x-forwarded-for, keep-alive\r\n")
    assert [name for name in app.last().names() if name not in ADDED[1:]] == ["Host", "X-Mine", "X-Forwarded-For"]


def test_route_service_headers_of_a_client_pass(front: Router, app: Origin) -> None:
    """gorouter: on a route without a route service they mean nothing, and stay."""
    names = ["X-CF-Proxy-Signature", "X-CF-Proxy-Metadata", "X-CF-Forwarded-Url"]
    front.get(lines="".join(f"{name}: v\r\n" for name in names))
    assert [app.last().get(name) for name in names] == ["v"] * 3


def test_keep_alive_to_instances_can_be_off(router: MakeRouter, app: Origin) -> None:
    front = router(upstream_keep_alive=False)
    front.add(app)
    for _ in range(3):
        front.get()
    assert app.accepted == 3
    assert all(request.options() == {"close"} for request in app.requests)


def test_keep_alive_to_instances_reuses_one_connection(front: Router, app: Origin) -> None:
    for _ in range(5):
        front.get()
    assert app.accepted == 1
    assert all(not request.options() for request in app.requests)
    assert front.counter("upstream_reused") == 4


def test_many_fields_pass(front: Router, app: Origin) -> None:
    lines = "".join(f"X-{i}: {i}\r\n" for i in range(3000))
    assert front.get(lines=lines).status == 200
    assert [value for name, value in app.last().fields if name.startswith("X-") and name[2:].isdigit()] == [
        str(i) for i in range(3000)
    ]


@pytest.mark.parametrize("size", [4000, 16_000, 64_000, 65_536, 262_144, 1_000_000])
def test_large_heads_pass(front: Router, app: Origin, size: int) -> None:
    value = "v" * 1000
    lines = "".join(f"X-Filler: {value}\r\n" for _ in range(size // 1012))
    assert front.get(lines=lines).status == 200
    assert app.last().all("X-Filler") == [value] * (size // 1012)


def test_one_long_field_passes(front: Router, app: Origin) -> None:
    value = "".join(chr(33 + i % 90) for i in range(500_000))
    assert front.get(lines=f"X-Long: {value}\r\n").status == 200
    assert app.last().get("X-Long") == value

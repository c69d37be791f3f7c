"""gorouter's own suite, played in Python: requests, headers, errors, kept connections, sessions, instances."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.origins import OK, Served
from tests.support.wire import Wire
from tests.system.blackbox import DOMAIN, App, Apps, Gorouter, everything
from tests.system.harness import until

TEAPOT = b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gorouter, Apps]]:
    """One router for what needs no configuration of its own; with an access log."""
    folder = tmp_path_factory.mktemp("shared")
    with everything(folder, lambda config: config["access_log"].update(file=str(folder / "access.log"))) as both:
        yield both


def registered(router: Gorouter, app: App, **fields: Any) -> App:
    app.register(stale_threshold_in_seconds=10, **fields)
    until(lambda: router.has_route(app.uri))
    return app


def test_headers_of_an_app_reach_the_client(shared: tuple[Gorouter, Apps]) -> None:
    router, apps = shared
    registered(router, apps("potato.potato", b"HTTP/1.1 200 OK\r\nTest-Header: Value\r\nContent-Length: 0\r\n\r\n"))
    assert router.ask("potato.potato").get("Test-Header") == "Value"


def test_headers_are_removed_and_added(tmp_path: Path) -> None:
    responses = {
        "remove_headers": [{"name": "Test-Header"}],
        "add_headers_if_not_present": [{"name": "New-Header", "value": "newValue"}],
    }
    with everything(tmp_path, lambda config: config.update(http_rewrite={"responses": responses})) as (router, apps):
        registered(router, apps("potato.potato", b"HTTP/1.1 200 OK\r\nTest-Header: Value\r\nContent-Length: 0\r\n\r\n"))
        answer = router.ask("potato.potato")
        assert (answer.status, answer.get("Test-Header"), answer.get("New-Header")) == (200, None, "newValue")


def test_a_redirect_is_not_followed(shared: tuple[Gorouter, Apps]) -> None:
    router, apps = shared
    found = b"HTTP/1.1 302 Found\r\nLocation: redirect.com\r\nContent-Length: 0\r\n\r\n"
    registered(router, apps("redirect.potato", found))
    answer = router.ask("redirect.potato")
    assert (answer.status, answer.get("Location")) == (302, "redirect.com")


# -- connections to apps --------------------------------------------------------------------------------------


def test_connections_are_kept_even_over_a_new_registration(shared: tuple[Gorouter, Apps]) -> None:
    router, apps = shared
    app = registered(router, apps("kept.potato"))
    with Wire.connect(router.port) as client:  # one connection is one worker here
        for turn in range(3):
            client.send(b"GET / HTTP/1.1\r\nHost: kept.potato\r\n\r\n")
            assert client.answer().status == 200
            app.register(stale_threshold_in_seconds=10)
            until(lambda turn=turn: len(router.said("endpoint-registered")) > turn)
    assert app.accepted == 1


def test_connections_end_with_each_request_if_so_configured(tmp_path: Path) -> None:
    with everything(tmp_path, lambda config: config.update(disable_keep_alives=True)) as (router, apps):
        app = registered(router, apps("potato.potato"))
        for _ in range(2):
            assert router.ask("potato.potato").status == 200
        app.wait(lambda: app.ended == 2)
        assert app.accepted == 2
        assert [request.options() for request in app.requests] == [{"close"}] * 2


# -- errors ---------------------------------------------------------------------------------------------------


def test_plain_errors(shared: tuple[Gorouter, Apps]) -> None:
    router, _ = shared
    with Wire.connect(router.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: not-error-writers.cloudfoundry.org\r\n\r\n")
        answer = client.answer()
    text = b"404 Not Found: Requested route ('not-error-writers.cloudfoundry.org') does not exist.\n"
    assert (answer.status, answer.body) == (404, text)
    assert answer.get("Cache-Control") == "no-cache, no-store"
    assert answer.get("X-Cf-RouterError") == "unknown_route"


def test_errors_of_a_page(tmp_path: Path) -> None:
    path = tmp_path / "html-err-tpl"
    path.write_text('<html>{{ .Message }} Code: {{ .Status }} ; Cause: {{ .Header.Get "X-Cf-RouterError" }}</html>')
    with everything(tmp_path, lambda config: config.update(html_error_template_file=str(path))) as (router, _):
        with Wire.connect(router.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: not-here.org\r\n\r\n")
            answer = client.answer()
        assert answer.status == 404
        assert answer.body == (
            b"<html>Requested route (&#39;not-here.org&#39;) does not exist. Code: 404 ; Cause: unknown_route</html>"
        )


def test_a_large_head_is_refused_and_logged(shared: tuple[Gorouter, Apps], tmp_path: Path) -> None:
    router, apps = shared
    app = registered(router, apps("echo-app"))
    assert router.ask(app.uri, "/" + "a" * 2048).status == 431
    log = Path(str(router.config["access_log"]["file"]))
    until(lambda: re.search(r'echo-app.*/aaaaaaaa.*431.*x_cf_routererror:"max-request-size-exceeded"', log.read_text()))
    assert not app.requests


def test_a_large_upload_comes_back_whole(shared: tuple[Gorouter, Apps]) -> None:
    def echo(conn: Served) -> None:
        head = conn.request_head()
        assert head is not None
        left = int(head.get("Content-Length") or 0)
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
        while left:
            data = conn.take(min(left, 4096))
            conn.send(data)
            left -= len(data)

    router, apps = shared
    app = registered(router, apps("large", echo))
    body = b"a" * (2 << 22)
    with Wire.connect(router.port) as client:
        client.send(f"POST / HTTP/1.1\r\nHost: {app.uri}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        sent = 0
        back = b""
        head = None
        client.sock.setblocking(False)
        parts: list[bytes] = []
        got = 0
        while got < len(body):
            if sent < len(body):
                with contextlib.suppress(BlockingIOError):
                    sent += client.sock.send(body[sent : sent + 65536])
            try:
                data = client.sock.recv(262144)
            except BlockingIOError:
                continue
            assert data, "the connection ended during the upload"
            if head is None:
                back += data
                if b"\r\n\r\n" not in back:
                    continue
                head, _, data = back.partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
            parts.append(data)
            got += len(data)
    assert b"".join(parts) == body


# -- attempts -------------------------------------------------------------------------------------------------


def test_a_client_that_leaves_costs_no_instance(shared: tuple[Gorouter, Apps]) -> None:
    router, apps = shared
    app = registered(router, apps("bad-client", TEAPOT))
    for _ in range(5):
        with Wire.connect(router.port) as client:
            client.send(f"GET / HTTP/1.1\r\nHost: {app.uri}\r\n\r\n".encode())
        assert router.status_of(app.uri) == 418


def test_a_post_to_an_app_that_closes_comes_through_in_the_end(tmp_path: Path) -> None:
    """Fourteen connections are closed as soon as they are there; no request is sent twice."""

    def handle(conn: Served) -> None:
        if conn.number >= 14:
            conn.request()
            conn.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    with everything(tmp_path, lambda config: config["backends"].update(max_attempts=15)) as (router, apps):
        app = registered(router, apps("bad-app", handle))
        statuses = []
        while 200 not in statuses:
            assert len(statuses) < 100
            statuses.append(router.ask(app.uri, method="POST", body=b"this could be a meaningful body").status)
        assert set(statuses) <= {200, 502}
        assert len(app.requests) == 1


# -- forwarding -----------------------------------------------------------------------------------------------

PROTO = {  # (force, sanitize): (what the client says, what the app hears) over a plain connection
    (False, False): [("", "http"), ("http", "http"), ("https", "https")],
    (False, True): [("", "http"), ("http", "http"), ("https", "http")],
    (True, False): [("", "https"), ("http", "https"), ("https", "https")],
    (True, True): [("", "https"), ("http", "https"), ("https", "https")],
}


@pytest.mark.parametrize(("force", "sanitize"), PROTO)
def test_forwarded_proto(tmp_path: Path, force: bool, sanitize: bool) -> None:
    flags = {"force_forwarded_proto_https": force, "sanitize_forwarded_proto": sanitize}
    flags = {key: value for key, value in flags.items() if value}  # a false one is not written
    with everything(tmp_path, lambda config: config.update(flags)) as (router, apps):
        app = registered(router, apps("basic-app.some.domain"))
        for said, heard in PROTO[force, sanitize]:
            assert router.ask(app.uri, lines=f"X-Forwarded-Proto: {said}\r\n").status == 200
            assert app.last().all("X-Forwarded-Proto") == [heard]


@pytest.mark.parametrize(("tenant", "key"), [("", "gorouter"), ("tid", "tid@gorouter")])
def test_w3c(tmp_path: Path, tenant: str, key: str) -> None:
    with everything(
        tmp_path, lambda config: config["tracing"].update(enable_w3c=True, w3c_tenant_id=tenant)
    ) as (router, apps):
        app = registered(router, apps("w3c-tracing-app.cloudfoundry.org"))
        assert router.status_of(app.uri) == 200
        assert re.fullmatch("00-[a-f0-9]{32}-[a-f0-9]{16}-01", app.last().get("Traceparent") or "")
        assert re.fullmatch(f"{key}=[a-f0-9]{{16}}", app.last().get("Tracestate") or "")
        own = f"congo=12345678,{key}=abcdefg,rojo=xyz1234"
        for state, rest in (("congo=12345678", ",congo=12345678"), (own, ",congo=12345678,rojo=xyz1234")):
            lines = f"traceparent: 00-{'1' * 32}-{'9' * 16}-01\r\ntracestate: {state}\r\n"
            assert router.ask(app.uri, lines=lines).status == 200
            assert re.fullmatch("00-1{32}-[a-f0-9]{16}-01", app.last().get("Traceparent") or "")
            assert re.fullmatch(f"{key}=[a-f0-9]{{16}}{rest}", app.last().get("Tracestate") or "")


def websocket(conn: Served) -> None:
    request = conn.request_head()
    assert request is not None
    assert (request.get("Upgrade"), (request.get("Connection") or "").lower()) == ("websocket", "upgrade")
    conn.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
    assert conn.line() == b"hello from client"
    conn.send(b"hello from server\r\n")


UPGRADE = (
    "GET /chat HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    "X-Forwarded-For: 192.168.0.1\r\n\r\n"
)


@pytest.mark.parametrize(
    ("setting", "shown"),
    [("disable_log_forwarded_for", 'x_forwarded_for:"-"'), ("disable_log_source_ip", '"foo-agent" "-"')],
)
def test_addresses_that_must_not_be_logged(tmp_path: Path, setting: str, shown: str) -> None:
    """Neither those of requests nor those of websockets, neither in the access log nor on stdout."""
    log = tmp_path / "access.log"

    def change(config: dict[str, Any]) -> None:
        config["access_log"]["file"] = str(log)
        config["logging"][setting] = True

    with everything(tmp_path, change) as (router, apps):
        plain, ws = registered(router, apps("basic-app.some.domain")), registered(router, apps("ws-app", websocket))
        lines = "User-Agent: foo-agent\r\n"
        assert router.ask(plain.uri, lines=lines + "X-Forwarded-For: 192.168.0.1\r\n").status == 200
        until(lambda: shown in log.read_text())
        with Wire.connect(router.port) as client:
            client.send(UPGRADE.format(ws.uri).encode())
            assert client.answer().status == 101
            client.send(b"hello from client\r\n")
            assert client.line() == b"hello from server"
            assert client.rest()[0] == b""
        until(lambda: log.read_text().count("\n") == 2)
        if setting == "disable_log_forwarded_for":
            assert "192.168.0.1" not in log.read_text()
            assert "192.168.0.1" not in "\n".join(router.raw)


def test_a_websocket_app_that_fails(shared: tuple[Gorouter, Apps]) -> None:
    def fails(conn: Served) -> None:
        conn.request_head()

    router, apps = shared
    app = registered(router, apps("failing-ws", fails))
    with Wire.connect(router.port) as client:
        client.send(UPGRADE.format(app.uri).encode())
        assert client.answer().status == 502


# -- instances and sessions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "status"),
    [("$^%*&%:!@#(*&$", 400), ("{guid}:1", 400), ("{guid}:0", 200)],
    ids=["malformed", "not there", "there"],
)
def test_an_instance_is_asked_for(shared: tuple[Gorouter, Apps], value: str, status: int) -> None:
    router, apps = shared
    app = registered(router, apps("test"))
    answer = router.ask(app.uri, lines=f"X-CF-APP-INSTANCE: {value.format(guid=app.guid)}\r\n")
    assert answer.status == status
    if status == 400:
        assert answer.get("Cache-Control") == "no-cache, no-store"
    app.unregister()


def test_a_session_stays(shared: tuple[Gorouter, Apps]) -> None:
    cookie = b"HTTP/1.1 200 OK\r\nSet-Cookie: JSESSIONID=x; Path=/\r\nContent-Length: 0\r\n\r\n"
    router, apps = shared
    one, two = apps(f"sticky.{DOMAIN}", cookie), apps(f"sticky.{DOMAIN}", cookie)
    registered(router, one, private_instance_id="id-1")
    registered(router, two, private_instance_id="id-2")
    until(lambda: len(router.routes_of(one.uri)) == 2)
    named = [text for text in router.ask(one.uri).all("Set-Cookie") if text.startswith("__VCAP_ID__=")]
    (found,) = [re.match("__VCAP_ID__=([^;]+)", text) for text in named]
    assert found is not None
    before = len(one.requests), len(two.requests)
    for _ in range(6):
        assert router.ask(one.uri, lines=f"Cookie: JSESSIONID=x; __VCAP_ID__={found[1]}\r\n").status == 200
    more = len(one.requests) - before[0], len(two.requests) - before[1]
    assert more == ((6, 0) if found[1] == "id-1" else (0, 6))


def test_zones_and_request_ids_come_with_traces(shared: tuple[Gorouter, Apps]) -> None:
    router, apps = shared
    app = registered(router, apps("traced", OK))
    answer = router.ask(app.uri, lines="X-Vcap-Trace: my_trace_key\r\n")
    assert answer.get("X-Vcap-Backend") == app.address
    assert answer.get("X-Vcap-Router")
    assert app.last().get("X-B3-TraceId") and app.last().get("X-B3-SpanId")

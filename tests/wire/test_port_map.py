"""Listeners of the port map: the client sees IP:port, the app its own host."""

import socket

import pytest

from gorouter_py import _fastpath
from tests.support.origins import OK, Served, answering
from tests.support.plane import HOST, MakeOrigin, MakeRouter, until
from tests.support.wire import Wire

TAG = _fastpath.cookie_tag(HOST)


def get(host: str = "", target: str = "/", lines: str = "") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode()


def answer(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", "Content-Length: 0", *lines, "", "")).encode()


def ask(port: int, request: bytes):
    with Wire.connect(port) as client:
        client.send(request)
        return client.answer()


# -- the way in -----------------------------------------------------------------------------------------------


def test_the_app_gets_its_host_and_hears_what_the_client_used(router: MakeRouter, origin: MakeOrigin) -> None:
    one, app = router(), origin()
    one.add(app)
    port, _ = one.map_port()
    assert ask(port, get(f"127.0.0.1:{port}", "/x?y=1", "X-Other: a\r\n")).status == 200
    seen = app.last()
    assert seen.get("Host") == HOST
    assert seen.target == b"/x?y=1"
    assert seen.get("X-Forwarded-Host") == f"127.0.0.1:{port}"
    assert seen.get("X-Forwarded-Port") == str(port)
    assert seen.get("X-Forwarded-Proto") == "http"
    assert seen.get("X-Forwarded-For") == "127.0.0.1"
    assert seen.get("Forwarded") == f'for=127.0.0.1;host="127.0.0.1:{port}";proto=http'
    assert seen.get("X-Other") == "a"


SPOOFED = (
    "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-host: evil.test\r\nX-Forwarded-Port: 6\r\nX-Forwarded-Proto: https\r\n"
    "Forwarded: for=6.6.6.6;host=evil.test\r\nX-Forwarded-Prefix: /evil\r\nX-Forwarded-Host: more.test\r\n"
)


def test_spoofed_lines_are_dropped(router: MakeRouter, origin: MakeOrigin) -> None:
    one, app = router(), origin()
    one.add(app)
    port, _ = one.map_port()
    ask(port, get("www.shop.test", lines=SPOOFED + "Connection: X-Forwarded-Host, Forwarded\r\n"))
    seen = app.last()
    assert seen.get("X-Forwarded-Host") == "www.shop.test"
    assert seen.get("X-Forwarded-Port") == str(port)
    assert seen.get("X-Forwarded-Proto") == "http"
    assert seen.get("X-Forwarded-For") == "127.0.0.1"
    assert seen.get("X-Forwarded-Prefix") is None
    assert "evil" not in str(seen.get("Forwarded"))


@pytest.mark.parametrize("network", ["127.0.0.0/8", "127.0.0.1", "::ffff:127.0.0.0/104", "0.0.0.0/0"])
def test_a_trusted_sender_is_believed(router: MakeRouter, origin: MakeOrigin, network: str) -> None:
    one, app = router(trusted_networks=["10.0.0.0/8", network]), origin(answer(f"Location: http://{HOST}/next"))
    one.add(app)
    port, _ = one.map_port()
    lines = "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Host: www.shop.test\r\nX-Forwarded-Proto: https\r\n"
    reply = ask(port, get("10.1.1.1:9001", lines=lines + 'Forwarded: for="198.51.100.7"\r\n'))
    seen = app.last()
    assert seen.get("X-Forwarded-For") == "198.51.100.7, 127.0.0.1"
    assert seen.get("X-Forwarded-Host") == "www.shop.test"
    assert seen.get("X-Forwarded-Proto") == "https"
    assert seen.get("X-Forwarded-Port") == "443"
    assert seen.all("Forwarded") == ['for="198.51.100.7"', 'for=127.0.0.1;host="10.1.1.1:9001";proto=https']
    assert reply.get("Location") == "https://www.shop.test/next"


def test_others_than_the_trusted_are_not(router: MakeRouter, origin: MakeOrigin) -> None:
    one, app = router(trusted_networks=["127.0.0.128/25", "fd00::/8"]), origin()
    one.add(app)
    port, _ = one.map_port()
    ask(port, get("a.test", lines=SPOOFED))
    assert app.last().get("X-Forwarded-For") == "127.0.0.1"
    assert app.last().get("X-Forwarded-Host") == "a.test"


def test_a_trusted_sender_that_tells_nothing_or_nonsense(router: MakeRouter, origin: MakeOrigin) -> None:
    one, app = router(trusted_networks=["127.0.0.1"]), origin(answer(f"Location: http://{HOST}/next"))
    one.add(app)
    port, _ = one.map_port()
    reply = ask(port, get("a.test:81", lines="X-Forwarded-Host: no host\r\n"))
    assert app.last().get("X-Forwarded-Port") == str(port)
    assert reply.get("Location") == "http://a.test:81/next"


@pytest.mark.parametrize(
    ("request_", "target"),
    [
        (b"GET http://public.test:81/a/b?c=d HTTP/1.1\r\nHost: other.test\r\n\r\n", b"/a/b?c=d"),
        (b"GET http://public.test:81 HTTP/1.1\r\nHost: other.test\r\n\r\n", b"/"),
        (b"GET http://public.test:81?c=d HTTP/1.1\r\nHost: other.test\r\n\r\n", b"/?c=d"),
        (b"OPTIONS * HTTP/1.1\r\nHost: public.test:81\r\n\r\n", b"*"),
    ],
)
def test_other_forms_of_a_target(router: MakeRouter, origin: MakeOrigin, request_: bytes, target: bytes) -> None:
    one, app = router(), origin()
    one.add(app)
    port, _ = one.map_port()
    assert ask(port, request_).status == 200
    assert app.last().target == target
    assert app.last().get("Host") == HOST
    assert app.last().get("X-Forwarded-Host") == "public.test:81"


@pytest.mark.parametrize("head", [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.0\r\nHost:\r\n\r\n"])
def test_a_client_that_names_no_host(router: MakeRouter, origin: MakeOrigin, head: bytes) -> None:
    one, app = router(), origin(answer(f"Location: http://{HOST}/next"))
    one.add(app)
    port, _ = one.map_port()
    reply = ask(port, head)
    assert app.last().get("Host") == HOST
    assert app.last().get("X-Forwarded-Host") == f"127.0.0.1:{port}"
    assert reply.get("Location") == f"http://127.0.0.1:{port}/next"


def test_connect_is_refused_as_anywhere(router: MakeRouter) -> None:
    port, _ = router().map_port()
    assert ask(port, b"CONNECT a.test:1 HTTP/1.1\r\nHost: a.test:1\r\n\r\n").status in (400, 405, 501)


def test_https_in_front(router: MakeRouter, origin: MakeOrigin) -> None:
    one, app = router(force_forwarded_proto_https=True), origin(answer(f"Location: http://{HOST}/next"))
    one.add(app)
    port, _ = one.map_port()
    reply = ask(port, get("a.test"))
    assert app.last().get("X-Forwarded-Proto") == "https"
    assert str(app.last().get("Forwarded")).endswith("proto=https")
    assert reply.get("Location") == "https://a.test/next"


def test_large_heads_and_many_requests_on_one_connection(router: MakeRouter, origin: MakeOrigin) -> None:
    one, app = router(), origin()
    one.add(app)
    port, _ = one.map_port()
    cookies = ";".join(f"c{n}={'x' * 40}" for n in range(1500))
    lines = f"Cookie: {cookies}\r\n" + "".join(f"X-{n}:{n}\r\n" for n in range(500))
    with Wire.connect(port) as client:
        for _ in range(3):
            client.send(get("a.test", lines=lines) + get("a.test"))
            assert client.answer().status == 200
            assert client.answer().status == 200
    assert app.requests[0].get("Cookie") == cookies.replace(";", "; ")
    assert app.requests[0].get("X-499") == "499"


def test_a_body_and_a_retry(router: MakeRouter, origin: MakeOrigin) -> None:
    one = router()
    gone = origin()
    gone.close_listener()
    app = origin()
    one.add(gone)
    one.add(app)
    port, _ = one.map_port()
    with Wire.connect(port) as client:
        for _ in range(4):
            client.send(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello")
            assert client.answer("POST").status == 200
    assert {request.body for request in app.requests} == {b"hello"}
    assert all(request.get("X-Forwarded-Host") == "a.test" for request in app.requests)


def test_the_log_names_the_app(router: MakeRouter, origin: MakeOrigin) -> None:
    one, app = router(log=True), origin()
    one.add(app)
    port, _ = one.map_port()
    ask(port, get("a.test", "/x"))
    assert one.log_lines(1)[0].startswith(f'{HOST} - [')


# -- the way back ---------------------------------------------------------------------------------------------


def test_what_names_the_app_is_turned_and_the_rest_is_not(router: MakeRouter, origin: MakeOrigin) -> None:
    lines = (
        f"Location: http://{HOST}:8080/next?x=1#f",
        f"Content-Location: https://{HOST.upper()}/doc",
        f"Refresh: 5; url=http://{HOST}/again",
        f"X-Location: http://{HOST}/",
        f"Link: <http://{HOST}/>",
    )
    one, app = router(), origin(answer(*lines, status="302 Found"))
    one.add(app)
    port, _ = one.map_port()
    reply = ask(port, get("192.0.2.1:9001"))
    assert reply.status == 302
    assert reply.get("Location") == "http://192.0.2.1:9001/next?x=1#f"
    assert reply.get("Content-Location") == "http://192.0.2.1:9001/doc"
    assert reply.get("Refresh") == "5; url=http://192.0.2.1:9001/again"
    assert reply.get("X-Location") == f"http://{HOST}/"
    assert reply.get("Link") == f"<http://{HOST}/>"
    assert one.get().get("Location") == f"http://{HOST}:8080/next?x=1#f"  # an ordinary listener


@pytest.mark.parametrize("location", [f"http://{HOST}.evil.test/", "/next", "next", "http://other.test/", "?a"])
def test_other_locations_are_untouched(router: MakeRouter, origin: MakeOrigin, location: str) -> None:
    one, app = router(), origin(answer(f"Location:{location}"))
    one.add(app)
    port, _ = one.map_port()
    assert ask(port, get("a.test")).get("Location") == location


def test_cookies_become_host_only_and_keep_their_order(router: MakeRouter, origin: MakeOrigin) -> None:
    lines = (
        "Set-Cookie: a=1; Domain=.test; Path=/",
        "Set-Cookie: a=2",
        "X: y",
        "Set-Cookie: b=3; Domain=other.example",
        "Set-Cookie: SID=4; Domain=app.test; HttpOnly",
        "set-cookie: JSESSIONID=5",
    )
    one, app = router(), origin(answer(*lines))
    one.add(app, instance_id="id-1")
    port, _ = one.map_port(HOST, "SID")
    reply = ask(port, get("a.test"))
    assert reply.all("Set-Cookie") == [
        "a=1; Path=/",
        "a=2",
        "b=3; Domain=other.example",
        f"SID{TAG}=4; HttpOnly",
        "JSESSIONID=5",
        f"__VCAP_ID__{TAG}=id-1; Path=/; HttpOnly",
    ]


def test_sessions_stay_with_their_instance(router: MakeRouter, origin: MakeOrigin) -> None:
    one = router()
    apps = [origin(answer(f"X-Served: {n}")) for n in range(3)]
    for n, app in enumerate(apps):
        one.add(app, instance_id=f"id-{n}")
    port, _ = one.map_port(HOST, "JSESSIONID")
    cookie = f"Cookie: JSESSIONID{TAG}=s; __VCAP_ID__{TAG}=id-1; other=o\r\n"
    assert {ask(port, get("a.test", lines=cookie)).get("X-Served") for _ in range(6)} == {"1"}
    assert apps[1].last().get("Cookie") == "JSESSIONID=s; __VCAP_ID__=id-1; other=o"
    others = "Cookie: JSESSIONID~00000000=s; __VCAP_ID__~00000000=id-1; JSESSIONID=x; __VCAP_ID__=id-1\r\n"
    assert {ask(port, get("a.test", lines=others)).get("X-Served") for _ in range(6)} == {"0", "1", "2"}
    assert apps[1].last().get("Cookie") is None


def test_http_rewrite_has_its_say_before(router: MakeRouter, origin: MakeOrigin) -> None:
    one = router(remove_response_headers=["Set-Cookie"], add_response_headers=[("X-Added", "1")])
    app = origin(answer("Set-Cookie: a=1", f"Location: http://{HOST}/"))
    one.add(app)
    port, _ = one.map_port()
    reply = ask(port, get("a.test"))
    assert reply.all("Set-Cookie") == []
    assert reply.get("X-Added") == "1"
    assert reply.get("Location") == "http://a.test/"


def test_a_websocket_passes(router: MakeRouter, origin: MakeOrigin) -> None:
    def upgrade(conn: Served) -> None:
        assert conn.request() is not None
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                  b"Set-Cookie: SID=1; Domain=app.test\r\n\r\n")  # fmt: skip
        conn.send(conn.take(4)[::-1])

    one, app = router(), origin(upgrade)
    one.add(app)
    port, _ = one.map_port(HOST, "SID")
    with Wire.connect(port) as client:
        lines = "Connection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://a.test\r\n"
        client.send(get("a.test", lines=lines))
        reply = client.answer()
        assert reply.status == 101
        assert reply.get("Set-Cookie") == f"SID{TAG}=1"
        client.send(b"ping")
        assert client.take(4) == b"gnip"
    assert app.last().get("Origin") == "http://a.test"


# -- coming and going -----------------------------------------------------------------------------------------


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("workers", [1, 3])
def test_a_port_closes_and_others_do_not_notice(router: MakeRouter, origin: MakeOrigin, workers: int) -> None:
    one, app = router(workers=workers), origin()
    one.add(app)
    port, handle = one.map_port()
    other, _ = one.map_port()
    with Wire.connect(one.port) as plain, Wire.connect(other) as mapped, Wire.connect(port) as idle:
        for client in (plain, mapped, idle):
            client.send(get(HOST))
            assert client.answer().status == 200
        assert one.plane.mapped_listeners(handle) == 1
        one.plane.unmap_port(handle)
        until(lambda: one.plane.mapped_listeners(handle) == 0)
        assert refused(port)
        assert idle.rest() == (b"", "end")
        assert plain.is_open()
        assert mapped.is_open()
    with pytest.raises(LookupError):
        one.plane.mapped_listeners(handle)


def test_a_request_in_progress_ends_as_it_should(router: MakeRouter, origin: MakeOrigin) -> None:
    one = router()

    def late(conn: Served) -> None:
        assert conn.request() is not None
        conn.origin.wait(lambda: ended, "the port did not close")
        conn.send(OK)

    ended: list[bool] = []
    app = origin(late)
    one.add(app)
    port, handle = one.map_port()
    with Wire.connect(port) as client:
        client.send(get("a.test"))
        app.wait(lambda: app.requests)
        one.plane.unmap_port(handle)
        until(lambda: one.plane.mapped_listeners(handle) == 0)
        with app.changed:
            ended.append(True)
            app.changed.notify_all()
        reply = client.answer()
        assert reply.status == 200
        assert "close" in reply.options()
        assert client.rest() == (b"", "end")


def test_a_port_goes_over_to_another_app_without_a_refusal(router: MakeRouter, origin: MakeOrigin) -> None:
    one = router(workers=2)
    one.add(origin(answer("X-App: old")), "old.test")
    one.add(origin(answer("X-App: new")), "new.test")
    port, handle = one.map_port("old.test")
    with Wire.connect(port) as kept:
        kept.send(get("a.test"))
        assert kept.answer().get("X-App") == "old"
        newer = one.plane.remap_port(handle, "new.test")
        assert kept.rest() == (b"", "end")
    until(lambda: ask(port, get("a.test")).get("X-App") == "new")
    assert one.plane.mapped_listeners(newer) == 1
    with pytest.raises(LookupError):
        one.plane.unmap_port(handle)


@pytest.mark.parametrize(
    ("host", "port", "cookies", "reason"),
    [
        ("a b", 1, (), "host name"),
        ("a.test:80", 1, (), "host name"),
        ("", 1, (), "host name"),
        ("x" * 300, 1, (), "host name"),
        ("*.test", 1, (), "host name"),
        ("a.test", 0, (), "port"),
        ("a.test", 1, ("a b",), "cookie"),
        ("a.test", 1, ("x" * 64,), "cookie"),
        ("a.test", 1, tuple(f"c{n}" for n in range(17)), "17 cookies"),
    ],
)
def test_unfit_mappings(router: MakeRouter, host: str, port: int, cookies: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        router().plane.map_port([], host, port, cookies)


def test_nothing_can_be_mapped_before_the_start() -> None:
    plane = _fastpath.DataPlane({})
    with pytest.raises(RuntimeError):
        plane.map_port([], "a.test", 1)


@pytest.mark.parametrize("network", ["10.0.0.1/8", "nonsense", ""])
def test_unfit_networks(network: str) -> None:
    with pytest.raises(ValueError):
        _fastpath.check_settings({"trusted_networks": [network]})


def test_an_endless_row_of_requests_leaks_nothing(router: MakeRouter, origin: MakeOrigin) -> None:
    lines = answer(f"Location: http://{HOST}/", "Set-Cookie: a=1; Domain=test", f"Refresh: 1;http://{HOST}/")
    one = router()
    one.add(origin(answering(lines)))
    port, _ = one.map_port()
    with Wire.connect(port) as client:
        for _ in range(50):
            client.send(get("a.test", lines="Cookie: a=1; __VCAP_ID__=2\r\n" + SPOOFED))
            assert client.answer().get("Refresh") == "1;http://a.test/"

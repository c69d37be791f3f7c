"""Values of flags: routes, addresses, NATS servers."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorouter_py.control import flags
from gorouter_py.control.flags import NatsServer
from gorouter_py.control.keys import StaticRoute


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("app.example.com=127.0.0.1:8080", StaticRoute("app.example.com", "127.0.0.1", 8080)),
        ("APP.Example.com/Ctx/Path=h:1", StaticRoute("app.example.com/Ctx/Path", "h", 1)),
        ("*.example.com=h:65535", StaticRoute("*.example.com", "h", 65535)),
        ("localhost=[::1]:80", StaticRoute("localhost", "::1", 80)),
        ("a_b.c/=h-1.x:2", StaticRoute("a_b.c/", "h-1.x", 2)),
        ("127.0.0.1=h:1", StaticRoute("127.0.0.1", "h", 1)),
    ],
)
def test_route(text: str, route: StaticRoute) -> None:
    assert flags.parse_route(text) == route


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no route"),
        ("a", "is no route"),
        ("a=", "is no route"),
        ("=h:1", "is no route"),
        ("http://a=h:1", "has a scheme"),
        ("a=http://h:1", "has a scheme"),
        ("a:80=h:1", "a route has no port"),
        ("*=h:1", "'\\*' alone is no host"),
        ("a.*.b=h:1", "'\\*' is no part of a host name"),
        ("*a.b=h:1", "'\\*a' is no part of a host name"),
        ("a..b=h:1", "is empty"),
        ("/p=h:1", "is empty"),
        ("-a.b=h:1", "'-a' is no part"),
        ("a b=h:1", "'a b' is no part"),
        ("ä.b=h:1", "'ä' is no part"),
        ("a/b c=h:1", "no query, fragment or space"),
        ("a/b?c=h:1", "no query, fragment or space"),
        ("a=h", "is no address"),
        ("a=h:", "'' is no port"),
        ("a=h:0", "'0' is no port"),
        ("a=h:65536", "'65536' is no port"),
        ("a=h:٣", "is no port"),
        ("a=:80", "is no address"),
        ("a=::1:80", "in brackets"),
        ("a=[h]:80", "only an IPv6 address"),
        ("a=h/p:80", "neither an IP address nor a host name"),
    ],
)
def test_no_route(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flags.parse_route(text)


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("nats://h", NatsServer("h", 4222, "", "", False)),
        ("h:1", NatsServer("h", 1, "", "", False)),
        ("nats://u:p@h:1/", NatsServer("h", 1, "u", "p", False)),
        ("nats://u%40:p%3A%2F@h", NatsServer("h", 4222, "u@", "p:/", False)),
        ("nats://token@h", NatsServer("h", 4222, "token", "", False)),
        ("tls://[::1]", NatsServer("::1", 4222, "", "", True)),
        ("tls://[::1]:9", NatsServer("::1", 9, "", "", True)),
    ],
)
def test_nats(text: str, server: NatsServer) -> None:
    assert flags.parse_nats(text) == server


@pytest.mark.parametrize(
    "text", ["", "nats://", "http://h", "nats://h:0", "nats://h:x", "nats://h/x", "nats://u@", "a b"]
)
def test_no_nats(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|valid"):
        flags.parse_nats(text)


@pytest.mark.parametrize("text", ["http://bob:hush@h", "nats://bob:hush@h:0", "bob:hush@h:x", "nats://bob:hush@"])
def test_messages_keep_passwords(text: str) -> None:
    with pytest.raises(ValueError, match=r"\*\*\*@") as caught:
        flags.parse_nats(text)
    assert "hush" not in str(caught.value)


@given(st.text(max_size=30), st.sampled_from([flags.parse_route, flags.parse_address]))
def test_any_text_is_taken_or_refused_with_a_sentence(text: str, parse: Callable[[str], object]) -> None:
    try:
        parse(text)
    except ValueError as error:
        assert str(error).startswith(repr(text))


@given(st.text(max_size=30))
def test_any_text_is_a_server_or_none(text: str) -> None:
    try:
        server = flags.parse_nats(text)
    except ValueError as error:
        assert re.search("; write nats:|valid: 1 to 65535|IPv6|neither an IP|is no address", str(error))
    else:
        assert server.host and 1 <= server.port <= 65535

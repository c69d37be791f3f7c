"""Cookies as gorouter reads them: requests by exact name, Set-Cookie with the attributes a sticky session copies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import _probe


def request(*cookies: bytes) -> bytes:
    return (
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"Cookie: " + c + b"\r\nX: Cookie\r\n" for c in cookies) + b"\r\n"
    )


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ([b"n=v"], b"v"),
        ([b"a=b; n=v; c=d"], b"v"),
        ([b"a=b;n=v"], b"v"),
        ([b"n=1; n=2"], b"1"),
        ([b"a=b", b"n=v"], b"v"),
        ([b"n=1", b"n=2"], b"1"),
        ([b" n = v "], b"v"),
        ([b"n="], b""),
        ([b"n=a=b"], b"a=b"),
        ([b'n="v"'], b"v"),
        ([b'n=""'], b""),
        ([b'n="'], None),
        ([b'n="v'], None),
        ([b"n=a b"], b"a b"),
        ([b"n=a,b"], b"a,b"),
        ([b"n=a\\b; n=c"], b"c"),
        ([b"n=\xff; n=c"], b"c"),
        ([b"N=v"], None),
        ([b"nn=v"], None),
        ([b"xn=v"], None),
        ([b"n"], None),
        ([b"n; n=v"], b"v"),
        ([b"a=n=v"], None),
        ([b'a="b; n=v"'], None),
        ([b""], None),
        ([b";;; ; n=v;"], b"v"),
        ([b"=v"], None),
        ([], None),
    ],
)
def test_first_cookie_of_that_name(lines: list[bytes], value: bytes | None) -> None:
    assert _probe.get_cookie(request(*lines), b"n") == value


def test_empty_name_finds_nothing() -> None:
    assert _probe.get_cookie(request(b"=v; a=b"), b"") is None


TOKEN = st.text("abcXYZ019_-!.", min_size=1, max_size=8).map(str.encode)
VALUE = st.text("abcXYZ019_-=:/+%", max_size=12).map(str.encode)


@given(st.lists(st.lists(st.tuples(TOKEN, VALUE), min_size=1, max_size=6), min_size=1, max_size=3), TOKEN)
def test_any_cookies(lines: list[list[tuple[bytes, bytes]]], name: bytes) -> None:
    data = request(*(b"; ".join(n + b"=" + v for n, v in line) for line in lines))
    wanted = next((v for line in lines for n, v in line if n == name), None)
    assert _probe.get_cookie(data, name) == wanted
    known = lines[-1][-1][0]
    assert _probe.get_cookie(data, known) == next(v for line in lines for n, v in line if n == known)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"JSESSIONID=x; Path=/", b"JSESSIONID"),
        (b" JSESSIONID = x", b"JSESSIONID"),
        (b"JSESSIONID=", b"JSESSIONID"),
        (b"JSESSIONID", None),
        (b"=x", None),
        (b"a b=x", None),
        (b"; a=b", None),
        (b"", None),
    ],
)
def test_set_cookie_name(line: bytes, name: bytes | None) -> None:
    assert _probe.set_cookie_name(line) == name


def test_set_cookie_with_everything() -> None:
    said = _probe.parse_set_cookie(
        b'JSESSIONID="x y"; Path=/ctx; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Max-Age=0; HttpOnly; Secure; '
        b"SameSite=Lax; Partitioned; Domain=a.test"
    )
    assert said == {
        "name": b"JSESSIONID",
        "value": b"x y",
        "path": b"/ctx",
        "expires": b"Wed, 21 Oct 2026 07:28:00 GMT",
        "same_site": b"Lax",
        "site": "lax",
        "secure": True,
        "http_only": True,
        "partitioned": True,
        "max_age": False,
    }


def test_set_cookie_with_nothing() -> None:
    said = _probe.parse_set_cookie(b"a=b")
    assert said == {
        "name": b"a",
        "value": b"b",
        "path": None,
        "expires": None,
        "same_site": None,
        "site": "",
        "secure": False,
        "http_only": False,
        "partitioned": False,
        "max_age": None,
    }
    for line in (b"", b"a", b"=b", b"a b=c", b'a="b', b"a=\xff", b"; Secure"):
        assert _probe.parse_set_cookie(line) is None


@pytest.mark.parametrize(
    ("attributes", "key", "value"),
    [
        (b"secure", "secure", True),
        (b"SECURE=anything", "secure", True),
        (b"insecure", "secure", False),
        (b"httponly", "http_only", True),
        (b"samesite=STRICT", "site", "strict"),
        (b"SameSite=None", "site", "none"),
        (b"SameSite", "site", "other"),
        (b"SameSite=odd", "site", "other"),
        (b"SameSite=Lax; SameSite=Strict", "site", "strict"),
        (b"path=/a; Path=/b", "path", b"/b"),
        (b"path", "path", b""),
        (b" path = /a ", "path", b"/a"),
        (b";;path=/a;;", "path", b"/a"),
        (b"Max-Age=1", "max_age", True),
        (b"Max-Age=3600", "max_age", True),
        (b"Max-Age=00", "max_age", False),
        (b"Max-Age=-1", "max_age", False),
        (b"Max-Age=-0", "max_age", False),
        (b"Max-Age=01", "max_age", None),
        (b"Max-Age=", "max_age", None),
        (b"Max-Age=-", "max_age", None),
        (b"Max-Age=+1", "max_age", None),
        (b"Max-Age=1x", "max_age", None),
        (b"Max-Age=5; Max-Age=0", "max_age", False),
    ],
)
def test_set_cookie_attributes(attributes: bytes, key: str, value: object) -> None:
    assert _probe.parse_set_cookie(b"a=b; " + attributes)[key] == value


@given(st.binary(max_size=120))
def test_any_octets_are_survived(line: bytes) -> None:
    said = _probe.parse_set_cookie(line)
    name = _probe.set_cookie_name(line)
    if said is not None:
        assert said["name"] == name

"""Names of cookies with an app's tag: marked on their way to the client, stripped on the way back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import _probe

HOST, TAG, NAMES = b"shop.apps.test", b"~0123abcd", [b"__VCAP_ID__", b"JSESSIONID"]
OTHER = b"~ffffffff"


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        (b"a=b", b"a=b"),
        (b"JSESSIONID~0123abcd=1", b"JSESSIONID=1"),
        (b"a=b; JSESSIONID~0123abcd=1; c=d", b"a=b; JSESSIONID=1; c=d"),
        (b"JSESSIONID~0123abcd = 1", b"JSESSIONID = 1"),
        (b"JSESSIONID~ffffffff=1", b""),
        (b"JSESSIONID=1", b""),
        (b"JSESSIONID=1; a=b", b"a=b"),
        (b"a=b; JSESSIONID=1", b"a=b"),
        (b"a=b;__VCAP_ID__=1;c=d", b"a=b; c=d"),
        (b"JSESSIONID=theirs; JSESSIONID~0123abcd=ours", b"JSESSIONID=ours"),
        (b"jsessionid=1", b"jsessionid=1"),
        (b"anything~0123abcd=1", b"anything=1"),
        (b"short~0123abc=1", b"short~0123abc=1"),
        (b"x~0123ABCD=1", b"x~0123ABCD=1"),
        (b"~0123abcd=1", b"~0123abcd=1"),
        (b"a", b"a"),
        (b"JSESSIONID", b""),
        (b";;a=b;", b"a=b"),
        (b"", b""),
    ],
)
def test_what_the_app_sees(line: bytes, seen: bytes) -> None:
    assert _probe.strip_cookies(line, TAG, NAMES) == seen


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        (b"a=b", b"a=b"),
        (b"a=b;Path=/ ;HttpOnly", b"a=b;Path=/ ;HttpOnly"),
        (b"JSESSIONID=1; Path=/", b"JSESSIONID~0123abcd=1; Path=/"),
        (b"a=b; Domain=shop.apps.test; Path=/", b"a=b; Path=/"),
        (b"a=b; domain=.apps.test", b"a=b"),
        (b"a=b;Domain=TEST;Secure", b"a=b; Secure"),
        (b"JSESSIONID=1; DOMAIN=.Apps.Test; HttpOnly", b"JSESSIONID~0123abcd=1; HttpOnly"),
        (b"a=b; Domain=evil.test", b"a=b; Domain=evil.test"),
        (b"a=b; Domain=pps.test", b"a=b; Domain=pps.test"),
        (b"a=b; Domain=x.shop.apps.test", b"a=b; Domain=x.shop.apps.test"),
        (b"a=b; Domain=", b"a=b; Domain="),
        (b"a=b; Domain", b"a=b; Domain"),
        (b"a=b; Domain=.", b"a=b; Domain=."),
        (b"a=b; Domain=evil.test; Domain=apps.test", b"a=b"),
        (b"a=b; Domain=apps.test; Domain=evil.test", b"a=b; Domain=apps.test; Domain=evil.test"),
        (b"a=Domain=apps.test", b"a=Domain=apps.test"),
        (b"=b; Domain=apps.test", b"=b"),
        (b"__VCAP_ID__=x", b"__VCAP_ID__~0123abcd=x"),
        (b"", b""),
    ],
)
def test_what_the_client_sees(line: bytes, seen: bytes) -> None:
    assert _probe.mark_cookie(line, HOST, TAG, NAMES) == seen


TEXT = st.binary(max_size=40).filter(lambda text: b"\0" not in text)


@given(TEXT, TEXT)
def test_anything_fits_its_room(cookie: bytes, line: bytes) -> None:
    _probe.strip_cookies(cookie, TAG, NAMES)
    _probe.mark_cookie(line, HOST, TAG, NAMES)


@given(st.lists(st.sampled_from([b"JSESSIONID=1", b"__VCAP_ID__=2", b"a=b"]), min_size=1))
def test_what_was_marked_comes_back_as_it_was(cookies: list[bytes]) -> None:
    marked = [_probe.mark_cookie(cookie, HOST, TAG, NAMES) for cookie in cookies]
    assert _probe.strip_cookies(b"; ".join(marked), TAG, NAMES) == b"; ".join(cookies)
    assert _probe.strip_cookies(b"; ".join(marked), OTHER, NAMES) == b"; ".join(c for c in cookies if c == b"a=b")

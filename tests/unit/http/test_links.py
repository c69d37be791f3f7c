"""References that name the app's host are turned to the client's authority; whatever else there is stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import _probe

HOST, SCHEME, ASKED = b"shop.apps.test", b"http", b"192.0.2.1:9001"


@pytest.mark.parametrize(
    ("uri", "turned"),
    [
        (b"http://shop.apps.test/next?x=1#f", b"http://192.0.2.1:9001/next?x=1#f"),
        (b"HTTPS://SHOP.Apps.test:8443/Next", b"http://192.0.2.1:9001/Next"),
        (b"http://shop.apps.test", b"http://192.0.2.1:9001"),
        (b"http://shop.apps.test:80", b"http://192.0.2.1:9001"),
        (b"http://shop.apps.test:/", b"http://192.0.2.1:9001/"),
        (b"http://shop.apps.test./", b"http://192.0.2.1:9001/"),
        (b"http://shop.apps.test.:443/", b"http://192.0.2.1:9001/"),
        (b"http://shop.apps.test?q", b"http://192.0.2.1:9001?q"),
        (b"http://shop.apps.test#f", b"http://192.0.2.1:9001#f"),
        (b"//shop.apps.test/x", b"//192.0.2.1:9001/x"),
        (b"http://me@shop.apps.test/", b"http://me@192.0.2.1:9001/"),
        (b"http://shop.apps.test/?r=http://shop.apps.test/", b"http://192.0.2.1:9001/?r=http://shop.apps.test/"),
        (b"http://shop.apps.test.evil.test/", None),
        (b"http://shop.apps.testing/", None),
        (b"http://other.shop.apps.test/", None),
        (b"http://shop.apps.test@evil.test/", None),
        (b"http://shop.apps.test:80@evil.test/", None),
        (b"http://shop.apps.test\\@evil.test/", None),
        (b"http://shop.apps.test:8o/", None),
        (b"http://shop.apps.test:80:80/", None),
        (b"http://shop.apps.test../", None),
        (b"ftp://shop.apps.test/", None),
        (b"http:/shop.apps.test/", None),
        (b"http:shop.apps.test", None),
        (b"/http://shop.apps.test/", None),
        (b"shop.apps.test/", None),
        (b"/next", None),
        (b"?q", None),
        (b"", None),
        (b"http://", None),
        (b"//", None),
    ],
)
def test_a_reference(uri: bytes, turned: bytes | None) -> None:
    assert _probe.turn(uri, HOST, SCHEME, ASKED) == turned


@pytest.mark.parametrize(
    ("value", "turned"),
    [
        (b"5; url=http://shop.apps.test/a", b"5; url=http://192.0.2.1:9001/a"),
        (b"0;URL='https://shop.apps.test:8443/a'", b"0;URL='http://192.0.2.1:9001/a'"),
        (b'0, url = "http://shop.apps.test/a" rest', b'0, url = "http://192.0.2.1:9001/a" rest'),
        (b"3;http://shop.apps.test/", b"3;http://192.0.2.1:9001/"),
        (b"1.5 ; url=http://shop.apps.test/", b"1.5 ; url=http://192.0.2.1:9001/"),
        (b"5; url=/a", None),
        (b"5; url=http://evil.test/", None),
        (b"5; url=", None),
        (b"5", None),
        (b"5;", None),
        (b"5; url", None),
        (b"http://shop.apps.test/", None),
        (b"", None),
    ],
)
def test_a_refresh(value: bytes, turned: bytes | None) -> None:
    assert _probe.turn_refresh(value, HOST, SCHEME, ASKED) == turned


PIECES = st.sampled_from(
    [b"http://", b"//", b"shop.apps.test", b"SHOP", *(bytes([c]) for c in b'.:/?#@\\x"'), b"80", b"5;", b"url="]
)


@given(st.lists(PIECES, max_size=8).map(b"".join))
def test_a_turned_reference_names_nothing_but_what_was_asked(uri: bytes) -> None:
    for turned in (_probe.turn(uri, HOST, SCHEME, ASKED), _probe.turn_refresh(uri, HOST, SCHEME, ASKED)):
        if turned is not None:
            assert ASKED in turned and len(turned) <= len(uri) + len(ASKED) + 16

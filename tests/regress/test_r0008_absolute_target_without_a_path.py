"""The access log showed "GET ?x=1" for a target like http://a.test?x=1, and nothing at all for http://a.test.

What stands behind the authority was logged as it came. Earlier tests of this form had a path, and no look at the log.
"""

import pytest

from tests.support.plane import MakeOrigin, MakeRouter


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("http://app.test?x=1", "/?x=1"), ("http://app.test", "/"), ("http://app.test/", "/"),
        ("HTTPS://app.test?", "/?"), ("http://app.test:8080/a?b=http://c/d", "/a?b=http://c/d"),
    ],
)  # fmt: skip
def test_target_in_the_log(router: MakeRouter, origin: MakeOrigin, target: str, shown: str) -> None:
    app, front = origin(), router(log=True)
    front.add(app)
    assert front.get(target).status == 200
    assert f'] "GET {shown} HTTP/1.1" 200 0 2 ' in front.log_lines(1)[0]

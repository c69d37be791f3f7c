"""Characters that do not print went into the access log as they were; gorouter escapes them."""

import pytest

from tests.support.plane import MakeOrigin, MakeRouter

CASES = [("\u200b", "\\u200b"), ("\u0085", "\\u0085"), ("\ufeff", "\\ufeff"), ("\u2028", "\\u2028")]


@pytest.mark.parametrize(("char", "shown"), CASES)
def test_non_printable(router: MakeRouter, origin: MakeOrigin, char: str, shown: str) -> None:
    front = router(log=True)
    front.add(origin())
    front.ask(f"GET / HTTP/1.1\r\nHost: app.test\r\nUser-Agent: a{char}b\r\n\r\n".encode())
    assert f'"a{shown}b"' in front.log_lines(1)[0]

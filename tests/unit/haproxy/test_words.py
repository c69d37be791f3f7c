"""Lines of a haproxy.cfg as HAProxy reads them."""

import pytest

from haproxy.words import Malformed, sections, split


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bind 0.0.0.0:80", ("bind", "0.0.0.0:80")),
        ("  log  global  # x", ("log", "global")),
        ("# nothing", ()),
        ("", ()),
        (r"reqirep ^Host:.* Host:\ a.test", ("reqirep", "^Host:.*", "Host: a.test")),
        (r"x \.example\.com(.*) \1", ("x", r"\.example\.com(.*)", r"\1")),
        (r"x a\#b \x20c \"", ("x", "a#b", " c", '"')),
        ("x 'a b # \\1' \"c d\"", ("x", "a b # \\1", "c d")),
        (r'x "a\"b" c"d"e', ("x", 'a"b', "cde")),
        ("x ''", ("x", "")),
    ],
)
def test_words(text: str, words: tuple[str, ...]) -> None:
    assert split(text) == words


@pytest.mark.parametrize("text", ["x 'a", 'x "a'])
def test_a_quote_that_does_not_end(text: str) -> None:
    with pytest.raises(Malformed):
        split(text)


def test_sections() -> None:
    stray, found = sections("maxconn 5\nglobal\n  daemon\n\nfrontend a\n  bind :80\n  x 'y\n")
    assert [line.number for line in stray] == [1]
    assert [(part.kind, part.name, [line.words for line in part.lines]) for part in found] == [
        ("global", "", [("daemon",)]),
        ("frontend", "a", [("bind", ":80"), ("", "the quote ' does not end")]),
    ]

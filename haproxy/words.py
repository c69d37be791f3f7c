"""A haproxy.cfg as lines of words: quoting, escapes and comments as HAProxy reads them, sections with their lines.

Knows no directive. Of versions before 1.6, which had no quotes, the text reads the same unless it has quotes in it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

SECTIONS = (
    "global", "defaults", "frontend", "backend", "listen", "userlist", "peers", "mailers", "resolvers", "cache",
    "program", "http-errors", "ring", "log-forward", "fcgi-app", "crt-store", "traces",
)  # fmt: skip
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


class Malformed(ValueError):
    """A line that HAProxy would refuse, too; str() says why."""


@dataclass(frozen=True)
class Line:
    """number counts from 1; text is the line as written, without white space around it."""

    number: int
    text: str
    words: tuple[str, ...]


@dataclass
class Section:
    """kind and name of its first line, and the lines below it."""

    kind: str
    name: str
    line: Line
    lines: list[Line] = field(default_factory=list)


def split(text: str) -> tuple[str, ...]:
    """The words of a line. Malformed for a quote that does not end."""
    found: list[str] = []
    word, inside, begun = "", "", False
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if inside:
            if char == inside:
                inside = ""
            elif char == "\\" and inside == '"' and at < len(text) and text[at] in '"\\$':
                word += text[at]
                at += 1
            else:
                word += char
        elif char in "\"'":
            inside, begun = char, True
        elif char == "\\" and at < len(text):
            # before white space and quotes it is taken off; elsewhere it may be part of a regular expression
            after = text[at]
            at += 1
            if after == "x" and at + 1 < len(text) and _is_hex(text[at : at + 2]):
                word += chr(int(text[at : at + 2], 16))
                at += 2
            else:
                word += _ESCAPES.get(after, after if after in " #\"'\\" else "\\" + after)
            begun = True
        elif char == "#":
            break
        elif char.isspace():
            if begun:
                found.append(word)
            word, begun = "", False
        else:
            word += char
            begun = True
    if inside:
        raise Malformed(f"the quote {inside} does not end")
    return (*found, word) if begun else tuple(found)


def read(text: str) -> Iterator[Line]:
    """Lines that say something, in order; comments and empty lines are left out. A malformed line has the words
    ("", reason)."""
    for number, raw in enumerate(text.split("\n"), 1):
        stripped = raw.strip()
        try:
            words = split(stripped)
        except Malformed as error:
            yield Line(number, stripped, ("", str(error)))
            continue
        if words:
            yield Line(number, stripped, words)


def sections(text: str) -> tuple[list[Line], list[Section]]:
    """(lines before the first section, the sections)."""
    stray: list[Line] = []
    found: list[Section] = []
    for line in read(text):
        if line.words[0] in SECTIONS:
            found.append(Section(line.words[0], line.words[1] if len(line.words) > 1 else "", line))
        elif found:
            found[-1].lines.append(line)
        else:
            stray.append(line)
    return stray, found


def _is_hex(text: str) -> bool:
    return all(char in "0123456789abcdefABCDEF" for char in text)

"""Reads the checkout for the style tests: which files there are, and what is written in a header module."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SKIP_FOLDERS = {"build", "run", "__pycache__", "results", "corpus"}
FASTPATH = ROOT / "gorouter_py" / "fastpath"


def files(
    *suffixes: str,
    under: tuple[str, ...] = ("gorouter_py", "haproxy", "warden", "tests", "examples", "bin", "bench", "docs"),
) -> list[Path]:
    """Files of the project with one of the suffixes, in the named top folders and the root itself, sorted."""
    found = [path for path in ROOT.iterdir() if path.is_file() and path.suffix in suffixes]
    for top in under:
        for path in (ROOT / top).rglob("*"):
            inside = path.relative_to(ROOT).parts[:-1]
            hidden = any(part in SKIP_FOLDERS or part.startswith(".") for part in inside)
            if path.is_file() and path.suffix in suffixes and not hidden:
                found.append(path)
    return sorted(found)


def name(path: Path) -> str:
    """The path as shown to people: relative to the root."""
    return str(path.relative_to(ROOT))


def layer(path: Path) -> str:
    """base, http, route, net or flow for a file of the data plane, "_fastpath" for the unit on top."""
    inside = path.relative_to(ROOT / "gorouter_py").parts
    if inside[0] == "fastpath":
        return inside[1] if len(inside) > 2 else "fastpath"
    return "_fastpath"


@dataclass
class Line:
    """One logical line of Cython: continued lines joined, comments and the contents of strings cut."""

    number: int
    indent: int
    text: str


_STRING = re.compile(r"""[bcuf]?("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')""")
_DOCSTRING = re.compile(r'""".*?"""', re.S)


def logical_lines(source: str) -> list[Line]:
    """The lines of a .pxd or .pyx, ready for regular expressions."""
    source = _DOCSTRING.sub(lambda match: '""' + "\n" * match.group().count("\n"), source)
    out: list[Line] = []
    depth = 0
    for number, raw in enumerate(source.split("\n"), 1):
        text = _STRING.sub('""', raw).partition("#")[0].rstrip()
        if not text.strip():
            continue
        if depth > 0 and out:
            out[-1].text += " " + text.strip()
        else:
            out.append(Line(number, len(text) - len(text.lstrip()), text.strip()))
        depth += sum(text.count(bracket) for bracket in "([{") - sum(text.count(bracket) for bracket in ")]}")
    return out


def after_bracket(text: str, start: int) -> int:
    """Index behind the bracket that closes the one at text[start]."""
    depth = 0
    for index in range(start, len(text)):
        depth += (text[index] == "(") - (text[index] == ")")
        if depth == 0:
            return index + 1
    return len(text)

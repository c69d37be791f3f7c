"""Sizes, openings, words and licence of every source file."""

import ast
import re
from pathlib import Path

import pytest

from tests.style.sources import ROOT, files, logical_lines, name

FILE_LINES_MAX = 900
FUNCTION_LINES_MAX = 100  # aim at 70; a longer one carries `# size: reason` in its first lines
OPENING_LINES_MAX = 25

CODE = files(".py", ".pyx", ".pxd", ".pxi", ".h")
TEXTS = [
    *files(".py", ".pyx", ".pxd", ".pxi", ".pyi", ".h", ".md", ".toml", ".sh", ".yml", ".yaml", ".cfg", ".in"),
    *(ROOT / part for part in ("Makefile", "NOTICE", "bin/run", "bin/test", ".ci/run")),
]


@pytest.mark.parametrize("path", CODE, ids=name)
def test_file_is_not_too_long(path: Path) -> None:
    assert path.read_text().count("\n") <= FILE_LINES_MAX


def function_sizes(path: Path) -> list[tuple[str, int, int]]:
    """(name, first line, lines) of each function."""
    source = path.read_text()
    if path.suffix == ".py":
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
        return [(node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1) for node in nodes]
    found = []
    lines = logical_lines(source)
    for index, line in enumerate(lines):
        start = re.match(r"(?:cdef|cpdef|def)\b[^=]*?(\w+)\s*\(.*:$", line.text)
        if start and not line.text.startswith("cdef extern"):
            inside = []
            for later in lines[index + 1 :]:
                if later.indent <= line.indent:
                    break
                inside.append(later)
            if inside:
                found.append((start[1], line.number, inside[-1].number - line.number + 1))
    return found


def test_the_reader_sees_functions() -> None:
    sizes = function_sizes(ROOT / "gorouter_py" / "fastpath" / "base" / "buf.pxd")
    assert {"alloc", "release"} <= {function for function, _, _ in sizes}


@pytest.mark.parametrize("path", [path for path in CODE if path.suffix in (".py", ".pyx", ".pxd", ".pxi")], ids=name)
def test_functions_are_not_too_long(path: Path) -> None:
    lines = path.read_text().split("\n")
    found = [
        f"{name(path)}:{first}: {function} has {size} lines"
        for function, first, size in function_sizes(path)
        if size > FUNCTION_LINES_MAX and not any("# size:" in line for line in lines[max(0, first - 3) : first + 5])
    ]
    assert not found, "\n".join(found)


def opening(path: Path) -> tuple[int, str]:
    """(lines, text) of the comment or docstring a file begins with."""
    source = path.read_text()
    if path.suffix == ".h":
        source = source.lstrip()
        if source.startswith("/*"):
            text = source.partition("*/")[0]
            return text.count("\n") + 1, text
        lines = source.split("\n")
        size = next((index for index, line in enumerate(lines) if not line.startswith("//")), len(lines))
        return size, "\n".join(lines[:size])
    if path.suffix in (".py", ".pyx") and (match := re.match(r'(?:#[^\n]*\n)*r?"""(.*?)"""', source, re.S)):
        return match[0].count("\n") + 1, match[1]
    lines = source.split("\n")
    size = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return size, "\n".join(lines[:size])


@pytest.mark.parametrize("path", CODE, ids=name)
def test_file_opens_with_what_it_is(path: Path) -> None:
    if not path.read_text().strip():
        return
    size, text = opening(path)
    assert len(text.strip(" #\n/*")) >= 10, f"{name(path)} does not say what it owns"
    assert size <= OPENING_LINES_MAX, f"{name(path)} opens with {size} lines"


def test_layer_modules_cite_in_one_format() -> None:
    """A citation of a standard names the paragraph, so that it can be looked up: `RFC 9112 6.3: ...`."""
    found = []
    for path in files(".pxd", ".pyx", ".h", under=("gorouter_py",)):
        for number, line in enumerate(path.read_text().split("\n"), 1):
            if re.search(r"#\s*RFC\b", line) and not re.search(r"#\s*RFC \d{4}( \d+(\.\d+)*)?[:,;. ]", line + " "):
                found.append(f"{name(path)}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


# -- words ----------------------------------------------------------------------------------------------------

# Put together here, so that this file does not contain what it looks for.
PLACES = [re.compile(r"(?<![\w.])/" + place + r"/") for place in ("root", "home", "work", "opt", "Users")]
HOSTS = ("pypi" + ".org", "python" + "hosted.org", "deb." + "debian.org", "proxy.go" + "lang.org", "npm" + "js.org")
WORKPLACE = [
    re.compile(rf"\b{word}\b", re.I) for word in ("cla" + "ude", "anthro" + "pic", "sub-?ag" + "ents?", "LL" + "M")
]


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_speaks_of_the_product_alone(path: Path) -> None:
    found = []
    for number, line in enumerate(path.read_text().split("\n"), 1):
        found += [f"{name(path)}:{number}: absolute path: {line.strip()}" for place in PLACES if place.search(line)]
        found += [f"{name(path)}:{number}: registry host {host}" for host in HOSTS if host in line]
        found += [
            f"{name(path)}:{number}: not of the product: {line.strip()}" for word in WORKPLACE if word.search(line)
        ]
    assert not found, "\n".join(found)


def test_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_type_marker_is_shipped() -> None:
    assert (ROOT / "gorouter_py" / "py.typed").exists()

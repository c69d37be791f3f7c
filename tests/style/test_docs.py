"""Documents name what exists, and their commands are those that work."""

import ast
import functools
import re
import shlex
from pathlib import Path

import pytest

from tests.style.sources import ROOT, files, name

DOCS = [*files(".md", under=("docs", "tests", "examples", "bench", "warden"))]
_FUNCTION = re.compile(r"`([\w./-]+\.(?:py|pyx|pxd|h)):([\w.]+)`")
_LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)(?:#[^)]*)?\)")
_BLOCK = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.M | re.S)


def find(path: str) -> Path | None:
    """A file named in a document: from the root, or inside the package or its data plane."""
    for base in (ROOT, ROOT / "gorouter_py", ROOT / "gorouter_py" / "fastpath"):
        if (base / path).is_file():
            return base / path
    return None


@functools.cache
def parsed(path: Path) -> list[ast.stmt]:
    return ast.parse(path.read_text()).body


def defines(path: Path, function: str) -> bool:
    if path.suffix == ".py":
        tree = parsed(path)
        for part in function.split("."):
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
            found = next((node for node in tree if isinstance(node, kinds) and node.name == part), None)
            if found is None:
                return False
            tree = found.body
        return True
    source = path.read_text()
    last = re.escape(function.rpartition(".")[2])
    if path.suffix == ".h":
        return re.search(rf"\b{last}\s*\(", source) is not None
    return re.search(rf"^\s*(?:cdef|cpdef|def)\b[^=\n]*\b{last}\s*\(", source, re.M) is not None


@pytest.mark.parametrize("path", DOCS, ids=name)
def test_named_functions_exist(path: Path) -> None:
    missing = []
    for file, function in _FUNCTION.findall(path.read_text()):
        where = find(file)
        if where is None or not defines(where, function):
            missing.append(f"{name(path)}: {file}:{function}")
    assert not missing, "\n".join(missing)


def test_the_way_of_a_request_is_told_by_functions() -> None:
    text = (ROOT / "docs" / "life-of-a-request.md").read_text()
    assert len(_FUNCTION.findall(text)) >= 8


@pytest.mark.parametrize("path", DOCS, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    links = [link for link in _LINK.findall(path.read_text()) if "://" not in link and not link.startswith("mailto:")]
    broken = [link for link in links if not (path.parent / link).exists()]
    assert not broken, f"{name(path)}: {broken}"


def commands(path: Path) -> list[str]:
    """Command lines of a document's shell blocks: continued lines joined, comments cut."""
    found = []
    for block in _BLOCK.findall(path.read_text()):
        for line in block.replace("\\\n", " ").split("\n"):
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words:
                found.append(shlex.join(words))
    return found


MAKE_VERBS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


@pytest.mark.parametrize("path", DOCS, ids=name)
def test_commands_exist(path: Path) -> None:
    """The first word is a script of the tree, a verb of the Makefile, one of our programs, or a common tool.

    That the README's commands do what it says is tested by tests/system/test_run.py, which executes them."""
    programs = {"gorouter", "gorouter-py", "warden", "python", "pytest", "nats-server"}
    common = {"git", "cd", "curl", "kill", "tail", "cat", "python", "pip", ".venv/bin/pip", "bash", "wrk", "export"}
    unknown = []
    for command in commands(path):
        words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=\S*", word)]
        if not words:
            continue
        first = words[0]
        if first == "make":
            unknown += [f"make {verb}" for verb in words[1:] if "=" not in verb and verb not in MAKE_VERBS]
        elif first.removeprefix(".venv/bin/") in programs:
            continue
        elif not (ROOT / first).exists() and first not in common:
            unknown.append(command)
    assert not unknown, f"{name(path)}: {unknown}"

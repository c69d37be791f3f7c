"""docs/gorouter-rows.md: every row of gorouter's behaviour is held by a test that exists, or says why not."""

import ast
import functools
import re

import pytest

from tests.style.sources import ROOT

TEXT = (ROOT / "docs" / "gorouter-rows.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py):(test_\w+)`")
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| what ")]


@functools.cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def test_each_row_says_what_holds_it() -> None:
    wrong = []
    for row in ROWS:
        what, held = cells(row) if len(cells(row)) == 2 else ("", "")
        different = held.startswith("different: ")
        if not what or not (different or NAMED.search(held)):
            wrong.append(row)
        if different and len(held) < 25:
            wrong.append(f"without a reason: {row}")
    assert not wrong, "\n".join(wrong)


def test_the_named_tests_exist() -> None:
    named = NAMED.findall(TEXT)
    assert named
    missing = [(path, test) for path, test in named if not (ROOT / path).is_file() or test not in functions_of(path)]
    assert not missing


@pytest.mark.parametrize("section", TEXT.split("\n## ")[1:], ids=lambda text: text.partition("\n")[0])
def test_each_section_has_rows(section: str) -> None:
    assert "\n| " in section, section.partition("\n")[0]


def test_no_row_is_there_twice() -> None:
    whats = [cells(row)[0] for row in ROWS]
    assert len(set(whats)) == len(whats), [what for what in whats if whats.count(what) > 1]

"""docs/migrating-from-gorouter.md claims nothing that no test holds."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs/migrating-from-gorouter.md").read_text()
LINES = [line for line in TEXT.splitlines() if line.startswith("- ")]
NAMED = re.compile(r"`(tests/[\w/]+\.py):(test_\w+)`")


def test_there_are_lines_of_every_kind() -> None:
    sections = re.split(r"^## ", TEXT, flags=re.M)[1:]
    assert [section.partition("\n")[0] for section in sections] == [
        "The same", "Stricter on purpose", "Different on purpose", "Not supported",
    ]  # fmt: skip
    assert all("\n- " in section for section in sections)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[2:50])
def test_each_line_names_tests_that_exist(line: str) -> None:
    named = NAMED.findall(line)
    assert named, line
    for path, test in named:
        tree = ast.parse((ROOT / path).read_text())
        assert any(isinstance(node, ast.FunctionDef) and node.name == test for node in tree.body), f"{path}: {test}"

"""docs/configuration.md and the examples agree with the code.

After a change of a key, write the tables anew with: .venv/bin/python -m tests.unit.control.test_config_docs
"""

import re
from pathlib import Path

import pytest

from gorouter_py.component import Seconds, format_duration
from gorouter_py.control import cli, config, keys

ROOT = Path(__file__).resolve().parents[3]
DOC = ROOT / "docs/configuration.md"
EXAMPLES = sorted((ROOT / "examples").glob("*.yml"))
CONTROL = [path for path in (ROOT / "gorouter_py/control").glob("*.py") if path.stem not in ("keys", "rules")]


def serve_table() -> str:
    rows = {row.path: row for row in keys.rows()}
    flags = {option.name: option for option in cli.serve.params}
    by_key = {key: flags[name].opts[0] for name, key in cli._KEYS.items()}
    by_key["disable_keep_alives"] = "--keep-alive/--no-keep-alive"
    by_key["nats.hosts"] = "--nats"
    lines = ["| key | `gorouter -c` | `serve` | flag |", "|---|---|---|---|"]
    for key, value in config.SERVE_DEFAULTS.items():
        if key == "nats.hosts":
            before, after = "localhost:4222", "none"
        else:
            before, after = (_shown(rows[key].type, it) for it in (rows[key].default, value))
        lines.append(f"| `{key}` | {before} | {after} | {by_key.get(key, '')} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


def _shown(kind: object, value: object) -> str:
    if kind is Seconds and isinstance(value, float):
        return format_duration(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def rendered(text: str) -> str:
    """The document with both tables as the code has them."""
    for name, table in (("serve", serve_table()), ("keys", keys.markdown())):
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        assert text.count(begin) == text.count(end) == 1, f"{DOC.name} has no place for the table {name}"
        text = text.partition(begin)[0] + begin + table + end + text.partition(end)[2]
    return text


def test_tables_are_those_of_the_code() -> None:
    text = DOC.read_text()
    assert text == rendered(text)


def test_flags_lead_to_keys_that_exist() -> None:
    paths = {row.path for row in keys.rows()}
    assert set(cli._KEYS.values()) <= paths
    assert set(config.SERVE_DEFAULTS) - {"nats.hosts"} <= paths


def test_keys_named_in_the_text_exist() -> None:
    prose = DOC.read_text().partition("## All keys")[0]
    leaves = {part for row in keys.rows() for part in (row.path, row.path.rpartition(".")[2])}
    named = set(re.findall(r"`([a-z]+(?:_[a-z0-9]+)+(?:\.[a-z_]+)*|[a-z]+\.[a-z_.]+)`", prose)) - {
        "data.error",
        "data.problems",
    }
    assert named and named - leaves - {"nats.hosts"} == set()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
@pytest.mark.parametrize("defaults", [{}, config.SERVE_DEFAULTS], ids=["gorouter", "serve"])
def test_examples_are_right_and_wholly_effective(path: Path, defaults: dict[str, object]) -> None:
    loaded = config.inspect(str(path), defaults)
    assert [*loaded.problems, *loaded.unknown, *loaded.without_effect] == []


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize("row", [row for row in keys.rows() if row.now], ids=lambda row: row.path)
def test_a_key_said_to_be_effective_is_read_somewhere(row: keys.Row) -> None:
    name = row.path.rpartition(".")[2]
    assert any(re.search(rf"\.{name}_?\b", path.read_text()) for path in CONTROL), f"nothing reads {row.path}"


@pytest.mark.parametrize("row", [row for row in keys.rows() if not row.now], ids=lambda row: row.path)
def test_a_key_without_effect_says_why(row: keys.Row) -> None:
    assert row.note


if __name__ == "__main__":
    DOC.write_text(rendered(DOC.read_text()))

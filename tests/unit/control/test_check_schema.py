"""The JSON Schema of the configuration and the report on a gorouter file, against the reader they describe."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gorouter_py.component import Seconds, Uint, Uint16, Uint32, parse_duration
from gorouter_py.control import config, keys, migrate, schema
from gorouter_py.control.check import check

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yml"))
DOCUMENT = schema.document()
VALIDATOR = jsonschema.Draft202012Validator(DOCUMENT)
LEAVES = [row for row in keys.rows() if "[]" not in row.path]


def nested(path: str, value: object) -> dict[str, Any]:
    for part in reversed(path.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


# -- the schema -----------------------------------------------------------------------------------------------


def test_the_command_prints_a_valid_schema() -> None:
    result = CliRunner().invoke(check, ["--schema"])
    assert result.exit_code == 0
    printed = json.loads(result.output)
    jsonschema.Draft202012Validator.check_schema(printed)
    assert printed == DOCUMENT


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_fit(path: Path) -> None:
    assert EXAMPLES
    VALIDATOR.validate(yaml.safe_load(path.read_text()))


def test_the_defaults_fit_and_are_told() -> None:
    VALIDATOR.validate(config.plain(config.Config()))
    assert DOCUMENT["properties"]["endpoint_timeout"]["default"] == "1m"
    assert "default" not in DOCUMENT["properties"]["status"]["properties"]["pass"]  # a secret
    assert DOCUMENT["properties"]["pid_file"]["$comment"] == "no effect"


def test_every_key_is_in_it() -> None:
    def leaves(section: dict[str, Any], prefix: str = "") -> list[str]:
        found = []
        for name, value in section["properties"].items():
            inner = value.get("items", {})
            if "properties" in value:
                found += leaves(value, f"{prefix}{name}.")
            elif "properties" in inner:
                found += leaves(inner, f"{prefix}{name}[].")
            else:
                found.append(prefix + name)
        return found

    assert leaves(DOCUMENT) == [row.path for row in keys.rows()]


WRONG = {
    bool: ["maybe", 1, [], {}],
    int: ["five", 1.5, True, []],
    Uint: [-1, "x"],
    Uint16: [-1, 65536, "80"],
    Uint32: [-1, 2**32],
    float: ["x", True],
    Seconds: [5, 0, "5", "5 s", "s", "", "1d"],
    str: [[], {}],
}


@pytest.mark.parametrize("row", LEAVES, ids=lambda row: row.path)
def test_what_it_refuses_the_router_refuses(row: keys.Row, tmp_path: Path) -> None:
    wrong = WRONG.get(row.type, [5, "text", {}])  # others are lists, or PEMs
    if row.type is keys.Pem:
        wrong = [[], {}]
    path = tmp_path / "c.yml"
    for value in wrong:
        tree = nested(row.path, value)
        assert not VALIDATOR.is_valid(tree), tree
        path.write_text(json.dumps(tree))
        assert config.inspect(str(path)).problems, tree


@pytest.mark.parametrize("path", sorted(config.rules.CHOICE_KEYS))
def test_choices(path: str) -> None:
    assert not VALIDATOR.is_valid(nested(path, "magic"))
    (row,) = (row for row in LEAVES if row.path == path)
    for choice in row.choices:
        VALIDATOR.validate(nested(path, choice))


def test_unknown_keys_and_empty_ones_are_no_errors() -> None:
    VALIDATOR.validate({"unheard_of": 1, "nats": None, "port": None, "ca_certs": None, "zone": 5})


@given(st.text("0123456789.smhnuµμ+- ", max_size=8))
def test_durations_are_those_that_are_read(text: str) -> None:
    try:
        parse_duration(text)
    except ValueError:
        assert not VALIDATOR.is_valid({"endpoint_timeout": text})
    else:
        VALIDATOR.validate({"endpoint_timeout": text})


# -- the report -----------------------------------------------------------------------------------------------

# A switch that has no effect yet; which one that is changes with the versions.
LATER = next(
    row.path
    for row in LEAVES
    if not row.now and row.type is bool and "." not in row.path and row.path not in migrate._DIFFERENT
)
FILE = f"""\
port: 80
sticky_session_cookie_names: [A]
prune_stale_droplets_interval: 30s
pid_file: /x
{LATER}: true
nats: {{hosts: [{{hostname: a, port: 1}}, {{hostname: b, port: 2}}]}}
unheard_of: 1
"""


def report(tmp_path: Path, *flags: str, text: str = FILE) -> Any:
    path = tmp_path / "gorouter.yml"
    path.write_text(text)
    return CliRunner().invoke(check, ["--from-gorouter", *flags, str(path)])


def test_each_key_of_a_file_is_told_once_with_its_place(tmp_path: Path) -> None:
    result = report(tmp_path, "--json")
    assert result.exit_code == 0
    rows = json.loads(result.output)["keys"]
    assert [(row["line"], row["path"], row["kind"]) for row in rows] == [
        (1, "port", "same"),
        (2, "sticky_session_cookie_names", "stricter"),
        (3, "prune_stale_droplets_interval", "different"),
        (4, "pid_file", "same"),
        (5, LATER, "not supported"),
        (6, "nats.hosts[].hostname", "stricter"),
        (6, "nats.hosts[].port", "same"),
        (7, "unheard_of", "unknown"),
    ]
    assert all(row["reason"] for row in rows if row["kind"] != "same")


def test_what_needs_attention_comes_first(tmp_path: Path) -> None:
    lines = report(tmp_path).output.splitlines()
    assert [line.split("  ")[0] for line in lines[:3]] == ["not supported", "stricter", "stricter"]
    assert lines[0].startswith(f"not supported  {tmp_path}/gorouter.yml:5:{len(LATER) + 3}: {LATER}: ")
    assert "1 not supported, 2 stricter, 1 different, 1 unknown, 3 same" in lines[-1]


def test_a_file_that_is_refused_gets_its_errors(tmp_path: Path) -> None:
    result = report(tmp_path, text="port: eighty\n")
    assert result.exit_code == 1
    assert "'eighty' is no whole number" in result.output


def test_its_tables_name_keys() -> None:
    paths = {row.path for row in keys.rows()}
    assert set(migrate._STRICTER) | set(migrate._DIFFERENT) <= paths
    assert not set(migrate._STRICTER) & set(migrate._DIFFERENT)

"""`gorouter-py check`: what a configuration file means to this router, before it is started with it."""

import sys
from typing import TYPE_CHECKING, TextIO

import click

from gorouter_py.component import ConfigError, Problem, Reading
from gorouter_py.control import flags

if TYPE_CHECKING:
    from gorouter_py.control.config import Loaded


@click.command(context_settings=flags.PLAIN_SETTINGS)
@click.argument("file", required=False)
@click.option("--keys", is_flag=True, help="Print a table of all keys instead, with types, defaults and effect.")
@click.option("--schema", is_flag=True, help="Print a JSON Schema of the configuration instead.")
@click.option("--from-gorouter", is_flag=True, help="Say of each key of gorouter's FILE whether it is the same here.")
@click.option("--effective", is_flag=True, help="Also print the whole configuration that results, secrets hidden.")
@click.option("--serve", "for_serve", is_flag=True, help="Check as 'gorouter-py serve --config FILE' reads it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--strict", is_flag=True, help="Exit with 1 for unknown keys too.")
def check(
    file: str | None,
    keys: bool,
    schema: bool,
    from_gorouter: bool,
    effective: bool,
    for_serve: bool,
    as_json: bool,
    strict: bool,
) -> None:
    """Check a configuration FILE: errors, unknown keys, and keys that have no effect yet, each with its line.

    Exit code 1 if the router would not start with it.

    \b
    Examples:
      gorouter-py check gorouter.yml
      gorouter-py check --effective gorouter.yml > effective.yml
      gorouter-py check --serve --strict gorouter.yml
      gorouter-py check --from-gorouter gorouter.yml
      gorouter-py check --keys
      gorouter-py check --schema > gorouter.schema.json
    """
    if schema:
        _print_schema()
        return
    if keys:
        from gorouter_py.control.keys import markdown

        click.echo(markdown(), nl=False)
        return
    if file is None:
        raise click.UsageError("which FILE? For example: gorouter-py check gorouter.yml")
    from gorouter_py.control import config as configuration

    try:
        loaded = configuration.inspect(file, configuration.SERVE_DEFAULTS if for_serve else {})
    except ConfigError as error:
        loaded = configuration.Loaded(configuration.Config(), error.problems, [], [])
    if from_gorouter and loaded.reading is not None and not loaded.problems:
        _print_migration(file, loaded.reading, as_json)
    elif as_json:
        _print_json(file, loaded, effective and not loaded.problems)
    else:
        # with --effective, standard output is a configuration file
        _print_text(file, loaded, sys.stderr if effective else sys.stdout)
        if effective and not loaded.problems:
            click.echo(configuration.as_yaml(loaded.config), nl=False)
    sys.exit(1 if loaded.problems or (strict and loaded.unknown) else 0)


def _print_text(file: str, loaded: "Loaded", stream: TextIO) -> None:
    findings = [("error", problem) for problem in loaded.problems]
    findings += [("unknown", problem) for problem in loaded.unknown]
    findings += [("no effect", problem) for problem in loaded.without_effect]
    for kind, problem in sorted(findings, key=lambda finding: (finding[1].mark.line, finding[1].mark.column)):
        print(f"{kind:9}  {problem}", file=stream)
    counts = f"{_count(loaded.problems, 'error')}, {_count(loaded.unknown, 'unknown key')}"
    print(f"{file}: {counts}, {_count(loaded.without_effect, 'key')} without effect", file=stream)


def _print_json(file: str, loaded: "Loaded", effective: bool) -> None:
    import json

    from gorouter_py.control import config as configuration

    result: dict[str, object] = {
        "file": file,
        "errors": [_plain(problem) for problem in loaded.problems],
        "unknown": [_plain(problem) for problem in loaded.unknown],
        "without_effect": [_plain(problem) for problem in loaded.without_effect],
    }
    if effective:
        result["effective"] = configuration.plain(loaded.config)
    click.echo(json.dumps(result, indent=2))


def _print_schema() -> None:
    import json

    from gorouter_py.control.schema import document

    click.echo(json.dumps(document(), indent=2))


def _print_migration(file: str, reading: "Reading", as_json: bool) -> None:
    from gorouter_py.control import migrate

    found = list(migrate.findings(reading))
    if as_json:
        import json

        rows = [
            {"line": each.mark.line, "path": each.path, "kind": each.kind, "reason": each.reason} for each in found
        ]
        click.echo(json.dumps({"file": file, "keys": rows}, indent=2))
        return
    for kind in migrate.KINDS:
        for each in found:
            if each.kind == kind:
                click.echo(f"{kind:13}  {each.mark}: {each.path}" + (f": {each.reason}" if each.reason else ""))
    counts = ", ".join(f"{sum(each.kind == kind for each in found)} {kind}" for kind in migrate.KINDS)
    click.echo(f"{file}: {counts}; what no key decides is in docs/migrating-from-gorouter.md")


def _plain(problem: Problem) -> dict[str, object]:
    mark = problem.mark
    place = {"line": mark.line, "column": mark.column, "path": problem.path}
    return {**place, "text": problem.text, "valid": problem.valid}


def _count(things: list[Problem], name: str) -> str:
    return f"{len(things)} {name}" + ("" if len(things) == 1 else "s")

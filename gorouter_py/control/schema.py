"""A JSON Schema (draft 2020-12) of the configuration file, made of the table of keys.

For editors and pipelines: what the schema refuses, the router refuses too. Rules between keys are not in it (`check`
knows them), nor are unknown keys an error, since gorouter ignores them. Knows keys alone; pure.
"""

import dataclasses
from typing import Any, Final, get_args, get_origin

from gorouter_py.component import Anything, Pem, Seconds, Uint, Uint16, Uint32, format_duration
from gorouter_py.control import keys, rules

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
# A Go duration: numbers with units, or a lone 0 that YAML keeps as text only in quotes.
DURATION: Final = r"^[+-]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$"
_TEXT: Final = ["string", "number", "boolean", "null"]  # YAML's plain words: taken as they are written
_TYPES: Final[dict[Any, dict[str, Any]]] = {
    str: {"type": _TEXT},
    Pem: {"type": _TEXT},
    bool: {"type": ["boolean", "null"]},
    float: {"type": ["number", "null"]},
    Seconds: {"type": ["string", "null"], "pattern": DURATION},
    int: {"type": ["integer", "null"], "minimum": -(2**63), "maximum": 2**63 - 1},
    Uint: {"type": ["integer", "null"], "minimum": 0},
    Uint16: {"type": ["integer", "null"], "minimum": 0, "maximum": 2**16 - 1},
    Uint32: {"type": ["integer", "null"], "minimum": 0, "maximum": 2**32 - 1},
    Anything: {"type": ["object", "null"]},
}


def document() -> dict[str, Any]:
    """The whole schema, as JSON values."""
    return {"$schema": DIALECT, "title": "gorouter-py configuration", **_section(keys.Config, "")}


def _section(section: Any, prefix: str) -> dict[str, Any]:
    types = keys.hints(section)
    properties = {}
    for field in dataclasses.fields(section):
        name = keys.file_name(field.name)
        properties[name] = _value(field, types[field.name], f"{prefix}{name}")
    return {"type": ["object", "null"], "properties": properties}


def _value(field: "dataclasses.Field[Any]", kind: Any, path: str) -> dict[str, Any]:
    if dataclasses.is_dataclass(kind):
        return _section(kind, path + ".")
    note = field.metadata["note"]
    described: dict[str, Any] = {"description": note} if note else {}
    if not field.metadata["now"]:
        described["$comment"] = "no effect"
    if get_origin(kind) is list:
        item = get_args(kind)[0]
        inner = _section(item, path + "[].") if dataclasses.is_dataclass(item) else dict(_TYPES[item])
        return {"type": ["array", "null"], "items": inner, **described}
    result = {**_TYPES[kind], **described}
    choices = field.metadata["choices"]
    if choices and path in rules.CHOICE_KEYS:
        result = {"enum": [*choices, None], **described}
    elif choices:
        result["examples"] = list(choices)
    if field.default is not dataclasses.MISSING and not field.metadata["secret"]:
        result["default"] = format_duration(field.default) if kind is Seconds else field.default
    return result

"""The operator's HTML error page: compiles the Go-template subset that gorouter's users write into steps.

Understood: text, `{{.Status}}`, `{{.StatusText}}`, `{{.Message}}`, `{{.Header.Get "Name"}}`, `{{if}}`, `{{else}}`,
`{{else if}}`, `{{end}}`, `eq` with any number of constants, comments and the trim markers `{{-` and `-}}`. Anything
else is a TemplateError with its line. The steps are run by the workers (flow/page.pxd); nothing here runs per request.
"""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ACTION: Final = re.compile(r"\{\{(-\s)?(.*?)(\s-)?\}\}", re.S)
_TOKEN: Final = re.compile(r'\s*(?:"(?:[^"\\\n]|\\.)*"|`[^`]*`|\d+|\.?[A-Za-z][\w.]*|[()])')
_FIELDS: Final = {".Status": "status", ".StatusText": "status_text", ".Message": "message", ".Header.Get": "header"}
_VALID: Final = '.Status, .StatusText, .Message, .Header.Get "Name", if, else, else if, eq, end'


class TemplateError(ValueError):
    """The template cannot be used; str() says where, what and what would be valid."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}; valid: {_VALID}")
        self.line = line


@dataclass
class Step:
    """One step of the page: kind "literal" (text), "value" (field), "unless" (field, constants, jump) or "jump"."""

    kind: str
    text: str = ""
    field: str = ""
    header: str = ""
    constants: list[str] = dataclasses.field(default_factory=list)
    jump: int = 0


@dataclass
class _Open:
    """An `if` that has not ended: its last condition, and the jumps that lead behind its end."""

    line: int
    condition: Step | None
    ends: list[Step] = dataclasses.field(default_factory=list)


def load_page(path: str) -> list[Step]:
    """The steps of a template file. Raises OSError and TemplateError, both worded as gorouter does."""
    try:
        source = Path(path).read_text()
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise OSError(f"Could not read HTML error template file: open {path}: {reason}") from None
    except UnicodeDecodeError as error:
        raise TemplateError(1, f"{path} is not UTF-8: {error.reason}") from None
    return compile_page(source)


def compile_page(source: str) -> list[Step]:
    """The steps of a template. Raises TemplateError."""
    steps: list[Step] = []
    stack: list[_Open] = []
    at, trim = 0, False
    for match in _ACTION.finditer(source):
        text = source[at : match.start()]
        text = text.lstrip() if trim else text
        text = text.rstrip() if match[1] else text
        if text:
            steps.append(Step("literal", text=text))
        at, trim = match.end(), bool(match[3])
        _action(match[2].strip(), source.count("\n", 0, match.start()) + 1, steps, stack)
    text = source[at:].lstrip() if trim else source[at:]
    if "{{" in text:
        raise TemplateError(source.count("\n", 0, at + text.index("{{")) + 1, "'{{' is not closed")
    if text:
        steps.append(Step("literal", text=text))
    if stack:
        raise TemplateError(stack[-1].line, "'if' has no 'end'")
    return steps


def _action(text: str, line: int, steps: list[Step], stack: list[_Open]) -> None:
    if text.startswith("/*") and text.endswith("*/"):
        return
    tokens = _tokens(text, line)
    word = tokens[0] if tokens else ""
    if word == "if":
        steps.append(_condition(tokens[1:], line))
        stack.append(_Open(line, steps[-1]))
    elif word == "else":
        if not stack or stack[-1].condition is None:
            raise TemplateError(line, "'else' without 'if'")
        steps.append(Step("jump"))
        stack[-1].ends.append(steps[-1])
        stack[-1].condition.jump = len(steps)
        stack[-1].condition = None
        if tokens[1:2] == ["if"]:
            steps.append(_condition(tokens[2:], line))
            stack[-1].condition = steps[-1]
        elif len(tokens) > 1:
            raise TemplateError(line, f"{text!r} is not understood")
    elif word == "end" and len(tokens) == 1:
        if not stack:
            raise TemplateError(line, "'end' without 'if'")
        ended = stack.pop()
        for step in [*ended.ends, *([ended.condition] if ended.condition else [])]:
            step.jump = len(steps)
    else:
        name, header, rest = _field(tokens, line)
        if rest:
            raise TemplateError(line, f"{text!r} is not understood")
        steps.append(Step("value", field=name, header=header))


def _tokens(text: str, line: int) -> list[str]:
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            if not text[at:].strip():
                break
            raise TemplateError(line, f"{text[at:].strip()!r} is not understood")
        tokens.append(match[0].strip())
        at = match.end()
    return tokens


def _field(tokens: Sequence[str], line: int) -> tuple[str, str, Sequence[str]]:
    """(field, header name, what follows) of a value, with or without parentheses."""
    if tokens and tokens[0] == "(" and ")" in tokens:
        end = tokens.index(")")
        name, header, rest = _field(tokens[1:end], line)
        if rest:
            raise TemplateError(line, f"{' '.join(rest)!r} is not understood")
        return name, header, tokens[end + 1 :]
    name = _FIELDS.get(tokens[0] if tokens else "", "")
    if not name:
        raise TemplateError(line, f"{tokens[0] if tokens else ''!r} is not understood")
    if name != "header":
        return name, "", tokens[1:]
    if len(tokens) < 2 or tokens[1][0] not in "\"`":
        raise TemplateError(line, ".Header.Get needs a quoted name")
    return name, _constant(tokens[1]), tokens[2:]


def _condition(tokens: Sequence[str], line: int) -> Step:
    if tokens[:1] != ["eq"]:
        name, header, rest = _field(tokens, line)
        if rest:
            raise TemplateError(line, f"{' '.join(rest)!r} is not understood")
        return Step("unless", field=name, header=header)
    name, header, rest = _field(tokens[1:], line)
    if not rest:
        raise TemplateError(line, "'eq' needs something to compare with")
    for token in rest:
        if token.isdigit() != (name == "status") or (token[0] not in "\"`" and not token.isdigit()):
            wanted = "a number" if name == "status" else "a quoted text"
            raise TemplateError(line, f"{token!r} must be {wanted}")
    return Step("unless", field=name, header=header, constants=[_constant(token) for token in rest])


def _constant(token: str) -> str:
    if token[0] == "`":
        return token[1:-1]
    if token[0] == '"':
        return re.sub(r"\\(.)", r"\1", token[1:-1])
    return token

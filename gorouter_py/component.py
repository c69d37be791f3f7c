"""What every program of the system shares: the JSON log, and YAML that knows its positions.

Log: one line is one JSON object and one write(2) on an unbuffered descriptor, so lines of several processes on one
pipe do not mix (up to PIPE_BUF). A log that cannot be written (closed pipe, full disk) never stops a program: the
line is dropped and counted in `Sink.dropped`. Safe from any Python thread; never called by a data-plane thread.

YAML: `read_yaml` fills a tree of dataclasses from a file. It works on the node tree, not on loaded values, so that
each complaint carries file:line:column, the value, and what would be valid. Every problem of a file is reported, not
only the first. Unknown keys are no errors; the caller gets them with their positions. PyYAML is imported here alone.

It does not know any program's keys or defaults.
"""

import dataclasses
import difflib
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, NewType, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

Seconds = NewType("Seconds", float)
Uint = NewType("Uint", int)
Uint16 = NewType("Uint16", int)
Uint32 = NewType("Uint32", int)
Pem = NewType("Pem", str)
Anything = NewType("Anything", object)  # values, lists and sections of any depth, as JSON would have them

Node = Any  # yaml.nodes.Node and its three kinds; told apart by .id

LEVELS = ("debug", "info", "warn", "error", "dpanic", "panic", "fatal")
_ERROR = LEVELS.index("error")


# -- log ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class Sink:
    """Where lines go and how they look; shared by all loggers of a program, so a change acts on all of them."""

    descriptor: int = 1
    threshold: int = 0
    rfc3339: bool = False
    dropped: int = 0

    def write(self, line: bytes) -> None:
        """One write(2); the rest of a short write follows, an error drops the line."""
        try:
            while line:
                line = line[os.write(self.descriptor, line) :]
        except OSError:
            self.dropped += 1


class Logger:
    """Writes lines with one `source`. Empty source: the key is left out, as in errors before the start."""

    __slots__ = ("sink", "source")

    def __init__(self, sink: Sink, source: str = "") -> None:
        self.sink = sink
        self.source = source

    def session(self, name: str) -> "Logger":
        """A logger for a part: source "gorouter.stdout" and name "nats" give "gorouter.stdout.nats"."""
        return Logger(self.sink, f"{self.source}.{name}" if self.source else name)

    @property
    def level(self) -> str:
        return LEVELS[self.sink.threshold]

    def set_level(self, level: str) -> None:
        """Sets the lowest level written, for all sessions at once. ValueError names the levels there are."""
        self.sink.threshold = level_number(level)

    def enabled(self, level: str) -> bool:
        """Whether a line of that level would be written; ask before costly arguments."""
        return LEVELS.index(level) >= self.sink.threshold

    def debug(self, message: str, /, **data: object) -> None:
        if self.sink.threshold == 0:
            self._write(0, message, data)

    def info(self, message: str, /, **data: object) -> None:
        if self.sink.threshold <= 1:
            self._write(1, message, data)

    def warn(self, message: str, /, **data: object) -> None:
        if self.sink.threshold <= 2:
            self._write(2, message, data)

    def error(self, message: str, /, **data: object) -> None:
        if self.sink.threshold <= _ERROR:
            self._write(_ERROR, message, data)

    def fatal(self, message: str, /, **data: object) -> None:
        """Written at every level, as log_level 3. It does not end the program."""
        self._write(_ERROR, message, data)

    def _write(self, number: int, message: str, data: Mapping[str, object]) -> None:
        nanoseconds = time.time_ns()
        stamp = rfc3339_local(nanoseconds) if self.sink.rfc3339 else nanoseconds / 1e9
        line: dict[str, object] = {"log_level": number, "timestamp": stamp, "message": message}
        if self.source:
            line["source"] = self.source
        if data:
            line["data"] = data
        try:
            text = _encode(line)
        except (ValueError, TypeError, RecursionError):  # NaN, a cycle, keys that JSON does not have
            text = _encode({**line, "data": {"unencodable": repr(data)}})
        self.sink.write(text.encode("utf-8", "backslashreplace") + b"\n")


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str).encode


def level_number(level: str) -> int:
    """Index in LEVELS; ValueError otherwise."""
    if level not in LEVELS:
        raise ValueError(f"{level!r} is no log level; valid: {', '.join(LEVELS)}")
    return LEVELS.index(level)


def rfc3339_local(nanoseconds: int) -> str:
    """Wall clock with nine digits. gorouter: local time with a literal Z."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(seconds))}.{rest:09d}Z"


# -- YAML with positions -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file; line and column count from 1, 0 means the file as a whole."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """Something to say about one place.

    text: what is wrong, with the value; valid: what would be right; go: the words gorouter uses for it, if others;
    kind: "type" if the value does not fit its key, "rule" if it breaks a rule between keys."""

    mark: Mark
    path: str
    text: str
    valid: str = ""
    go: str = ""
    kind: str = "rule"

    def __str__(self) -> str:
        where = f"{self.mark}: {self.path}: " if self.path else f"{self.mark}: "
        return where + self.text + (f"; {self.valid}" if self.valid else "")


class ConfigError(Exception):
    """A file that cannot be used, with all its problems in the order they were found.

    go: the whole as gorouter words it, in one string."""

    def __init__(self, problems: list[Problem], go: str = "") -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
        self.go = go or problems[0].go or problems[0].text


@dataclasses.dataclass(slots=True)
class Reading:
    """What `read_yaml` saw. marks: place of the value of each key in the file, by path ("tls_pem[0].cert_chain")."""

    file: str
    problems: list[Problem] = dataclasses.field(default_factory=list)
    unknown: list[Problem] = dataclasses.field(default_factory=list)
    marks: dict[str, Mark] = dataclasses.field(default_factory=dict)

    def mark(self, path: str) -> Mark:
        """The place of a key, or of the nearest section around it that is in the file."""
        while path:
            if path in self.marks:
                return self.marks[path]
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return Mark(self.file)


def read_yaml(text: bytes, file: str, target: object) -> Reading:
    """Fills the dataclass instance `target` in place with the keys of the (first) document.

    Keys that are not in the file keep the value they have, sections merge, lists are replaced. A key is the name of
    a field without trailing underscores. ConfigError for what is no YAML; other problems are in the result."""
    reading = Reading(file)
    root = _compose(text, file)
    if root is not None:
        _Filler(reading).section(root, target, "")
    return reading


def load_file(path: str) -> bytes:
    """The bytes of a file; ConfigError if it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError([Problem(Mark(path), "", reason, go=f"open {path}: {reason.lower()}")]) from error


def nearest(name: str, names: list[str]) -> str:
    """The most similar of `names`, or "" if none is close."""
    found = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.7)
    return found[0] if found else ""


def _compose(text: bytes, file: str) -> Node | None:
    import yaml

    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        column = error.start - text.rfind(b"\n", 0, error.start)
        bad = f"byte 0x{text[error.start]:02x} is not UTF-8"
        raise ConfigError([Problem(Mark(file, line, column), "", bad, go="yaml: invalid UTF-8")]) from error
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(decoded)
    try:
        return loader.get_node() if loader.check_node() else None
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        mark = Mark(file, place.line + 1, place.column + 1) if place else Mark(file)
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError([Problem(mark, "", said, go=f"yaml: line {mark.line}: {error.problem}")]) from error
    except yaml.YAMLError as error:  # a control character: has an offset and no line
        offset = getattr(error, "position", 0)
        mark = Mark(file, decoded.count("\n", 0, offset) + 1, offset - decoded.rfind("\n", 0, offset))
        raise ConfigError([Problem(mark, "", "control characters are not allowed", go=f"yaml: {error}")]) from error
    finally:
        loader.dispose()


DEPTH_MAX, NODES_MAX = 16, 10_000  # of an Anything: aliases may nest without end, and multiply


class _Filler:
    """Walks node tree and dataclass tree together."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    def section(self, node: Node, target: Any, path: str) -> None:
        if _is_null(node):
            return
        if node.id != "mapping":
            go_type = f"config.{type(target).__name__}"
            self.refuse(node, path, "is no section", "write keys and values below it", go_type)
            return
        names = {field.name.rstrip("_"): field.name for field in dataclasses.fields(target)}
        hints = get_type_hints(type(target))
        for key_node, value in self.pairs(node, path):
            name = key_node.value
            here = f"{path}.{name}" if path else str(name)
            if name not in names:
                guess = nearest(name, list(names))
                hint = f"did you mean {guess}?" if guess else ""
                self.reading.unknown.append(Problem(self.mark(key_node), here, "unknown key", hint))
                continue
            self.reading.marks[here] = self.mark(value)
            hint_type = hints[names[name]]
            if dataclasses.is_dataclass(hint_type):
                self.section(value, getattr(target, names[name]), here)
                continue
            found = self.value(value, hint_type, here)
            if found is not None:
                setattr(target, names[name], found)

    def pairs(self, node: Node, path: str) -> Iterator[tuple[Node, Node]]:
        """Keys and values with `<<` merged in; what the mapping says itself comes first and wins."""
        seen: dict[str, int] = {}
        waiting = [node]
        visited: set[int] = set()
        while waiting:
            mapping = waiting.pop(0)
            if id(mapping) in visited:
                continue
            visited.add(id(mapping))
            own: dict[str, int] = {}
            for key_node, value in mapping.value:
                if key_node.tag == "tag:yaml.org,2002:merge":
                    for source in value.value if value.id == "sequence" else [value]:
                        if source.id == "mapping":
                            waiting.append(source)
                        else:
                            go = "map merge requires map or sequence of maps as the value"
                            self.add(source, path, "only a section can be merged", go=go)
                    continue
                if key_node.id != "scalar":
                    self.add(key_node, path, "a key must be a plain word")
                    continue
                name = key_node.value
                if name in own:
                    line = own[name]
                    go = f'mapping key "{name}" already defined at line {line}'
                    self.add(key_node, f"{path}.{name}" if path else name, f"given twice, first in line {line}", go=go)
                    continue
                own[name] = key_node.start_mark.line + 1
                if name not in seen:
                    yield key_node, value
            seen.update(own)

    def value(self, node: Node, kind: Any, path: str) -> Any:
        """The value, or None where the default stays: for null and after a complaint."""
        if kind is Anything:
            return self.anything(node, path, [NODES_MAX])
        if get_origin(kind) is list:
            return self.items(node, get_args(kind)[0], path)
        if _is_null(node):
            return None
        if node.id != "scalar":
            what = "a list" if node.id == "sequence" else "a section"
            self.refuse(node, path, f"is {what}", "write one value", _GO_TYPES[kind])
            return None
        problem_count = len(self.reading.problems)
        found = _READERS[kind](self, node, path)
        return found if len(self.reading.problems) == problem_count else None

    def items(self, node: Node, kind: Any, path: str) -> list[Any] | None:
        if _is_null(node):
            return []
        is_section = dataclasses.is_dataclass(kind)
        if node.id != "sequence":
            go_type = "[]" + (f"config.{kind.__name__}" if is_section else _GO_TYPES[kind])
            self.refuse(node, path, "is no list", "write one item per line, each after '- ', or [a, b]", go_type)
            return None
        found = []
        for number, item in enumerate(node.value):
            here = f"{path}[{number}]"
            self.reading.marks[here] = self.mark(item)
            if is_section:
                entry = kind()
                self.section(item, entry, here)
                found.append(entry)
            elif (value := self.value(item, kind, here)) is not None:
                found.append(value)
        return found

    def anything(self, node: Node, path: str, left: list[int], depth: int = 0) -> Any:
        """The value in JSON's types; each part of it has its mark."""
        self.reading.marks[path] = self.mark(node)
        left[0] -= 1
        if depth > DEPTH_MAX or left[0] < 0:
            if left[0] > -NODES_MAX:
                left[0] = -NODES_MAX
                self.add(node, path, "is too large or nested too deeply", "write it without aliases")
            return None
        if node.id == "mapping":
            return {
                str(key.value): self.anything(value, f"{path}.{key.value}", left, depth + 1)
                for key, value in self.pairs(node, path)
            }
        if node.id == "sequence":
            return [self.anything(item, f"{path}[{at}]", left, depth + 1) for at, item in enumerate(node.value)]
        if _is_null(node):
            return None
        if not node.style and node.value in _BOOLEANS:
            return _BOOLEANS[node.value]
        if not node.style and (number := _integer(node.value)) is not None:
            return number
        if not node.style and node.tag == "tag:yaml.org,2002:float":
            return float(node.value.replace("_", ""))
        return str(node.value)

    # -- scalars ---------------------------------------------------------------------------------------

    def text(self, node: Node, path: str) -> str:
        return str(node.value)  # yaml.v3: a number or a boolean is taken as it is written

    def boolean(self, node: Node, path: str) -> bool | None:
        if not node.style and node.value in _BOOLEANS:
            return _BOOLEANS[node.value]
        self.refuse(node, path, "is neither true nor false", "write true or false", "bool")
        return None

    def integer(self, node: Node, path: str, low: int, high: int, go_type: str) -> int | None:
        number = _integer(node.value) if not node.style else None
        if number is None:
            self.refuse(node, path, "is no whole number", f"valid: {_between(low, high)}, without quotes", go_type)
        elif not low <= number <= high:
            self.refuse(node, path, "is out of range", f"valid: {_between(low, high)}", go_type)
        return number

    def floating(self, node: Node, path: str) -> float | None:
        try:
            number = float(node.value)
        except ValueError:
            number = math.nan
        if node.style or math.isnan(number):
            self.refuse(node, path, "is no number", "write 0.5 or 1, without quotes", "float64")
            return None
        return number

    def duration(self, node: Node, path: str) -> float | None:
        # gorouter: a bare number is no duration, not even 0
        if node.style or _integer(node.value) is None:
            try:
                return parse_duration(node.value)
            except ValueError:
                pass
        number = re.fullmatch(r"\d+", node.value)
        such = f'"{node.value}s" or "{node.value}ms"' if number else '"5s", "200ms", "1m30s", "0s"'
        self.refuse(node, path, "is no duration", f"write a number with a unit, such as {such}", "time.Duration")
        return None

    def mark(self, node: Node) -> Mark:
        return Mark(self.reading.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def add(self, node: Node, path: str, text: str, valid: str = "", go: str = "") -> None:
        self.reading.problems.append(Problem(self.mark(node), path, text, valid, go or text, "type"))

    def refuse(self, node: Node, path: str, text: str, valid: str, go_type: str) -> None:
        """Complains about a value in our words, and in those of yaml.v3, which shows the first 10 bytes."""
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        shown = ""
        if node.id == "scalar":
            value = node.value if len(node.value) <= 10 else node.value[:7] + "..."
            ours = node.value if len(node.value) <= 60 else node.value[:57] + "..."
            shown, text = f" `{value}`", f"{ours!r} {text}"
        else:
            text = "this " + text
        self.add(node, path, text, valid, f"cannot unmarshal {tag}{shown} into {go_type}")


_BOOLEANS = {
    word: value
    for lower, value in (("true", True), ("yes", True), ("on", True), ("false", False), ("no", False), ("off", False))
    for word in (lower, lower.capitalize(), lower.upper())
}
_GO_TYPES: dict[Any, str] = {
    str: "string", Pem: "string", bool: "bool", int: "int", float: "float64", Seconds: "time.Duration",
    Uint: "uint", Uint16: "uint16", Uint32: "uint32", Anything: "interface {}",
}  # fmt: skip
_READERS: dict[Any, Any] = {
    str: _Filler.text,
    Pem: _Filler.text,
    bool: _Filler.boolean,
    float: _Filler.floating,
    Seconds: _Filler.duration,
    int: lambda filler, node, path: filler.integer(node, path, -(2**63), 2**63 - 1, "int"),
    Uint: lambda filler, node, path: filler.integer(node, path, 0, 2**64 - 1, "uint"),
    Uint16: lambda filler, node, path: filler.integer(node, path, 0, 2**16 - 1, "uint16"),
    Uint32: lambda filler, node, path: filler.integer(node, path, 0, 2**32 - 1, "uint32"),
}


def _is_null(node: Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


def _between(low: int, high: int) -> str:
    return f"{low} to {high}" if high < 2**32 else ("0 or more" if low == 0 else "any")


def _integer(text: str) -> int | None:
    """A plain YAML whole number: decimal, 0x, 0o, 0b, with "_" between digits; a leading 0 is octal, as in yaml.v3."""
    digits = text.replace("_", "")
    match = re.fullmatch(r"([-+]?)(0[xX][0-9a-fA-F]+|0[oO][0-7]+|0b[01]+|0[0-7]+|0|[1-9][0-9]*)", digits)
    if not match:
        return None
    sign, number = match.groups()
    if re.fullmatch(r"0[0-7]+", number):
        number = "0o" + number[1:]
    return (-1 if sign == "-" else 1) * int(number, 0)


# -- addresses ---------------------------------------------------------------------------------------------


def is_url(url: str) -> bool:
    """Whether that is the address of a server, http or https."""
    try:
        target = urlsplit(url)
        return target.scheme in ("http", "https") and bool(target.hostname) and (target.port or 1) > 0
    except ValueError:
        return False


# -- durations ---------------------------------------------------------------------------------------------

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")


def parse_duration(text: str) -> float:
    """Seconds of a Go duration: "1m30s", "1.5h", "-5s", "0". ValueError for anything else, or beyond 292 years."""
    negative = text.startswith("-")
    rest = text[1:] if text[:1] in ("-", "+") else text
    nanoseconds, at = 0, 0
    while at < len(rest) and rest != "0":
        part = _PART.match(rest, at)
        if not part or not (part[1] or part[2]):
            break
        nanoseconds += int(part[1] or "0") * _UNITS[part[3]]
        if part[2]:
            nanoseconds += int(part[2]) * _UNITS[part[3]] // 10 ** len(part[2])
        at = part.end()
    if not rest or (at < len(rest) and rest != "0") or nanoseconds >= 2**63:
        raise ValueError(f'{text!r} is no duration; write a number with a unit, such as "5s", "200ms", "1m30s"')
    return (-nanoseconds if negative else nanoseconds) / 1e9


def format_duration(seconds: float) -> str:
    """The shortest Go duration that `parse_duration` reads back: 90 is "1m30s", 0.2 is "200ms"."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    nanoseconds = round(seconds * 1e9)
    parts = []
    for unit in ("h", "m", "s", "ms", "us", "ns"):
        count, nanoseconds = divmod(nanoseconds, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"

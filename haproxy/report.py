"""What became of each line of a haproxy.cfg."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from haproxy.words import Line

TAKEN, CHANGED, UNKNOWN = "taken", "changed", "not understood"


@dataclass(frozen=True)
class Verdict:
    """One line: TAKEN (the router does the same), CHANGED (it does it otherwise, or need not) or UNKNOWN; why."""

    file: str
    line: int
    text: str
    verdict: str
    note: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.verdict}: {self.text}\n    {self.note}"


@dataclass
class Report:
    """Verdicts in the order they were made; `sorted` gives the order of the file."""

    file: str
    verdicts: list[Verdict] = field(default_factory=list)

    def add(self, line: Line, verdict: str, note: str) -> None:
        self.verdicts.append(Verdict(self.file, line.number, line.text, verdict, note))

    def sorted(self) -> list[Verdict]:
        return sorted(self.verdicts, key=lambda each: each.line)

    def count(self, verdict: str) -> int:
        return sum(each.verdict == verdict for each in self.verdicts)

    def text(self) -> str:
        counts = ", ".join(f"{self.count(kind)} {kind}" for kind in (TAKEN, CHANGED, UNKNOWN))
        return "\n".join([*map(str, self.sorted()), f"{self.file}: {counts}", ""])

    def as_json(self, problems: Iterable[str]) -> str:
        whole: dict[str, Any] = {"file": self.file, "lines": [vars(each) for each in self.sorted()]}
        return json.dumps({**whole, "problems": list(problems)}, indent=2) + "\n"

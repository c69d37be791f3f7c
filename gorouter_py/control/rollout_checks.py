"""Questions to others before a rollout goes on: a webhook that is told the rollout, a Prometheus query with limits.

An answer is "pass", "fail" or "unknown" (nobody answered, or there is no data yet). Unknown never aborts; a step waits
until every check passes; `failures` fails in a row abort. One question at a time per check, each with a time-out.
Control loop; the connection is http_client's.
"""

import asyncio
import json
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

from gorouter_py.control.http_client import Client, RequestFailed
from gorouter_py.control.rollout_spec import Check

TEXT_MAX: Final = 200


@dataclass
class _Asked:
    check: Check
    state: str = "unknown"
    text: str = "not asked yet"
    failed: int = 0  # in a row
    due: float = 0.0
    is_busy: bool = False
    step: int = 0  # grows with each `anew`


class Checks:
    """The checks of one rollout and what they said last. spawn: runs a coroutine in the background."""

    def __init__(self, checks: Sequence[Check], spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._asked = [_Asked(check) for check in checks]
        self._spawn = spawn

    def ask(self, now: float, document: Callable[[], Mapping[str, Any]]) -> None:
        """Sends the questions that are due. document: gives the rollout as the webhook gets it."""
        for asked in self._asked:
            if now >= asked.due and not asked.is_busy:
                asked.is_busy, asked.due = True, now + asked.check.interval_s
                self._spawn(self._ask(asked, document()))

    @property
    def worse(self) -> str:
        """Why the rollout must be aborted; "" if it need not."""
        for asked in self._asked:
            if asked.failed >= asked.check.failures:
                return f"{_name(asked.check)} failed {asked.failed} times in a row: {asked.text}"
        return ""

    @property
    def waits(self) -> str:
        """What a step waits for; "" once every check has passed."""
        return next((f"{_name(it.check)}: {it.text}" for it in self._asked if it.state != "pass"), "")

    def anew(self) -> None:
        """Another step: what was said before it does not count for it."""
        for asked in self._asked:
            asked.state, asked.text, asked.failed, asked.due = "unknown", "not asked yet", 0, 0.0
            asked.step += 1

    def documents(self) -> list[dict[str, Any]]:
        return [
            {"kind": it.check.kind, "url": it.check.url, "state": it.state, "reason": it.text, "failed": it.failed}
            for it in self._asked
        ]

    async def _ask(self, asked: _Asked, document: Mapping[str, Any]) -> None:
        check, step = asked.check, asked.step
        try:
            async with asyncio.timeout(check.timeout_s):
                question = _webhook(check, document) if check.kind == "webhook" else _prometheus(check)
                state, text = await question
        except (RequestFailed, TimeoutError, OSError) as error:
            state, text = "unknown", str(error) or f"no answer within {check.timeout_s:g} s"
        finally:
            asked.is_busy = False
        if asked.step != step:
            return  # it was asked about the step before
        asked.state, asked.text = state, text[:TEXT_MAX]
        asked.failed = asked.failed + 1 if state == "fail" else (0 if state == "pass" else asked.failed)


def _name(check: Check) -> str:
    return f"{check.kind} {check.url}"


async def _webhook(check: Check, document: Mapping[str, Any]) -> tuple[str, str]:
    """2xx passes, unless its JSON says {"ok": false}; 4xx fails; anything else is no answer."""
    base, path = _split(check.url)
    body = json.dumps(document).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    status, answer = await Client(base).fetch(path, headers, method="POST", body=body)
    try:
        said = json.loads(answer)
    except ValueError:
        said = None
    reason = str(said.get("reason", "")) if isinstance(said, dict) else ""
    if 200 <= status < 300:
        ok = not (isinstance(said, dict) and said.get("ok") is False)
        return ("pass", reason or f"answered {status}") if ok else ("fail", reason or "it said that it is not ok")
    if 400 <= status < 500:
        return "fail", reason or f"answered {status}"
    return "unknown", reason or f"answered {status}"


async def _prometheus(check: Check) -> tuple[str, str]:
    """Every value of the result is within the limits; none at all is no data."""
    base, path = _split(check.url)
    target = f"{path.rstrip('/')}/api/v1/query?query={quote(check.query, safe='')}"
    status, answer = await Client(base).fetch(target, {"Accept": "application/json"})
    try:
        said = json.loads(answer)
        if status != 200 or said["status"] != "success":
            return "unknown", f"answered {status}: {said.get('error', '')}"
        result = said["data"]["result"]
        samples = [result] if said["data"]["resultType"] == "scalar" else [each["value"] for each in result]
        values = [float(sample[1]) for sample in samples]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return "unknown", f"answered {status} with something that is no result of a query"
    values = [value for value in values if not math.isnan(value)]
    if not values:
        return "unknown", "the query has no data"
    for value in values:
        if check.max is not None and value > check.max:
            return "fail", f"{value:g} is above {check.max:g}"
        if check.min is not None and value < check.min:
            return "fail", f"{value:g} is below {check.min:g}"
    return "pass", f"within its limits: {', '.join(f'{value:g}' for value in values[:5])}"


def _split(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    path = parts.path or "/"
    return f"{parts.scheme}://{parts.netloc}", path + (f"?{parts.query}" if parts.query else "")

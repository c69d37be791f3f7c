"""Webhooks and Prometheus queries against a server that answers what the test wants."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from gorouter_py.control.rollout_checks import Checks
from gorouter_py.control.rollout_spec import Check
from tests.unit.control.serving import Answers


@pytest.fixture
def server() -> Iterator[Answers]:
    with Answers() as it:
        yield it


def asked(check: Check, times: int = 1) -> Checks:
    """The checks after so many questions."""

    async def scenario() -> Checks:
        tasks: list[asyncio.Task[None]] = []
        checks = Checks([check], lambda work: tasks.append(asyncio.create_task(work)))
        for number in range(times):
            checks.ask(number * check.interval_s, lambda: {"route": "a.test"})
            checks.ask(number * check.interval_s, lambda: {"route": "a.test"})  # not due
            await asyncio.gather(*tasks)
        return checks

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("status", "body", "state", "said"),
    [
        (200, "", "pass", "answered 200"),
        (204, "", "pass", "answered 204"),
        (200, '{"ok": true, "reason": "all well"}', "pass", "all well"),
        (200, '{"ok": false, "reason": "too few orders"}', "fail", "too few orders"),
        (409, "", "fail", "answered 409"),
        (500, "", "unknown", "answered 500"),
        (302, "", "unknown", "answered 302"),
    ],
)
def test_a_webhook(server: Answers, status: int, body: str, state: str, said: str) -> None:
    server.status, server.body = status, body.encode()
    checks = asked(Check("webhook", server.url + "/gate?x=1"))
    (shown,) = checks.documents()
    assert shown["state"] == state and said in shown["reason"]
    assert bool(checks.waits) == (state != "pass") and checks.worse == ""
    ((method, path, sent),) = server.asked
    assert (method, path) == ("POST", "/gate?x=1") and json.loads(sent) == {"route": "a.test"}


def vector(*values: float) -> str:
    result = [{"metric": {}, "value": [1, str(value)]} for value in values]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})


@pytest.mark.parametrize(
    ("body", "state", "said"),
    [
        (vector(0.5), "pass", "0.5"),
        (vector(0.5, 2), "fail", "2 is above 1"),
        (vector(-1), "fail", "-1 is below 0"),
        (vector(), "unknown", "no data"),
        (vector(float("nan")), "unknown", "no data"),
        ('{"status": "success", "data": {"resultType": "scalar", "result": [1, "0.25"]}}', "pass", "0.25"),
        ('{"status": "error", "error": "bad query"}', "unknown", "bad query"),
        ("<html>", "unknown", "no result"),
        ("[]", "unknown", "no result"),
    ],
)
def test_a_query(server: Answers, body: str, state: str, said: str) -> None:
    server.body = body.encode()
    checks = asked(Check("prometheus", server.url, query='rate(x{a="b"}[5m])', min=0, max=1))
    (shown,) = checks.documents()
    assert shown["state"] == state and said in shown["reason"]
    assert server.asked[0][1] == "/api/v1/query?query=rate%28x%7Ba%3D%22b%22%7D%5B5m%5D%29"


def test_only_fails_in_a_row_abort(server: Answers) -> None:
    server.status = 404
    assert asked(Check("webhook", server.url, failures=3), 2).worse == ""
    assert "3 times in a row" in asked(Check("webhook", server.url, failures=3), 3).worse


def test_nobody_there_is_unknown_for_good() -> None:
    checks = asked(Check("webhook", "http://127.0.0.1:9", failures=1), 5)
    assert checks.worse == "" and checks.waits
    (shown,) = checks.documents()
    assert shown["state"] == "unknown" and "127.0.0.1:9" in shown["reason"]


def test_another_step_asks_anew(server: Answers) -> None:
    checks = asked(Check("webhook", server.url))
    assert checks.waits == ""
    checks.anew()
    assert "not asked yet" in checks.waits

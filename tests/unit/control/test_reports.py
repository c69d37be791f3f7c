"""Lines of the component log made of what the workers report."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from gorouter_py.component import Logger, Sink
from gorouter_py.control.messages import Registration
from gorouter_py.control.registry import Limits, Registry
from gorouter_py.control.reports import LINES_PER_S, Reports
from tests.unit.control.fakes import FakeLog, FakeNames, FakeTable

REQUEST = "11111111-2222-4333-4444-555555555555"
EVENT = {
    "kind": "endpoint_failed", "at_ns": 1_500_000_000, "request_id": REQUEST, "trace_id": "1" * 32, "span_id": "2" * 16,
    "endpoint": 7, "address": "10.0.0.1:80", "attempt": 1, "text": "a.test", "algorithm": "round-robin",
    "fault": "DIAL_REFUSED", "error": "dial tcp 10.0.0.1:80: connect: connection refused", "retried": True,
    "marked": True, "connected": False, "wrote_head": False, "reused": False, "answered": False, "endpoints": 3,
    "dial_ns": 1_500_000, "local_address": "",
}  # fmt: skip
FACTS = Registration(
    uris=["a.test"], host="app.internal", port=80, app="guid", tags={"component": "x"}, availability_zone="z1"
)
ENDPOINT = {
    "ApplicationId": "guid", "Addr": "app.internal:80", "Tags": {"component": "x"}, "RouteServiceUrl": "", "AZ": "z1",
}  # fmt: skip


class Plane:
    """A data plane that has these reports to give."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.levels: list[int] = []

    def events(self, limit: int = 0) -> list[Any]:
        given, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return given

    def set_log_level(self, level: int) -> None:
        self.levels.append(level)


class Setting:
    """Reports that write into a pipe."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self.plane = Plane()
        self.log = Logger(Sink(self._write), "router")
        self.known: dict[tuple[str, int], Registration] = {("a.test", 7): FACTS}
        self.reports = Reports(self.plane, self.log, lambda key, serial: self.known.get((key, serial)))

    def lines(self, *events: dict[str, Any]) -> list[dict[str, Any]]:
        self.plane.waiting += events
        self.reports.report()
        os.write(self._write, b"\n")
        text = b""
        while not text.endswith(b"\n\n") and text != b"\n":
            text += os.read(self._read, 1 << 20)
        return [json.loads(line) for line in text.splitlines() if line]

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


@pytest.fixture
def setting() -> Iterator[Setting]:
    made = Setting()
    yield made
    made.close()


def test_a_failed_attempt_has_all_its_details(setting: Setting) -> None:
    failed, marked = setting.lines(EVENT)
    ids = {"trace-id": "1" * 32, "span-id": "2" * 16}
    assert (failed["log_level"], failed["message"], failed["source"]) == (3, "backend-endpoint-failed", "router")
    assert failed["data"] == {
        **ids, "route-endpoint": ENDPOINT, "error": EVENT["error"], "attempt": 1, "vcap_request_id": REQUEST,
        "retriable": True, "num-endpoints": 3, "got-connection": False, "wrote-headers": False, "conn-reused": False,
        "dns-lookup-time": 0, "dial-time": 0.0015, "tls-handshake-time": 0, "local-address": "",
        "fault": "DIAL_REFUSED", "uri": "a.test",
    }  # fmt: skip
    assert (marked["log_level"], marked["message"]) == (3, "endpoint-marked-as-ineligible")
    assert marked["source"] == "router.registry"
    assert marked["data"] == {**ids, "route-endpoint": ENDPOINT}


def test_an_endpoint_that_stays_eligible_has_one_line(setting: Setting) -> None:
    (line,) = setting.lines({**EVENT, "marked": False, "connected": True, "local_address": "10.0.0.9:5"})
    assert line["data"]["got-connection"] and line["data"]["local-address"] == "10.0.0.9:5"


def test_an_endpoint_that_has_gone_meanwhile(setting: Setting) -> None:
    setting.known.clear()
    line = setting.lines(EVENT)[0]
    assert line["data"]["route-endpoint"]["Addr"] == "10.0.0.1:80"


@pytest.mark.parametrize("answered", [False, True])
def test_a_timeout_is_said_as_such(setting: Setting, answered: bool) -> None:
    event = {**EVENT, "fault": "UP_TIMEOUT", "error": "context deadline exceeded", "answered": answered}
    lines = setting.lines({**event, "marked": False})
    assert [line["message"] for line in lines] == ["backend-request-timeout", "backend-endpoint-failed"][: 2 - answered]
    assert lines[0]["data"]["error"] == "context deadline exceeded"
    assert lines[0]["data"]["vcap_request_id"] == REQUEST


@pytest.mark.parametrize(
    ("kind", "text", "level", "message", "data"),
    [
        ("select_failed", "A.test", 3, "select-endpoint-failed", {"host": "A.test", "error": "No endpoints available"}),
        ("semicolon", "", 2, "deprecated-semicolon-params", {"vcap_request_id": REQUEST}),
        ("status", "400 Bad Request: x", 1, "status", {"body": "400 Bad Request: x"}),
        ("request", "", 0, "vcap-request-id-header-set", {"VcapRequestIdHeader": REQUEST}),
    ],
)
def test_other_lines(setting: Setting, kind: str, text: str, level: int, message: str, data: dict[str, Any]) -> None:
    (line,) = setting.lines({**EVENT, "kind": kind, "text": text})
    assert (line["log_level"], line["message"], line["source"]) == (level, message, "router")
    assert line["data"] == {"trace-id": "1" * 32, "span-id": "2" * 16, **data}


@pytest.mark.parametrize(
    ("algorithm", "attempt", "messages"),
    [
        ("round-robin", 1, ["endpoint-iterator-with-round-robin-lb-algo", "backend"]),
        ("least-connection", 1, ["endpoint-iterator-with-least-connection-lb-algo", "backend"]),
        ("hash", 1, ["backend"]),
        ("round-robin", 2, ["backend"]),
    ],
)
def test_an_attempt(setting: Setting, algorithm: str, attempt: int, messages: list[str]) -> None:
    lines = setting.lines({**EVENT, "kind": "attempt", "algorithm": algorithm, "attempt": attempt})
    assert [line["message"] for line in lines] == messages
    assert lines[-1]["data"]["route-endpoint"] == ENDPOINT and lines[-1]["data"]["attempt"] == attempt
    assert {line["log_level"] for line in lines} == {0}


def test_a_flood_is_counted_and_the_next_line_says_so(setting: Setting) -> None:
    lines = setting.lines(*[{**EVENT, "marked": False}] * 500)
    assert len(lines) == LINES_PER_S["endpoint_failed"]
    assert setting.reports.suppressed == 500 - len(lines)
    assert "suppressed" not in lines[0]["data"]
    assert len(setting.lines({**EVENT, "kind": "status"})) == 1, "other kinds have a bound of their own"


def test_the_level_is_handed_on_when_it_changes(setting: Setting) -> None:
    assert setting.plane.levels == [0]
    setting.lines()
    setting.log.set_level("warn")
    setting.lines()
    setting.lines()
    setting.log.set_level("debug")
    setting.lines()
    assert setting.plane.levels == [0, 2, 0]


def test_the_registration_behind_an_endpoint() -> None:
    table, names = FakeTable(), FakeNames({"app.internal": ("10.0.0.1", "10.0.0.2")})
    registry = Registry(table, names, FakeLog(), Limits(120.0))
    registry.register(FACTS, 0.0)
    registry.register(Registration(uris=["a.test"], host="10.0.0.9", port=81, app="other"), 0.0)
    for handle, held in table.held.items():
        found = registry.registration_of("a.test", table.endpoint_serial(handle))
        assert found is not None and found.app == held.app
    assert registry.registration_of("a.test", 1) is None
    assert registry.registration_of("b.test", table.endpoint_serial(next(iter(table.held)))) is None

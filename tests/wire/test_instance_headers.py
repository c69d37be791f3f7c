"""X-CF-App-Instance and X-CF-Process-Instance: which instance a client may ask for by name, and what it is told."""

import pytest

from tests.support.origins import OK, Origin
from tests.support.plane import MakeOrigin, MakeRouter, Router
from tests.support.ports import take as refused_port
from tests.support.wire import Message
from tests.wire.test_attempts import counts

APP = "11111111-2222-3333-4444-555555555555"
OTHER = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
WEB = "01234567-89ab-cdef-0123-456789abcdef"
JOB = "fedcba98-7654-3210-fedc-ba9876543210"


class Fleet:
    """Four instances: APP 0, 1 (process WEB), APP 2 (process JOB), and OTHER 0 of the same route."""

    def __init__(self, router: MakeRouter, origin: MakeOrigin, answer: bytes = OK, **settings: object) -> None:
        self.front: Router = router(log=True, **settings)
        self.apps: list[Origin] = [origin(answer) for _ in range(4)]
        for n, (app, index, process) in enumerate(((APP, 0, WEB), (APP, 1, WEB), (APP, 2, JOB), (OTHER, 0, OTHER))):
            self.front.add(self.apps[n], app=app, instance_index=str(index), instance_id=f"id-{n}", process_id=process)

    def served(self, lines: str, times: int = 1) -> list[int]:
        """How many of so many requests each instance got."""
        before = counts(self.apps)
        for _ in range(times):
            assert self.front.get(lines=lines).status == 200
        return [new - old for old, new in zip(before, counts(self.apps), strict=True)]


def assert_refused(answer: Message, error: str, text: str) -> None:
    assert answer.start == b"HTTP/1.1 400 Bad Request"
    assert answer.get("X-Cf-RouterError") == error
    assert answer.get("Cache-Control") == "no-cache, no-store"
    assert answer.get("Content-Type") == "text/plain; charset=utf-8"
    assert answer.get("X-Content-Type-Options") == "nosniff"
    assert answer.get("Connection") is None
    assert answer.body.decode() == f"400 Bad Request: {text}\n"


def test_an_app_instance(router: MakeRouter, origin: MakeOrigin) -> None:
    fleet = Fleet(router, origin)
    assert fleet.served(f"X-CF-App-Instance: {APP}:1\r\n", 4) == [0, 4, 0, 0]
    assert fleet.served(f"x-cf-app-instance: {APP}:2\r\n", 3) == [0, 0, 3, 0]
    assert fleet.served(f"X-CF-APP-INSTANCE: {OTHER}:0\r\n", 3) == [0, 0, 0, 3]
    request = fleet.apps[1].last()
    assert request.get("X-CF-App-Instance") is None
    assert (request.get("X-CF-ApplicationID"), request.get("X-CF-InstanceIndex")) == (APP, "1")


def test_a_process_and_its_instance(router: MakeRouter, origin: MakeOrigin) -> None:
    fleet = Fleet(router, origin)
    assert fleet.served(f"X-CF-Process-Instance: {WEB}:1\r\n", 3) == [0, 3, 0, 0]
    assert fleet.apps[1].last().get("X-CF-Process-Instance") == f"{WEB}:1", "passed on"
    assert fleet.served(f"X-CF-Process-Instance: {JOB}\r\n", 3) == [0, 0, 3, 0]
    web = fleet.served(f"X-CF-Process-Instance: {WEB}\r\n", 8)
    assert sum(web) == web[0] + web[1] == 8
    assert web[0] and web[1], "without an index all of the process take turns"


def test_the_app_header_has_precedence(router: MakeRouter, origin: MakeOrigin) -> None:
    fleet = Fleet(router, origin)
    lines = f"X-CF-Process-Instance: {JOB}:2\r\nX-CF-App-Instance: {APP}:0\r\n"
    assert fleet.served(lines, 3) == [3, 0, 0, 0]
    answer = fleet.front.get(lines=f"X-CF-Process-Instance: {JOB}:2\r\nX-CF-App-Instance: x\r\n")
    assert_refused(answer, "invalid_cf_app_instance_header", "Invalid X-CF-App-Instance Header")
    assert fleet.served(f"X-CF-Process-Instance: nonsense\r\nX-CF-App-Instance: {APP}:0\r\n") == [1, 0, 0, 0]


@pytest.mark.parametrize(
    "value",
    [
        APP,
        f"{APP}:",
        f"{APP}:a",
        f"{APP}:1:1",
        f"{APP}:-1",
        f"{APP}: 1",
        f"{APP}1:1",
        f"{APP[:-1]}:1",
        f"{OTHER.upper()}:0",
        f"{APP.replace('-', '')}:1",
        f"x{APP}:1",
        ":1",
        "1",
    ],
)
def test_malformed_app_instances(router: MakeRouter, origin: MakeOrigin, value: str) -> None:
    fleet = Fleet(router, origin)
    answer = fleet.front.get(lines=f"X-CF-App-Instance: {value}\r\n")
    assert_refused(answer, "invalid_cf_app_instance_header", "Invalid X-CF-App-Instance Header")
    assert fleet.front.counter("rejected_requests") == 1
    line = fleet.front.log_lines(1)[0]
    assert f'"GET / HTTP/1.1" 400 0 {len(answer.body)} "-" "-" ' in line
    assert line.endswith('x_cf_routererror:"invalid_cf_app_instance_header"')
    assert counts(fleet.apps) == [0, 0, 0, 0]


@pytest.mark.parametrize("value", [f"{WEB}:", f"{WEB}:a", f"{WEB[:-1]}", f"{JOB.upper()}:2", f"{WEB}x", f"{WEB}:1:1"])
def test_malformed_process_instances(router: MakeRouter, origin: MakeOrigin, value: str) -> None:
    fleet = Fleet(router, origin)
    answer = fleet.front.get(lines=f"X-CF-Process-Instance: {value}\r\n")
    assert_refused(answer, "invalid_cf_process_instance_header", "Invalid X-CF-Process-Instance Header")
    assert counts(fleet.apps) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("line", "who"),
    [
        (f"X-CF-App-Instance: {APP}:7", f"instance ('7') with guid ('{APP}')"),
        (f"X-CF-App-Instance: {OTHER}:1", f"instance ('1') with guid ('{OTHER}')"),
        (f"X-CF-App-Instance: {WEB}:0", f"instance ('0') with guid ('{WEB}')"),
        (f"X-CF-App-Instance: {APP}:01", f"instance ('01') with guid ('{APP}')"),
        (f"X-CF-Process-Instance: {WEB}:2", f"instance ('2') with process guid ('{WEB}')"),
        (f"X-CF-Process-Instance: {APP}", f"instance with process guid ('{APP}')"),
    ],
)
def test_an_instance_that_is_not_there(router: MakeRouter, origin: MakeOrigin, line: str, who: str) -> None:
    fleet = Fleet(router, origin)
    answer = fleet.front.get(host="App.test:80", lines=line + "\r\n")
    assert_refused(answer, "unknown_route", f"Requested {who} does not exist for route ('App.test:80')")
    assert fleet.front.log_lines(1)[0].endswith('x_cf_routererror:"unknown_route"')
    assert fleet.front.counter("rejected_requests") == 1


def test_empty_headers_ask_for_nobody(router: MakeRouter, origin: MakeOrigin) -> None:
    fleet = Fleet(router, origin)
    assert fleet.served("X-CF-App-Instance:\r\nX-CF-Process-Instance:\r\n", 4) == [1, 1, 1, 1]


def test_sticky_cookies_choose_among_what_was_asked_for(router: MakeRouter, origin: MakeOrigin) -> None:
    fleet = Fleet(router, origin)
    process = f"X-CF-Process-Instance: {WEB}\r\n"
    assert fleet.served(process + "Cookie: JSESSIONID=1; __VCAP_ID__=id-1\r\n", 4) == [0, 4, 0, 0]
    assert fleet.served(process + "Cookie: JSESSIONID=1; __VCAP_ID__=id-0\r\n", 4) == [4, 0, 0, 0]
    web = fleet.served(process + "Cookie: JSESSIONID=1; __VCAP_ID__=id-2\r\n", 4)
    assert web[0] + web[1] == 4, "a cookie does not lead out of the process"
    assert fleet.served(f"X-CF-App-Instance: {APP}:2\r\nCookie: JSESSIONID=1; __VCAP_ID__=id-0\r\n", 2) == [0, 0, 2, 0]
    answer = fleet.front.get(lines=f"X-CF-App-Instance: {APP}:2\r\nCookie: JSESSIONID=1; __VCAP_ID__=id-0\r\n")
    assert answer.get("Set-Cookie") == "__VCAP_ID__=id-2; Path=/; HttpOnly"


def test_retries_stay_inside(router: MakeRouter, origin: MakeOrigin) -> None:
    app, stranger = origin(), origin()
    front = router(max_attempts=3)
    front.add(stranger, app=OTHER, instance_index="0")
    front.add(refused_port(), app=APP, instance_index="0", process_id=WEB)
    front.add(app, app=APP, instance_index="1", process_id=WEB)
    for _ in range(4):
        assert front.get(lines=f"X-CF-Process-Instance: {WEB}\r\n").status == 200
    assert counts([app, stranger]) == [4, 0]
    assert front.counter("retries") == 1
    answer = front.get(lines=f"X-CF-App-Instance: {APP}:0\r\n")
    assert answer.status == 502
    assert "connection refused" in (answer.get("X-Cf-RouterError") or "")
    assert counts([app, stranger]) == [4, 0]

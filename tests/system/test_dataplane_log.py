"""The access log, read field by field as a log pipeline would: every line matches the whole format."""

import re
import time
from datetime import datetime
from typing import Any

import pytest

from tests.support import plane
from tests.support.origins import OK, Served
from tests.support.plane import HOST, MakeOrigin, MakeRouter, Router, until
from tests.support.wire import Wire
from tests.wire.test_attempts import refused_port

router, origin = plane.router, plane.origin  # fixtures

QUOTED = r'"((?:[^"\\]|\\.)*)"'
LINE = re.compile(
    r"(?P<host>[^ ]*) - \[(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9})Z\] "
    r'"(?P<method>[^ "]+) (?P<target>[^ "]+) (?P<version>HTTP/1\.[01])" '
    r"(?P<status>\d{3}) (?P<taken>\d+) (?P<given>\d+) "
    + "".join(f"(?P<{name}>{QUOTED}) " for name in ("referer", "agent", "client", "instance"))
    + "".join(f"{name}:(?P<{name}>{QUOTED}) " for name in ("x_forwarded_for", "x_forwarded_proto", "vcap_request_id"))
    + r"response_time:(?P<response_time>\d+\.\d{6}) gorouter_time:(?P<gorouter_time>\d+\.\d{6}) "
    + "".join(f"{name}:(?P<{name}>{QUOTED}) " for name in ("app_id", "app_index", "instance_id"))
    + f"x_cf_routererror:(?P<x_cf_routererror>{QUOTED})"
)
ESCAPES = {"t": b"\t", '"': b'"', "\\": b"\\"}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def unquoted(text: str) -> bytes:
    """What a quoted string of a line stands for."""
    found = b""
    for plain, code, char in re.findall(r"([^\\]+)|\\x([0-9a-f]{2})|\\(.)", text[1:-1]):
        found += plain.encode() if plain else bytes([int(code, 16)]) if code else ESCAPES[char]
    return found


def parsed(line: str) -> dict[str, Any]:
    """The fields of a line; quoted ones as octets, numbers as numbers. Checks what holds for each line."""
    match = LINE.fullmatch(line)
    assert match, line
    told: dict[str, Any] = {}
    for name, text in match.groupdict().items():
        told[name] = unquoted(text) if text.startswith('"') else text
    for name in ("status", "taken", "given"):
        told[name] = int(told[name])
    for name in ("response_time", "gorouter_time"):
        told[name] = float(told[name])
    age = time.time() - datetime.fromisoformat(told["time"][:-3]).astimezone().timestamp()
    assert -2 < age < 600, told["time"]
    assert 0 <= told["gorouter_time"] <= told["response_time"] < 600
    assert UUID.fullmatch(told["vcap_request_id"].decode())
    return told


def lines(front: Router, count: int) -> list[dict[str, Any]]:
    """All lines, which are so many."""
    found = front.log_lines(count)
    assert len(found) == count
    return [parsed(line) for line in found]


def address(client: Wire) -> bytes:
    return client.address.encode()


def test_every_field_of_a_served_request(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router(log=True)
    front.add(app, app="app-guid", instance_id="instance-guid", instance_index="7")
    with front.client() as client:
        client.send(
            b"POST /a/b?c=d HTTP/1.1\r\nHost: App.Test:8080\r\nReferer: http://r.test/x\r\nUser-Agent: agent/1\r\n"
            b"X-Forwarded-For: 10.1.1.1, 10.2.2.2\r\nX-Forwarded-Proto: https\r\nContent-Length: 5\r\n\r\nhello"
        )
        answer = client.answer("POST")
        (told,) = lines(front, 1)
        assert told["client"] == address(client)
    del told["client"], told["time"], told["response_time"], told["gorouter_time"]
    assert told == {
        "host": "App.Test:8080", "method": "POST", "target": "/a/b?c=d", "version": "HTTP/1.1", "status": 200,
        "taken": 5, "given": 2, "referer": b"http://r.test/x", "agent": b"agent/1", "instance": app.address.encode(),
        "x_forwarded_for": b"10.1.1.1, 10.2.2.2, 127.0.0.1", "x_forwarded_proto": b"https",
        "vcap_request_id": (answer.get("X-Vcap-Request-Id") or "").encode(), "app_id": b"app-guid",
        "app_index": b"7", "instance_id": b"instance-guid", "x_cf_routererror": b"-",
    }  # fmt: skip
    assert app.last().get("X-Vcap-Request-Id") == told["vcap_request_id"].decode()


ODD = [
    b'quo"te', b"back\\slash", b"tab\tinside", b"\xc3\xa9t\xc3\xa9", b"\xff\xfe", b"\xc3", b"a\xe2\x82",
    b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b'\\x41"', b"\\\\", b"%41", b"-", b"\x80" * 3 + b"z",
]  # fmt: skip


@pytest.mark.parametrize("value", ODD)
def test_odd_octets_can_be_read_back(router: MakeRouter, origin: MakeOrigin, value: bytes) -> None:
    front = router(log=True)
    front.add(origin())
    with front.client() as client:
        client.send(
            b"GET / HTTP/1.1\r\nHost: app.test\r\nUser-Agent: %b\r\nReferer: %b\r\nX-Forwarded-For: %b\r\n\r\n"
            % (value, value, value)
        )
        assert client.answer().status == 200
    (told,) = lines(front, 1)
    assert told["agent"] == told["referer"] == value
    assert told["x_forwarded_for"] == value + b", 127.0.0.1"


def test_odd_octets_in_a_target(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(log=True)
    front.add(origin())
    for target in (b"/\xc3\xa9?\xff", b"/%C3%A9", b"/a//b/../c", b"/?a=b&c=d;e='f'"):
        assert front.ask(b"GET " + target + b" HTTP/1.1\r\nHost: app.test\r\n\r\n").status == 200
    shown = [told["target"] for told in lines(front, 4)]
    assert shown == ["/%C3%A9?%FF", "/%C3%A9", "/a//b/../c", "/?a=b&c=d;e='f'"]


def test_unknown_route(router: MakeRouter) -> None:
    front = router(log=True)
    answer = front.get("/x", "nowhere.test", "X-Forwarded-For: 10.9.9.9\r\n")
    answer_without = front.get("/y", "nowhere.test")
    told, without = lines(front, 2)
    assert (told["host"], told["status"], told["given"]) == ("nowhere.test", 404, len(answer.body))
    assert told["x_cf_routererror"] == b"unknown_route"
    assert told["instance"] == told["app_id"] == told["app_index"] == told["instance_id"] == b"-"
    assert told["x_forwarded_for"] == b"10.9.9.9", "as it came: nobody got it"
    assert without["x_forwarded_for"] == without["x_forwarded_proto"] == b"-"
    assert without["given"] == len(answer_without.body)
    assert told["gorouter_time"] == without["gorouter_time"] == 0


def test_one_line_for_a_request_that_was_tried_twice(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router(log=True)
    front.add(refused_port(), app="bad")
    front.add(app, app="good", instance_index="1")
    for _ in range(2):
        assert front.get().status == 200
    assert front.counter("retries") == 1
    for told in lines(front, 2):
        assert (told["instance"], told["app_id"], told["app_index"]) == (app.address.encode(), b"good", b"1")
        assert (told["status"], told["x_cf_routererror"]) == (200, b"-")


def test_all_attempts_failed(router: MakeRouter) -> None:
    front = router(log=True)
    port = refused_port()
    front.add(port, app="bad", instance_id="i")
    answer = front.get()
    (told,) = lines(front, 1)
    assert (told["status"], told["given"]) == (502, len(answer.body))
    assert told["instance"] == f"127.0.0.1:{port}".encode()
    assert (told["app_id"], told["instance_id"]) == (b"bad", b"i")
    assert told["x_cf_routererror"].decode() == answer.get("X-Cf-RouterError")


def test_client_that_leaves_while_it_waits(router: MakeRouter, origin: MakeOrigin) -> None:
    def handle(conn: Served) -> None:
        conn.request()
        conn.rest()

    app, front = origin(handle), router(log=True)
    front.add(app, app="slow")
    client = front.client()
    client.send(b"GET /wait HTTP/1.1\r\nHost: app.test\r\n\r\n")
    app.wait(lambda: app.requests)
    where = address(client)
    client.reset()
    (told,) = lines(front, 1)
    assert (told["target"], told["status"], told["taken"], told["given"]) == ("/wait", 499, 0, 0)
    assert (told["client"], told["instance"], told["app_id"]) == (where, app.address.encode(), b"slow")


def test_head_request(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(log=True)
    front.add(origin(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"))
    answer = front.ask(b"HEAD /h HTTP/1.0\r\nHost: app.test\r\n\r\n", "HEAD")
    assert answer.get("Content-Length") == "1000"
    (told,) = lines(front, 1)
    assert (told["method"], told["version"], told["status"], told["given"]) == ("HEAD", "HTTP/1.0", 200, 0)


def test_upgrade(router: MakeRouter, origin: MakeOrigin) -> None:
    def handle(conn: Served) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
        conn.rest()

    app, front = origin(handle), router(log=True)
    front.add(app)
    with front.client() as client:
        client.send(b"GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert client.answer().status == 101
        assert client.take(5) == b"hello"
        client.send(b"bytes")
    until(lambda: front.counter("tunnels_open") == 0)
    (told,) = lines(front, 1)
    assert (told["target"], told["status"], told["taken"], told["given"]) == ("/ws", 101, 0, 0)
    assert told["instance"] == app.address.encode()


def test_every_request_of_a_busy_connection_has_its_line(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(log=True, workers=2)
    front.add(origin())
    clients = [front.client() for _ in range(4)]
    for number in range(200):
        client = clients[number % 4]
        client.send(f"GET /n/{number} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert client.answer().body == OK[-2:]
    assert sorted(int(told["target"][3:]) for told in lines(front, 200)) == list(range(200))


def test_without_client_addresses(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(log=True, log_source_ip=False, log_forwarded_for=False)
    front.add(origin())
    front.get(lines="X-Forwarded-For: 10.1.1.1\r\n")
    (told,) = lines(front, 1)
    assert told["client"] == told["x_forwarded_for"] == b"-"
    assert b"127.0.0.1" in told["instance"]

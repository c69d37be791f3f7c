"""What the workers report of single requests, and what of it they keep to themselves at which level."""

from typing import Any

import pytest

from tests.support.origins import OK, Served
from tests.support.plane import HOST, MakeOrigin, MakeRouter, Router, until
from tests.wire.test_attempts import refused_port

RING = 1024


def reported(front: Router, count: int) -> list[Any]:
    """So many reports, once they are there."""
    found: list[Any] = []
    until(lambda: len(found) >= count or bool(found.extend(front.plane.events())))
    return found


def logged_id(line: str) -> str:
    return line.partition('vcap_request_id:"')[2].partition('"')[0]


@pytest.mark.parametrize(
    ("level", "kinds"),
    [
        (0, ["request", "semicolon", "attempt", "endpoint_failed", "attempt", "semicolon", "request", "status"]),
        (1, ["semicolon", "endpoint_failed", "semicolon", "status"]),
        (2, ["semicolon", "endpoint_failed", "semicolon"]),
        (3, ["endpoint_failed"]),
    ],
)
def test_each_level_has_its_reports(router: MakeRouter, origin: MakeOrigin, level: int, kinds: list[str]) -> None:
    front = router(empty_pool_503=True)
    front.plane.set_log_level(level)
    front.add(refused_port())
    front.add(origin())
    front.remove(front.add(1, host="empty.test"))
    front.plane.remove(front.plane.add("empty.test", "127.0.0.1", 1), keep_empty=True)
    assert front.get("/a;b").status == 200
    assert front.get("/;", host="empty.test").status == 503
    found = reported(front, len(kinds))
    assert sorted(event["kind"] for event in found) == sorted(kinds)
    assert front.counter("events_dropped") == 0


def test_the_level_changes_while_running(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(log=True)
    front.add(origin())
    front.get()
    front.plane.set_log_level(0)
    front.get()
    front.plane.set_log_level(3)
    front.get()
    found = front.plane.events()
    assert [event["kind"] for event in found] == ["request", "attempt"]
    second = front.log_lines(3)[1]
    assert {event["request_id"] for event in found} == {logged_id(second)}
    assert found[1]["text"] == HOST and found[1]["attempt"] == 1 and found[1]["algorithm"] == "round-robin"
    assert found[1]["endpoint"] == front.plane.endpoint_serial(front.handles[0])


def test_a_connect_that_is_refused(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(log=True)
    bad = refused_port()
    front.add(bad)
    front.add(refused_port())
    front.add(origin())
    assert front.get().status == 200
    for event in [event for event in reported(front, 1) if event["address"].endswith(f":{bad}")]:
        assert event["address"] == f"127.0.0.1:{bad}" and event["text"] == HOST
        assert event["endpoints"] == 3 and event["marked"] and event["retried"] and event["dial_ns"] > 0
        assert not (event["connected"] or event["wrote_head"] or event["reused"]) and event["local_address"] == ""
        assert event["request_id"] == logged_id(front.log_lines(1)[0])


def test_an_instance_that_closes_a_kept_connection(router: MakeRouter, origin: MakeOrigin) -> None:
    peers: list[str] = []

    def handle(conn: Served) -> None:
        peers.append("{}:{}".format(*conn.sock.getpeername()))
        conn.request()
        conn.send(OK)
        if conn.request() is not None:
            conn.sock.close()

    front = router(retry_idempotent=False)
    front.add(origin(handle))
    assert front.get().status == 200
    assert front.get().status == 502
    (event,) = reported(front, 1)
    assert event["fault"] in ("UP_EOF", "UP_RESET") and not event["marked"] and not event["retried"]
    assert event["connected"] and event["wrote_head"] and event["reused"] and not event["answered"]
    assert event["local_address"] == peers[0] and event["dial_ns"] == 0


def test_no_instance_left_for_an_attempt(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(max_conns=1, sticky_auth_negotiate=True)
    front.add(origin(), instance_id="one")
    lines = "Authorization: Negotiate x\r\nCookie: __VCAP_ID__=gone\r\n"
    assert front.get(lines=lines).status == 502
    (event,) = reported(front, 1)
    assert event["kind"] == "select_failed" and event["text"] == HOST


@pytest.mark.parametrize(
    ("host", "lines", "body"),
    [
        ("127.0.0.1", "", "400 Bad Request: Request had empty Host header"),
        (HOST, "X-CF-App-Instance: nonsense\r\n", "400 Bad Request: Invalid X-CF-App-Instance Header"),
        ("unknown.test", "", None),
    ],
)
def test_answers_of_the_router_itself(
    router: MakeRouter, origin: MakeOrigin, host: str, lines: str, body: str | None
) -> None:
    front = router()
    front.plane.set_log_level(1)
    front.add(origin())
    answer = front.get(host=host, lines=lines)
    front.get(host="127.0.0.1")  # the last report is its
    found = [event["text"] for event in reported(front, 1 if body is None else 2)][:-1]
    assert found == ([] if body is None else [body])
    assert body is None or answer.body == f"{body}\n".encode()


def test_a_full_ring_drops_and_counts(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    front.plane.set_log_level(0)
    front.add(origin())
    with front.client() as client:
        for _ in range(RING // 2 + 10):
            client.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            assert client.answer().status == 200
    assert front.counter("events_dropped") == 20
    assert len(front.plane.events(RING * 2)) == RING
    front.get()
    assert len(front.plane.events()) == 2


# -- trace and span id ----------------------------------------------------------------------------------------

B3 = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"


@pytest.mark.parametrize(
    ("settings", "lines", "trace", "span"),
    [
        ({}, f"b3: {B3}\r\n", None, None),
        ({"enable_zipkin": True}, f"b3: {B3}\r\n", B3[:32], B3[33:]),
        ({"enable_zipkin": True}, "b3: 8448EB211C80319C-b7ad6b7169203331\r\n", "8448eb211c80319c", B3[33:]),
        ({"enable_zipkin": True}, "", None, None),
        ({"enable_w3c": True}, "", None, None),
        ({"enable_w3c": True}, f"traceparent: 00-{B3}-01\r\n", B3[:32], ""),
        ({"enable_zipkin": True, "enable_w3c": True}, f"b3: {B3}\r\ntraceparent: 00-{'1' * 32}-{'2' * 16}-00\r\n",
         B3[:32], B3[33:]),
    ],
)  # fmt: skip
def test_ids(
    router: MakeRouter, origin: MakeOrigin, settings: dict[str, bool], lines: str, trace: str | None, span: str | None
) -> None:
    app, front = origin(), router(**settings)
    front.plane.set_log_level(0)
    front.add(app)
    front.get(lines=lines)
    event = reported(front, 2)[0]
    if trace is None:  # made of the request id
        trace = event["request_id"].replace("-", "")
        span = trace[16:]
    elif span == "":  # made anew, and sent on
        sent = app.last().get("traceparent")
        assert sent is not None
        span = sent.split("-")[2]
    assert (event["trace_id"], event["span_id"]) == (trace, span)

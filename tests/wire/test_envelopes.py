"""Envelopes of single requests at the metron agent: access-log lines and HttpStartStop."""

import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gorouter_py._fastpath import DataPlane
from gorouter_py.control.sonde import TAGS_MAX, encode_tags
from tests.support.envelopes import read, tags_of, uuid_of
from tests.support.origins import OK, Served
from tests.support.plane import HOST, MakeOrigin, MakeRouter, until
from tests.wire.test_attempts import refused_port

APP = "11111111-2222-3333-4444-555555555555"
TAGS = {"component": "dea-1", "source_id": "s", "ü": "ö"}
CLIENT, SERVER = 1, 2
START_STOP, LOG_MESSAGE = 4, 5


class Agent:
    """A metron agent."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(60)

    def attach(self, **wanted: bool) -> Callable[[DataPlane], None]:
        def attach(plane: DataPlane) -> None:
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.setblocking(False)
            made.connect(self.socket.getsockname())
            plane.send_envelopes(made.detach(), source_instance="3", **wanted)

        return attach

    def take(self) -> Any:
        return read(self.socket.recv(70000))


@pytest.fixture
def agent() -> Iterator[Agent]:
    made = Agent()
    yield made
    made.socket.close()


def test_lines_of_applications(router: MakeRouter, origin: MakeOrigin, agent: Agent) -> None:
    front = router(log=True, outlets=agent.attach(lines=True))
    front.add(origin(), app=APP, tags=encode_tags(TAGS))
    front.add(origin(), host="bare.test")
    front.get(host="unknown.test")
    front.get(host="bare.test")
    front.get("/x")
    envelope = agent.take()  # nothing came of the other two
    assert (envelope.origin, envelope.eventType, tags_of(envelope)) == ("gorouter", LOG_MESSAGE, TAGS)
    message = envelope.logMessage
    assert message.message.decode() == front.log_lines(3)[2]
    assert (message.message_type, message.app_id, message.source_type, message.source_instance) == (1, APP, "RTR", "3")
    assert abs(message.timestamp / 1e9 - time.time()) < 3600 and envelope.timestamp == message.timestamp


def test_lines_without_a_file(router: MakeRouter, origin: MakeOrigin, agent: Agent) -> None:
    front = router(outlets=agent.attach(lines=True))
    front.add(origin(), app=APP)
    front.get("/" + "%20" * 20000, lines="".join(f"X-{n}: {'x' * 1000}\r\n" for n in range(60)))
    assert agent.take().logMessage.message.startswith(HOST.encode() + b" - [")
    assert front.counter("access_log_lines") == 0


def test_a_request(router: MakeRouter, origin: MakeOrigin, agent: Agent) -> None:
    front = router(log=True, outlets=agent.attach(server_events=True))
    front.add(
        origin(OK), app=APP, instance_index="7", instance_id="one", tags=encode_tags({**TAGS, "span_id": "theirs"})
    )
    began = time.time_ns()
    lines = "X-Forwarded-For: 10.0.0.1,10.0.0.2\r\nX-Forwarded-For: 10.0.0.3\r\n"
    front.get("/a%20b?c=d", lines="User-Agent: me\r\n" + lines)
    envelope = agent.take()
    event, line = envelope.httpStartStop, front.log_lines(1)[0]
    match = re.search(r'"(127[^"]*)" "127.*vcap_request_id:"([^"]*)"', line)
    assert match is not None
    request_id = uuid.UUID(match[2])
    assert uuid_of(event.requestId) == request_id and uuid_of(event.applicationId) == uuid.UUID(APP)
    assert (envelope.eventType, event.peerType, event.method, event.statusCode) == (START_STOP, SERVER, 1, 200)
    assert (event.uri, event.remoteAddress, event.userAgent) == (f"http://{HOST}/a b", match[1], "me")
    assert (event.instanceIndex, event.instanceId, event.contentLength) == (7, "one", 2)
    assert list(event.forwarded) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert began - 60e9 < event.startTimestamp < event.stopTimestamp < time.time_ns() + 60e9
    assert tags_of(envelope) == {**TAGS, "trace_id": request_id.hex, "span_id": request_id.hex[16:]}


@pytest.mark.parametrize(
    ("request_line", "status", "method"),
    [
        ("GET / HTTP/1.1", 404, 1),
        ("VERSION_CONTROL / HTTP/1.1", 404, 44),
        ("PATCH / HTTP/1.1", 404, 26),
        ("BREW / HTTP/1.1", 404, 0),
    ],
)
def test_a_request_without_an_instance(
    router: MakeRouter, agent: Agent, request_line: str, status: int, method: int
) -> None:
    front = router(outlets=agent.attach(server_events=True, client_events=True))
    front.ask(f"{request_line}\r\nHost: unknown.test\r\nContent-Length: 0\r\n\r\n".encode())
    envelope = agent.take()
    event = envelope.httpStartStop
    assert (event.statusCode, event.method, event.peerType) == (status, method, SERVER)
    assert not event.HasField("applicationId") and not event.HasField("instanceId") and not event.forwarded
    assert tags_of(envelope).keys() == {"span_id", "trace_id"}


def test_each_attempt(router: MakeRouter, origin: MakeOrigin, agent: Agent) -> None:
    front = router(outlets=agent.attach(client_events=True))
    bad, app = refused_port(), origin(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    front.add(bad, app="no-uuid", tags=encode_tags(TAGS))
    front.add(app, app=APP, instance_id="two", tags=encode_tags(TAGS))
    until(lambda: front.get().status == 201 and front.counter("retries") > 0)
    events = [agent.take() for _ in range(front.counter("attempts"))]
    failed = next(each.httpStartStop for each in events if each.httpStartStop.statusCode == 0)
    assert failed.instanceId == f"127.0.0.1:{bad}" and not failed.HasField("applicationId")
    for envelope in events:
        assert envelope.httpStartStop.peerType == CLIENT and tags_of(envelope) == {}
        assert list(envelope.httpStartStop.forwarded) == ["127.0.0.1"]
    worked = events[-1].httpStartStop
    assert (worked.statusCode, worked.contentLength, worked.instanceId) == (201, -1, "two")
    assert uuid_of(worked.applicationId) == uuid.UUID(APP) and worked.startTimestamp < worked.stopTimestamp


def test_an_answer_that_was_cut_has_no_event(router: MakeRouter, origin: MakeOrigin, agent: Agent) -> None:
    def handle(conn: Served) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        conn.sock.close()

    front = router(log=True, outlets=agent.attach(server_events=True))
    front.add(origin(handle))
    with front.client() as client:
        client.send(f"GET /cut HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        client.rest()
    front.log_lines(1)
    front.get("/after", host="unknown.test")
    assert agent.take().httpStartStop.uri == "http://unknown.test/after"


def test_an_agent_that_is_not_there_costs_nothing_else(router: MakeRouter, origin: MakeOrigin, agent: Agent) -> None:
    front = router(outlets=agent.attach(lines=True, server_events=True, client_events=True))
    front.add(origin(), app=APP)
    agent.socket.close()
    for _ in range(5):
        assert front.get().status == 200

    def numbers() -> int:
        found = front.plane.outlets()
        return found["envelopes_sent"] + found["envelopes_lost"]

    until(lambda: numbers() == 15)
    assert front.counter("envelopes_dropped") == 0


def test_tags_are_bounded() -> None:
    encoded = encode_tags({"a": "x" * 900, "b": "y" * 200, "c": "z"})
    assert len(encoded) <= TAGS_MAX and b"yyy" not in encoded and b"z" in encoded
    with pytest.raises(ValueError):
        DataPlane({}).add("a.test", "127.0.0.1", 1, tags=b"x" * (TAGS_MAX + 1))

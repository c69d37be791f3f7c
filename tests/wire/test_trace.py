"""Trace context towards the instances, B3 and W3C, and the request id that follows from it."""

import re

import pytest

from tests.support.origins import Origin
from tests.support.plane import MakeOrigin, MakeRouter, Router
from tests.support.ports import take as refused_port
from tests.support.wire import Message

TRACE = "463ac35c9f6413ad48485a3953bb6124"
AS_UUID = "463ac35c-9f64-13ad-4848-5a3953bb6124"
SPAN = "0020000000000001"
PARENT = "f0e0d0c0b0a09080"
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
B3_NAMES = ("X-B3-TraceId", "X-B3-SpanId", "X-B3-ParentSpanId", "X-B3-Sampled", "X-B3-Flags", "b3")


def traced(router: MakeRouter, origin: MakeOrigin, **settings: object) -> tuple[Router, Origin]:
    front, app = router(log=True, **settings), origin()
    front.add(app)
    return front, app


def sent(front: Router, app: Origin, lines: str = "") -> Message:
    """What the instance gets for these lines."""
    answer = front.get(lines=lines)
    assert answer.status == 200
    assert answer.get("X-Vcap-Request-Id") == app.last().get("X-Vcap-Request-Id")
    return app.last()


def b3_of(request: Message) -> dict[str, str]:
    return {name: value for name in B3_NAMES if (value := request.get(name)) is not None}


def test_nothing_is_added_while_it_is_off(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = traced(router, origin)
    request = sent(front, app)
    assert not b3_of(request)
    assert request.get("traceparent") is request.get("tracestate") is None
    lines = f"b3: {TRACE}-{SPAN}\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\ntracestate: a=b\r\n"
    request = sent(front, app, lines)
    assert request.get("b3") == f"{TRACE}-{SPAN}"
    assert request.get("traceparent") == f"00-{TRACE}-{SPAN}-01"
    assert request.get("tracestate") == "a=b"
    assert ID.fullmatch(request.get("X-Vcap-Request-Id") or "")
    assert "b3:" not in front.log_lines(2)[1]


# -- B3 -------------------------------------------------------------------------------------------------------


def test_a_trace_begins_here(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = traced(router, origin, enable_zipkin=True)
    request = sent(front, app)
    trace, span = request.get("X-B3-TraceId") or "", request.get("X-B3-SpanId") or ""
    assert re.fullmatch(r"[0-9a-f]{32}", trace)
    assert span == trace[16:], "the lower half of the trace id"
    assert b3_of(request) == {"X-B3-TraceId": trace, "X-B3-SpanId": span, "b3": f"{trace}-{span}"}
    assert (request.get("X-Vcap-Request-Id") or "").replace("-", "") == trace
    assert ID.fullmatch(request.get("X-Vcap-Request-Id") or "")
    assert sent(front, app).get("X-B3-TraceId") != trace


@pytest.mark.parametrize("more", ["", "-1", "-0", "-d", f"-1-{PARENT}"])
def test_b3_is_passed_on(router: MakeRouter, origin: MakeOrigin, more: str) -> None:
    front, app = traced(router, origin, enable_zipkin=True)
    request = sent(front, app, f"B3: {TRACE}-{SPAN}{more}\r\n")
    assert b3_of(request) == {"b3": f"{TRACE}-{SPAN}{more}"}, "no other header is added"
    assert request.get("X-Vcap-Request-Id") == AS_UUID


def test_b3_goes_before_its_parts(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = traced(router, origin, enable_zipkin=True)
    lines = f"X-B3-TraceId: {PARENT}{PARENT}\r\nX-B3-SpanId: {PARENT}\r\nb3: {TRACE}-{SPAN}\r\n"
    request = sent(front, app, lines)
    assert b3_of(request) == {"X-B3-TraceId": PARENT * 2, "X-B3-SpanId": PARENT, "b3": f"{TRACE}-{SPAN}"}
    assert request.get("X-Vcap-Request-Id") == AS_UUID


@pytest.mark.parametrize(
    ("more", "tail"),
    [
        ("", ""),
        ("X-B3-Sampled: 1\r\n", "-1"),
        ("X-B3-Sampled: 0\r\n", "-0"),
        ("X-B3-Flags: 1\r\n", "-d"),
        (f"X-B3-Sampled: 1\r\nX-B3-ParentSpanId: {PARENT}\r\n", f"-1-{PARENT}"),
        (f"X-B3-ParentSpanId: {PARENT}\r\nX-B3-Flags: 1\r\n", f"-d-{PARENT}"),
    ],
)
def test_b3_is_made_of_its_parts(router: MakeRouter, origin: MakeOrigin, more: str, tail: str) -> None:
    front, app = traced(router, origin, enable_zipkin=True)
    request = sent(front, app, f"X-B3-TraceId: {TRACE}\r\nx-b3-spanid: {SPAN}\r\n{more}")
    assert request.get("b3") == f"{TRACE}-{SPAN}{tail}"
    assert (request.get("X-B3-TraceId"), request.get("X-B3-SpanId")) == (TRACE, SPAN)
    assert request.get("X-Vcap-Request-Id") == AS_UUID
    for line in more.splitlines():
        name, _, value = line.partition(": ")
        assert request.get(name) == value


@pytest.mark.parametrize(
    "bad", ["x", f"{TRACE}", f"{TRACE}-", f"{TRACE}-{SPAN}0", f"{TRACE[1:]}-{SPAN}", f"{'g' * 32}-{SPAN}"]
)
def test_a_b3_that_does_not_parse(router: MakeRouter, origin: MakeOrigin, bad: str) -> None:
    front, app = traced(router, origin, enable_zipkin=True)
    request = sent(front, app, f"b3: {bad}\r\nX-B3-TraceId: {TRACE}\r\nX-B3-SpanId: {SPAN}\r\n")
    assert request.get("b3") == f"{TRACE}-{SPAN}", "made of the other two"
    assert request.get("X-Vcap-Request-Id") == AS_UUID
    request = sent(front, app, f"b3: {bad}\r\n")
    trace = request.get("X-B3-TraceId") or ""
    assert request.get("b3") == f"{trace}-{trace[16:]}", "a new trace"
    assert trace != TRACE


@pytest.mark.parametrize(
    "lines", [f"X-B3-TraceId: x\r\nX-B3-SpanId: {SPAN}\r\n", f"X-B3-SpanId: 1-2\r\nX-B3-TraceId: {TRACE}\r\n"]
)
def test_parts_that_do_not_parse_are_left_alone(router: MakeRouter, origin: MakeOrigin, lines: str) -> None:
    front, app = traced(router, origin, enable_zipkin=True)
    request = sent(front, app, lines)
    assert b3_of(request) == dict(line.split(": ") for line in lines.splitlines())
    assert ID.fullmatch(request.get("X-Vcap-Request-Id") or "")


@pytest.mark.parametrize("line", [f"X-B3-TraceId: {TRACE}\r\n", f"X-B3-SpanId: {SPAN}\r\n"])
def test_half_of_the_parts_begins_a_new_trace(router: MakeRouter, origin: MakeOrigin, line: str) -> None:
    front, app = traced(router, origin, enable_zipkin=True)
    request = sent(front, app, line)
    trace = request.get("X-B3-TraceId") or ""
    assert b3_of(request) == {"X-B3-TraceId": trace, "X-B3-SpanId": trace[16:], "b3": f"{trace}-{trace[16:]}"}
    assert trace != TRACE


def test_a_short_trace_id_makes_no_request_id(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = traced(router, origin, enable_zipkin=True)
    for lines in (f"b3: {PARENT}-{SPAN}-1\r\n", f"X-B3-TraceId: {PARENT}\r\nX-B3-SpanId: {SPAN}\r\n"):
        request = sent(front, app, lines)
        assert (request.get("b3") or "").startswith(f"{PARENT}-{SPAN}")
        assert ID.fullmatch(request.get("X-Vcap-Request-Id") or "")
        assert PARENT[:8] not in (request.get("X-Vcap-Request-Id") or "")


# -- W3C ------------------------------------------------------------------------------------------------------


def parent_of(request: Message) -> list[str]:
    """The four parts of traceparent."""
    parts = (request.get("traceparent") or "").split("-")
    assert [len(part) for part in parts] == [2, 32, 16, 2]
    assert all(re.fullmatch("[0-9a-f]+", part) for part in parts)
    return parts


def test_w3c_begins_here(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = traced(router, origin, enable_w3c=True)
    request = sent(front, app)
    version, trace, parent, flags = parent_of(request)
    assert (version, flags) == ("00", "01")
    assert request.get("tracestate") == f"gorouter={parent}"
    assert (request.get("X-Vcap-Request-Id") or "").replace("-", "") == trace
    assert not b3_of(request)


@pytest.mark.parametrize("flags", ["00", "01", "ff"])
@pytest.mark.parametrize("version", ["00", "01", "fe"])
def test_w3c_goes_on(router: MakeRouter, origin: MakeOrigin, version: str, flags: str) -> None:
    front, app = traced(router, origin, enable_w3c=True)
    seen = set()
    for _ in range(2):
        request = sent(front, app, f"traceparent: {version}-{TRACE}-{SPAN}-{flags}\r\n")
        parts = parent_of(request)
        assert parts == ["00", TRACE, parts[2], flags]
        assert request.get("tracestate") == f"gorouter={parts[2]}"
        assert request.get("X-Vcap-Request-Id") == AS_UUID
        seen.add(parts[2])
    assert len(seen | {SPAN}) == 3, "the parent is a new one each time"


@pytest.mark.parametrize(
    "bad",
    ["", "x", f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-1", f"00-{TRACE}-{SPAN}-01-x", f"00-{TRACE[1:]}-{SPAN}-01"],
)
def test_a_traceparent_that_does_not_parse(router: MakeRouter, origin: MakeOrigin, bad: str) -> None:
    front, app = traced(router, origin, enable_w3c=True)
    request = sent(front, app, f"traceparent: {bad}\r\ntracestate: a=1,gorouter={PARENT}\r\n")
    _, trace, parent, flags = parent_of(request)
    assert trace != TRACE
    assert flags == "01"
    assert request.get("tracestate") == f"gorouter={parent}", "the state belongs to a trace that is not known"


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("a=1,b=2", ",a=1,b=2"),
        (f"a=1,gorouter={PARENT},b=2", ",a=1,b=2"),
        (f"gorouter={PARENT}", ""),
        ("gorouters=1,x@gorouter=2", ",gorouters=1,x@gorouter=2"),
        ("a=" + "x" * 2046, ",a=" + "x" * 2046),
        ("a=" + "x" * 2047, ""),
        ("", ""),
    ],
)
def test_tracestate(router: MakeRouter, origin: MakeOrigin, state: str, kept: str) -> None:
    front, app = traced(router, origin, enable_w3c=True)
    request = sent(front, app, f"tracestate: {state}\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\n")
    assert request.get("tracestate") == f"gorouter={parent_of(request)[2]}{kept}"


def test_the_tenant_is_in_the_key(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = traced(router, origin, enable_w3c=True, w3c_tenant_id="cf")
    state = f"gorouter=1,a=2,cf@gorouter={PARENT}"
    request = sent(front, app, f"tracestate: {state}\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\n")
    assert request.get("tracestate") == f"cf@gorouter={parent_of(request)[2]},gorouter=1,a=2"
    request = sent(front, app)
    assert request.get("tracestate") == f"cf@gorouter={parent_of(request)[2]}"


# -- both -----------------------------------------------------------------------------------------------------


def test_both_share_a_trace_that_begins_here(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = traced(router, origin, enable_zipkin=True, enable_w3c=True)
    request = sent(front, app)
    trace, span = request.get("X-B3-TraceId"), request.get("X-B3-SpanId")
    assert parent_of(request) == ["00", trace, span, "01"]
    assert request.get("tracestate") == f"gorouter={span}"
    assert (request.get("X-Vcap-Request-Id") or "").replace("-", "") == trace


def test_w3c_begins_with_the_ids_of_b3(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = traced(router, origin, enable_zipkin=True, enable_w3c=True)
    for lines in (f"b3: {TRACE}-{SPAN}\r\n", f"X-B3-TraceId: {TRACE}\r\nX-B3-SpanId: {SPAN}\r\n"):
        request = sent(front, app, lines)
        assert parent_of(request) == ["00", TRACE, SPAN, "01"]
        assert request.get("X-Vcap-Request-Id") == AS_UUID


def test_the_request_id_is_that_of_b3_first(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = traced(router, origin, enable_zipkin=True, enable_w3c=True)
    request = sent(front, app, f"b3: {TRACE}-{SPAN}\r\ntraceparent: 00-{PARENT * 2}-{SPAN}-00\r\n")
    assert parent_of(request)[1] == PARENT * 2
    assert request.get("b3") == f"{TRACE}-{SPAN}"
    assert request.get("X-Vcap-Request-Id") == AS_UUID


def test_what_is_traced_is_logged(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = traced(router, origin, enable_zipkin=True, enable_w3c=True, extra_headers_to_log=("X-A", "B3"))
    request = sent(front, app, "X-A: a\r\n")
    trace, span = request.get("X-B3-TraceId"), request.get("X-B3-SpanId")
    line = front.log_lines(1)[0]
    assert line.endswith(
        f' x_cf_routererror:"-" x_a:"a" b3:"{trace}-{span}" x_b3_traceid:"{trace}" x_b3_spanid:"{span}" '
        f'x_b3_parentspanid:"-" traceparent:"00-{trace}-{span}-01" tracestate:"gorouter={span}"'
    )
    assert f'vcap_request_id:"{request.get("X-Vcap-Request-Id")}"' in line
    front.get(host="other.test", lines=f"b3: {TRACE}-{SPAN}-1\r\nX-B3-ParentSpanId: {PARENT}\r\n")
    line = front.log_lines(2)[1]
    assert f' b3:"{TRACE}-{SPAN}-1" x_b3_traceid:"-" x_b3_spanid:"-" x_b3_parentspanid:"{PARENT}" ' in line
    assert f'vcap_request_id:"{AS_UUID}"' in line


def test_connection_cannot_take_it_away(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = traced(router, origin, enable_zipkin=True, enable_w3c=True)
    names = "b3, x-b3-traceid, x-b3-spanid, traceparent, tracestate, x-vcap-request-id"
    request = sent(front, app, f"Connection: {names}\r\nX-B3-TraceId: {TRACE}\r\nX-B3-SpanId: {SPAN}\r\n")
    assert b3_of(request) == {"X-B3-TraceId": TRACE, "X-B3-SpanId": SPAN, "b3": f"{TRACE}-{SPAN}"}
    assert parent_of(request) == ["00", TRACE, SPAN, "01"]


def test_every_attempt_carries_it(router: MakeRouter, origin: MakeOrigin) -> None:
    front, app = router(enable_zipkin=True, enable_w3c=True), origin()
    front.add(refused_port())
    front.add(app)
    request = sent(front, app, f"b3: nonsense\r\ntraceparent: 00-{TRACE}-{SPAN}-00\r\ntracestate: a=1\r\n")
    assert front.counter("retries") == 1
    parts = parent_of(request)
    assert (parts[1], parts[3]) == (TRACE, "00")
    assert request.get("tracestate") == f"gorouter={parts[2]},a=1"
    assert len(b3_of(request)) == 3

"""Copies of requests for a version: they are marked, bounded, and nothing that becomes of them touches the user's."""

import threading

import pytest

from tests.support.cohorts import answer, numbers, spec, start, version_of
from tests.support.origins import Origin, Served
from tests.support.plane import HOST, MakeOrigin, MakeRouter, Router, until
from tests.support.ports import take as refused_port
from tests.support.wire import Message


def post(front: Router, body: bytes, chunked: bool = False) -> Message:
    head = f"POST /order?id=1 HTTP/1.1\r\nHost: {HOST}\r\n"
    if chunked:
        half = len(body) // 2
        parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:]) if part)
        return front.ask(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n", "POST")
    return front.ask(head.encode() + b"Content-Length: %d\r\n\r\n%s" % (len(body), body), "POST")


def seen(app: Origin, count: int = 1) -> list[Message]:
    app.wait(lambda: len(app.requests) >= count)
    return app.requests


def test_a_copy_of_a_request(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    app, shadow = origin(answer("v1")), origin(answer("v2", "Set-Cookie: from=shadow\r\n"))
    start(front, [app, shadow], 0, mirror_version=1, mirror_share=65536)
    got = front.get("/a?b", lines="X-Own: 1\r\n")
    assert version_of(got) == "v1"
    assert not [line for line in got.all("Set-Cookie") if line.startswith("from")]
    (copy,), (own,) = seen(shadow), app.requests
    assert copy.start == own.start and copy.get("X-Own") == "1"
    assert copy.get("X-Gr-Mirror") == "1" and own.get("X-Gr-Mirror") is None
    assert copy.get("X-Vcap-Request-Id") == own.get("X-Vcap-Request-Id")
    assert copy.get("X-Cf-Instanceid") == shadow.address
    until(lambda: front.counter("upstream_idle") == 2, "the copy's connection is kept as any other")
    two = numbers(front, 1)
    assert (two["mirrored"], two["mirror_failures"], two["mirror_skipped"], two["requests"]) == (1, 0, 0, 0)
    assert front.counter("requests") == 1


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [1, 20000, 65536])
def test_a_copy_with_its_body(router: MakeRouter, origin: MakeOrigin, size: int, chunked: bool) -> None:
    front = router()
    app, shadow = origin(answer("v1")), origin(answer("v2"))
    start(front, [app, shadow], 0, mirror_version=1, mirror_share=65536)
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert post(front, body, chunked).status == 200
    (copy,), (own,) = seen(shadow), seen(app)
    until(lambda: len(copy.body) == size)
    assert copy.body == own.body == body
    assert copy.get("Content-Length") == str(size)


def test_what_is_too_large_is_not_copied(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    app, shadow = origin(answer("v1")), origin(answer("v2"))
    start(front, [app, shadow], 0, mirror_version=1, mirror_share=65536)
    assert post(front, b"x" * 65537).status == 200
    assert len(app.requests[0].body) == 65537
    two = numbers(front, 1)
    assert (two["mirrored"], two["mirror_skipped"]) == (0, 1)
    assert shadow.requests == []


def test_an_exact_share_is_copied(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    shadow = origin(answer("v2"))
    start(front, [origin(answer("v1")), shadow], 0, mirror_version=1, mirror_share=16384)
    for _ in range(40):
        assert front.get().status == 200
    copies = numbers(front, 1)["mirrored"]
    assert 9 <= copies <= 12
    front.plane.set_rollout(HOST, spec(0))
    assert front.get().status == 200
    assert numbers(front, 1)["mirrored"] == copies


def test_a_copy_never_delays_or_fails_the_request(router: MakeRouter, origin: MakeOrigin) -> None:
    go = threading.Event()

    def stuck(conn: Served) -> None:
        conn.request()
        go.wait(20)

    front = router()
    shadow = origin(stuck)
    _, handle = start(front, [origin(answer("v1")), shadow], 0, mirror_version=1, mirror_share=65536)
    for _ in range(70):
        assert version_of(front.get()) == "v1"
    two = numbers(front, 1)
    assert (two["mirrored"], two["mirror_skipped"]) == (64, 6), "no more than so many in flight"
    go.set()
    until(lambda: numbers(front, 1)["mirror_failures"] == 64)
    front.remove(handle)
    front.add(refused_port(), version=1)
    for _ in range(3):
        assert version_of(front.get()) == "v1"
    until(lambda: numbers(front, 1)["mirror_failures"] == 67)
    assert front.plane.outcomes() == [] == front.plane.events()


def test_copies_in_flight_at_the_end(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    shadow = origin(lambda conn: conn.request() and conn.origin.stopping.wait(20))
    start(front, [origin(answer("v1")), shadow], 0, mirror_version=1, mirror_share=65536)
    assert front.get().status == 200
    seen(shadow)
    front.plane.set_rollout(HOST, None)
    assert front.plane.reclaim() >= 1, "a copy in flight keeps the rollout"


def test_an_answer_of_5xx_is_a_failure_of_the_copy(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    broken = origin(answer("no", status="500 Internal Server Error"))
    start(front, [origin(answer("v1")), broken], 0, mirror_version=1, mirror_share=65536)
    assert front.get().status == 200
    until(lambda: numbers(front, 1)["mirror_failures"] == 1)
    assert front.plane.outcomes() == []


def test_the_app_is_told_its_version(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    app, shadow = origin(answer("v1")), origin(answer("v2"))
    start(front, [app, shadow], 0, mirror_version=1, mirror_share=65536, propagate=True)
    assert front.get(lines="X-Gr-Version: mine\r\n").status == 200
    assert app.requests[0].get("X-Gr-Version") == "v1"
    assert seen(shadow)[0].get("X-Gr-Version") == "v2"
    front.plane.set_rollout(HOST, spec(0))
    assert front.get(lines="X-Gr-Version: mine\r\n").status == 200
    assert app.requests[1].get("X-Gr-Version") == "mine"


def test_the_access_log_names_the_version(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(log=True, extra_access_log_fields=("version",))
    start(front, [origin(answer("v1")), origin(answer("v2"))], 100)
    assert front.get().status == 200
    front.plane.set_rollout(HOST, None)
    assert front.get().status == 200
    first, second = front.log_lines(2)
    assert ' version:"v2" ' in first
    assert ' version:"-" ' in second

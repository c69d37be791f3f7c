"""Choosing instances and trying again: round robin, refused connects, cool-down, stale connections, sticky sessions."""


import pytest

from tests.support.origins import OK, Origin, Served, answering
from tests.support.plane import MakeOrigin, MakeRouter, Router, until
from tests.support.ports import take as refused_port

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\n\r\nabc"


def counts(apps: list[Origin]) -> list[int]:
    return [len(app.requests) for app in apps]


def test_round_robin(router: MakeRouter, origin: MakeOrigin) -> None:
    apps = [origin() for _ in range(3)]
    front = router()
    for app in apps:
        front.add(app)
    for _ in range(9):
        front.get()
    assert counts(apps) == [3, 3, 3]


def test_refused_connect_goes_on_to_the_next(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router(log=True)
    bad = refused_port()
    front.add(bad, app="bad")
    front.add(app, app="good")
    for request in (GET, POST, GET, POST):
        assert front.ask(request).status == 200
    assert [request.body for request in app.requests] == [b"", b"abc", b"", b"abc"]
    assert front.counter("retries") == 1, "a failed instance is passed over"
    events = front.plane.events()
    assert [(event["address"], event["fault"], event["retried"]) for event in events] == [
        (f"127.0.0.1:{bad}", "DIAL_REFUSED", True)
    ]
    assert events[0]["error"] == f"dial tcp 127.0.0.1:{bad}: connect: connection refused"
    for line in front.log_lines(4):
        assert f'"{app.address}" x_forwarded_for' in line
        assert 'app_id:"good"' in line
        assert line.endswith('x_cf_routererror:"-"')


def test_all_refused(router: MakeRouter) -> None:
    front = router(log=True, max_attempts=3)
    ports = [refused_port() for _ in range(5)]
    for port in ports:
        front.add(port)
    with front.client() as client:
        client.send(POST)
        answer = client.answer()
        assert answer.status == 502
        assert answer.body == b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"
        error = answer.get("X-Cf-RouterError") or ""
        assert error in [f"endpoint_failure (dial tcp 127.0.0.1:{p}: connect: connection refused)" for p in ports]
    assert front.counter("attempts") == 3
    assert front.log_lines(1)[0].endswith(f'x_cf_routererror:"{error}"')


@pytest.mark.parametrize("most", [1, 2, 5])
def test_attempts_are_bounded(router: MakeRouter, most: int) -> None:
    front = router(max_attempts=most)
    for _ in range(8):
        front.add(refused_port())
    assert front.get().status == 502
    assert front.counter("attempts") == most


@pytest.mark.parametrize("instances", [1, 2, 3])
def test_no_instance_is_tried_twice_for_a_request(router: MakeRouter, instances: int) -> None:
    """gorouter: attempts end with the instances, even if more are allowed."""
    front = router(max_attempts=10)
    for _ in range(instances):
        front.add(refused_port())
    for turn in range(2):  # that all rest after the first request changes nothing
        assert front.ask(POST).status == 502
        assert front.counter("attempts") == instances * (turn + 1)


def test_single_failed_instance_is_tried_by_the_next_request(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(max_attempts=1)
    port = refused_port()
    front.add(port)
    assert front.get().status == 502
    app = origin(port=port)
    assert front.get().status == 200
    assert len(app.requests) == 1


def test_instance_comes_back_after_its_cool_down(router: MakeRouter, origin: MakeOrigin) -> None:
    port = refused_port()
    other, front = origin(), router(cool_down_ms=150)
    front.add(port)
    front.add(other)
    until(lambda: front.get().status == 200 and front.counter("retries") == 1)
    back = origin(port=port)
    until(lambda: front.get().status == 200 and back.requests)


@pytest.mark.parametrize("hard", [False, True], ids=["end", "reset"])
def test_who_rests_after_a_lost_request(router: MakeRouter, origin: MakeOrigin, hard: bool) -> None:
    """gorouter: an instance that resets is passed over for a while, one that just ends is not."""

    def handle(conn: Served) -> None:
        conn.request()
        if hard:
            conn.reset()

    bad, good, front = origin(handle), origin(), router(retry_idempotent=False)
    front.add(bad)
    front.add(good)
    until(lambda: front.ask(POST).status == 502)
    statuses = [front.ask(POST).status for _ in range(10)]
    assert statuses.count(502) == (0 if hard else 5)
    assert len(bad.requests) == 1 + statuses.count(502)


def test_cool_down_holds(router: MakeRouter, origin: MakeOrigin) -> None:
    port = refused_port()
    other, front = origin(), router(cool_down_ms=60_000)
    front.add(port)
    front.add(other)
    until(lambda: front.get().status == 200 and front.counter("retries") == 1)
    back = origin(port=port)
    for _ in range(10):
        assert front.get().status == 200
    assert not back.requests


# -- kept connections ---------------------------------------------------------------------------------------------


def ends_after(count: int) -> object:
    """Answers so many requests on a connection, then reads one more and ends without a word."""

    def handle(conn: Served) -> None:
        for _ in range(count):
            assert conn.request() is not None
            conn.send(OK)
        conn.request_head()

    return handle


def test_get_on_a_connection_that_dies_is_sent_again(router: MakeRouter, origin: MakeOrigin) -> None:
    """A single instance: the repetition goes to the same one, on a fresh connection."""
    app, front = origin(ends_after(1)), router()
    front.add(app)
    for _ in range(6):
        assert front.get().status == 200
    assert app.accepted == 6


def test_connection_that_the_instance_ended_is_not_used(router: MakeRouter, origin: MakeOrigin) -> None:
    for request in (GET, POST):
        for hard in (False, True):
            app, front = origin(), router()
            front.add(app)
            for i in range(5):
                assert front.ask(request).status == 200
                until(lambda: front.counter("upstream_idle") == 1)  # noqa: B023
                app.cut_all(hard=hard)
                app.wait(lambda: app.ended == i + 1)  # noqa: B023
            assert len(app.requests) == 5
            assert app.accepted == 5


def test_post_is_never_sent_twice(router: MakeRouter, origin: MakeOrigin) -> None:
    """The instance ends kept connections as soon as another request comes: it may have acted on it."""
    app, front = origin(ends_after(1)), router()
    front.add(app)
    answers = [front.ask(POST).status for _ in range(10)]
    assert answers.count(200) + answers.count(502) == 10
    assert len(app.requests) == 10


def test_post_takes_no_connection_that_was_idle_for_long(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router()
    front.add(app)
    assert front.ask(POST).status == 200
    assert front.ask(POST).status == 200
    assert app.accepted == 1
    app.stopping.wait(1.05)
    assert front.ask(POST).status == 200
    assert app.accepted == 2


def test_connections_to_a_removed_instance_close(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router()
    handle = front.add(app)
    clients = [front.client() for _ in range(3)]
    for client in clients:
        assert client.is_open()
    front.remove(handle)
    app.wait(lambda: app.ended == app.accepted)
    assert front.get().status == 404
    assert front.counter("upstream_idle") == 0


def test_instance_removed_while_it_answers(router: MakeRouter, origin: MakeOrigin) -> None:
    def handle(conn: Served) -> None:
        conn.request()
        front.remove(front.handles[0])
        conn.send(OK)
        conn.rest()

    app, front = origin(handle), router()
    front.add(app)
    assert front.get().body == b"ok"
    app.wait(lambda: app.ended == 1, "the connection was kept")


def test_idle_connections_of_an_endpoint_are_bounded(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router(upstream_idle_per_endpoint=2)
    front.add(app)
    clients = [front.client() for _ in range(6)]

    def waits(conn: Served) -> None:
        while conn.request() is not None:
            conn.origin.wait(lambda: conn.origin.accepted == 6)
            conn.send(OK)

    app.handler = waits
    for client in clients:
        client.send(GET)
    for client in clients:
        assert client.answer().status == 200
    app.wait(lambda: app.ended == 4)
    assert front.counter("upstream_idle") == 2


def test_replaced_instance_is_another(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router()
    handle = front.add(app, instance_id="old")
    front.get()
    front.handles[0] = front.plane.replace(handle, instance_id="new")
    app.wait(lambda: app.ended == 1, "a connection of the old one stays")
    front.get()
    assert [request.get("X-Cf-Instanceid") for request in app.requests] == ["old", "new"]


# -- sticky sessions ----------------------------------------------------------------------------------------------


class Farm:
    """Three instances of one app that set cookies."""

    def __init__(
        self, router: MakeRouter, origin: MakeOrigin, cookies: list[str], uri: str = "app.test", **settings: object
    ) -> None:
        lines = "".join(f"Set-Cookie: {cookie}\r\n" for cookie in cookies).encode()
        self.apps = [origin(answering(OK.replace(b"\r\n\r\n", b"\r\n" + lines + b"\r\n"))) for _ in range(3)]
        self.front: Router = router(**settings)
        self.handles = [self.front.add(app, uri, instance_id=f"id-{i}") for i, app in enumerate(self.apps)]

    def ask(self, cookie: str = "", target: str = "/") -> tuple[int, list[str]]:
        """(which instance served it, the cookies that were set)."""
        before = counts(self.apps)
        answer = self.front.get(target, lines=f"Cookie: {cookie}\r\n" if cookie else "")
        after = counts(self.apps)
        served = [i for i in range(3) if after[i] != before[i]]
        assert len(served) == 1
        return served[0], answer.all("Set-Cookie")


def test_app_cookie_brings_the_instance_cookie(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, ["other=1; Path=/x", "JSESSIONID=abc; Path=/y"])
    for _ in range(3):
        served, cookies = farm.ask()
        assert cookies == ["other=1; Path=/x", "JSESSIONID=abc; Path=/y", f"__VCAP_ID__=id-{served}; Path=/; HttpOnly"]


def test_no_app_cookie_brings_none(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, ["jsessionid=1", "XJSESSIONID=1", "JSESSIONID2=1"])
    assert farm.ask()[1] == ["jsessionid=1", "XJSESSIONID=1", "JSESSIONID2=1"]


@pytest.mark.parametrize(
    ("cookie", "attributes"),
    [
        ("JSESSIONID=a", "HttpOnly"), ("JSESSIONID=a; HttpOnly", "HttpOnly"),
        ("JSESSIONID=a; Secure", "HttpOnly; Secure"),
        ("JSESSIONID=a; Max-Age=100", "HttpOnly"), ("JSESSIONID=a; Max-Age=0", "Max-Age=0; HttpOnly"),
        ("JSESSIONID=a; Max-Age=-5", "Max-Age=0; HttpOnly"),
        ("JSESSIONID=a; Expires=Wed, 21 Oct 2015 07:28:00 GMT", "Expires=Wed, 21 Oct 2015 07:28:00 GMT; HttpOnly"),
        ("JSESSIONID=a; SameSite=Lax", "HttpOnly; SameSite=Lax"),
        ("JSESSIONID=a; samesite=Strict; secure", "HttpOnly; Secure; SameSite=Strict"),
        ("JSESSIONID=a; SameSite=None; Secure; Partitioned", "HttpOnly; Secure; SameSite=None; Partitioned"),
    ],
)  # fmt: skip
def test_attributes(router: MakeRouter, origin: MakeOrigin, cookie: str, attributes: str) -> None:
    farm = Farm(router, origin, [cookie])
    served, cookies = farm.ask()
    assert cookies[1:] == [f"__VCAP_ID__=id-{served}; Path=/; {attributes}"]


def test_path_is_the_context_path_in_its_own_case(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, ["JSESSIONID=a"], uri="APP.test/Ctx/Path/")
    served, cookies = farm.ask(target="/ctx/path/x")
    assert cookies[1:] == [f"__VCAP_ID__=id-{served}; Path=/Ctx/Path; HttpOnly"]


def test_secure_by_setting(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, ["JSESSIONID=a"], secure_cookies=True)
    served, cookies = farm.ask()
    assert cookies[1:] == [f"__VCAP_ID__=id-{served}; Path=/; HttpOnly; Secure"]


def test_other_cookie_names_by_setting(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, ["sid=a"], sticky_cookie_names=["one", "sid"])
    served, cookies = farm.ask()
    assert cookies[1:] == [f"__VCAP_ID__=id-{served}; Path=/; HttpOnly"]
    assert farm.ask("one=1; __VCAP_ID__=id-2")[0] == 2


def test_both_cookies_lead_to_the_instance(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, [])
    for wanted in (2, 0, 1, 1, 2):
        assert farm.ask(f"a=b; __VCAP_ID__=id-{wanted}; JSESSIONID=x") == (wanted, [])
    assert farm.front.counter("sticky_hits") == 5
    last = next(request for app in farm.apps for request in app.requests)
    assert "__VCAP_ID__=id-" in (last.get("Cookie") or ""), "the instance sees the cookies as they came"


def test_cookies_on_lines_of_their_own(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, [])
    assert farm.ask("__VCAP_ID__=id-1\r\nCookie: JSESSIONID=x") == (1, [])


@pytest.mark.parametrize(
    "cookie",
    ["__VCAP_ID__=id-1", "__VCAP_ID__=id-1; jsessionid=x", "JSESSIONID=x", "__vcap_id__=id-1; JSESSIONID=x"],
)
def test_one_cookie_alone_leads_nowhere(router: MakeRouter, origin: MakeOrigin, cookie: str) -> None:
    farm = Farm(router, origin, [])
    assert {farm.ask(cookie)[0] for _ in range(3)} == {0, 1, 2}


def test_instance_gone_brings_another_and_a_new_cookie(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, [])
    farm.front.remove(farm.handles[1])
    served, cookies = farm.ask("JSESSIONID=x; __VCAP_ID__=id-1")
    assert served != 1
    assert cookies == [f"__VCAP_ID__=id-{served}; Path=/; HttpOnly"]
    assert farm.front.counter("sticky_misses") == 1


def test_instance_that_refuses_brings_another_and_a_new_cookie(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, ["JSESSIONID=y; Secure"])
    farm.apps[1].close_listener()
    for _ in range(2):
        served, cookies = farm.ask("JSESSIONID=x; __VCAP_ID__=id-1")
        assert served != 1
        assert cookies == ["JSESSIONID=y; Secure", f"__VCAP_ID__=id-{served}; Path=/; HttpOnly; Secure"]


def test_app_that_names_the_instance_itself_is_left_alone(router: MakeRouter, origin: MakeOrigin) -> None:
    cookies = ["JSESSIONID=y", "__VCAP_ID__=mine; Path=/z"]
    farm = Farm(router, origin, cookies)
    assert farm.ask()[1] == cookies
    assert farm.ask("JSESSIONID=x; __VCAP_ID__=gone")[1] == cookies


def test_address_serves_as_an_id(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, [])
    for _ in range(3):
        assert farm.ask(f"JSESSIONID=x; __VCAP_ID__={farm.apps[2].address}")[0] == 2


def test_instance_without_an_id_sets_none(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: JSESSIONID=1\r\n\r\n")), router()
    front.add(app)
    assert front.get().all("Set-Cookie") == ["JSESSIONID=1"]

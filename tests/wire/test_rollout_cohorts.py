"""A route with a rollout: who gets which version, and whether it stays so."""

import threading
from collections import Counter

import pytest

from tests.support.cohorts import answer, cookie, coordinate, handed_out, numbers, spec, start, version_of
from tests.support.plane import HOST, MakeOrigin, MakeRouter, until
from tests.support.wire import Message, Wire


def ask(client: Wire, cookies: str = "", lines: str = "", target: str = "/") -> Message:
    line = f"Cookie: {cookies}\r\n" if cookies else ""
    client.send(f"GET {target} HTTP/1.1\r\nHost: {HOST}\r\n{line}{lines}\r\n".encode())
    return client.answer()


def test_a_new_client_gets_a_coordinate_and_stays(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    start(front, [origin(answer("v1")), origin(answer("v2"))], 50)
    with front.client() as client:
        for _ in range(10):
            first = ask(client)
            value = handed_out(first)
            assert value is not None
            assert first.get("Set-Cookie") == f"gr_c={value}; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax"
            expected = "v2" if coordinate(value) >= 32768 else "v1"
            assert version_of(first) == expected
            again = ask(client, f"a=b; gr_c={value}")
            assert version_of(again) == expected
            assert handed_out(again) is None
    one, two = numbers(front, 0), numbers(front, 1)
    assert one["requests"] + two["requests"] == 20
    assert one["drawn"] + two["drawn"] == 10
    assert 4 <= two["drawn"] <= 6
    assert one["users"] + two["users"] == 10


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_few_new_clients_are_spread_evenly(router: MakeRouter, origin: MakeOrigin, workers: int) -> None:
    front = router(workers=workers)
    start(front, [origin(answer("v1")), origin(answer("v2"))], 5)
    got = [version_of(front.get()) for _ in range(40)]
    assert 1 <= got.count("v2") <= 3
    assert front.plane.rollouts()[0]["draws"] == 40


def test_no_client_goes_back_while_the_weight_grows(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    start(front, [origin(answer("v1")), origin(answer("v2"))], 0)
    clients = [cookie(u) for u in range(0, 65536, 641)]
    before = dict.fromkeys(clients, "v1")
    with front.client() as client:
        for weight in (0, 1, 5, 25, 50, 100):
            front.plane.set_rollout(HOST, spec(weight))
            after = {value: version_of(ask(client, f"gr_c={value}")) for value in clients}
            assert not [value for value in clients if before[value] == "v2" and after[value] == "v1"]
            share = list(after.values()).count("v2") / len(clients)
            assert abs(share - weight / 100) <= 1 / len(clients)
            before = after


def test_three_versions(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    start(front, [origin(answer(f"v{n}")) for n in (1, 2, 3)], 5, 10)
    clients = [cookie(u) for u in range(0, 65536, 641)]

    def served(client: Wire) -> dict[str, str]:
        return {value: version_of(ask(client, f"gr_c={value}")) for value in clients}

    with front.client() as client:
        before = served(client)
        front.plane.set_rollout(HOST, spec(15, 10))
        after = served(client)
    assert {value for value in clients if before[value] == "v3"} == {value for value in clients if after[value] == "v3"}
    assert all(after[value] == "v2" for value in clients if before[value] == "v2")
    assert list(after.values()).count("v2") > list(before.values()).count("v2") > 0


def test_an_abort_moves_everybody_with_the_next_request(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    start(front, [origin(answer("v1")), origin(answer("v2"))], 100)
    with front.client() as client:
        value = handed_out(ask(client))
        assert version_of(ask(client, f"gr_c={value}")) == "v2"
        front.plane.set_rollout(HOST, spec(0))
        assert version_of(ask(client, f"gr_c={value}")) == "v1"
        front.plane.set_rollout(HOST, None)
        assert version_of(ask(client, f"gr_c={value}")) in ("v1", "v2")
        assert handed_out(ask(client)) is None
    assert front.plane.rollouts() == []


@pytest.mark.parametrize("value", ["", "a", "AAAAAAAAAA!", "AAAAAAAAAAB", "A" * 12, "A" * 23, '"AAAAAAAAAAA', "=" * 11])
def test_a_malformed_cookie_is_replaced(router: MakeRouter, origin: MakeOrigin, value: str) -> None:
    front = router()
    start(front, [origin(answer("v1")), origin(answer("v2"))], 50)
    with front.client() as client:
        assert handed_out(ask(client, f"gr_c={value}")) is not None


def test_a_forged_cookie_is_replaced(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    key = bytes(range(16))
    start(front, [origin(answer("v1")), origin(answer("v2"))], 50, cookie_key=key)
    with front.client() as client:
        value = handed_out(ask(client))
        assert value is not None and len(value) == 23
        assert handed_out(ask(client, f"gr_c={value}")) is None
        forged = cookie(65535) + value[11:]
        assert handed_out(ask(client, f"gr_c={forged}")) is not None
        assert handed_out(ask(client, f"gr_c={value[:11]}")) is not None
        front.plane.set_rollout(HOST, spec(50, cookie_key=key[::-1]))
        assert handed_out(ask(client, f"gr_c={value}")) is not None
        front.plane.set_rollout(HOST, spec(50))
        assert handed_out(ask(client, f"gr_c={value}")) is None, "who no longer signs keeps his clients"


@pytest.mark.parametrize(
    ("control", "wanted"),
    [("public", False), ("max-age=60", False), ("s-maxage=1", False), ("private, max-age=60", True), ("no-store", True),
     ("max-age=0", True), ("no-cache", True)],
)  # fmt: skip
def test_no_cookie_on_what_caches_share(router: MakeRouter, origin: MakeOrigin, control: str, wanted: bool) -> None:
    front = router()
    app = origin(answer("v1", f"Cache-Control: {control}\r\n"))
    start(front, [app, app], 50)
    assert (handed_out(front.get()) is not None) == wanted


def test_secure_cookies(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(secure_cookies=True)
    app = origin(answer("v1"))
    start(front, [app, app], 50, cookie_max_age_s=60)
    assert (front.get().get("Set-Cookie") or "").endswith("; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Lax")


def test_health_checks_draw_nothing(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    start(front, [origin(answer("v1")), origin(answer("v2"))], 50)
    assert front.get(lines="User-Agent: HTTP-Monitor/1.1\r\n").status == 200
    assert front.plane.rollouts()[0]["draws"] == 0


def test_parallel_first_requests_share_a_coordinate(router: MakeRouter, origin: MakeOrigin) -> None:
    go = threading.Event()

    def wait(conn: object) -> None:
        while conn.request() is not None:  # type: ignore[attr-defined]
            go.wait(20)
            conn.send(answer("v"))  # type: ignore[attr-defined]

    front = router()
    app = origin(wait)
    start(front, [app, app], 50)
    clients = [front.client() for _ in range(12)]
    for number, client in enumerate(clients):
        agent = "other" if number == 11 else "same"
        client.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: {agent}\r\n\r\n".encode())
        app.wait(lambda seen=number + 1: len(app.requests) == seen)
    go.set()
    values = [handed_out(client.answer()) for client in clients]
    assert len(set(values[:9])) == 1, "one draws, eight follow"
    assert len(set(values)) == 4
    assert front.plane.rollouts()[0]["draws"] == 4
    with front.client() as late:
        late.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: same\r\n\r\n".encode())
        assert handed_out(late.answer()) not in values


def test_each_request_draws(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    start(front, [origin(answer("v1")), origin(answer("v2"))], 25, mode="request")
    with front.client() as client:
        answers = [ask(client, f"gr_c={cookie(65535)}") for _ in range(40)]
    assert 9 <= [version_of(one) for one in answers].count("v2") <= 12
    assert not any(handed_out(one) for one in answers)


def test_identity(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    start(front, [origin(answer("v1")), origin(answer("v2"))], 50, mode="identity", identity=("header", "X-Tenant"))
    with front.client() as client:
        seen = {}
        for tenant in range(60):
            got = {version_of(ask(client, lines=f"X-Tenant: tenant-{tenant}\r\n")) for _ in range(2)}
            assert len(got) == 1
            seen[tenant] = got.pop()
        assert 15 <= list(seen.values()).count("v2") <= 45
        assert front.plane.rollouts()[0]["draws"] == 0
        assert handed_out(ask(client)) is not None, "without the identity: a cookie"
        front.plane.set_rollout(HOST, spec(80, mode="identity", identity=("header", "x-tenant")))
        for tenant, before in seen.items():
            after = version_of(ask(client, lines=f"x-tenant: tenant-{tenant}\r\n"))
            assert before == "v1" or after == "v2"


def test_identity_by_address(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    more = {"mode": "identity", "identity": ("address", "24/64"), "forwarded_for": True}
    start(front, [origin(answer("v1")), origin(answer("v2"))], 50, **more)
    with front.client() as client:
        got = {}
        for net in range(40):
            line = "X-Forwarded-For: 1.2.3.4, 10.0.{}.{}\r\n"
            got[net] = {version_of(ask(client, lines=line.format(net, host))) for host in (1, 77)}
            assert len(got[net]) == 1
    assert {version for one in got.values() for version in one} == {"v1", "v2"}


def test_old_sessions_stay_on_stable(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    start(front, [origin(answer("v1")), origin(answer("v2"))], 100, sessions_new_only=True)
    with front.client() as client:
        old = ask(client, "JSESSIONID=x")
        assert version_of(old) == "v1" and handed_out(old) is None
        assert version_of(ask(client)) == "v2"
        assert version_of(ask(client, f"JSESSIONID=x; gr_c={cookie(1)}")) == "v2"
    assert front.plane.rollouts()[0]["draws"] == 1


def test_overrides(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    start(front, [origin(answer("v1")), origin(answer("v2"))], 0, overrides=[("v2", 1), ("let-me", 1)])
    with front.client() as client:
        assert version_of(ask(client, lines="X-Canary: v2\r\n")) == "v2"
        assert version_of(ask(client, "gr_v=let-me")) == "v2"
        assert version_of(ask(client, lines="X-Canary: v3\r\n")) == "v1"
        assert numbers(front, 1)["forced"] == 2
        front.plane.set_rollout(HOST, spec(0))
        assert version_of(ask(client, lines="X-Canary: v2\r\n")) == "v1"


def test_rules(router: MakeRouter, origin: MakeOrigin) -> None:
    rules = [
        {"kind": "header", "name": "X-Beta", "op": "present", "version": 1},
        {"kind": "cookie", "name": "group", "value": "staff", "version": 1},
        {"kind": "user_agent", "op": "contains", "value": "curl", "version": 1},
        {"kind": "address", "value": "127.0.0.0/8", "version": 2},
    ]
    front = router()
    start(front, [origin(answer(f"v{n}")) for n in (1, 2, 3)], 0, 0, rules=rules[:3])
    with front.client() as client:
        assert version_of(ask(client, lines="x-beta:\r\n")) == "v2"
        assert version_of(ask(client, "a=1; group=staff")) == "v2"
        assert version_of(ask(client, lines="User-Agent: a curl/8\r\n")) == "v2"
        assert version_of(ask(client, "group=staffer")) == "v1"
        front.plane.set_rollout(HOST, spec(0, 0, rules=rules))
        assert version_of(ask(client)) == "v3"
        cohort = [{"kind": "cohort", "name": "beta", "value": "50", "version": 1}]
        front.plane.set_rollout(HOST, spec(0, 0, rules=cohort))
        got = [version_of(ask(client, f"gr_c={cookie(u)}")) for u in range(0, 65536, 1024)]
        assert 16 < got.count("v2") < 48
        assert got == [version_of(ask(client, f"gr_c={cookie(u)}")) for u in range(0, 65536, 1024)]


def test_the_instance_header_goes_before_the_version(router: MakeRouter, origin: MakeOrigin) -> None:
    app = "11111111-2222-3333-4444-555555555555"
    front = router()
    front.add(origin(answer("v1")), version=0, app=app, instance_index="0")
    front.add(origin(answer("v2")), version=1, app=app, instance_index="1")
    front.plane.set_rollout(HOST, spec(0))
    assert version_of(front.get(lines=f"X-CF-App-Instance: {app}:1\r\n")) == "v2"
    assert numbers(front, 1)["forced"] == 1
    assert front.plane.rollouts()[0]["draws"] == 0


def test_sticky_inside_a_version_and_across(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    for version in (0, 1):
        for name in "ab":
            app = origin(answer(f"v{version + 1}{name}", "Set-Cookie: JSESSIONID=x\r\n"))
            front.add(app, version=version, instance_id=f"{version + 1}{name}")
    front.plane.set_rollout(HOST, spec(50))
    low, high = cookie(10), cookie(65000)
    with front.client() as client:
        for _ in range(4):
            assert version_of(ask(client, f"gr_c={high}; JSESSIONID=x; __VCAP_ID__=2b")) == "v2b"
            assert version_of(ask(client, f"gr_c={low}; JSESSIONID=x; __VCAP_ID__=1a")) == "v1a"
        moved = ask(client, f"gr_c={high}; JSESSIONID=x; __VCAP_ID__=1a")
        assert version_of(moved).startswith("v2")
        assert any(line.startswith("__VCAP_ID__=2") for line in moved.all("Set-Cookie"))
        front.plane.set_rollout(HOST, spec(50, sticky="keep", keep_versions=[0, 1]))
        assert version_of(ask(client, f"gr_c={high}; JSESSIONID=x; __VCAP_ID__=1a")) == "v1a"
        assert numbers(front, 0)["kept"] == 1
        front.plane.set_rollout(HOST, spec(0, sticky="keep", keep_versions=[0]))
        assert version_of(ask(client, f"gr_c={high}; JSESSIONID=x; __VCAP_ID__=2b")).startswith("v1"), "aborted"


def test_endpoints_that_come_and_go(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    one = origin(answer("v1"))
    first, second = start(front, [one, origin(answer("v2"))], 100)
    with front.client() as client:
        more = front.add(origin(answer("v2x")), version=1)
        assert {version_of(ask(client)) for _ in range(4)} == {"v2", "v2x"}
        front.remove(second)
        assert {version_of(ask(client)) for _ in range(4)} == {"v2x"}
        front.handles.remove(more)
        front.handles.append(front.plane.replace(more, version=0))
        assert {version_of(ask(client)) for _ in range(4)} == {"v1", "v2x"}, "without endpoints: stable"
        assert numbers(front, 1)["failovers"] == 4
        front.plane.set_rollout(HOST, spec(100), {front.handles[-1]: 1, first: 255})
        assert {version_of(ask(client)) for _ in range(4)} == {"v2x"}
        front.remove(front.handles[-1])
        assert version_of(ask(client)) == "v1", "stable has none either: any of the route"


def test_explain(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    app = origin(answer("v"))
    rule = {"kind": "user_agent", "value": "x", "version": 1}
    start(front, [app, app], 50, salt=100, overrides=[("go", 1)], rules=[rule])

    def why(lines: str = "") -> dict[str, object]:
        return dict(front.plane.explain(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n".encode(), "10.0.0.1"))

    told = why(f"Cookie: gr_c={cookie(65000)}\r\n")
    assert told == {"route": HOST, "version": 1, "version_name": "v2", "reason": "cookie", "u": 65000, "slot": 65100,
                    "fallback": False}  # fmt: skip
    assert why("X-Canary: go\r\n")["reason"] == "override"
    assert why("User-Agent: x\r\n")["reason"] == "rule 1"
    assert why()["reason"] == "draw"
    assert front.plane.rollouts()[0]["draws"] == 0
    front.plane.set_rollout(HOST, None)
    assert why()["reason"] == "no-rollout"
    with pytest.raises(ValueError, match="whole request head"):
        front.plane.explain(b"GET / HTTP/1.1\r\n", "10.0.0.1")
    with pytest.raises(LookupError, match=r"other\.test"):
        front.plane.explain(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n", "10.0.0.1")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"id": 0}, "id 0: must be an integer from 1"),
        ({"versions": []}, "versions"),
        ({"stable": 2}, "stable 2: must be the index of a version, from 0 to 1"),
        ({"intervals": [(70000, 0)]}, "intervals end 70000"),
        ({"intervals": [(100, 0)]}, "the last one must be 65536"),
        ({"intervals": [(65536, 2)]}, "intervals version 2"),
        ({"mode": "dice"}, "mode 'dice': must be one of cookie, identity, request"),
        ({"identity": ("address", "40/64")}, "identity"),
        ({"cookie_key": b"short"}, "cookie_key"),
        ({"rules": [{"kind": "header", "version": 1}]}, "needs one"),
        ({"rules": [{"kind": "address", "value": "x", "version": 1}]}, "rules value 'x'"),
        ({"overrides": [("", 1)]}, "must not be empty"),
        ({"colour": "red"}, "unknown key 'colour'"),
    ],
)
def test_an_unfit_spec_changes_nothing(router: MakeRouter, change: dict[str, object], complaint: str) -> None:
    front = router()
    front.add(1)
    with pytest.raises(ValueError, match=complaint):
        front.plane.set_rollout(HOST, {**spec(5), **change})
    assert front.plane.rollouts() == []
    with pytest.raises(LookupError):
        front.plane.set_rollout("other.test", spec(5))
    with pytest.raises(LookupError):
        front.plane.set_rollout(HOST, spec(5), {12345: 1})


def test_numbers_live_on_with_the_id(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    (first, _) = start(front, [origin(answer("v1")), origin(answer("v2"))], 0)
    front.get()
    front.plane.set_rollout(HOST, spec(10))
    assert numbers(front, 0)["requests"] == 1
    for handle in list(front.handles):
        front.remove(handle)
    assert front.get().status == 404
    assert front.plane.rollouts()[0]["versions"][0]["requests"] == 1
    front.add(origin(answer("v1")), version=0)
    assert front.plane.explain(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode(), "::1")["reason"] == "no-rollout"
    front.plane.set_rollout(HOST, spec(10))
    assert numbers(front, 0)["requests"] == 1
    front.plane.set_rollout(HOST, spec(10, id=2))
    assert numbers(front, 0)["requests"] == 0
    assert first


def test_who_asks_most_is_known_by_name(router: MakeRouter, origin: MakeOrigin) -> None:
    """A few of the requests are sampled: enough to name a tenant that makes most of them."""
    front = router()
    start(front, [origin(answer("v1")), origin(answer("v2"))], 100, mode="identity", identity=("header", "x-tenant"))
    name = "tenant-" + "4" * 60

    def sampled() -> list[tuple[int, str]]:
        for number in range(40):
            assert front.get(lines=f"X-Tenant: {name if number % 4 else f'small-{number}'}\r\n").status == 200
        assert front.get().status == 200
        clients = front.plane.clients(HOST)
        return clients[1] if len(clients) > 1 and len(clients[1]) >= 40 else []

    found = until(sampled)
    ((unit, first), count) = Counter(found).most_common(1)[0]
    assert first == name[:48] and unit and count > len(found) / 2
    assert all(who == name[:48] or who.startswith("small-") or who == "127.0.0.1" for _, who in found)
    with pytest.raises(LookupError):
        front.plane.clients("other.test")

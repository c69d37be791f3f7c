"""A version that fails: its users are served by the stable one, and the blame is the version's."""

import time

import pytest

from tests.support.cohorts import answer, cookie, numbers, spec, start, version_of
from tests.support.origins import Served
from tests.support.plane import HOST, MakeOrigin, MakeRouter, Router, until
from tests.support.ports import take as refused_port

HIGH, LOW = cookie(60000), cookie(100)


def get(front: Router, value: str = HIGH, lines: str = "") -> int:
    return front.get(lines=f"Cookie: gr_c={value}\r\n{lines}").status


def post(front: Router, value: str = HIGH) -> int:
    head = f"POST / HTTP/1.1\r\nHost: {HOST}\r\nCookie: gr_c={value}\r\nContent-Length: 3\r\n\r\n"
    return front.ask(head.encode() + b"abc", "POST").status


def reset(conn: Served) -> None:
    """Takes a request and goes away."""
    conn.request()
    conn.reset()


def evidence(front: Router, count: int) -> list[dict[str, object]]:
    """The outcomes, once there are so many."""
    found: list[dict[str, object]] = []

    def more() -> bool:
        found.extend(dict(one) for one in front.plane.outcomes())
        return len(found) >= count

    until(more, f"fewer than {count} outcomes")
    return found


def test_a_dead_version_costs_its_users_nothing(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    start(front, [origin(answer("v1")), refused_port()], 50)
    for u in range(40000, 40040):
        assert get(front, cookie(u)) == 200
        assert post(front, cookie(u)) == 200, "nothing was sent yet: a POST goes on as well"
    two = numbers(front, 1)
    assert two["failures"]["connect"] == two["requests"] >= 1
    assert two["retries_on_stable"] == two["requests"]
    assert two["failovers"] >= 60
    first = evidence(front, 1)[0]
    assert (first["version"], first["metric"], first["cause"], first["status"]) == (1, "failure", "DIAL_REFUSED", 200)
    assert (first["u"], first["method"], first["path"], first["address"]) == (40000, "GET", "/", "127.0.0.1")
    assert numbers(front, 0)["failures"] == dict.fromkeys(two["failures"], 0)


def test_a_version_that_resets(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(cool_down_ms=0)
    start(front, [origin(answer("v1")), origin(reset)], 50)
    assert [get(front, cookie(u)) for u in range(40000, 40010)] == [200] * 10
    assert post(front) == 502, "it may have been used: a POST is not repeated"
    two = numbers(front, 1)
    assert two["failures"]["reset"] == 11
    assert two["retries_on_stable"] == 10
    assert [one["version"] for one in evidence(front, 11)] == [1] * 11


def test_a_failed_version_is_probed_and_comes_back(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(cool_down_ms=600000)
    port = refused_port()
    start(front, [origin(answer("v1")), port], 50)
    assert get(front) == 200
    before = numbers(front, 1)["failures"]["connect"]
    until(lambda: get(front) == 200 and numbers(front, 1)["failures"]["connect"] > before, "nobody tried it again")
    origin(answer("v2"), port=port)
    until(lambda: version_of(front.get(lines=f"Cookie: gr_c={HIGH}\r\n")) == "v2", "its users did not come back")
    assert version_of(front.get(lines=f"Cookie: gr_c={HIGH}\r\n")) == "v2"


def test_a_failed_version_is_not_tried_beyond_the_budget(router: MakeRouter, origin: MakeOrigin) -> None:
    """The first tries follow each other quickly; a user pays for none of them."""
    front = router(cool_down_ms=600000)
    start(front, [origin(answer("v1")), refused_port()], 50, retry_budget_percent=0)
    for _ in range(150):
        assert get(front) == 200
        time.sleep(0.01)
    (one,) = front.plane.rollouts()
    assert one["versions"][1]["failures"]["connect"] >= 3 and one["retry_budget_denied"] == 0


def test_no_repetition_where_it_is_not_wanted(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(cool_down_ms=0)
    start(front, [origin(answer("v1")), origin(reset)], 50, retry_on_stable=False)
    assert get(front) == 502
    assert numbers(front, 1)["retries_on_stable"] == 0


def test_the_budget_of_repetitions(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(cool_down_ms=0)
    start(front, [origin(answer("v1")), origin(reset)], 50, retry_budget_percent=0)
    got = [get(front) for _ in range(30)]
    (one,) = front.plane.rollouts()
    assert got.count(200) in (10, 20, 30), "ten in a window, and windows may have passed"
    assert one["retry_budget_denied"] == got.count(502)
    assert numbers(front, 1)["retries_on_stable"] == got.count(200)
    front.plane.set_rollout(HOST, spec(50, id=2, retry_budget_percent=1000))
    assert [get(front) for _ in range(30)] == [200] * 30


def test_a_budget_without_tokens_stays_in_the_version(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    first, second = origin(reset), origin(reset)
    start(front, [origin(answer("v1")), first], 50, retry_budget_percent=0)
    front.add(second, version=1)
    front.plane.set_rollout(HOST, spec(50, retry_budget_percent=0))
    good = origin(answer("v2"))
    front.add(good, version=1)
    assert [get(front, cookie(u)) for u in range(50000, 50020)] == [200] * 20


def test_each_unit_fails_once(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    broken = answer("no", status="500 Internal Server Error")
    start(front, [origin(broken), origin(broken)], 50)
    for _ in range(3):
        for value in (HIGH, LOW):
            assert get(front, value) == 500
    found = evidence(front, 2)
    told = sorted((one["version"], one["cause"], one["status"]) for one in found)
    assert told == [(0, "status", 500), (1, "status", 500)]
    assert found[0]["unit"] != found[1]["unit"]
    assert numbers(front, 0)["failures"]["status"] == numbers(front, 1)["failures"]["status"] == 3
    assert front.plane.outcomes() == []
    assert front.plane.rollouts()[0]["bitmap_fill"] == {"failure": 2 / 2**20, "slow": 0, "client_error": 0}


def test_what_is_no_evidence(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    broken = origin(answer("no", status="503 Service Unavailable"))
    rule = {"kind": "header", "name": "x-beta", "op": "present", "version": 1}
    start(front, [broken, broken], 50, overrides=[("go", 1)], rules=[rule], address_cap=2)
    agents = [f"User-Agent: {agent}" for agent in ("GoogleBOT/2", "uptime-Monitor", "kube-probe/1")]
    for line in ("X-Canary: go", "X-Beta: 1", *agents):
        assert get(front, lines=f"{line}\r\n") == 503
    assert numbers(front, 1)["excluded"] == 5
    assert front.plane.outcomes() == []
    for u in range(50000, 50005):
        assert get(front, cookie(u)) == 503
    assert numbers(front, 1)["excluded"] == 8, "an address counts twice, then no more"
    assert len(front.plane.outcomes()) == 2
    front.plane.set_rollout(HOST, spec(50, address_cap=0))
    assert get(front, cookie(50005)) == 503
    assert numbers(front, 1)["excluded"] == 8
    assert len(front.plane.outcomes()) == 1


def test_addresses_behind_a_load_balancer(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    broken = origin(answer("no", status="500 Internal Server Error"))
    start(front, [broken, broken], 50, address_cap=1, forwarded_for=True)
    for host in range(5):
        assert get(front, cookie(50000 + host), f"X-Forwarded-For: 1.1.1.1, 10.0.0.{host}\r\n") == 500
        assert get(front, cookie(51000 + host), f"X-Forwarded-For: 10.0.0.{host}\r\n") == 500
    assert numbers(front, 1)["excluded"] == 5
    assert {one["address"] for one in front.plane.outcomes()} == {f"10.0.0.{host}" for host in range(5)}
    front.plane.set_rollout(HOST, spec(50, id=2))
    assert get(front, cookie(52000), "X-Forwarded-For: 10.0.0.9\r\n") == 500
    assert [one["address"] for one in evidence(front, 1)] == ["127.0.0.1"], "anybody can write that header"


@pytest.mark.parametrize("wanted", [False, True])
def test_client_errors(router: MakeRouter, origin: MakeOrigin, wanted: bool) -> None:
    front = router()
    app = origin(answer("no", status="401 Unauthorized"))
    start(front, [app, app], 50, count_4xx=wanted)
    assert get(front) == 401
    assert numbers(front, 1)["by_class"][4] == 1
    assert [(one["metric"], one["version"], one["status"]) for one in front.plane.outcomes()] == (
        [("client_error", 1, 401)] if wanted else []
    )


def test_slow_answers(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    app = origin(answer("v"))
    start(front, [app, app], 50, slow_ns=1, warmup_ms=600000)
    assert get(front) == 200
    assert numbers(front, 1)["requests"] == 1
    assert front.plane.outcomes() == [], "the endpoint is new"
    front.plane.set_rollout(HOST, spec(50, warmup_ms=0))
    assert get(front) == 200
    (one,) = evidence(front, 1)
    assert (one["metric"], one["version"]) == ("slow", 1)
    assert int(str(one["latency_ns"])) > 1
    front.plane.set_slow(HOST, 0)
    assert get(front, cookie(50000)) == 200
    assert numbers(front, 1)["requests"] == 3
    assert front.plane.outcomes() == []
    with pytest.raises(LookupError):
        front.plane.set_slow("other.test", 1)


def test_outcomes_beyond_the_ring_are_counted(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    broken = origin(answer("no", status="500 Internal Server Error"))
    start(front, [broken, broken], 50, address_cap=0)
    with front.client() as client:
        for u in range(0, 65536, 256 - 16):
            client.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nCookie: gr_c={cookie(u)}\r\n\r\n".encode())
            assert client.answer().status == 500
    numbers(front, 0)
    (one,) = front.plane.rollouts()
    kept = len(front.plane.outcomes())
    assert kept == 256
    assert one["outcomes_dropped"] == 274 - kept
    assert abs(one["versions"][0]["users"] + one["versions"][1]["users"] - 274) <= 6

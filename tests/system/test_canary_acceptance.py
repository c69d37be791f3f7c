"""What a rollout promises, over real sockets: a router process, instances of several versions, thousands of people.

The statistics over many rollouts (false rollbacks, users until a rollback) are in
tests/unit/control/test_verdict_simulated.py; here one rollout at a time takes the whole way through the system."""

import asyncio
import contextlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from gorouter_py.control.admin_client import AdminError, route_path
from tests.system.crowd import Lines, Person, people, visit
from tests.system.harness import until
from tests.system.held import beside_a_rollout
from tests.system.rollouts import HOST, Rig, Rollout, share

pytestmark = [pytest.mark.slow, pytest.mark.release_only]

ALL = {"errors": True, "latency": False, "alpha": 0.01}


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig({"v1": 0.0, "v2": 0.0}) as running:
        yield running


@pytest.fixture(scope="module")
def shared_rig() -> Iterator[Rig]:
    with Rig({"v1": 0.0, "v2": 0.0}) as running:
        yield running


@pytest.fixture
def shared(shared_rig: Rig) -> Iterator[Rig]:
    """For tests that leave the instances as they were; their rollout ends with them."""
    yield shared_rig
    with contextlib.suppress(AdminError):  # it has ended, or there was none
        shared_rig.act("abort")
        shared_rig.wait_for_state("aborted")


def flips(crowd: list[Person], version: str) -> int:
    """People whom the version lost again."""
    return sum(
        any(before == version != after for before, after in itertools.pairwise(person.versions)) for person in crowd
    )


# -- 1: shares, and nobody goes back -----------------------------------------------------------------------


def test_twenty_thousand_people_climb_five_steps(shared: Rig) -> None:
    steps = [1, 5, 25, 50, 100]
    shared.start(steps=[f"{step}%" for step in steps])
    crowd = people(20_000)
    for number, step in enumerate(steps):
        if number:
            shared.act("promote")
        assert shared.rollout()["weight"] == step
        visit(shared.port, HOST, crowd)
        assert share(crowd, "v2") == pytest.approx(step, abs=0.1)
    assert flips(crowd, "v2") == 0
    assert {status for person in crowd for status in person.statuses} == {200}
    until(lambda: shared.version("v2")["users"] == pytest.approx(20_000, rel=0.03), "an estimate, and read each second")


def test_hashed_identities_are_shared_within_their_sampling_error(shared: Rig) -> None:
    """Without a cookie; the salt is fixed, so that the sample is the same each time."""
    shared.start(steps=["5%", "25%"], cohort={"mode": "identity", "identity": "header:x-tenant", "salt": 7})
    crowd = [Person(number, headers=f"X-Tenant: tenant-{number}\r\n") for number in range(5000)]
    for step in (0.05, 0.25):
        visit(shared.port, HOST, crowd)
        assert share(crowd, "v2") == pytest.approx(100 * step, abs=300 * math.sqrt(step * (1 - step) / len(crowd)))
        for person in crowd[:40]:  # what is explained is what happens
            question = {"headers": {"X-Tenant": f"tenant-{person.number}"}}
            answer = shared.client.call("POST", route_path(HOST, "explain"), question)
            assert (answer["version_name"], answer["reason"]) == (person.versions[-1], "identity")
        shared.act("promote")
    assert flips(crowd, "v2") == 0 and {person.cookie for person in crowd} == {""}


def test_a_third_version_loses_nobody() -> None:
    with Rig({"v1": 0.0, "v2": 0.0, "v3": 0.0}) as rig:
        rig.start(**{"from": "v1"}, steps=["5%", "15%", "50%"], extra_versions={"v3": "10%"})
        crowd = people(4000)
        for step in (5, 15, 50):
            assert rig.rollout()["weight"] == step
            visit(rig.port, HOST, crowd)
            assert share(crowd, "v2") == pytest.approx(step, abs=0.2)
            assert share(crowd, "v3") == pytest.approx(10, abs=0.2)
            rig.act("promote") if step < 50 else None
        assert flips(crowd, "v3") == 0 and flips(crowd, "v2") == 0


def test_an_abort_needs_no_cookie_cleaning_and_undo_finds_everybody_again(shared: Rig) -> None:
    shared.start(steps=["25%", "100%"])
    crowd = people(1000)
    visit(shared.port, HOST, crowd)
    before = [person.versions[-1] for person in crowd]
    assert shared.act("abort", why="tired of it")["state"] in ("aborting", "aborted")
    visit(shared.port, HOST, crowd)
    assert share(crowd, "v1") == 100
    last = shared.rollout()["history"][-1]
    assert last["state"] == "aborted" and any(each["why"] == "tired of it" for each in shared.rollout()["history"])
    shared.act("undo")
    visit(shared.port, HOST, crowd)
    assert [person.versions[-1] for person in crowd] == before


# -- 2: few sessions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_forty_sessions_at_five_percent(workers: int) -> None:
    with Rig({"v1": 0.0, "v2": 0.0}, workers=workers) as rig:
        rig.start(steps=["5%"])
        counts = []
        for block in range(40):  # each begins where the one before left off: another state to start from
            crowd = people(40, 40 * block)
            visit(rig.port, HOST, crowd, connections=4)
            counts.append(sum(person.versions[0] == "v2" for person in crowd))
        assert set(counts) <= {1, 2, 3}, counts
        assert sum(counts) == pytest.approx(80, abs=6)  # the sequence itself is off by no more, wherever it begins


# -- 3: a dead canary --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("weight", "units"), [(10, 5), (50, 10)])
def test_a_dead_canary_hurts_nobody(rig: Rig, weight: int, units: int) -> None:
    """It was killed and is still registered. The failure was hidden by a repetition, and yet it is the canary's.

    A version that has failed altogether is tried ten times soon, and then only once a second."""
    rig.start(steps=[f"{weight}%", "100%"], abort_if=ALL)
    rig.instances["v2"].kill()
    crowd: list[Person] = []

    def rolled_back() -> bool:
        more = people(20, len(crowd))
        visit(rig.port, HOST, more, connections=1)
        crowd.extend(more)
        return rig.rollout()["state"] in ("aborting", "aborted")

    until(rolled_back)
    rollout = rig.wait_for_state("aborted")
    assert {status for person in crowd for status in person.statuses} == {200}
    assert {person.versions[0] for person in crowd} == {"v1"}
    assert rollout["verdict"]["state"] == "worse"
    assert rollout["verdict"]["metrics"]["errors"]["canary"] <= units
    answer = rig.client.call("GET", route_path(HOST, "why"))
    assert {each["version"] for each in answer["evidence"]} == {"v2"}


def until_counted(rig: Rig, requests: int) -> Rollout:
    """The rollout once the control plane has read the numbers, and with them the outcomes, of that many requests."""

    def read() -> Rollout | None:
        rollout = rig.rollout()
        ended = rollout["state"] in ("aborting", "aborted")
        return rollout if ended or sum(each["requests"] for each in rollout["versions"]) >= requests else None

    found: Rollout = until(read)
    return found


def test_people_of_a_canary_that_heals_return(rig: Rig) -> None:
    rig.start(steps=["50%"])
    crowd = people(100)
    visit(rig.port, HOST, crowd)
    before = [person.versions[-1] for person in crowd]
    rig.nats.unregister(HOST, rig.instances["v2"].port, private_instance_id="id-v2")
    until(lambda: len(rig.router.routes()[HOST]) == 1)
    visit(rig.port, HOST, crowd)
    assert share(crowd, "v1") == 100
    assert {status for person in crowd for status in person.statuses} == {200}
    rig.register()
    visit(rig.port, HOST, crowd)
    assert [person.versions[-1] for person in crowd] == before


# -- 5: a canary that fails ten times as often -------------------------------------------------------------


def test_ten_times_the_errors_roll_back() -> None:
    with Rig({"v1": 1.0, "v2": 10.0}) as rig:
        rig.start(steps=["5%", "100%"], abort_if=ALL)
        canary_users = 0
        rollout = rig.rollout()
        number = 0
        while rollout["state"] not in ("aborting", "aborted"):
            assert number < 40_000, rollout
            crowd = people(200, number)
            number += len(crowd)
            for _ in range(3):
                visit(rig.port, HOST, crowd)
            rollout = rig.rollout()
            canary_users += sum(person.versions[0] == "v2" for person in crowd)
        assert rollout["verdict"]["state"] == "worse"
        assert canary_users <= 400  # one draw; the median over 100 is held by the simulation
        assert rollout["verdict"]["metrics"]["errors"]["canary"] >= 3


# -- 6: no traffic -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "states"), [("pause", {"paused"}), ("abort", {"aborted"}), ("promote", {"done"})])
def test_without_traffic_the_policy_decides(shared: Rig, policy: str, states: set[str]) -> None:
    rollout = shared.start(steps=["5%", "100%"], hold="100ms", max_hold="1s", on_undecided=policy, abort_if=ALL)
    assert rollout["verdict"]["state"] == "undecided" and rollout["state"] == "ramping"
    ended = shared.wait_for_state(*states)
    assert ended["verdict"]["state"] != "worse"


def test_without_traffic_it_waits(shared: Rig) -> None:
    shared.start(steps=["5%", "100%"], hold="100ms", max_hold="300ms", on_undecided="wait", abort_if=ALL)
    events = shared.client.events(route_path(HOST, "events"))
    seen = [next(events) for _ in range(4)]
    assert {event["state"] for event in seen} == {"ramping"} and {event["weight"] for event in seen} == {5.0}
    assert seen[-1]["verdict"]["state"] == "undecided"


# -- 7: abuse ----------------------------------------------------------------------------------------------


def test_cookies_and_headers_that_lie(shared: Rig) -> None:
    shared.start(steps=["50%"], cohort={"mode": "cookie", "sign": "hmac"})
    honest = people(20)
    visit(shared.port, HOST, honest)
    assert all("." in person.cookie for person in honest)
    for lie in ("garbage", "A" * 11, honest[0].cookie[:-1] + ("A" if honest[0].cookie[-1] != "A" else "Q"), "x" * 3000):
        liar = Person(7, cookie=lie)
        visit(shared.port, HOST, [liar])
        assert liar.cookie != lie and "." in liar.cookie
    again = [person.cookie for person in honest]
    visit(shared.port, HOST, honest)
    assert [person.cookie for person in honest] == again
    asked = [Person(number, headers="X-Canary: v2\r\n") for number in range(40)]
    visit(shared.port, HOST, asked)
    assert share(asked, "v2") == pytest.approx(50, abs=8)  # the header said nothing


def test_overrides_where_they_are_allowed(shared: Rig) -> None:
    shared.start(steps=["1%"], override={"allow": True})
    asked = [Person(number, headers="X-Canary: v2\r\n") for number in range(20)]
    visit(shared.port, HOST, asked)
    assert share(asked, "v2") == 100
    answer = shared.client.call(
        "POST", route_path(HOST, "explain"), {"headers": {"X-Canary": "v2"}, "cookie": "", "address": "192.0.2.1"}
    )
    assert (answer["version_name"], answer["reason"]) == ("v2", "override")


def test_one_address_cannot_fail_for_ever() -> None:
    """Somebody who throws away the cookie each time is many users, but of one address only so many count."""
    with Rig({"v1": 50.0, "v2": 50.0}) as rig:
        rig.start(steps=["50%"], abort_if={**ALL, "alpha": 1e-6})
        visit(rig.port, HOST, people(1000))
        rollout = until_counted(rig, 1000)
        metric = rollout["verdict"]["metrics"]["errors"]
        assert 50 < metric["canary"] + metric["stable"] <= 64
        numbers = [rig.version(name) for name in ("v1", "v2")]
        assert sum(each["failures"] for each in numbers) > 400
        assert sum(each["excluded"] for each in numbers) >= sum(each["failures"] for each in numbers) - 64


def test_trap_c_bots_are_no_users() -> None:
    with Rig({"v1": 0.0, "v2": 100.0}) as rig:
        rig.start(steps=["50%"], abort_if=ALL)
        visit(rig.port, HOST, [Person(number, agent="Friendlybot/1.0") for number in range(60)])
        rollout = until_counted(rig, 60)
        assert rollout["state"] == "ramping" and rollout["verdict"]["metrics"]["errors"]["canary"] == 0
        assert rig.version("v2")["excluded"] == pytest.approx(30, abs=2)


# -- 8: Cloud Foundry as it is -----------------------------------------------------------------------------


def test_process_ids_of_stock_messages() -> None:
    with Rig({"v1": 0.0, "v2": 0.0}) as rig:
        rig.nats.unregister(HOST, rig.instances["v1"].port, private_instance_id="id-v1")
        rig.nats.unregister(HOST, rig.instances["v2"].port, private_instance_id="id-v2")
        until(lambda: HOST not in rig.router.routes())
        rig.register(lambda version: {"app": "guid", "tags": {"process_id": f"process-{version}"}})
        crowd = people(200)
        visit(rig.port, HOST, crowd)
        assert share(crowd, "v2") == pytest.approx(50, abs=1)  # by instances, as gorouter
        assert all(person.cookie == "" for person in crowd)
        rollout = rig.start(to="process-v2", steps=["1%", "100%"])
        assert (rollout["by"], rollout["stable"], rollout["canary"]) == ("process_id", "process-v1", "process-v2")
        rig.act("set", weight=5)
        crowd = people(2000)
        visit(rig.port, HOST, crowd)
        assert share(crowd, "v2") == pytest.approx(5, abs=0.3)


# -- 9: everything else changes meanwhile ------------------------------------------------------------------


def test_nothing_is_dropped_while_routes_change() -> None:
    """Instances and other routes come and go beside WebSockets and uploads, through every kind of step."""
    with Rig({}, workers=2) as rig:
        kept = asyncio.run(beside_a_rollout(rig, websockets=200, uploads=40, rate=1000, each=250))
    assert (kept.dropped, kept.failed) == (0, 0), kept
    assert kept.versions == {"v1", "v2"} and kept.registrations >= 1500


def test_after_a_swap_no_worker_goes_by_the_old_table() -> None:
    """An abort, and an undo, is one pointer: a request that is sent after the answer finds the new one everywhere."""
    with Rig({"v1": 0.0, "v2": 0.0}, workers=4) as rig:
        rig.start(steps=["100%"])
        with Lines(rig.port, 64) as lines:  # kept open, so that each worker has some
            assert lines.ask() == Counter(v2=64)
            for _ in range(5):
                rig.act("abort")
                assert lines.ask() == Counter(v1=64)
                rig.act("undo")
                assert lines.ask() == Counter(v2=64)
                rig.act("set", weight="0%")
                assert lines.ask() == Counter(v1=64)
                rig.act("undo")


# -- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"to": "v9", "steps": ["5%", "1%"]}, "step"),
        ({"to": "v2", "hold": "ten"}, "hold"),
        ({"to": "v2", "abort_if": {"alpha": 2}}, "alpha"),
        ({"to": "v1", "from": "v1"}, "v1"),
        ({"to": "v2", "colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_done_is_said(shared: Rig, body: dict[str, object], words: str) -> None:
    before = shared.client.call("GET", "/v1/rollouts")["rollouts"]
    with pytest.raises(AdminError, match=re.compile(words)) as caught:
        shared.client.call("PUT", route_path(HOST), body)
    assert caught.value.status in (400, 422) and caught.value.code
    after = shared.client.call("GET", "/v1/rollouts")["rollouts"]
    assert [each["id"] for each in after] == [each["id"] for each in before]

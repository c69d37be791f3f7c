"""The engine with a registry, a store and a data plane that refuses what the real one does; time is the test's."""

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gorouter_py.control import rollout_schema, rollout_spec, rollouts
from gorouter_py.control.admin_api import Refusal
from gorouter_py.control.messages import Options, Registration
from gorouter_py.control.registry import Limits, Registry, route_key
from gorouter_py.control.rollouts import Rollouts, Wiring, Wish
from gorouter_py.control.store import FileStore, Unavailable, Watcher
from tests.unit.control.fakes import FakeLog, FakeNames, FakePlane, FakeTable
from tests.unit.control.serving import Answers

BOUNDS = (1_000_000, 10_000_000, 100_000_000)


class Bench:
    """A router's rollouts and all around them."""

    def __init__(self, path: str = "", store: FileStore | None = None, node: str = "one") -> None:
        self.table, self.log = FakeTable(), FakeLog()
        self.plane = FakePlane(self.table)
        self.registry = Registry(self.table, FakeNames(), FakeLog(), Limits())
        self.store = store or FileStore(path, self.log)
        self.now = 1000.0
        self.published: list[tuple[str, bytes]] = []
        self.changes = 0
        self.it = Rollouts(
            Wiring(
                plane=self.plane,  # type: ignore[arg-type]
                routes=self.registry,
                store=self.store,
                log=self.log,
                node=node,
                bounds_ns=BOUNDS,
                route_key=route_key,
                publish=self._publish,
                changed=self._changed,
                wall=lambda: self.now,
                clock=lambda: self.now,
            )
        )

    async def _publish(self, subject: str, payload: bytes) -> None:
        self.published.append((subject, payload))

    def _changed(self) -> None:
        self.changes += 1

    def register(self, version: str, *ports: int, uri: str = "a.test", **fields: Any) -> None:
        for port in ports:
            options = Options(version=version) if version else None
            message = Registration(host="10.0.0.1", port=port, uris=[uri], options=options, **fields)
            self.registry.register(message, self.now)

    def unregister(self, *ports: int, uri: str = "a.test") -> None:
        for port in ports:
            self.registry.unregister(Registration(host="10.0.0.1", port=port, uris=[uri]), self.now)

    def two(self) -> None:
        self.register("v1", 1, 2)
        self.register("v2", 3)

    async def start(self, route: str = "a.test", **body: Any) -> dict[str, Any]:
        return await self.it.begin(route, rollout_spec.read({"to": "v2", **body}), "ada", "")

    async def settle(self) -> None:
        """Lets what was begun in the background come to an end."""
        while tasks := [task for task in self.it._tasks if task.get_coro().__name__ != "_run" and not task.done()]:
            await asyncio.gather(*tasks)
        await asyncio.sleep(0)

    async def later(self, seconds: float) -> None:
        self.now += seconds
        await self.it.tick()
        await self.settle()

    def intervals(self, key: str = "a.test") -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = self.plane.splits[key]["intervals"]
        return found

    def members(self, key: str = "a.test") -> dict[int, int]:
        """Version by port."""
        return {held.port: held.more["version"] for held in self.table.held.values() if held.uri == key}

    def enough(self, version: int, requests: int = 1000, failures: int = 0, **more: Any) -> None:
        seen = self.plane.seen.setdefault("a.test", {})
        counted = {"requests": requests, "users": requests, "failures": {"status": failures}}
        seen[version] = {**counted, "buckets": (requests, 0, 0, 0), **more}


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(scenario)


async def refused(work: Coroutine[Any, Any, Any]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await work
    return caught.value


def test_a_rollout_splits_the_route_and_steps_on() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.two()
        shown = await bench.start(steps=["5%", "25%", "100%"], hold="10s", abort_if={"errors": False, "latency": False})
        assert (shown["state"], shown["weight"], shown["stable"], shown["canary"]) == ("ramping", 5.0, "v1", "v2")
        assert bench.intervals() == [(62259, 0), (65536, 1)] and bench.members() == {1: 0, 2: 0, 3: 1}
        await bench.later(9)
        assert bench.it.of("a.test")["next_step_in_s"] == 1.0 and bench.it.of("A.test/")["step"] == 0
        for weight, step in ((25.0, 1), (100.0, 2)):
            await bench.later(10)
            shown = bench.it.of("a.test")
            assert (shown["state"], shown["weight"], shown["step"]) == ("ramping", weight, step)
        await bench.later(10)
        shown = bench.it.of("a.test")
        assert shown["state"] == "done" and bench.intervals() == [(65536, 1)]
        assert [event["state"] for event in shown["history"]] == ["ramping", "ramping", "ramping", "done"]
        assert [subject for subject, _ in bench.published] == ["gorouter.rollout.a.test"] * 4
        assert bench.it.decisions == {
            "start": 1, "promote": 3, "pause": 0, "resume": 0, "abort": 0, "undo": 0, "set": 0,
        }  # fmt: skip

    run(scenario())


def test_rows_carry_their_numbers_from_the_first_moment_on() -> None:
    """Before the data plane has counted anything, too; afterwards they have no other keys."""

    def fits(shown: dict[str, Any]) -> None:
        schema = {"$ref": "#/components/schemas/Rollout", "components": {"schemas": rollout_schema.SCHEMAS}}
        jsonschema.Draft202012Validator(schema).validate(json.loads(json.dumps(shown)))

    async def scenario() -> None:
        bench = Bench()
        await bench.it.start([Wish("a.test", rollout_spec.read({"to": "v2"}), "digest")])
        idle = bench.it.of("a.test")
        bench.two()
        bench.register("v1", 4, uri="b.test")
        bench.register("v2", 5, uri="b.test")
        begun = await bench.start("b.test")
        for shown in (idle, begun):
            fits(shown)
            assert [(row["requests"], row["share_actual"], row["p99_ms"]) for row in shown["versions"]] == [
                (0, None, None)
            ] * 2
        await bench.later(1)
        counted = bench.it.of("b.test")
        fits(counted)
        assert [row.keys() for row in counted["versions"]] == [row.keys() for row in begun["versions"]]
        await bench.it.stop()

    run(scenario())


def test_without_data_a_step_waits_and_the_policy_decides() -> None:
    async def outcome(policy: str) -> tuple[str, float, str]:
        bench = Bench()
        bench.two()
        await bench.start(steps=["5%", "50%"], hold="10s", max_hold="60s", on_undecided=policy)
        await bench.later(30)
        shown = bench.it.of("a.test")
        assert (shown["state"], shown["weight"], shown["verdict"]["state"]) == ("ramping", 5.0, "undecided")
        assert "the canary has had 0 users" in shown["waits_for"]
        await bench.later(31)
        shown = bench.it.of("a.test")
        return shown["state"], shown["weight"], shown["paused_by"] or ""

    assert run(outcome("wait")) == ("ramping", 5.0, "")
    assert run(outcome("promote")) == ("ramping", 50.0, "")
    assert run(outcome("pause")) == ("paused", 5.0, "policy")
    assert run(outcome("abort")) == ("aborted", 0.0, "")


def test_a_canary_that_fails_is_taken_back_at_once() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.two()
        await bench.start(steps=["5%", "100%"])
        bench.plane.fail("a.test", 1, count=4)
        bench.it.poll()  # before anything is kept
        assert bench.intervals() == [(65536, 0)] and bench.it.of("a.test")["state"] == "aborting"
        await bench.settle()
        shown = bench.it.of("a.test")
        assert shown["state"] == "aborted" and shown["weight"] == 0
        last = shown["history"][-1]
        assert last["who"] == "verdict" and "reached" in last["why"]
        assert [each["request_id"] for each in last["evidence"]] == ["r0", "r1", "r2"]
        assert shown["evidence"][0]["metric"] == "errors" and shown["evidence"][0]["latency_ms"] == 2.0
        assert bench.it.why("a.test")["verdict"]["state"] == "worse"
        assert bench.it.decisions["abort"] == 1

    run(scenario())


def test_paused_it_is_still_taken_back() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.two()
        await bench.start(steps=["5%", "100%"], pause_at=["5%"])
        assert bench.it.of("a.test")["paused_by"] == "step"
        bench.plane.fail("a.test", 1, count=4)
        bench.it.poll()
        await bench.settle()
        assert bench.it.of("a.test")["state"] == "aborted"

    run(scenario())


def test_failures_of_stable_and_of_others_end_nothing() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.two()
        bench.register("v3", 4)
        await bench.start(steps=["5%", "90%"], extra_versions={"v3": "10%"})
        bench.plane.fail("a.test", 0, count=50)
        bench.plane.fail("a.test", 2, count=50)
        bench.plane.fail("a.test", 1, "client_error", count=50)  # not asked for
        bench.it.poll()
        shown = bench.it.of("a.test")
        assert shown["state"] == "ramping" and shown["verdict"]["metrics"]["errors"]["stable"] == 50
        assert [row["role"] for row in shown["versions"]] == ["stable", "canary", "extra"]

    run(scenario())


def test_thresholds_end_it_and_stop_it() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.two()
        slo = {"error_rate": "1%", "min_requests": 100}
        await bench.start(steps=["5%", "100%"], hold="1s", abort_if={"errors": False, "latency": False, "slo": slo})
        await bench.later(5)
        assert bench.it.of("a.test")["slo"]["state"] == "undecided" and bench.it.of("a.test")["weight"] == 5
        bench.enough(0)
        bench.enough(1, 200, 1)
        await bench.later(1)
        assert bench.it.of("a.test")["weight"] == 100
        bench.enough(1, 400, 20)
        await bench.later(1)
        shown = bench.it.of("a.test")
        assert shown["state"] == "aborted" and shown["history"][-1]["who"] == "slo"

    run(scenario())


def test_trap_f_a_step_waits_and_says_so_while_stable_fails_more_than_before() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.two()
        await bench.start(
            steps=["5%", "100%"], hold="40s", max_hold="50s", on_undecided="abort", abort_if={"latency": False}
        )
        failures = 0
        for second in range(1, 161):
            failures += 100 if 20 <= second < 80 else 0
            bench.enough(0, 1000 * second, failures)
            bench.enough(1, 50 * second, failures // 20)
            await bench.later(1)
            if second == 60:  # past both holds: it waits, whatever the policy, and somebody hears of it
                shown = bench.it.of("a.test")
                assert (shown["state"], shown["weight"], shown["verdict"]["state"]) == ("ramping", 5.0, "frozen")
                assert "what both depend on" in shown["waits_for"]
                assert [told["route"] for told in bench.log.said("rollout-frozen")] == ["a.test"]
            if bench.log.said("rollout-frozen-no-more"):
                break
        await bench.later(1)
        assert bench.it.of("a.test")["weight"] == 100.0

    run(scenario())


def test_trap_i_with_everybody_on_the_canary_limits_alone_decide() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.two()
        slo = {"error_rate": "1%", "min_requests": 100}
        await bench.start(steps=["100%"], pause_at=["100%"], abort_if={"slo": slo})
        bench.plane.fail("a.test", 1, count=50)
        await bench.later(1)
        shown = bench.it.of("a.test")
        assert (shown["state"], shown["verdict"]["state"]) == ("paused", "disabled")
        bench.enough(1, 400, 20)
        await bench.later(1)
        shown = bench.it.of("a.test")
        assert (shown["state"], shown["history"][-1]["who"]) == ("aborted", "slo")

    run(scenario())


def test_others_are_asked_before_a_step() -> None:
    async def scenario(url: str, answers: Answers) -> None:
        bench = Bench()
        bench.two()
        checks = [{"kind": "webhook", "url": url, "interval": "1s", "failures": 2}]
        quiet = {"errors": False, "latency": False}
        await bench.start(steps=["5%", "50%", "100%"], hold="2s", checks=checks, abort_if=quiet)
        answers.status = 503
        await bench.later(3)
        shown = bench.it.of("a.test")
        assert shown["weight"] == 5 and shown["checks"][0]["state"] == "unknown"
        await bench.later(1)
        assert "answered 503" in bench.it.of("a.test")["waits_for"]
        answers.status = 200
        await bench.later(1)  # asks
        await bench.later(1)  # and goes on
        shown = bench.it.of("a.test")
        assert shown["weight"] == 50 and shown["checks"][0]["state"] == "unknown"  # another step is asked about anew
        answers.status = 409
        for _ in range(4):
            await bench.later(1)
        shown = bench.it.of("a.test")
        assert shown["state"] == "aborted" and shown["history"][-1]["who"] == "checks"
        assert json.loads(answers.asked[0][2])["route"] == "a.test"

    with Answers() as answers:
        run(scenario(answers.url, answers))


def test_slow_is_what_is_slow_for_stable() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.two()
        await bench.start(abort_if={"latency": "p95"})
        bench.enough(0, 99)
        await bench.later(1)
        assert bench.plane.slow == {}
        bench.enough(0, 1000, buckets=(900, 100, 0, 0))
        await bench.later(20)
        assert bench.plane.slow == {"a.test": 10_500_000}  # 5.5 ms, and what nobody feels
        bench.enough(0, 1000, buckets=(899, 101, 0, 0))
        await bench.later(20)
        assert bench.plane.slow == {"a.test": 10_500_000}

    run(scenario())


def test_trap_b_nothing_is_slow_while_a_new_weight_warms_up() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.two()
        await bench.start(steps=["5%", "50%", "100%"], hold="1h", abort_if={"latency": "p99"})
        bench.enough(0)
        await bench.later(20)
        assert bench.plane.slow["a.test"] > 0
        await bench.it.act("a.test", "promote", "ada", "")
        bench.plane.fail("a.test", 1, "slow", 40)  # they were on their way
        bench.it.poll()
        assert not bench.plane.waiting
        await bench.later(1)
        assert bench.plane.slow["a.test"] == 0
        shown = bench.it.of("a.test")
        assert shown["state"] == "ramping" and shown["verdict"]["metrics"]["latency"]["canary"] == 0
        await bench.later(10)
        assert bench.plane.slow["a.test"] > 0
        bench.plane.fail("a.test", 1, "slow", 40)
        bench.it.poll()
        await bench.settle()
        assert bench.it.of("a.test")["state"] == "aborted"

    run(scenario())


def test_what_an_operator_does() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.two()
        await bench.start(steps=["5%", "25%", "100%"])
        act = bench.it.act
        assert (await act("a.test", "promote", "ada", "go"))["weight"] == 25
        assert (await act("a.test", "pause", "ada", ""))["state"] == "paused"
        assert (await refused(act("a.test", "pause", "ada", ""))).status == 409
        assert (await act("a.test", "set", "ada", "", 7.5))["paused_by"] == "set"
        assert (await act("a.test", "undo", "ada", ""))["weight"] == 25
        assert (await act("a.test", "resume", "ada", ""))["state"] == "ramping"
        shown = await act("a.test", "abort", "ada", "seen enough")
        assert shown["state"] == "aborted" and shown["history"][-1]["why"] == "seen enough"
        before = shown["id"]
        shown = await act("a.test", "undo", "ada", "")
        assert (shown["state"], shown["weight"], shown["id"]) == ("ramping", 25, before + 1)
        shown = await act("a.test", "promote", "ada", "")
        shown = await act("a.test", "promote", "ada", "")
        assert shown["state"] == "done"
        assert (await refused(act("b.test", "abort", "ada", ""))).status == 404

    run(scenario())


def test_the_versions_are_found() -> None:
    async def scenario() -> None:
        bench = Bench()
        assert (await refused(bench.start())).status == 404
        bench.register("", 1, tags={"process_id": "p1"}, app="shop")
        bench.register("", 2, tags={"process_id": "p2"}, app="shop")
        refusal = await refused(bench.start(to="p3"))
        assert refusal.status == 422 and "p1 (1), p2 (1)" in refusal.reason and "by process_id" in refusal.reason
        shown = await bench.start(to="p2")
        assert (shown["by"], shown["stable"]) == ("process_id", "p1")
        await bench.it.act("a.test", "abort", "ada", "")
        bench.register("v2", 3)
        refusal = await refused(bench.start(to="v3"))
        assert "unnamed (2), v2 (1)" in refusal.reason
        shown = await bench.start()
        assert (shown["by"], shown["stable"]) == ("version", "unnamed")
        bench.register("v1", 4, uri="b.test", app="x")
        bench.register("v2", 5, uri="b.test", app="x")
        bench.register("v3", 6, uri="b.test", app="x")
        assert "not clear which version 'v2' replaces" in (await refused(bench.start("b.test"))).reason
        assert (await bench.start("b.test", **{"from": "v3"}))["stable"] == "v3"
        assert bench.members("b.test") == {4: 255, 5: 1, 6: 0}

    run(scenario())


def test_one_at_a_time_and_the_next_begins_where_the_last_ended() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.two()
        await bench.start()
        refusal = await refused(bench.start())
        assert refusal.status == 409 and "promote or abort it first" in refusal.reason
        await bench.it.act("a.test", "set", "ada", "", 100)
        await bench.it.act("a.test", "promote", "ada", "")
        assert bench.it.of("a.test")["state"] == "done"
        # What is deployed next is not left without users behind a rollout that is over.
        bench.register("v3", 4)
        bench.unregister(3)
        bench.register("v3", 4, app="again")
        assert next(held for held in bench.table.held.values() if held.port == 4).more["version"] == 1
        bench.register("v2", 3)
        shown = await bench.start(to="v3", **{"from": "v2"})
        assert shown["id"] == 2 and bench.members() == {1: 255, 2: 255, 3: 0, 4: 1}

    run(scenario())


def test_a_route_that_comes_back_is_split_again() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.two()
        await bench.start(steps=["50%"])
        number = bench.plane.splits["a.test"]["id"]
        bench.unregister(1, 2, 3)
        bench.plane.splits.clear()  # as the data plane does with the last endpoint
        bench.register("v2", 3)
        assert bench.intervals() == [(32768, 0), (65536, 1)] and bench.members() == {3: 1}
        assert bench.plane.splits["a.test"]["id"] == number
        bench.register("v1", 1)
        assert [held.more["version"] for held in bench.table.held.values()] == [1, 0]

    run(scenario())


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")

    async def before() -> dict[str, Any]:
        bench = Bench(path)
        bench.two()
        await bench.it.start()
        await bench.start(steps=["5%", "25%", "100%"], hold="100s")
        await bench.it.act("a.test", "promote", "ada", "")
        bench.plane.fail("a.test", 1)
        bench.plane.fail("a.test", 0)
        bench.enough(1, 500)
        await bench.later(5)
        bench.it.poll()
        await bench.it.stop()
        return bench.it.of("a.test")

    async def after() -> dict[str, Any]:
        bench = Bench(path)
        bench.now = 1050.0
        await bench.it.start()
        assert bench.it.of("a.test")["unfit"] == "the route has no instance here"
        bench.two()
        await bench.it.tick()
        shown = bench.it.of("a.test")
        assert bench.intervals() == [(49152, 0), (65536, 1)] and shown["unfit"] is None
        assert bench.members() == {1: 0, 2: 0, 3: 1}
        assert bench.it._lives["a.test"].judge.seen()[1].requests == 500
        bench.plane.fail("a.test", 1, count=6)
        bench.it.poll()
        assert bench.it.of("a.test")["state"] == "aborting"
        await bench.it.stop()
        return shown

    first, second = run(before()), run(after())
    for key in ("id", "epoch", "state", "weight", "history", "spec", "evidence"):
        assert second[key] == first[key], key
    assert second["next_step_in_s"] == 50.0
    assert second["verdict"]["log_e"] == pytest.approx(first["verdict"]["log_e"])


def test_what_cannot_be_read_is_told_and_left_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(str(tmp_path / "state.json"))
        bench.two()
        await bench.store.put("rollout.a.test", {"state": "ramping"})
        await bench.store.put("rollout.b.test", 5)
        await bench.it.start()
        lines = bench.log.said("rollout-unfit")
        assert [line["key"] for line in lines] == ["rollout.a.test", "rollout.b.test"]
        assert "start the rollout anew" in str(lines[0]["mend"])
        assert bench.plane.splits == {} and await bench.it.documents() == []
        shown = await bench.start()  # and one can be started over it
        assert shown["state"] == "ramping"
        await bench.it.stop()

    run(scenario())


class _Full:
    """Makes a store refuse to write, as a full disk does."""

    def __init__(self, store: FileStore) -> None:
        self._store, self._write = store, store._write

    def __enter__(self) -> None:
        async def fail(entries: object) -> None:
            raise Unavailable("the disk is full; make room")

        self._store._write = fail  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        self._store._write = self._write  # type: ignore[method-assign]


def test_a_full_disk_stops_every_change_but_an_abort() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.two()
        with _Full(bench.store):
            assert (await refused(bench.start())).status == 503
        assert bench.plane.splits == {} and await bench.it.documents() == []
        await bench.start(steps=["5%", "100%"])
        with _Full(bench.store):
            refusal = await refused(bench.it.act("a.test", "promote", "ada", ""))
            assert refusal.status == 503 and "make room" in refusal.reason
            assert bench.it.of("a.test")["weight"] == 5 and bench.intervals() == [(62259, 0), (65536, 1)]
            shown = await bench.it.act("a.test", "abort", "ada", "")
            assert shown["state"] == "aborting" and bench.intervals() == [(65536, 0)]
            assert (await refused(bench.start())).code == "not_kept"
        await bench.later(1)
        assert bench.it.of("a.test")["state"] == "aborted"

    run(scenario())


def test_what_the_data_plane_refuses_is_not_kept() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.two()
        real = bench.plane.set_rollout

        def picky(uri: str, spec: Any, members: Any = None) -> None:
            if spec is not None:
                raise ValueError("rules: too long")
            real(uri, spec, members)

        bench.plane.set_rollout = picky  # type: ignore[method-assign]
        refusal = await refused(bench.start())
        assert refusal.status == 422 and "too long" in refusal.reason
        assert bench.store.entries("") == {} and bench.plane.splits == {}

    run(scenario())


def test_a_rollout_of_the_file_begins_when_its_versions_are_there() -> None:
    async def scenario() -> None:
        bench = Bench()
        wish = Wish("a.test", rollout_spec.read({"to": "v2", "steps": ["5%"]}), "digest", "as planned")
        await bench.it.start([wish])
        await bench.later(1)
        bench.register("v1", 1)
        await bench.later(1)
        (shown,) = await bench.it.documents()
        assert shown == bench.it.of("a.test") and (shown["state"], shown["canary"]) == ("idle", "v2")
        assert "no instance of a.test is of version 'v2'" in shown["waits_for"]
        assert [line["route"] for line in bench.log.said("rollout-waits")] == ["a.test", "a.test"]
        bench.register("v2", 2)
        await bench.later(1)
        shown = bench.it.of("a.test")
        assert (shown["state"], shown["history"][0]["who"], shown["history"][0]["why"]) == (
            "ramping", "config", "as planned",
        )  # fmt: skip
        await bench.it.act("a.test", "abort", "ada", "")
        await bench.later(1)
        await bench.later(1)
        assert bench.it.of("a.test")["state"] == "aborted"  # it does not begin again by itself
        await bench.it.stop()

    run(scenario())


def test_one_that_has_ended_can_be_forgotten() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.two()
        await bench.start()
        assert (await refused(bench.it.forget("a.test"))).status == 409
        await bench.it.act("a.test", "abort", "ada", "")
        refusal = await refused(bench.it.forget("a.test"))
        assert refusal.status == 409 and "'v2' still has 1 instances" in refusal.reason
        bench.unregister(3)
        assert (await bench.it.forget("a.test"))["state"] == "aborted"
        assert bench.store.entries("") == {} and bench.plane.splits == {} and await bench.it.documents() == []
        bench.register("v2", 3)
        assert next(held for held in bench.table.held.values() if held.port == 3).more.get("version") is None
        assert (await bench.start())["id"] == 1

    run(scenario())


def test_metrics_are_those_of_the_last_second() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.two()
        await bench.start(steps=["5%"])
        assert bench.it.readings() == []
        bench.enough(1, 100, 3)
        await bench.later(1)
        (reading,) = bench.it.readings()
        assert reading.route == "a.test" and reading.log_e == pytest.approx(0)
        assert [(it.name, it.weight, it.requests) for it in reading.versions][1] == ("v2", 5.0, 100)
        assert reading.versions[1].failures == {"status": 3}

    run(scenario())


class Shared(FileStore):
    """A store of several routers: what one writes, those who watch hear; `away` refuses to write."""

    shared = True  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__("", FakeLog())
        self.watchers: list[tuple[str, Watcher]] = []
        self.away = False

    def watch(self, prefix: str, changed: Watcher) -> None:
        self.watchers.append((prefix, changed))

    async def put(self, key: str, value: Any, revision: int | None = None) -> int:
        if self.away:
            raise Unavailable("away")
        number = await super().put(key, value, revision)
        for prefix, changed in self.watchers:
            if key.startswith(prefix):
                changed(key, self.get(key))
        return number


def test_evidence_of_another_router_ends_it_and_without_a_decider_each_sees_to_itself() -> None:
    async def scenario() -> None:
        store = Shared()
        one, two = Bench(store=store, node="one"), Bench(store=store, node="two")
        for bench in (one, two):
            bench.two()
            await bench.it.lease.tick()
            for prefix, changed in (("rollout.", bench.it._heard), ("verdict.", bench.it._heard_evidence)):
                store.watch(prefix, changed)
        await one.start(steps=["5%", "100%"])
        assert two.intervals() == one.intervals() == [(62259, 0), (65536, 1)]
        two.plane.fail("a.test", 1, count=3)
        two.now += 1
        two.it.poll()
        assert two.it.of("a.test")["state"] == "ramping"  # it is not the one to decide
        await two.settle()  # it tells the one who is
        await one.settle()
        assert one.it.of("a.test")["state"] == two.it.of("a.test")["state"] == "aborted"
        assert one.it.of("a.test")["epoch"] == two.it.of("a.test")["epoch"]
        await one.it.act("a.test", "undo", "ada", "")
        assert two.it.of("a.test")["weight"] == 5
        store.away = True
        two.now += 10
        two.plane.fail("a.test", 1, count=3)
        two.it.poll()
        assert two.intervals() == [(65536, 0)] and two.it.of("a.test")["state"] == "aborting"
        await two.settle()
        assert one.it.of("a.test")["state"] == "ramping"
        store.away = False
        await two.later(1)
        assert one.it.of("a.test")["state"] == two.it.of("a.test")["state"] == "aborted"

    run(scenario())


def test_an_abort_and_a_step_of_another_router_at_once() -> None:
    async def scenario() -> None:
        store = Shared()
        one, two = Bench(store=store, node="one"), Bench(store=store, node="two")
        for bench in (one, two):
            bench.two()
            await bench.it.lease.tick()
            store.watch("rollout.", bench.it._heard)
        await one.start(steps=["5%", "50%", "100%"])
        real = store.put

        async def slower(key: str, value: Any, revision: int | None = None) -> int:
            store.put = real  # type: ignore[method-assign]
            await two.it.act("a.test", "promote", "bob", "")  # comes in between
            return await real(key, value, revision)

        store.put = slower  # type: ignore[method-assign]
        shown = await one.it.act("a.test", "abort", "ada", "")
        assert shown["state"] == "aborted"
        assert [event["who"] for event in shown["history"]] == ["ada", "bob", "ada"]
        assert two.it.of("a.test")["history"] == shown["history"] and two.intervals() == [(65536, 0)]

    run(scenario())


def test_overrides_and_rules_are_what_they_are_to_be(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.two()
        secret = tmp_path / "secret"
        refusal = await refused(bench.start(override={"secret_file": str(secret)}))
        assert refusal.status == 422 and "secret_file" in refusal.reason
        secret.write_bytes(b"0123456789abcdef")
        rules = [{"kind": "header", "name": "x-beta", "op": "present", "version": "v2"}]
        shown = await bench.start(override={"secret_file": str(secret)}, rules=rules)
        split = bench.plane.splits["a.test"]
        assert dict(split["overrides"]) == {token: int(name == "v2") for name, token in shown["overrides"].items()}
        assert all(token.startswith(f"{name}.") and len(token) > 30 for name, token in shown["overrides"].items())
        assert [rule["version"] for rule in split["rules"]] == [1]
        await bench.it.act("a.test", "abort", "ada", "")
        split = bench.plane.splits["a.test"]
        assert split["rules"] == [] and len(split["overrides"]) == 2 and split["keep_versions"] == [0]
        assert split["mode"] == "request"  # nobody needs a cookie any more

    run(scenario())


def test_explain_asks_the_data_plane() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.two()
        await bench.start()
        found = bench.it.explain("a.test", {"X-Tenant": "7"}, "gr_c=abc", "")
        assert found["version_name"] == "v1" and found["route"] == "a.test"

    run(scenario())


@pytest.mark.parametrize(
    ("route", "wanted"),
    [("shop.example.com", "shop.example.com"), ("*.a.test/x", "=2A.a.test=2Fx"), ("start", "=73tart"),
     ("action", "=61ction")],
)  # fmt: skip
def test_the_subject_of_a_route(route: str, wanted: str) -> None:
    assert rollouts.subject(route) == f"gorouter.rollout.{wanted}"

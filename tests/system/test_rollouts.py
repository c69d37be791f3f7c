"""Rollouts through a whole router: real instances, a real bus, the admin API, the configuration file, restarts."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gorouter_py.control import rollout_states
from gorouter_py.control.admin_client import AdminError, route_path
from tests.system.canary import Instance, Steering, ask, register, shares
from tests.system.harness import NatsServer, Router, fetch, until

STEADY: dict[str, Any] = {"hold": "1h", "max_hold": "2h"}


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    with NatsServer() as running:
        yield running


@pytest.fixture
def instances() -> Iterator[list[Instance]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Instance(version)) for version in ("v1", "v1", "v2")]


def flags(server: NatsServer, folder: Path, *more: str) -> tuple[str, ...]:
    return (
        "--nats", f"nats://127.0.0.1:{server.port}", "--admin-socket", str(folder / "admin.sock"),
        "--state-file", str(folder / "state.json"), *more,
    )  # fmt: skip


def there(router: Router, server: NatsServer, instances: list[Instance]) -> None:
    """Registers the instances and waits until the router has them."""
    router.saw("subscriber-started")
    register(server, instances)
    until(lambda: len(router.routes().get("shop.test", ())) == len(instances))


def test_a_rollout_from_its_first_step_to_its_end(
    server: NatsServer, instances: list[Instance], tmp_path: Path
) -> None:
    with Router(*flags(server, tmp_path)) as router:
        steering = Steering(tmp_path / "admin.sock")
        assert steering.state() == ("none", 0.0)
        there(router, server, instances)
        shown = steering.start(steps=["5%", "50%", "100%"], who="ada", why="as planned", **STEADY)
        assert (shown["state"], shown["weight"], shown["stable"], shown["by"]) == ("ramping", 5.0, "v1", "version")
        assert shares(router, 200)["v2"] in range(9, 12)
        clients = [ask(router) for _ in range(40)]
        shown = steering.act("promote", who="ada", why="looks good")
        assert shown["weight"] == 50.0
        again = [ask(router, cookie) for _, _, cookie in clients]
        assert all(
            after == "v2" for (_, before, _), (_, after, _) in zip(clients, again, strict=True) if before == "v2"
        )
        assert steering.act("pause")["paused_by"] == "operator"
        assert steering.act("resume")["state"] == "ramping"
        assert steering.act("set", weight="7.5%")["weight"] == 7.5
        assert steering.act("undo")["weight"] == 50.0
        assert steering.act("promote")["weight"] == 100.0
        assert steering.act("promote")["state"] == "done"
        assert shares(router, 20) == {"v2": 20}
        history = [(event["state"], event["who"]) for event in steering.get()["history"]]
        assert history[0] == ("ramping", "ada") and history[-1] == ("done", "somebody")
        (line,) = router.said("rollout-done")
        assert line["data"]["route"] == "shop.test" and line["data"]["version"] == "v2"
        assert router.stop() == 0


def test_steps_advance_by_themselves(server: NatsServer, instances: list[Instance], tmp_path: Path) -> None:
    with Router(*flags(server, tmp_path)) as router:
        there(router, server, instances)
        steering = Steering(tmp_path / "admin.sock")
        steering.start(steps=["50%", "80%"], hold="1s", abort_if={"latency": False}, pause_at=["80%"])
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():
                ask(router)

        worker = threading.Thread(target=load)
        worker.start()
        try:
            shown = steering.until("paused", 80.0)
        finally:
            stop.set()
            worker.join()
        assert shown["paused_by"] == "step" and shown["history"][-1]["who"] == "timer"
        rows = {row["name"]: row for row in shown["versions"]}
        assert rows["v2"]["users"] > 0 and rows["v2"]["endpoints"] == 1 and rows["v1"]["endpoints"] == 2
        assert rows["v2"]["p50_ms"] > 0


def test_a_canary_that_fails_goes_back_by_itself(server: NatsServer, instances: list[Instance], tmp_path: Path) -> None:
    with Router(*flags(server, tmp_path)) as router:
        there(router, server, instances)
        instances[2].status = 500
        steering = Steering(tmp_path / "admin.sock")
        steering.start(steps=["10%", "100%"], **STEADY)
        failed = 0
        end = time.monotonic() + 60
        while steering.state()[0] == "ramping" and time.monotonic() < end:
            if ask(router)[0] == 500:
                failed += 1
                # How fast it is taken back is not what is counted here, but how many users that takes.
                until(
                    lambda wanted=failed: steering.state()[0] != "ramping" or len(steering.get()["evidence"]) >= wanted
                )  # type: ignore[misc]
        shown = steering.until("aborted")
        assert failed <= 5
        assert shares(router, 100) == {"v1": 100}
        last = shown["history"][-1]
        assert last["who"] == "verdict" and last["evidence"]
        why = steering.client.call("GET", route_path("shop.test", "why"))
        assert "at a share of 10.00" in why["verdict"]["reason"]
        assert why["verdict"]["state"] == "worse" and why["verdict"]["log_e"] >= why["verdict"]["limit"]
        assert {each["status"] for each in why["evidence"]} == {500}
        assert all(each["request_id"] and each["path"] == "/" for each in why["evidence"])
        # An abort is no end for testers, but for everybody else; undo counts anew.
        instances[2].status = 200
        shown = steering.act("undo")
        assert (shown["state"], shown["weight"]) == ("ramping", 10.0) and shown["verdict"]["log_e"] == pytest.approx(0)


def test_a_restart_in_the_middle(server: NatsServer, instances: list[Instance], tmp_path: Path) -> None:
    command = flags(server, tmp_path)
    steering = Steering(tmp_path / "admin.sock")
    with Router(*command) as router:
        there(router, server, instances)
        steering.start(steps=["20%", "40%"], **STEADY)
        steering.act("promote", who="ada")
        clients = [ask(router) for _ in range(50)]
        until(lambda: sum(row["requests"] for row in steering.get()["versions"]) >= 50)
        before = steering.get()
        assert router.stop() == 0
    with Router(*command) as router:
        there(router, server, instances)
        until(lambda: steering.get()["unfit"] is None)
        after = steering.get()
        for key in ("id", "epoch", "state", "weight", "history", "spec", "steps"):
            assert after[key] == before[key], key
        assert [ask(router, cookie)[1] for _, _, cookie in clients] == [version for _, version, _ in clients]
        assert steering.act("abort")["state"] == "aborted"
        router.kill()
    with Router(*command) as router:
        assert steering.get()["state"] == "aborted"
        there(router, server, instances)
        until(lambda: steering.get()["unfit"] is None)
        assert shares(router, 30) == {"v1": 30}


def test_a_broken_state_file_is_told_and_the_router_serves(
    server: NatsServer, instances: list[Instance], tmp_path: Path
) -> None:
    (tmp_path / "state.json").write_text('{"format": "gorouter-py state", "version": 1, "entries"')
    with Router(*flags(server, tmp_path)) as router:
        there(router, server, instances)
        (line,) = router.said("state-corrupt")
        assert line["data"]["file"].endswith("state.json") and "mend" in line["data"]
        assert ask(router)[0] == 200
        assert (tmp_path / "state.json.corrupt").exists()
        assert Steering(tmp_path / "admin.sock").start(steps=["50%"], **STEADY)["state"] == "ramping"


def test_the_configuration_file_starts_one(server: NatsServer, instances: list[Instance], tmp_path: Path) -> None:
    config = tmp_path / "router.yml"
    entry = {"route": "shop.test", "to": "v2", "steps": ["30%"], "why": "from the file", **STEADY}
    config.write_text(json.dumps({"gorouter_py": {"rollouts": [entry]}}))
    command = flags(server, tmp_path, "--config", str(config))
    steering = Steering(tmp_path / "admin.sock")
    with Router(*command) as router:
        router.saw("rollout-waits")
        assert steering.get()["state"] == "idle" and "no route" in steering.get()["waits_for"]
        there(router, server, instances)
        shown = steering.until("ramping", 30.0)
        assert (shown["history"][0]["who"], shown["history"][0]["why"]) == ("config", "from the file")
        steering.act("abort")
        assert router.stop() == 0
    with Router(*command) as router:  # what a person did counts for more than the file
        there(router, server, instances)
        assert steering.get()["state"] == "aborted"


def test_a_rollout_of_the_file_that_is_none_is_refused_with_its_line(tmp_path: Path) -> None:
    config = tmp_path / "router.yml"
    config.write_text(
        "gorouter_py:\n  rollouts:\n    - route: shop.test\n      to: v2\n      steps:\n        - 5%\n        - 2%\n"
    )
    with Router("--route", "a.test=127.0.0.1:9", "--config", str(config), wait_for=None) as router:
        assert router.wait() != 0
        assert f"{config}:7:" in "".join(router.complaints) and "growing weights" in "".join(router.complaints)


def test_the_bus_starts_and_steers_one(server: NatsServer, instances: list[Instance], tmp_path: Path) -> None:
    def request(subject: str, body: dict[str, Any] | bytes) -> dict[str, Any]:
        async def scenario(client: Any) -> Any:
            payload = body if isinstance(body, bytes) else json.dumps(body).encode()
            return json.loads((await client.request(subject, payload, timeout=30)).data)

        found: dict[str, Any] = server.run(scenario)
        return found

    with Router(*flags(server, tmp_path)) as router:
        there(router, server, instances)
        start, action = "gorouter.rollout.start", "gorouter.rollout.action"
        assert request(start, b"{")["error"] == "no_json"
        assert "route" in request(start, {"to": "v2"})["reason"]
        assert "no instance" in request(start, {"route": "shop.test", "to": "v9"})["reason"]
        shown = request(start, {"route": "shop.test", "to": "v2", "steps": ["10%", "20%"], "who": "bot", **STEADY})
        assert (shown["state"], shown["history"][-1]["who"]) == ("ramping", "bot")

        async def listen(client: Any) -> dict[str, Any]:
            told = await client.subscribe("gorouter.rollout.shop.test")
            await client.flush()
            body = {"route": "shop.test", "action": "promote", "who": "bot", "why": "on"}
            await client.request(action, json.dumps(body).encode(), timeout=30)
            found: dict[str, Any] = json.loads((await told.next_msg(timeout=30)).data)
            return found

        told = server.run(listen)
        assert (told["state"], told["weight"], told["who"], told["why"]) == ("ramping", 20.0, "bot", "on")
        assert told["epoch"] == 2 and told["router"]
        assert "unknown_action" in request(action, {"route": "shop.test", "action": "stop"})["error"]
        assert request(action, {"route": "shop.test", "action": "set", "weight": 3})["weight"] == 3.0


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("GET", "/v1/rollouts/none.test", None, 404, "has no rollout"),
        ("PUT", "/v1/rollouts/none.test", {"to": "v2"}, 404, "no route 'none.test'"),
        ("PUT", "/v1/rollouts/shop.test", {}, 422, "to: it is missing"),
        ("PUT", "/v1/rollouts/shop.test", {"to": "v9"}, 422, "v1 (2), v2 (1)"),
        ("PUT", "/v1/rollouts/shop.test", {"to": "v2", "steps": ["2%", "1%"]}, 422, "steps[1]"),
        ("PUT", "/v1/rollouts/shop.test", {"to": "v2", "checks": [{"kind": "ask"}]}, 422, "checks[0].kind"),
        ("POST", "/v1/rollouts/shop.test/actions/promote", {}, 404, "has no rollout"),
        ("POST", "/v1/rollouts/shop.test/actions/stop", {}, 404, "valid: promote"),
        ("POST", "/v1/rollouts/shop.test/actions/set", {}, 422, "weight"),
        ("POST", "/v1/rollouts/shop.test/actions/set", {"wieght": 5}, 422, "wieght: unknown key"),
        ("POST", "/v1/rollouts/shop.test/explain", {"headers": {"a b": "x"}}, 422, "no name of a header"),
        ("POST", "/v1/rollouts/shop.test/explain", {"cookie": "a\r\nb"}, 422, "control characters"),
    ],
)
def test_every_error_has_a_reason(
    asked: tuple[Router, Steering], method: str, path: str, body: Any, status: int, said: str
) -> None:
    with pytest.raises(AdminError) as caught:
        asked[1].client.call(method, path, body)
    assert caught.value.status == status and said in str(caught.value)


@pytest.fixture(scope="module")
def asked(server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Router, Steering]]:
    folder = tmp_path_factory.mktemp("asked")
    with ExitStack() as stack:
        instances = [stack.enter_context(Instance(version)) for version in ("v1", "v1", "v2")]
        router = stack.enter_context(Router(*flags(server, folder)))
        there(router, server, instances)
        yield router, Steering(folder / "admin.sock")


def test_what_is_offered_is_what_the_document_says(asked: tuple[Router, Steering]) -> None:
    import jsonschema
    import openapi_spec_validator

    router, steering = asked
    document = steering.client.call("GET", "/v1/openapi.json")
    openapi_spec_validator.validate(document)
    one = "/v1/rollouts/{route}"
    offered = {(method, path) for path, rows in document["paths"].items() for method in rows}
    paths = {(method, path) for method, path in offered if path.startswith("/v1/rollouts")}
    assert paths == {
        ("get", "/v1/rollouts"), ("get", one), ("put", one), ("delete", one), ("post", one + "/actions/{action}"),
        ("get", one + "/events"), ("get", one + "/why"), ("post", one + "/explain"),
    }  # fmt: skip

    def check(name: str, value: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(value)

    route = "other.test"
    other = Steering(Path(steering.client.where), route)
    with Instance("v1") as old, Instance("v2") as new:
        register_on(router, route, old, new)
        body = {"to": "v2", "steps": ["5%", "10%"], "override": {"allow": True}, **STEADY}
        check("RolloutStart", body)
        check("Rollout", other.start(**body))
        for _ in range(5):
            ask(router, route=route)
        check("Rollout", other.act("promote"))
        check("Rollout", next(other.client.events(route_path(route, "events"))))
        check("Rollouts", other.client.call("GET", "/v1/rollouts"))
        check("RolloutWhy", other.client.call("GET", route_path(route, "why")))
        question = {"headers": {"X-Canary": "v2"}, "address": "192.0.2.7"}
        check("RolloutQuestion", question)
        explained = other.client.call("POST", route_path(route, "explain"), question)
        check("RolloutExplanation", explained)
        assert (explained["version_name"], explained["reason"]) == ("v2", "override")
        cookie = ask(router, route=route)[2]
        explained = other.client.call("POST", route_path(route, "explain"), {"cookie": f"gr_c={cookie}"})
        assert explained["reason"] == "cookie" and explained["version_name"] == ask(router, cookie, route)[1]
        shown = [
            'gorouter_canary_weight{route="other.test",version="v2"} 10.0',
            'gorouter_canary_share{route="other.test",version="v1"}',
            'gorouter_canary_requests_total{route="other.test",version="v1"}',
            'gorouter_canary_log_evalue{route="other.test"}',
            'gorouter_canary_decision_total{action="promote"}',
            'gorouter_canary_response_head_seconds_bucket{le="+Inf",route="other.test",version="v1"}',
        ]

        def missing() -> list[str]:
            text = fetch(router.admin_port, "/metrics")[2].decode()
            return [line for line in shown if line not in text]

        until(lambda: not missing(), f"{shown} in /metrics")


def register_on(router: Router, route: str, *instances: Instance) -> None:
    """Registers instances on a route through the bus that the router listens to."""
    command = router._command
    port = int(command[command.index("--nats") + 1].rpartition(":")[2])
    server = NatsServer(port)
    register(server, list(instances), route)
    until(lambda: len(router.routes().get(route, ())) == len(instances))


def test_followers_hear_of_changes(asked: tuple[Router, Steering]) -> None:
    router, steering = asked
    other = Steering(Path(steering.client.where), "third.test")
    with Instance("v1") as old, Instance("v2") as new:
        register_on(router, "third.test", old, new)
        other.start(steps=["5%", "10%"], **STEADY)
        events = other.client.events(route_path("third.test", "events"))
        assert next(events)["weight"] == 5.0
        other.act("promote")
        assert next(found for found in events if found["weight"] != 5.0)["weight"] == 10.0
        events.close()  # type: ignore[attr-defined]


def test_states_of_the_schema_are_those_there_are() -> None:
    assert set(rollout_states.ENDED) | set(rollout_states.ACTIVE) | {"idle"} == set(rollout_states.MOVES)


def test_no_rollout_makes_a_route_unreachable(server: NatsServer, instances: list[Instance], tmp_path: Path) -> None:
    """Whoever goes, what is left serves everybody: canary, stable, versions nobody has named."""
    old, _, new = instances
    with Router(*flags(server, tmp_path)) as router, Instance("v3") as other:
        there(router, server, instances)
        steering = Steering(tmp_path / "admin.sock")
        steering.start(steps=["50%", "100%"], **STEADY)

        def only(*left: Instance) -> None:
            for each in [*instances, other]:
                if each in left:
                    register(server, [each])
                else:
                    server.unregister("shop.test", each.port)
            ports = {f"127.0.0.1:{each.port}" for each in left}
            until(lambda: {row["address"] for row in router.routes().get("shop.test", ())} == ports)

        for left in ([old], [new], [old, new], [other], [new, other], [old, new]):
            only(*left)
            until(lambda: steering.get()["unfit"] is None)
            answers = [ask(router) for _ in range(20)]
            assert {status for status, _, _ in answers} == {200}, left
            assert {version for _, version, _ in answers} <= {each.version for each in left}
        for end in ("abort", "undo", "promote", "promote"):  # whatever state it is in
            steering.act(end)
            for left in ([old], [new], [other]):
                only(*left)
                assert {ask(router)[0] for _ in range(10)} == {200}, (end, left)
        assert steering.get()["state"] == "done"

"""Two routers and one bucket: one decides, both apply; what happens when the bus, the decider or the bucket goes."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.system.canary import Instance, Steering, ask, register, shares
from tests.system.harness import NatsServer, Router, until

STEADY: dict[str, Any] = {"hold": "1h", "max_hold": "2h"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    folder = tmp_path_factory.mktemp("jetstream")
    with NatsServer(arguments=("-js", "-sd", str(folder))) as running:
        yield running


@pytest.fixture
def instances() -> Iterator[list[Instance]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Instance(version)) for version in ("v1", "v1", "v2")]


def router(server: NatsServer, folder: Path, name: str, bucket: str) -> Router:
    config = folder / f"{name}.yml"
    config.write_text(json.dumps({"gorouter_py": {"state_bucket": bucket, "node": name}}))
    return Router(
        "--nats", f"nats://127.0.0.1:{server.port}", "--admin-socket", str(folder / f"{name}.sock"),
        "--state-file", str(folder / f"{name}.json"), "--config", str(config),
    )  # fmt: skip


def there(routers: list[Router], server: NatsServer, instances: list[Instance]) -> None:
    for each in routers:
        each.saw("subscriber-started")
        each.saw("state-bucket-followed")
    register(server, instances)
    for each in routers:
        until(lambda each=each: len(each.routes().get("shop.test", ())) == len(instances))  # type: ignore[misc]


def deciders(*steerings: Steering) -> list[bool]:
    return [bool(each.get()["decider"]) for each in steerings]


def test_one_decides_and_both_apply(server: NatsServer, instances: list[Instance], tmp_path: Path) -> None:
    with router(server, tmp_path, "one", "apply") as first, router(server, tmp_path, "two", "apply") as second:
        there([first, second], server, instances)
        one, two = (Steering(tmp_path / f"{name}.sock") for name in ("one", "two"))
        until(lambda: "decider" in one.start(steps=["30%", "60%"], **STEADY))
        two.until("ramping", 30.0)
        until(lambda: sorted(deciders(one, two)) == [False, True])
        clients = [ask(first) for _ in range(60)]
        assert {version for _, version, _ in clients} == {"v1", "v2"}
        # They agree about every user without talking.
        assert [ask(second, cookie)[1] for _, _, cookie in clients] == [version for _, version, _ in clients]
        assert two.act("promote", who="ada")["weight"] == 60.0
        one.until("ramping", 60.0)
        assert one.get()["epoch"] == two.get()["epoch"] == 2
        # Another weight is in force at both, whoever was told.
        one.act("set", weight="0%")
        two.until("paused", 0.0)
        assert shares(second, 30) == {"v1": 30}
        two.act("undo")
        one.until("ramping", 60.0)
        cookies = [cookie for _, _, cookie in clients]
        assert [ask(first, each)[1] for each in cookies] == [ask(second, each)[1] for each in cookies]
        # A dead canary: whoever decides, both take it back.
        instances[2].status = 500
        end = time.monotonic() + 60
        while (one.state()[0], two.state()[0]) == ("ramping", "ramping") and time.monotonic() < end:
            ask(first), ask(second)
        shown = [each.until("aborted") for each in (one, two)]
        assert shown[0]["history"] == shown[1]["history"] and shown[0]["epoch"] == shown[1]["epoch"]
        assert shares(first, 30) == shares(second, 30) == {"v1": 30}


def test_evidence_of_routers_adds_up(server: NatsServer, instances: list[Instance], tmp_path: Path) -> None:
    with router(server, tmp_path, "one", "adds") as first, router(server, tmp_path, "two", "adds") as second:
        there([first, second], server, instances)
        one, two = (Steering(tmp_path / f"{name}.sock") for name in ("one", "two"))
        one.start(steps=["30%"], abort_if={"alpha": 1e-8, "latency": False}, **STEADY)
        two.until("ramping", 30.0)
        instances[2].status = 500
        wanted = 0
        while wanted < 3:
            wanted += ask(second)[0] == 500

        def seen() -> list[float]:
            return [each.get()["verdict"]["metrics"]["errors"]["log_e"] for each in (one, two)]

        until(lambda: seen()[1] > 0 and seen()[0] == pytest.approx(seen()[1]))
        assert one.get()["verdict"]["metrics"]["errors"]["canary"] == 0  # it saw none of them itself


def test_another_router_decides_when_the_first_has_gone(
    server: NatsServer, instances: list[Instance], tmp_path: Path
) -> None:
    with router(server, tmp_path, "one", "gone") as first, router(server, tmp_path, "two", "gone") as second:
        there([first, second], server, instances)
        steerings = {name: Steering(tmp_path / f"{name}.sock") for name in ("one", "two")}
        steerings["one"].start(steps=["20%"], **STEADY)
        steerings["two"].until("ramping", 20.0)
        until(lambda: sorted(deciders(*steerings.values())) == [False, True])
        holder = "one" if steerings["one"].get()["decider"] else "two"
        other = "two" if holder == "one" else "one"
        {"one": first, "two": second}[holder].kill()
        until(lambda: steerings[other].get()["decider"])
        assert steerings[other].act("promote")["state"] == "done"


def test_while_the_bus_is_away_an_abort_still_counts(instances: list[Instance], tmp_path: Path) -> None:
    with NatsServer(arguments=("-js", "-sd", str(tmp_path / "js"))) as server:
        with router(server, tmp_path, "one", "away") as first:
            there([first], server, instances)
            one = Steering(tmp_path / "one.sock")
            one.start(steps=["50%", "80%"], **STEADY)
            server.stop()
            first.saw("nats-connection-disconnected")
            with pytest.raises(Exception, match="could not be kept"):
                one.act("promote")
            assert one.act("abort", who="ada")["state"] == "aborting"
            assert shares(first, 20) == {"v1": 20}
            server.start()
            shown = one.until("aborted")
            assert [event["state"] for event in shown["history"]] == ["ramping", "aborted"]
            assert first.stop() == 0
        # A start while the bus is away knows what was heard last.
        server.stop()
        static = ["--route", f"shop.test=127.0.0.1:{instances[0].port}"]
        config = str(tmp_path / "one.yml")
        with Router(
            "--nats", f"nats://127.0.0.1:{server.port}", "--admin-socket", str(tmp_path / "one.sock"),
            "--state-file", str(tmp_path / "one.json"), "--config", config, *static,
        ):  # fmt: skip
            assert one.get()["state"] == "aborted"


def test_a_bucket_that_was_lost_is_written_again(instances: list[Instance], tmp_path: Path) -> None:
    with NatsServer(arguments=("-js", "-sd", str(tmp_path / "js"))) as server:
        with router(server, tmp_path, "one", "lost") as first:
            there([first], server, instances)
            one = Steering(tmp_path / "one.sock")
            one.start(steps=["50%", "80%"], **STEADY)

            async def drop(client: Any) -> None:
                await client.jetstream().delete_key_value("lost")

            server.run(drop)
            server.stop()
            server.start()  # the follower connects anew, and finds no bucket
            first.saw("state-entry-written-again")
            assert shares(first, 40).keys() == {"v1", "v2"}
            until(lambda: first.said("state-bucket-followed")[1:])
            assert one.act("promote")["weight"] == 80.0


def test_without_jetstream_it_is_told(tmp_path: Path, instances: list[Instance]) -> None:
    with NatsServer() as server, router(server, tmp_path, "one", "none") as first:
        first.saw("subscriber-started")
        line = first.saw("state-bucket-unavailable")
        assert "JetStream" in line["data"]["mend"]
        register(server, instances)
        until(lambda: len(first.routes().get("shop.test", ())) == 3)
        assert ask(first)[0] == 200

"""The port map of a router process: by its file, its command, its admin API and the bus; kept over a restart."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gorouter_py.control.admin_client import AdminClient, AdminError
from tests.system.harness import ROOT, Backend, NatsServer, Router, fetch, free_ports, until


def ports(socket_path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`gorouter-py ports ...`, run as a user would."""
    command = [sys.executable, "-m", "gorouter_py", "ports", *arguments, "--socket", str(socket_path)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


def closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def served(port: int) -> tuple[int, bytes]:
    status, _, body = fetch(port, "/", {"Host": f"127.0.0.1:{port}"})
    return status, body


def test_ports_come_and_go_by_command(tmp_path: Path) -> None:
    admin, (one, other) = tmp_path / "admin", free_ports(2)
    with Backend(b"shop") as shop, Backend(b"blog") as blog:
        flags = ("--workers", "2", "--route", f"shop.test=127.0.0.1:{shop.port}", "--route",
                 f"blog.test=127.0.0.1:{blog.port}", "--admin-socket", str(admin),
                 "--state-file", str(tmp_path / "state"))  # fmt: skip
        with Router(*flags) as router:
            added = ports(admin, "add", f"127.0.0.1:{one}", "shop.test", "--cookie", "SID")
            assert (added.returncode, added.stdout) == (0, f"127.0.0.1:{one} is shop.test now\n"), added.stderr
            assert served(one) == (200, b"shop")
            unrouted = ports(admin, "add", f"127.0.0.1:{other}", "nobody.test")
            assert unrouted.returncode == 0 and "has no route now" in unrouted.stderr
            assert served(other)[0] == 404
            replaced = ports(admin, "add", f"127.0.0.1:{other}", "blog.test", "--replace", "--json")
            assert json.loads(replaced.stdout)["routed"] is True, replaced.stderr
            assert served(other) == (200, b"blog")

            for arguments, reason in (
                (("add", f"0.0.0.0:{one}", "blog.test"), "overlaps"),
                (("add", f"127.0.0.1:{one}", "blog.test"), "is mapped to shop.test already"),
                (("add", f"127.0.0.1:{router.port}", "blog.test"), "address already in use"),
                (("add", "auto", "blog.test"), "no range"),
                (("remove", "127.0.0.1:1"), "not in the port map"),
            ):
                refused = ports(admin, *arguments)
                assert refused.returncode == 1 and reason in refused.stderr, refused
            assert ports(admin, "add", "nonsense", "blog.test").returncode == 2

            listed = ports(admin, "list")
            assert listed.returncode == 0
            assert [line.split() for line in listed.stdout.splitlines()] == sorted(
                [
                    ["LISTEN", "HOST", "COOKIES", "ORIGIN", "STATE"],
                    [f"127.0.0.1:{one}", "shop.test", "SID", "added", "open"],
                    [f"127.0.0.1:{other}", "blog.test", "-", "added", "open"],
                ],
                key=lambda row: (row[0] != "LISTEN", row[0]),
            )
            removed = ports(admin, "remove", f"127.0.0.1:{other}")
            assert removed.returncode == 0, removed.stderr
            assert closed(other)
            assert router.serves("blog.test", b"blog")
            assert router.stop() == 0
        with Router(*flags) as router:
            assert served(one) == (200, b"shop")
            assert closed(other)
            assert router.stop() == 0


def test_the_file_maps_ports_and_a_taken_one_waits(tmp_path: Path) -> None:
    (first, taken), config = free_ports(2), tmp_path / "gorouter.yml"
    with Backend(b"shop") as shop, socket.socket() as holder:
        holder.bind(("127.0.0.1", taken))
        holder.listen()
        mapped = [{"listen": f"127.0.0.1:{port}", "host": "shop.test"} for port in (first, taken)]
        config.write_text(json.dumps({"gorouter_py": {"port_map": mapped, "port_map_trusted": ["10.0.0.0/8"]}}))
        admin = tmp_path / "admin"
        flags = ("--route", f"shop.test=127.0.0.1:{shop.port}", "--config", str(config), "--admin-socket", str(admin))
        with Router(*flags) as router:
            assert served(first) == (200, b"shop")
            assert "already in use" in router.saw("port-not-opened")["data"]["error"]
            waiting = ports(admin, "list")
            assert waiting.returncode == 1 and "already in use" in waiting.stdout
            refused = ports(admin, "remove", f"127.0.0.1:{first}")
            assert refused.returncode == 1 and "configuration file" in refused.stderr
            holder.close()
            router.saw("port-opened", 2)
            assert served(taken) == (200, b"shop")


@pytest.mark.parametrize(
    ("own", "where", "reason"),
    [
        ({"port_map": [{"listen": "x", "host": "a.test"}]}, "port_map[0].listen", "no address to listen on"),
        ({"port_map": [{"listen": ":1", "host": "a b"}]}, "port_map[0].host", "no host of an app"),
        ({"port_map": [{"listen": ":1", "host": "a", "cookies": ["a b"]}]}, "port_map[0].cookies", "name of a cookie"),
        (
            {"port_map": [{"listen": ":1", "host": "a"}, {"listen": "127.0.0.1:1", "host": "b"}]},
            "port_map[1].listen",
            "127.0.0.1:1 overlaps 0.0.0.0:1, which is mapped to a",
        ),
        ({"port_map_range": "9-1"}, "port_map_range", "ends before it begins"),
        ({"port_map_trusted": ["10.0.0.1/8"]}, "port_map_trusted[0]", "no network"),
        ({"port_map_trusted": ["10.0.0.0/8"] * 65}, "port_map_trusted", "too many"),
    ],
)
def test_what_the_file_may_not_say(tmp_path: Path, own: dict[str, Any], where: str, reason: str) -> None:
    from gorouter_py.control import config

    path = tmp_path / "gorouter.yml"
    path.write_text(json.dumps({"gorouter_py": own}))
    with pytest.raises(config.ConfigError) as caught:
        config.load(str(path))
    assert [problem.path for problem in caught.value.problems] == [f"gorouter_py.{where}"]
    assert reason in str(caught.value)


def test_ports_are_handed_out_over_the_bus(tmp_path: Path, free_port: Callable[[], int]) -> None:
    config = tmp_path / "gorouter.yml"
    first = free_port()
    config.write_text(json.dumps({"gorouter_py": {"port_map_range": f"127.0.0.1:{first}-{first + 50}"}}))
    with NatsServer() as nats, Backend(b"shop") as shop:
        with Router("--nats", f"nats://127.0.0.1:{nats.port}", "--config", str(config)) as router:
            router.saw("subscriber-started")
            nats.register("shop.test", shop.port)
            until(lambda: router.serves("shop.test", b"shop"))

            def ask(verb: str, **value: Any) -> dict[str, Any]:
                async def request(client: Any) -> Any:
                    return await client.request(f"router.ports.{verb}", json.dumps(value).encode(), timeout=20)

                found: dict[str, Any] = json.loads(nats.run(request).data)
                return found

            added = ask("add", listen="auto", host="shop.test")
            assert added["open"] and added["routed"], added
            port = int(added["listen"].rpartition(":")[2])
            assert first <= port <= first + 50
            assert served(port) == (200, b"shop")
            assert ask("list") == {"ports": [added]}
            assert ask("add", listen=added["listen"], host="other.test")["error"] == "port_mapped"
            assert ask("remove", listen=added["listen"])["host"] == "shop.test"
            assert closed(port)


def test_routers_share_the_map(tmp_path: Path) -> None:
    """Of two routers on one machine the second one waits for the port, and has it when the first one has gone."""
    (port,) = free_ports(1)
    listen = f"127.0.0.1:{port}"
    with NatsServer(arguments=("-js", "-sd", str(tmp_path / "jetstream"))) as nats, Backend(b"shop") as shop:
        config = tmp_path / "gorouter.yml"
        config.write_text(json.dumps({"gorouter_py": {"state_bucket": "ports"}}))
        admins = [tmp_path / "one", tmp_path / "two"]
        routers = [
            Router("--nats", f"nats://127.0.0.1:{nats.port}", "--config", str(config), "--admin-socket", str(admin),
                   "--route", f"shop.test=127.0.0.1:{shop.port}")
            for admin in admins
        ]  # fmt: skip
        one, two = (AdminClient(str(admin)) for admin in admins)
        with routers[0] as first, routers[1] as second:
            for router in (first, second):
                router.saw("state-bucket-followed")
            until(lambda: added(one, listen), "the bucket cannot be written")
            assert served(port) == (200, b"shop")
            until(lambda: two.call("GET", "/v1/ports")["ports"], "the other router did not hear of it")
            assert "already in use" in second.saw("port-not-opened")["data"]["error"]
            with pytest.raises(AdminError, match=r"is mapped to shop\.test already"):
                two.call("POST", "/v1/ports", {"listen": listen, "host": "blog.test"})
            assert first.stop() == 0
            second.saw("port-opened")
            assert served(port) == (200, b"shop")
            two.call("DELETE", f"/v1/ports/{listen}")
            assert closed(port)


def added(client: AdminClient, listen: str) -> bool:
    try:
        return bool(client.call("POST", "/v1/ports", {"listen": listen, "host": "shop.test"})["open"])
    except AdminError as error:
        assert error.code == "not_kept", error
        return False

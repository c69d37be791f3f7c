"""Create to destroy: states, texts of errors, grace time, limits as they are kept."""

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import until
from tests.system.warden.servers import WardenServer, create, info, refused, run, spawn, supervisors
from warden.client import BlockingClient, WardenError
from warden.protocol import pb


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WardenServer]:
    settings = {
        "server": {"unix_domain_permissions": 0o700},
        "network": {"pool_network": "10.254.0.0/28"},
        "port": {"pool_start_port": 61000, "pool_size": 1000},
    }
    with WardenServer(tmp_path_factory.mktemp("warden"), settings) as running:
        yield running


def test_mode_of_the_socket(server: WardenServer) -> None:
    assert stat.S_IMODE(os.stat(server.socket).st_mode) == 0o700


def test_the_engine_says_loudly_what_it_does_not_isolate(server: WardenServer) -> None:
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if "INSECURE" in line]
    assert [line["log_level"] for line in lines] == [2], "a warning, once a start"
    assert lines[0]["message"].startswith("THE INSECURE ENGINE ISOLATES NOTHING: ")
    for word in ("files", "processes", "user", "network", "memory", "CPU", "disk", "bandwidth"):
        assert word in lines[0]["message"], word


def test_a_whole_life(server: WardenServer, client: BlockingClient) -> None:
    handle = create(client)
    assert re.fullmatch(r"[0-9a-v]{11}", handle)
    assert list(client.call(pb.ListRequest()).handles) == [handle]
    shown = info(client, handle)
    assert (shown.state, list(shown.events), list(shown.job_ids)) == ("active", [], [])
    assert shown.container_path == str(server.depot / handle)
    host, container = (address.rpartition(".") for address in (shown.host_ip, shown.container_ip))
    assert (host[0], container[0]) == ("10.254.0", "10.254.0")
    assert int(host[2]) % 4 == 1
    assert int(container[2]) == int(host[2]) + 1
    client.call(pb.StopRequest(handle=handle))
    assert info(client, handle).state == "stopped"
    client.call(pb.StopRequest(handle=handle))
    client.call(pb.DestroyRequest(handle=handle))
    assert list(client.call(pb.ListRequest()).handles) == []
    assert not (server.depot / handle).exists()
    assert supervisors(server.depot) == []


def test_handles(client: BlockingClient) -> None:
    assert create(client, handle="häus ☃") == "häus ☃"
    with refused("container with handle: häus ☃ already exists."):
        create(client, handle="häus ☃")
    client.call(pb.DestroyRequest(handle="häus ☃"))
    assert create(client, handle="häus ☃") == "häus ☃"


HANDLED = [
    pb.StopRequest(handle="no"), pb.DestroyRequest(handle="no"), pb.InfoRequest(handle="no"),
    pb.SpawnRequest(handle="no", script=b""), pb.LinkRequest(handle="no", job_id=1),
    pb.RunRequest(handle="no", script=b""), pb.StreamRequest(handle="no", job_id=1), pb.NetInRequest(handle="no"),
    pb.NetOutRequest(handle="no"), pb.CopyInRequest(handle="no", src_path="a", dst_path="b"),
    pb.CopyOutRequest(handle="no", src_path="a", dst_path="b"), pb.LimitMemoryRequest(handle="no"),
    pb.LimitCpuRequest(handle="no"), pb.LimitBandwidthRequest(handle="no", rate=1, burst=1),
    pb.LimitDiskRequest(handle="no"),
]  # fmt: skip


@pytest.mark.parametrize("request_", HANDLED, ids=[type(each).__name__ for each in HANDLED])
def test_unknown_handle(client: BlockingClient, request_: object) -> None:
    with refused("unknown handle"):
        client.call(request_)
    client.call(pb.PingRequest())


def test_destroyed_twice(client: BlockingClient) -> None:
    handle = create(client)
    client.call(pb.DestroyRequest(handle=handle))
    with refused("unknown handle"):
        client.call(pb.DestroyRequest(handle=handle))


def test_destroyed_by_two_at_once(server: WardenServer, client: BlockingClient) -> None:
    handle = create(client)
    spawn(client, handle, "while :; do sleep 0.1; done")
    with server.client() as first, server.client() as second:
        for each in (first, second):
            each.send(pb.DestroyRequest(handle=handle))
        answers = []
        for each in (first, second):
            try:
                answers.append(type(each.receive()).__name__)
            except WardenError as error:
                answers.append(str(error))
    assert sorted(answers) == ["DestroyResponse", "unknown handle"]


def test_destroyed_while_a_job_begins(tmp_path: Path) -> None:
    """Its first program has not yet what marks it as the container's: the end waits for it and takes it along."""
    slow = tmp_path / "bin" / "prlimit"
    slow.parent.mkdir()
    slow.write_text('#!/bin/sh\ntouch begun\nsleep 1\nexec /usr/bin/prlimit "$@"\n')
    slow.chmod(0o755)
    settings = {"port": {"pool_start_port": 61000, "pool_size": 1000}}
    server = WardenServer(tmp_path, settings)
    server.program = ["env", f"PATH={slow.parent}:{os.environ['PATH']}", *server.program]
    with server, server.client() as client:
        handle = create(client)
        spawn(client, handle, "exec sleep 1000")
        until((server.depot / handle / "root" / "begun").exists, "the job does not begin")
        client.call(pb.DestroyRequest(handle=handle))
        assert not server.lines("jobs of a stopped container do not end")
        assert supervisors(server.depot) == []


def test_what_a_stopped_container_refuses(client: BlockingClient, tmp_path: Path) -> None:
    handle = create(client)
    client.call(pb.StopRequest(handle=handle))
    for request in (
        pb.SpawnRequest(handle=handle, script=b""), pb.RunRequest(handle=handle, script=b""),
        pb.NetInRequest(handle=handle), pb.NetOutRequest(handle=handle, network="1.1.1.1"),
        pb.CopyInRequest(handle=handle, src_path="/etc/hostname", dst_path="x"),
    ):  # fmt: skip
        with refused("Container state must be one of 'active', current state is 'stopped'"):
            client.call(request)
    client.call(pb.LimitMemoryRequest(handle=handle))
    client.call(pb.LimitCpuRequest(handle=handle))
    client.call(pb.LimitDiskRequest(handle=handle))
    client.call(pb.LimitBandwidthRequest(handle=handle, rate=1000, burst=1000))


def test_create_refuses(client: BlockingClient) -> None:
    mount = pb.CreateRequest.BindMount(src_path="/no/such", dst_path="/x", mode=pb.CreateRequest.BindMount.RO)
    with refused("Source path for bind mount does not exist: /no/such"):
        create(client, bind_mounts=[mount])
    with refused("Could not acquire network: 10.1.2.0"):
        create(client, network="10.1.2.0")
    assert list(client.call(pb.ListRequest()).handles) == []


def test_a_network_of_choice_and_a_pool_that_is_empty(client: BlockingClient) -> None:
    chosen = create(client, network="10.254.0.8")
    assert info(client, chosen).host_ip == "10.254.0.9"
    with refused("Could not acquire network: 10.254.0.8"):
        create(client, network="10.254.0.8")
    others = [create(client) for _ in range(3)]
    with refused("Could not acquire network"):
        create(client)
    client.call(pb.DestroyRequest(handle=others[0]))
    create(client)


def test_ports(client: BlockingClient) -> None:
    handle = create(client)
    first = client.call(pb.NetInRequest(handle=handle))
    second = client.call(pb.NetInRequest(handle=handle, container_port=8080))
    assert first.host_port == first.container_port
    assert first.host_port != second.host_port
    third = client.call(pb.NetInRequest(handle=handle, host_port=5000))
    assert (third.host_port, third.container_port) == (5000, 5000)
    for _ in range(998):
        client.call(pb.NetInRequest(handle=handle))
    with refused("no port available"):
        client.call(pb.NetInRequest(handle=handle))
    client.call(pb.DestroyRequest(handle=handle))
    client.call(pb.NetInRequest(handle=create(client)))


def test_rules_that_are_none(client: BlockingClient) -> None:
    handle = create(client)
    with refused("Please specify network, port, and/or port_range."):
        client.call(pb.NetOutRequest(handle=handle))
    with refused("Port range maximum must be greater than minimum"):
        client.call(pb.NetOutRequest(handle=handle, port_range="90:80"))
    client.call(pb.NetOutRequest(handle=handle, network="10.0.0.0/8", port_range="80:90"))


def test_limits_are_kept(client: BlockingClient) -> None:
    handle = create(client)
    assert client.call(pb.LimitMemoryRequest(handle=handle)).limit_in_bytes == 0x7FFFFFFFFFFFF000
    assert client.call(pb.LimitMemoryRequest(handle=handle, limit_in_bytes=1 << 30)).limit_in_bytes == 1 << 30
    assert client.call(pb.LimitMemoryRequest(handle=handle)).limit_in_bytes == 1 << 30
    assert client.call(pb.LimitCpuRequest(handle=handle)).limit_in_shares == 1024
    assert client.call(pb.LimitCpuRequest(handle=handle, limit_in_shares=100)).limit_in_shares == 100
    bandwidth = client.call(pb.LimitBandwidthRequest(handle=handle, rate=10, burst=20))
    assert (bandwidth.rate, bandwidth.burst) == (10, 20)
    assert client.call(pb.LimitDiskRequest(handle=handle, byte_limit=2000)).block_hard == 2
    assert client.call(pb.LimitDiskRequest(handle=handle, inode=7)).byte == 2048


def test_copy(client: BlockingClient, tmp_path: Path) -> None:
    handle = create(client)
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "file").write_text("hello")
    client.call(pb.CopyInRequest(handle=handle, src_path=f"{source}/", dst_path="app"))
    assert run(client, handle, "cat app/deep/file").stdout == b"hello"
    client.call(pb.StopRequest(handle=handle))
    client.call(pb.CopyOutRequest(handle=handle, src_path="app/deep", dst_path=str(tmp_path / "out")))
    assert (tmp_path / "out" / "deep" / "file").read_text() == "hello"
    with pytest.raises(WardenError, match=r"^command exited with failure: "):
        client.call(pb.CopyOutRequest(handle=handle, src_path="nothing", dst_path=str(tmp_path / "out")))


def test_grace_time(server: WardenServer, client: BlockingClient) -> None:
    def handles() -> set[str]:
        return set(client.call(pb.ListRequest()).handles)

    # `client` was there before these containers and uses none of them: it keeps none alive.
    with server.client() as first:
        kept = create(first, grace_time=3600)
        brief = create(first, grace_time=0)
        with server.client():  # refers to all there are
            first.close()
            assert handles() == {kept, brief}
        until(lambda: handles() == {kept}, "the grace time does not end")
    with server.client() as last:
        held = create(last, grace_time=0)
        info(client, held)
    assert handles() == {kept, held}  # a use keeps it, too
    until(lambda: supervisors(server.depot) == [], "a supervisor is left")

"""What limit requests and net_out mean."""

import pytest

from warden import limits
from warden.engine.api import UNLIMITED, Flow
from warden.errors import WardenError
from warden.limits import DiskQuota
from warden.protocol import pb


def quota(**fields: int) -> DiskQuota:
    return limits.disk_quota(DiskQuota(), pb.LimitDiskRequest(handle="h", **fields))


def test_bytes_are_rounded_up_to_blocks() -> None:
    assert quota(byte=1025) == DiskQuota(2, 2, 0, 0)
    assert quota(byte=1024) == DiskQuota(1, 1, 0, 0)
    assert quota(byte=0) == DiskQuota()


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"block_limit": 1, "block": 2}, (2, 2, 0, 0)),
        ({"block": 2, "block_soft": 3, "block_hard": 4}, (3, 4, 0, 0)),
        ({"block_limit": 1, "block_hard": 4}, (1, 4, 0, 0)),
        ({"byte_hard": 10240, "block_limit": 1}, (1, 1, 0, 0)),
        ({"byte_hard": 10240, "block_soft": 7}, (7, 10, 0, 0)),
        ({"inode_limit": 5, "inode": 6}, (0, 0, 6, 6)),
        ({"inode_hard": 9}, (0, 0, 0, 9)),
    ],
)
def test_later_names_win(fields: dict[str, int], wanted: tuple[int, ...]) -> None:
    assert quota(**fields) == DiskQuota(*wanted)


def test_what_is_not_mentioned_stays() -> None:
    old = DiskQuota(1, 2, 3, 4)
    assert limits.disk_quota(old, pb.LimitDiskRequest(handle="h", byte=5120)) == DiskQuota(5, 5, 3, 4)
    assert limits.disk_quota(old, pb.LimitDiskRequest(handle="h")) == old


def test_the_answer_has_twelve_fields() -> None:
    answer = pb.LimitDiskResponse(**DiskQuota(1, 2, 3, 4).answer())
    assert len(answer.ListFields()) == 12
    assert (answer.block_limit, answer.block, answer.block_soft, answer.block_hard) == (2, 2, 1, 2)
    assert (answer.byte_limit, answer.byte_soft, answer.byte_hard) == (2048, 1024, 2048)
    assert (answer.inode, answer.inode_soft) == (4, 3)


def test_the_hard_limit_is_enforced_or_the_only_one() -> None:
    assert (DiskQuota(1, 2, 3, 4).byte_limit, DiskQuota(1, 2, 3, 4).inode_limit) == (2048, 4)
    assert (DiskQuota(1, 0, 3, 0).byte_limit, DiskQuota(1, 0, 3, 0).inode_limit) == (1024, 3)


def test_rlimits_of_request_configuration_and_table() -> None:
    found = limits.rlimits({"nofile": 2048, "core": 1}, pb.ResourceLimits(core=7, nproc=0))
    assert len(found) == 15
    assert (found["core"], found["nofile"], found["nproc"], found["memlock"]) == (7, 2048, 0, 65536)
    assert found["as"] == UNLIMITED
    # One request's limits are not the next one's.
    assert limits.rlimits({"nofile": 2048, "core": 1}, pb.ResourceLimits())["core"] == 1


def flow(**fields: object) -> Flow:
    return limits.flow(pb.NetOutRequest(handle="h", **fields))  # type: ignore[arg-type]


def test_flows() -> None:
    assert flow(network="1.2.3.4") == Flow("1.2.3.4", None, "tcp", None, None, False)
    assert flow(port=53, protocol=pb.NetOutRequest.UDP) == Flow(None, (53, 53), "udp")
    assert flow(port_range="8080:9080", log=True) == Flow(None, (8080, 9080), "tcp", None, None, True)
    icmp = flow(network="1.1.1.0/24", protocol=pb.NetOutRequest.ICMP, icmp_type=0, icmp_code=3)
    assert icmp == Flow("1.1.1.0/24", None, "icmp", 0, 3)
    assert flow(network="1.2.3.4", protocol=pb.NetOutRequest.ALL).protocol == "all"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "^Please specify network, port, and/or port_range.$"),
        ({"protocol": 3}, "^Please specify network, port, and/or port_range.$"),
        ({"port_range": "9:8"}, "^Port range maximum must be greater than minimum$"),
        ({"port_range": "8:8"}, "^Port range maximum must be greater than minimum$"),
        ({"port_range": "8"}, "^command exited with failure: port_range '8' is not FIRST:LAST$"),
        ({"port_range": "8:70000"}, "70000 is no port"),
        ({"port": 1, "protocol": 2}, "^command exited with failure: protocol icmp has no ports$"),
    ],
)
def test_flows_that_are_none(fields: dict[str, object], text: str) -> None:
    with pytest.raises(WardenError, match=text):
        flow(**fields)

"""The rules as nft gets them. What they do is in the system tests."""

from pathlib import Path

import pytest

from warden.engine import firewall
from warden.engine.api import EngineError, Flow, Settings


def settings(**changes: object) -> Settings:
    return Settings(Path("/depot"), Path("/rootfs"), "10.254.0.0/24", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flow", "text"),
    [
        (Flow(None, None, "all"), "meta nfproto ipv4"),
        (Flow(None, None, "tcp"), "meta l4proto tcp"),
        (Flow("1.2.3.4", None, "all"), "ip daddr 1.2.3.4/32"),
        (Flow("1.2.3.4/8", None, "udp"), "ip daddr 1.0.0.0/8 meta l4proto udp"),
        (Flow("1.2.3.4-1.2.3.9", None, "all"), "ip daddr 1.2.3.4-1.2.3.9"),
        (Flow("1.2.3.4-1.2.3.4", None, "all"), "ip daddr 1.2.3.4"),
        (Flow("0.0.0.0/0", (53, 53), "udp"), "ip daddr 0.0.0.0/0 meta l4proto udp th dport 53"),
        (Flow(None, (80, 90), "tcp"), "meta l4proto tcp th dport 80-90"),
        (Flow(None, (80, 90), "all"), "meta l4proto { tcp, udp } th dport 80-90"),
        (Flow(None, None, "icmp"), "ip protocol icmp"),
        (Flow(None, None, "icmp", -1, -1), "ip protocol icmp"),
        (Flow(None, None, "icmp", 8), "icmp type 8"),
        (Flow("1.1.1.1", None, "icmp", 0, 0), "ip daddr 1.1.1.1/32 icmp type 0 icmp code 0"),
    ],
)
def test_matches(flow: Flow, text: str) -> None:
    assert firewall.flow_text(flow) == text


@pytest.mark.parametrize("network", ["1.2.3", "host", "1.2.3.4/33", "1.2.3.4-", "::1", "1.2.3.4; flush ruleset"])
def test_no_network(network: str) -> None:
    with pytest.raises(EngineError, match=r"valid: A\.B\.C\.D, A\.B\.C\.D/N or "):
        firewall.flow_text(Flow(network, None, "tcp"))


def test_the_table_by_settings() -> None:
    closed = firewall.table_text("t", settings())
    assert "add rule inet t input iifname @links reject" in closed
    assert "add rule inet t default reject" in closed
    assert "accept" not in "".join(line for line in closed.splitlines() if "rule inet t default" in line)
    opened = firewall.table_text("t", settings(allow_host_access=True, allow_networks=("1.2.3.4/8", "9.9.9.9")))
    assert "input iifname @links reject" not in opened
    assert "add rule inet t default ip daddr { 1.0.0.0/8, 9.9.9.9/32 } accept" in opened
    assert "ip saddr 10.254.0.0/24 ip daddr != 10.254.0.0/24 masquerade" in closed


def test_only_our_own_table_is_named() -> None:
    for line in firewall.table_text("mine", settings(allow_networks=("1.2.3.4",))).splitlines():
        assert line.startswith(("add ", "flush chain ")), line
        assert " inet mine" in line

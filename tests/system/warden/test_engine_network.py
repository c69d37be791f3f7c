"""What reaches a container and what it reaches: from the host, from its loopback, from another machine (a network
namespace of ours), from another container; and that nothing else of the host changes.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.containers import Box, Host, Outside, eventually, need_root, running
from warden.engine.api import EngineError, Flow
from warden.engine.network import index_of, netlink

ECHO = """exec perl -MIO::Socket -e '
my $server = IO::Socket::INET->new(Listen => 9, LocalPort => {port}, ReuseAddr => 1) or die;
while (my $peer = $server->accept) {{ print $peer $peer->peerhost; close $peer }}'"""
# Says what the other side answers; fails where nobody does.
ASK = "exec 3<>/dev/tcp/{host}/{port} && cat <&3"
UDP = """perl -MIO::Socket -e '
my $peer = IO::Socket::INET->new(Proto => "udp", PeerAddr => "{host}:{port}") or die;
alarm 5; $peer->send("x") or die $!; $peer->recv(my $data, 100) // die $!; print $data'"""
PING = """perl -MSocket -e '
socket(my $s, AF_INET, SOCK_DGRAM, 1) or die "socket $!";
alarm {wait}; connect($s, sockaddr_in(0, inet_aton("{host}"))) or die;
my $head = pack("CCnnn", {type}, 0, 0, 1, 1);
my $sum = 0; $sum += $_ for unpack("n*", $head); $head = pack("CCnnn", {type}, 0, 0xffff - $sum, 1, 1);
send($s, $head, 0) or die $!; recv($s, my $data, 100, 0) // die $!; print "pong"'"""


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    """Another machine with a TCP and a UDP server on ports 7001 to 7003 that say who asks."""
    need_root()
    machine = Outside()
    script = """
import socket, selectors
choice = selectors.DefaultSelector()
for port in (7001, 7002, 7003):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        server = socket.socket(socket.AF_INET, kind)
        server.bind(("0.0.0.0", port))
        if kind == socket.SOCK_STREAM:
            server.listen()
        choice.register(server, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in choice.select():
        if key.fileobj.type == socket.SOCK_STREAM:
            peer, address = key.fileobj.accept()
            peer.sendall(address[0].encode())
            peer.close()
        else:
            address = key.fileobj.recvfrom(100)[1]
            key.fileobj.sendto(address[0].encode(), address)
"""
    servers = machine.start(f"exec {sys.executable} -c '{script}'")
    try:
        assert servers.stdout is not None
        assert servers.stdout.readline() == "ready\n"
        yield machine
    finally:
        servers.kill()
        servers.communicate()
        machine.close()


@pytest.fixture
def listening(box: Box) -> Iterator[Box]:
    """A container with a server on port 8080 that says who asks."""
    job = box.start(ECHO.format(port=8080))
    eventually(lambda: ask(box.ip, 8080))
    yield box
    box.do("stop", True)
    job.communicate()


def ask(address: str, port: int) -> str:
    """What the server at an address says, "" if none is reached."""
    try:
        with socket.create_connection((address, port), 5) as peer:
            return b"".join(iter(lambda: peer.recv(100), b"")).decode()
    except OSError:
        return ""


def reaches(box: Box, address: str, port: int) -> bool:
    return box.run(ASK.format(host=address, port=port))[0] == 0


# -- in -----------------------------------------------------------------------------------------------------------


def test_net_in(listening: Box, outside: Outside, free_port: Callable[[], int]) -> None:
    """By every address of the host, loopback too, and from another machine; and only by the port that was given."""
    box, port = listening, free_port()
    assert box.do("net_in", port, 8080) == 8080
    for address in ("127.0.0.1", "127.1.2.3", outside.host_ip, box.spec.host_ip):
        assert ask(address, port), address
        assert not ask(address, 8080)
    call = f"{sys.executable} -c 'import socket; print(socket.create_connection((\"%s\", %d), %d).recv(99))'"
    assert outside.ip in outside.sh(call % (outside.host_ip, port, 9)), "the container sees who asks"
    with pytest.raises(subprocess.CalledProcessError):
        outside.sh(call % (box.ip, 8080, 2))


def test_net_in_ends_with_the_container_and_can_move(host: Host, free_port: Callable[[], int]) -> None:
    port = free_port()
    for _ in range(2):
        with host.box() as box:
            job = box.start(ECHO.format(port=8080))
            box.do("net_in", port, 9999)
            box.do("net_in", port, 8080)
            eventually(lambda: ask("127.0.0.1", port))
            box.do("stop", True)
            job.communicate()
        assert not ask("127.0.0.1", port)


def test_the_host_reaches_a_container_directly(listening: Box) -> None:
    assert ask(listening.ip, 8080) == listening.spec.host_ip


# -- out ----------------------------------------------------------------------------------------------------------


def test_nothing_is_open_at_first(box: Box, outside: Outside) -> None:
    for port in (7001, 7002):
        status, out = box.run(ASK.format(host=outside.ip, port=port))
        assert status != 0
        assert "refused" in out or "unreachable" in out.lower() or "No route" in out or "not permitted" in out
    assert box.run(UDP.format(host=outside.ip, port=7001))[0] != 0
    assert box.run(PING.format(host=outside.ip, type=8, wait=1))[0] != 0


def test_net_out_to_an_address(box: Box, outside: Outside) -> None:
    box.do("net_out", Flow(outside.ip, None, "all"))
    assert box.says(ASK.format(host=outside.ip, port=7001)) == outside.host_ip, "goes out under the host's address"
    assert box.says(UDP.format(host=outside.ip, port=7002)) == outside.host_ip
    assert box.says(PING.format(host=outside.ip, type=8, wait=9)) == "pong"


@pytest.mark.parametrize("form", ["network", "range"])
def test_net_out_to_networks_and_ranges(box: Box, outside: Outside, form: str) -> None:
    before, after = outside.ip.rsplit(".", 1)
    network = f"{before}.0/24" if form == "network" else f"{before}.{int(after) - 1}-{before}.{int(after) + 9}"
    box.do("net_out", Flow(network, None, "tcp"))
    assert reaches(box, outside.ip, 7001)
    assert box.run(UDP.format(host=outside.ip, port=7001))[0] != 0


def test_net_out_not_to_other_networks(box: Box, outside: Outside) -> None:
    before, after = outside.ip.rsplit(".", 1)
    for network in ("192.0.2.0/24", f"{before}.{int(after) + 1}-{before}.{int(after) + 9}", f"{before}.128/25"):
        box.do("net_out", Flow(network, None, "all"))
    assert not reaches(box, outside.ip, 7001)


def test_net_out_by_ports_and_protocol(box: Box, outside: Outside) -> None:
    box.do("net_out", Flow(None, (7001, 7002), "tcp"))
    box.do("net_out", Flow(outside.ip, (7003, 7003), "udp"))
    assert [reaches(box, outside.ip, port) for port in (7001, 7002, 7003)] == [True, True, False]
    udp = [box.run(UDP.format(host=outside.ip, port=port))[0] == 0 for port in (7001, 7003)]
    assert udp == [False, True]
    box.do("net_out", Flow(None, (7000, 7100), "all"))
    assert reaches(box, outside.ip, 7003)
    assert box.run(UDP.format(host=outside.ip, port=7001))[0] == 0


def test_net_out_of_icmp(box: Box, outside: Outside) -> None:
    box.do("net_out", Flow(None, None, "icmp", 13, 0))
    assert box.run(PING.format(host=outside.ip, type=8, wait=1))[0] != 0
    box.do("net_out", Flow(None, None, "icmp", 8, 0))
    assert box.says(PING.format(host=outside.ip, type=8, wait=9)) == "pong"
    assert not reaches(box, outside.ip, 7001)


def test_net_out_is_logged_where_it_is_wanted(box: Box, outside: Outside) -> None:
    with open("/dev/kmsg", "rb", buffering=0) as log:
        os.set_blocking(log.fileno(), False)
        os.lseek(log.fileno(), 0, os.SEEK_END)
        box.do("net_out", Flow(outside.ip, (7001, 7001), "tcp", log=True))
        box.do("net_out", Flow(outside.ip, (7002, 7002), "tcp"))
        assert reaches(box, outside.ip, 7002)
        assert reaches(box, outside.ip, 7001)
        lines: list[str] = []

        def seen() -> bool:
            try:
                while True:
                    lines.append(log.read(8192).decode())
            except (BlockingIOError, TypeError, AttributeError):
                return any(f"warden-i-{box.id} " in line for line in lines)

        eventually(seen, what="nothing in the kernel's log")
    ours = [line for line in lines if box.id in line]
    assert len(ours) == 1, "the beginning of the connection alone"
    assert "DPT=7001" in ours[0]


@pytest.mark.parametrize(
    ("flow", "text"),
    [
        (Flow("300.1.2.3", None, "tcp"), "network '300.1.2.3': .* valid: A.B.C.D, "),
        (Flow('1.2.3.4" accept', None, "tcp"), "network "),
        (Flow(None, (90, 80), "tcp"), "port range 90:80"),
        (Flow(None, (1, 70000), "tcp"), "port range 1:70000"),
        (Flow(None, None, "sctp"), "protocol 'sctp' is unknown; valid: tcp, udp, icmp, all"),
    ],
)
def test_a_rule_that_is_none_changes_nothing(box: Box, flow: Flow, text: str) -> None:
    before = box.host.left()["rules"]
    with pytest.raises(EngineError, match=text):
        box.do("net_out", flow)
    assert box.host.left()["rules"] == before


# -- closed -------------------------------------------------------------------------------------------------------


def test_containers_do_not_reach_each_other(host: Host, listening: Box, free_port: Callable[[], int]) -> None:
    port = free_port()
    listening.do("net_in", port, 8080)
    with host.box() as other:
        assert not reaches(other, listening.ip, 8080)
        assert not reaches(other, listening.spec.host_ip, port)
        other.do("net_out", Flow(listening.ip, (8080, 8080), "tcp"))
        assert other.says(ASK.format(host=listening.ip, port=8080)) == other.ip


def test_the_host_is_closed(box: Box, outside: Outside) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        box.do("net_out", Flow(None, None, "all"))
        for address in (box.spec.host_ip, outside.host_ip):
            assert not reaches(box, address, port)
        # Its loopback, by a route of its own making: root of a container has no right to make one.
        assert box.run("ip route add 127.9.9.9 via " + box.spec.host_ip, "root")[0] != 0


def test_the_host_can_be_opened(tmp_path: Path, outside: Outside) -> None:
    with running(tmp_path / "open", allow_host_access=True, allow_networks=(f"{outside.ip}/32",)) as host:
        with host.box() as box, socket.create_server(("0.0.0.0", 0)) as server:
            port = server.getsockname()[1]
            assert box.start(f"exec 3<>/dev/tcp/{box.spec.host_ip}/{port}").wait() == 0
            assert reaches(box, outside.ip, 7001), "what allow_networks names needs no net_out"


def test_no_address_but_its_own(box: Box, outside: Outside) -> None:
    """Packets with another source are dropped: sent from the container's namespace with all rights."""
    box.do("net_out", Flow(None, None, "all"))
    pid = str(box.host.engine._init_pid(box.spec))
    inside = ["nsenter", "-t", pid, "-n"]
    fake = box.ip.rsplit(".", 1)[0] + ".254"
    subprocess.run([*inside, "ip", "addr", "add", f"{fake}/32", "dev", f"w-{box.id}-1"], check=True)
    with netlink() as links:  # the answers would find their way
        links.route("add", dst=f"{fake}/32", oif=index_of(links, f"w-{box.id}-0"))
    script = f"import socket; socket.create_connection(('{outside.ip}', 7001), 2, ('%s', 0))"
    for source, works in ((box.ip, True), (fake, False)):
        done = subprocess.run([*inside, sys.executable, "-c", script % source], capture_output=True, check=False)
        assert (done.returncode == 0) == works, source


def test_ipv6_is_closed(box: Box) -> None:
    assert box.says("cat /proc/net/if_inet6") == ""
    host_side = Path("/proc/sys/net/ipv6/conf", f"w-{box.id}-0", "disable_ipv6")
    assert not host_side.exists() or host_side.read_text() == "1\n"
    assert any("meta nfproto ipv6 drop" in line for line in box.host.left()["rules"])


def test_nothing_else_of_the_host_changes(tmp_path: Path) -> None:
    """In a network namespace of its own, where nobody else changes anything meanwhile."""
    need_root()
    script = """
import subprocess, sys
from pathlib import Path
from tests.support.containers import running

def state():
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    switches = {str(path): path.read_text() for path in Path("/proc/sys/net/ipv4").glob("conf/*/*")}
    return rules, Path("/proc/sys/net/ipv4/ip_forward").read_text(), switches

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
rules = "table inet mine { chain forward { type filter hook forward priority 0; policy drop; }; }"
subprocess.run(["nft", rules], check=True)
before = state()
with running(Path(sys.argv[1]) / "one") as one:
    with one.box() as box:
        during = state()
        assert during[0].startswith(before[0]), during[0]
        assert during[1] == "1\\n"
        changed = {path for path, value in before[2].items() if during[2][path] != value}
        assert all(path.endswith("/forwarding") for path in changed), changed  # goes with ip_forward
        with running(Path(sys.argv[1]) / "two"):
            pass
        assert state()[1] == "1\\n", "the first still needs it"
assert state() == before
"""
    command = ["unshare", "-n", sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stdout + done.stderr

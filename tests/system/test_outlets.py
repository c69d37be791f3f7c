"""The access log's other targets as gorouter.yml configures them: syslog, and envelopes at the metron agent."""

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.envelopes import read, tags_of
from tests.system.harness import Backend, NatsServer, Router, free_ports, until

TAGS = {"component": "c", "source_id": "s"}


def config(server: NatsServer, agent: socket.socket, **more: Any) -> dict[str, Any]:
    address = "{}:{}".format(*agent.getsockname())
    return {
        "nats": {"hosts": [{"hostname": "127.0.0.1", "port": server.port}]},
        "index": 5,
        **more,
        "logging": {"metron_address": address, "syslog": "vcap.gorouter", **more.get("logging", {})},
    }


def test_syslog_and_envelopes(tmp_path: Path) -> None:
    with (
        NatsServer() as server,
        Backend(b"hello") as backend,
        socket.create_server(("127.0.0.1", 0)) as syslog,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent,
    ):
        agent.bind(("127.0.0.1", 0))
        agent.settimeout(60)
        streaming = {
            "access_log": {"enable_streaming": True},
            "logging": {
                "loggregator_enabled": True, "syslog_network": "tcp",
                "syslog_addr": f"localhost:{syslog.getsockname()[1]}", "syslog_truncate": 30,
            },
        }  # fmt: skip
        with Router(config=config(server, agent, **streaming), folder=tmp_path) as router:
            peer, _ = syslog.accept()
            peer.settimeout(60)
            server.register("a.test", backend.port, app="guid", tags=TAGS)
            until(lambda: router.serves("a.test", b"hello"))
            with peer, peer.makefile("rb") as stream:
                line = stream.readline().decode()
            assert router.process is not None
            head = f" {socket.gethostname()} vcap.gorouter {router.process.pid} - \ufeffa.test - ["
            assert line.startswith("<14>1 ") and head in line and len(line.partition("\ufeff")[2]) == 31
            found: dict[Any, Any] = {}
            while len(found) < 3:
                envelope = read(agent.recv(70000))
                if envelope.eventType == 5:
                    found["line"] = envelope
                elif envelope.httpStartStop.statusCode == 200:
                    found[envelope.httpStartStop.peerType] = envelope
            assert found["line"].logMessage.app_id == "guid" and found["line"].logMessage.source_instance == "5"
            assert tags_of(found["line"]) == TAGS and TAGS.items() <= tags_of(found[2]).items()
            assert found[1].httpStartStop.requestId == found[2].httpStartStop.requestId
            # The server goes: it is said, and the router goes on.
            syslog.close()
            for _ in range(3):
                assert router.get("a.test") == (200, b"hello")
            assert router.stop() == 0


def test_events_can_be_left_out(tmp_path: Path) -> None:
    with (
        NatsServer() as server,
        Backend(b"hello") as backend,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent,
    ):
        agent.bind(("127.0.0.1", 0))
        agent.settimeout(60)
        off = {"send_http_start_stop_server_event": False, "send_http_start_stop_client_event": False}
        with Router(config=config(server, agent, **off), folder=tmp_path) as router:
            server.register("a.test", backend.port, app="guid")
            until(lambda: router.serves("a.test", b"hello"))
            kinds = set()
            while True:
                envelope = read(agent.recv(70000))
                kinds.add(envelope.eventType)
                if envelope.counterEvent.name == "responses.2xx" and envelope.counterEvent.delta:
                    break
            assert kinds == {6, 7}


@pytest.mark.parametrize(
    ("logging", "error"),
    [
        ({"syslog_network": "tcp"}, "refused"),
        ({"syslog_network": "carrier-pigeon"}, "invalid network"),
        ({"syslog_addr": "nowhere"}, "must be host:port"),
        ({"syslog_network": "udp6", "syslog_addr": "127.0.0.1:9"}, "lookup 127.0.0.1"),
    ],
)
def test_a_server_that_cannot_be_dialled_ends_the_start(tmp_path: Path, logging: dict[str, str], error: str) -> None:
    address = {"syslog_addr": f"127.0.0.1:{free_ports(1)[0]}"}
    with NatsServer() as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        change = {"access_log": {"enable_streaming": True}, "logging": {**address, **logging}}
        with Router(config=config(server, agent, **change), folder=tmp_path, wait_for=None) as router:
            assert router.wait() == 1
            (line,) = router.said("error-creating-access-logger")
            assert line["log_level"] == 3 and error in line["data"]["error"]

"""The component log of `gorouter -c` through a whole life, compared with gorouter's: texts, sources, levels, order."""

import http.client
import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.system.harness import Backend, NatsServer, Router, free_ports, until

PREFIX = "vcap.gorouter"
# (log_level, source behind the prefix, message) in order; other lines may come between.
START = [
    (1, "", "starting"),
    (0, "", "local-az-set"),
    (1, "", "retrieved-isolation-segments"),
    (1, "", "setting-up-nats-connection"),
    (1, ".nats", "Successfully-connected-to-nats"),
    (1, ".subscriber", "subscriber-starting"),
    (1, ".subscriber", "subscriber-started"),
    (0, ".router", "Sleeping before returning success on /health endpoint to preload routing table"),
    (1, ".router", "tcp-listener-started"),
    (1, ".router", "tls-listener-not-enabled"),
    (1, ".router", "gorouter.started"),
]
REGISTRATION = [
    (1, ".registry", "route-registered"),
    (0, ".registry", "uri-added"),
    (1, ".registry", "endpoint-registered"),
    (0, ".registry", "endpoint-registered"),
    (3, ".subscriber", "validation-error"),
    (1, ".registry", "pruned-route"),
]
RECONNECT = [
    (1, ".nats", "nats-connection-disconnected"),
    (1, ".nats", "nats-connection-still-disconnected"),
    (1, ".nats", "nats-connection-reconnected"),
]
UNREGISTRATION = [
    (1, ".registry", "endpoint-unregistered"),
    (1, ".registry", "route-unregistered"),
    (0, ".subscriber", "unregister-route"),
]
DRAIN = [
    (1, ".router", "gorouter-draining"),
    (1, ".router", "gorouter.signal.ignored"),
    (1, ".router", "Draining with 0 outstanding active connections"),
    (1, ".router", "Draining with 0 outstanding idle connections"),
]
STOP = [
    (1, ".router", "gorouter.stopping"),
    (1, ".router", "gorouter.stopped"),
    (1, ".router", "gorouter.exited"),
    (1, ".NATSMonitor", "exited"),
    (1, ".subscriber", "exited"),
    (1, ".FileDescriptor", "exited"),
]
# Lines that gorouter does not have.
OURS = {"status-listener-started", "health-listener-started", "configuration-keys-without-effect", "nats-error"}


def config(server: NatsServer, **more: Any) -> dict[str, Any]:
    return {
        "nats": {"hosts": [{"hostname": "localhost", "port": server.port}]},
        "nats_client_ping_interval": "200ms",
        "logging": {"syslog": PREFIX, "level": "debug", "format": {"timestamp": "rfc3339"}},
        "isolation_segments": ["is1", "is2"],
        "zone": "z1",
        "enable_envelope_v1_metrics": False,
        "start_response_delay_interval": "1s",
        "drain_wait": "500ms",
        "drain_timeout": "60s",
        "prune_stale_droplets_interval": "500ms",
        **more,
    }


def follow(lines: list[dict[str, Any]], expected: list[tuple[int, str, str]], start: int = 0) -> int:
    """Finds `expected` in this order from line `start` on; the number of the line after the last."""
    for level, source, message in expected:
        for number in range(start, len(lines)):
            line = lines[number]
            if (line["log_level"], line["source"], line["message"]) == (level, PREFIX + source, message):
                start = number + 1
                break
        else:
            seen = "\n".join(str((each["log_level"], each["source"], each["message"])) for each in lines[start:])
            raise AssertionError(f"no {(level, source, message)} in:\n{seen}")
    return start


def test_the_log_of_a_whole_life(tmp_path: Path) -> None:
    with NatsServer() as server, Backend(b"hello") as backend:
        with Router(config=config(server), folder=tmp_path) as router:
            # Twice: the second one changes nothing. One at a time, so that none overtakes.
            server.register("a.test", backend.port, app="guid")
            router.saw("endpoint-registered")
            server.register("a.test", backend.port, app="other")
            router.saw("endpoint-registered", 2)
            server.publish("router.register", b"no json")
            router.saw("validation-error")
            server.register("old.test", 9, stale_threshold_in_seconds=1)
            router.saw("pruned-route")
            server.stop()
            router.saw("nats-connection-still-disconnected")
            server.start()
            router.saw("nats-connection-reconnected")
            server.unregister("a.test", backend.port)
            router.saw("route-unregistered")
            router.signal(signal.SIGUSR1)
            router.saw("gorouter-draining")
            router.signal(signal.SIGTERM)
            assert router.wait() == 0
            lines = router.lines
            at = follow(lines, [*START, *REGISTRATION])
            at = follow(lines, [*RECONNECT, *UNREGISTRATION, *DRAIN, *STOP], at)
            assert at == len(lines)
            parts = (START, REGISTRATION, RECONNECT, UNREGISTRATION, DRAIN, STOP)
            known = {message for part in parts for *_, message in part}
            assert {line["message"] for line in lines} <= known | OURS
            check_data(router, server)


def check_data(router: Router, server: NatsServer) -> None:
    def data(message: str, number: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = router.said(message)[number]["data"]
        return found

    assert data("local-az-set") == {"AvailabilityZone": "z1"}
    assert data("Successfully-connected-to-nats") == {
        "host": f"localhost:{server.port}", "addr": f"127.0.0.1:{server.port}",
    }  # fmt: skip
    assert data("tcp-listener-started")["address"] == {"IP": "127.0.0.1", "Port": router.port, "Zone": ""}
    assert {"uri", "backend", "application_id", "modification_tag", "isTLS"} <= data("endpoint-registered").keys()
    assert data("validation-error")["payload"] == "no json"
    assert data("validation-error")["subject"] == "router.register" and data("validation-error")["error"]
    assert data("pruned-route") == {"uri": "old.test", "endpoints": ["127.0.0.1:9"], "isolation_segment": "-"}
    assert "data" not in router.said("nats-connection-still-disconnected")[0]
    assert json.loads(data("unregister-route")["message"])["uris"] == ["a.test"]
    assert data("gorouter-draining") == {"wait_seconds": 0.5, "timeout_seconds": 60.0}
    assert data("gorouter.signal.ignored") == {"signal": "terminated"}
    for message in ("starting", "subscriber-started", "gorouter.started", "gorouter.exited"):
        assert "data" not in router.said(message)[0]  # the newer gorouter leaves an empty object out
    raw = "\n".join(router.raw)
    assert '"isolation_segments":["is1","is2"]' in raw and '"routing_table_sharding_mode":"all"' in raw
    assert re.search(r"Successfully-connected-to-nats.*localhost:\d+", raw)
    stamp = r'"timestamp":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d{9}Z"'
    shape = r'\{"log_level":\d,' + stamp + r',"message":".+","source":"vcap\.gorouter.*\}'
    stamps = [match[1] for match in (re.fullmatch(shape, line) for line in router.raw) if match]
    assert len(stamps) == len(router.raw) == len(router.lines)  # JSON lines and nothing else, in local time
    assert stamps[-1][:13] in {time.strftime("%Y-%m-%dT%H", time.localtime(time.time() - back)) for back in (0, 3600)}


def test_a_failed_connection_ends_the_start(tmp_path: Path) -> None:
    server = NatsServer()  # not running
    with Router(config=config(server), folder=tmp_path, wait_for=None) as router:
        assert router.wait() == 1
        lines = router.lines
        assert follow(lines, [*START[:4], (3, "", "nats-connection-error")]) == len(lines)
        assert "nats: no servers available for connection" in lines[-1]["data"]["error"]


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"drain_wait": 5}, 1, "Error loading config:"),
        ({"logging": {"level": "loud"}}, 2, None),
        ({"access_log": {"file": "/no/such/folder/access.log"}}, 1, "error-creating-access-logger"),
    ],
)
def test_exit_codes(tmp_path: Path, change: dict[str, Any], code: int, message: str | None) -> None:
    with NatsServer() as server:
        with Router(config=config(server, **change), folder=tmp_path, wait_for=None) as router:
            assert router.wait() == code
            if message is None:
                assert router.complaints[0].startswith("panic: ")
                return
            last = router.lines[-1]
            assert (last["log_level"], last["message"]) == (3, message) and last["data"]["error"]
            assert ("source" in last) == (message != "Error loading config:")


def put_level(port: int, level: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("PUT", "/log-level", level)
    assert connection.getresponse().status == 200
    connection.close()


def test_lines_of_single_requests(tmp_path: Path) -> None:
    (debug_port,) = free_ports(1)
    change = {"debug_addr": f"127.0.0.1:{debug_port}", "start_response_delay_interval": "0s"}
    change["backends"] = {"max_attempts": 3}  # type: ignore[assignment]
    with NatsServer() as server, Backend(b"hello") as backend:
        with Router(config=config(server, **change), folder=tmp_path) as router:
            server.register("a.test", backend.port, app="guid", tags={"component": "c"}, availability_zone="z1")
            until(lambda: router.serves("a.test", b"hello"))
            backend_line = router.saw("backend")
            assert backend_line["source"] == PREFIX
            endpoint = backend_line["data"]["route-endpoint"]
            assert endpoint == {
                "ApplicationId": "guid", "Addr": f"127.0.0.1:{backend.port}", "Tags": {"component": "c"},
                "RouteServiceUrl": "", "AZ": "z1",
            }  # fmt: skip
            at = follow(router.lines, [(0, "", "vcap-request-id-header-set")])
            at = follow(router.lines, [(0, "", "endpoint-iterator-with-round-robin-lb-algo"), (0, "", "backend")], at)
            assert {"trace-id", "span-id"} <= backend_line["data"].keys()
            assert router.get("a.test", "/x;y")[0] == 200
            assert router.saw("deprecated-semicolon-params")["log_level"] == 2
            server.register("bad.test", free_ports(1)[0])
            until(lambda: router.get("bad.test")[0] == 502)
            failed = router.saw("backend-endpoint-failed")
            assert failed["log_level"] == 3 and "connection refused" in failed["data"]["error"]
            assert router.saw("endpoint-marked-as-ineligible")["source"] == PREFIX + ".registry"
            assert router.get("127.0.0.1")[0] == 400
            assert router.saw("status")["data"]["body"] == "400 Bad Request: Request had empty Host header"
            # The level hides what is below it, from now on.
            put_level(debug_port, "error")
            shown = len(router.said("vcap-request-id-header-set"))
            for count in range(2, 5):
                assert router.get("127.0.0.1")[0] == 400
                seen = len(router.said("backend-endpoint-failed"))
                assert router.get("bad.test")[0] == 502
                router.saw("backend-endpoint-failed", max(seen + 1, count))
            assert len(router.said("status")) == 1
            assert len(router.said("vcap-request-id-header-set")) == shown

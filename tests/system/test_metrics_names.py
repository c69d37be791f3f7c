"""What monitoring of a gorouter sees: its Prometheus names over mTLS, and dropsonde datagrams at the metron agent."""

import http.client
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.envelopes import read
from tests.system.harness import Backend, NatsServer, Router, free_ports, until

# The names of the newest gorouter that show without traffic of a special kind.
NAMES = {
    "registry_message": "counter", "unregistry_message": "counter", "routes_pruned": "counter",
    "total_routes": "gauge", "ms_since_last_registry_update": "gauge", "gorouter_time": "histogram",
    "route_lookup_time": "histogram", "route_registration_latency": "histogram",
    "total_requests": "counter", "rejected_requests": "counter", "bad_gateways": "counter",
    "empty_content_length_header": "counter", "backend_invalid_id": "counter", "backend_invalid_tls_cert": "counter",
    "backend_tls_handshake_failed": "counter", "backend_exhausted_conns": "counter", "websocket_upgrades": "counter",
    "websocket_failures": "counter", "responses": "counter", "latency": "histogram", "file_descriptors": "gauge",
    "buffered_messages": "gauge", "total_dropped_messages": "gauge", "http_latency_seconds": "histogram",
    "promhttp_metric_handler_errors_total": "counter",
}  # fmt: skip


class Agent:
    """A metron agent: notes what it is sent."""

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] = {}
        self.values: dict[str, list[tuple[float, str]]] = {}
        self.origins: set[str] = set()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while datagram := self._socket.recv(65536):
            envelope = read(datagram)
            self.origins.add(envelope.origin)
            if envelope.eventType == 7:
                self.counts.setdefault(envelope.counterEvent.name, []).append(envelope.counterEvent.delta)
            else:
                metric = envelope.valueMetric
                self.values.setdefault(metric.name, []).append((metric.value, metric.unit))

    def close(self) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    new = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj"
    sign = "x509 -req -days 2 -CA ca.pem -CAkey ca.key -CAcreateserial -copy_extensions copy"
    for command in (
        f"{new} /CN=ca -x509 -keyout ca.key -out ca.pem -days 2",
        f"{new} /CN=router -keyout server.key -out server.csr -addext subjectAltName=IP:127.0.0.1",
        f"{sign} -in server.csr -out server.pem",
        f"{new} /CN=scraper -keyout client.key -out client.csr",
        f"{sign} -in client.csr -out client.pem",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def watched(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Router, NatsServer, Agent]]:
    agent = Agent()
    (port,) = free_ports(1)
    with NatsServer() as server:
        config: dict[str, Any] = {
            "nats": {"hosts": [{"hostname": "127.0.0.1", "port": server.port}]},
            "logging": {"metron_address": agent.address},
            "prometheus": {
                "port": port,
                "cert_path": str(certificates / "server.pem"),
                "key_path": str(certificates / "server.key"),
                "ca_path": str(certificates / "ca.pem"),
                "meters": {
                    "routing_response_latency_histogram_buckets": [1, 10, 60000],
                    "route_lookup_time_histogram_buckets": [60000000000],
                    "gorouter_time_histogram_buckets": [60],
                },
            },
            "per_app_prometheus_http_metrics_reporting": True,
            "prune_stale_droplets_interval": "1s",
            "route_latency_metric_muzzle_duration": "0s",
        }
        try:
            with Router(config=config, folder=tmp_path_factory.mktemp("watched")) as router:
                router.metrics_port = port  # type: ignore[attr-defined]
                yield router, server, agent
        finally:
            agent.close()


def scrape(port: int, folder: Path, client: str = "client") -> str:
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    if client:
        context.load_cert_chain(folder / f"{client}.pem", folder / f"{client}.key")
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode()
    finally:
        connection.close()


def test_the_names_of_gorouter(watched: tuple[Router, NatsServer, Agent], certificates: Path) -> None:
    router, server, agent = watched
    with Backend(b"hello") as backend:
        fields = {"tags": {"component": "dea-7", "source_id": "guid-1"}, "endpoint_updated_at_ns": 1}
        server.register("a.test", backend.port, **fields)
        server.register("b.test", backend.port)
        until(lambda: router.serves("a.test", b"hello"))  # one answer of each
        until(lambda: router.serves("b.test", b"hello"))
        server.register("b.test", backend.port)
        server.register("gone.test", backend.port)
        server.unregister("gone.test", backend.port)
        server.register("stale.test", backend.port, stale_threshold_in_seconds=1)
        port = router.metrics_port  # type: ignore[attr-defined]
        # Requests that came before the route did are among the rejected ones.
        before = re.search(r"^rejected_requests (\d+)$", scrape(port, certificates), re.M)
        assert before is not None
        assert router.get("unknown.test")[0] == 404
        until(lambda: "routes_pruned 1\n" in scrape(port, certificates))
        text = scrape(port, certificates)
    assert NAMES.items() <= {tuple(line.split()[2:4]) for line in text.splitlines() if line.startswith("# TYPE ")}
    lines = text.splitlines()
    for line in (
        'registry_message{action="added",component="dea-7"} 1', 'registry_message{action="added",component=""} 3',
        'registry_message{action="updated",component=""} 1', 'unregistry_message{component=""} 1', "total_routes 2",
        f"rejected_requests {int(before[1]) + 1}", "bad_gateways 0", 'responses{status_group="5xx"} 0',
        'latency_bucket{component="dea-7",le="60000"} 1', 'latency_bucket{component="dea-7",le="+Inf"} 1',
        'http_latency_seconds_count{source_id="guid-1"} 1',
        'http_latency_seconds_bucket{source_id="guid-1",le="25.6"} 1',
        'route_registration_latency_bucket{le="+Inf"} 1',
        'gorouter_time_bucket{le="60"} 2', 'promhttp_metric_handler_errors_total{cause="gathering"} 0',
    ):  # fmt: skip
        assert line in lines, "\n".join(lines)
    # dropsonde: the same in differences
    wanted = {
        "rejected_requests": int(before[1]) + 1, "registry_message.dea-7": 1, "registry_message": 4,
        "unregistry_message": 1, "requests.dea-7": 1, "routed_app_requests": 1, "responses": 2, "responses.2xx": 2,
        "total_requests": 2, "bad_gateways": 0,  # sent though nothing happened
    }  # fmt: skip

    def sums() -> dict[str, int]:
        return {name: sum(agent.counts[name]) for name in wanted if name in agent.counts}

    # one tick's counts come in several datagrams
    until(lambda: sums().keys() == wanted.keys() and all(sums()[name] >= wanted[name] for name in wanted))
    assert sums() == wanted
    assert agent.origins == {"gorouter"}


def test_values_for_the_agent(watched: tuple[Router, NatsServer, Agent]) -> None:
    _, _, agent = watched
    units = {
        "uptime": "seconds", "file_descriptors": "file", "buffered_messages": "message",
        "total_dropped_messages": "message", "total_routes": "", "ms_since_last_registry_update": "ms",
        "route_lookup_time": "ns", "latency": "ms", "latency.dea-7": "ms", "route_registration_latency": "ms",
    }  # fmt: skip
    until(lambda: units.keys() <= agent.values.keys())
    for name, unit in units.items():
        assert {each[1] for each in agent.values[name]} == {unit}
    assert all(value.is_integer() for name in units for value, _ in agent.values[name])
    assert agent.values["file_descriptors"][0][0] > 5
    assert agent.values["gorouter_time"][0][1] == "ms"


def test_a_client_certificate_is_wanted(watched: tuple[Router, NatsServer, Agent], certificates: Path) -> None:
    port = watched[0].metrics_port  # type: ignore[attr-defined]
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.BadStatusLine)):
        scrape(port, certificates, client="")


@pytest.mark.parametrize(
    ("config", "message", "error"),
    [
        ({"logging": {"metron_address": ""}}, "dropsonde-initialize-error", "destination variable not set"),
        ({"prometheus": {"cert_path": "/no/such.pem", "ca_path": "/x"}}, "initialize-router-error", "/no/such.pem"),
        ({"prometheus": {"cert_path": "/no/such.pem"}}, "initialize-router-error", "authorities"),
    ],
)
def test_what_ends_the_start(tmp_path: Path, config: dict[str, Any], message: str, error: str) -> None:
    if "prometheus" in config:
        config = {"prometheus": {**config["prometheus"], "port": free_ports(1)[0]}}
    with NatsServer() as server:
        nats = {"nats": {"hosts": [{"hostname": "127.0.0.1", "port": server.port}]}}
        with Router(config={**nats, **config}, folder=tmp_path, wait_for=None) as router:
            assert router.wait() == 1
            (line,) = router.said(message)
            assert line["log_level"] == 3 and error in line["data"]["error"]
            assert router.said("Successfully-connected-to-nats")  # gorouter: it comes after NATS

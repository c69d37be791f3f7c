"""gorouter's own suite, played in Python: start, configuration, drain, end. See tests/system/blackbox.py."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.origins import Served
from tests.support.wire import Wire
from tests.system.blackbox import DOMAIN, Apps, Gorouter, own_address, spec
from tests.system.harness import NatsServer, until


@pytest.fixture(scope="module")
def bus() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture
def apps(bus: NatsServer) -> Iterator[Apps]:
    with Apps(bus) as made:
        yield made


def zero() -> dict[str, Any]:
    """The file of a configuration with nothing set but enable_ssl."""
    config = spec([])
    for key, value in config.items():
        if isinstance(value, str) and value[-1:] == "s" and value[:1].isdigit():
            config[key] = "0s"
    config["nats"]["hosts"] = []
    config |= {"enable_ssl": True, "go_max_procs": 0, "balancing_algorithm": "", "forwarded_client_cert": ""}
    return config


def test_a_wrong_configuration_ends_the_start(tmp_path: Path) -> None:
    with Gorouter(zero(), tmp_path, None) as router:
        assert router.ends() == 1
        router.says("Error loading config")


@pytest.mark.parametrize("mode", ["all", "shared-and-segments"])
def test_isolation_segments_are_logged(bus: NatsServer, tmp_path: Path, mode: str) -> None:
    config = {**spec([bus.port]), "isolation_segments": ["is1", "is2"], "routing_table_sharding_mode": mode}
    with Gorouter(config, tmp_path) as router:
        router.says(r'"isolation_segments":\["is1","is2"\]')
        router.says(f'"routing_table_sharding_mode":"{mode}"')
        router.terminates()


def test_no_address_for_metrics_ends_the_start(bus: NatsServer, tmp_path: Path) -> None:
    config = spec([bus.port])
    config["logging"]["metron_address"] = ""
    with Gorouter(config, tmp_path, None) as router:
        assert router.ends() == 1


def test_the_deprecated_component_registers_itself(bus: NatsServer, tmp_path: Path) -> None:
    config = spec([bus.port])
    config["status"]["enable_deprecated_varz_healthz_endpoints"] = True
    with Gorouter(config, tmp_path) as router:
        router.says("Component Router registered successfully")
        router.terminates()


def test_neither_oauth_nor_routing_api(bus: NatsServer, tmp_path: Path) -> None:
    config = spec([bus.port])
    config["oauth"] = {
        "token_endpoint": "", "port": 0, "skip_ssl_validation": False, "client_name": "", "client_secret": "",
        "ca_certs": "",
    }  # fmt: skip
    with Gorouter(config, tmp_path) as router:
        router.terminates()
        text = "\n".join(router.raw)
        assert "setting-up-routing-api" not in text
        assert "Component Router registered successfully" not in text
        assert router.raw and not router.complaints


def test_a_missing_error_page_ends_the_start(bus: NatsServer, tmp_path: Path) -> None:
    config = {**spec([bus.port]), "html_error_template_file": "/path/to/non/file"}
    with Gorouter(config, tmp_path, None) as router:
        assert router.ends() == 1
        router.says("Could not read HTML error template file")
        router.says("/path/to/non/file")


# -- drain ----------------------------------------------------------------------------------------------------


@pytest.fixture
def draining(bus: NatsServer, tmp_path: Path) -> Iterator[Gorouter]:
    with Gorouter({**spec([bus.port]), "drain_wait": "1s"}, tmp_path) as router:
        yield router


class Held:
    """A request that its app holds back."""

    def __init__(self, router: Gorouter, apps: Apps, name: str) -> None:
        self.free = threading.Event()
        self.app = apps(name, self._serve)
        self.app.register()
        self.app.keep_registering(0.05)
        until(lambda: router.has_route(self.app.uri))
        self.client = Wire.connect(router.port)
        self.client.send(f"GET / HTTP/1.1\r\nHost: {self.app.uri}:{router.port}\r\n\r\n".encode())
        until(lambda: self.app.requests, "the request did not reach the app")

    def _serve(self, conn: Served) -> None:
        conn.request()
        while not self.free.wait(0.02):
            if conn.origin.stopping.is_set():
                return
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb")


def test_health_by_user_agent_without_a_host(draining: Gorouter) -> None:
    with Wire.connect(draining.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: \r\nUser-Agent: HTTP-Monitor/1.1\r\n\r\n")
        answer = client.answer()
        assert (answer.status, answer.reason, answer.body) == (200, "OK", b"ok\n")
    draining.terminates()


def test_a_drain_waits_for_requests(draining: Gorouter, apps: Apps) -> None:
    Wire.connect(draining.port).close()  # one that never becomes active
    held = Held(draining, apps, "longapp")
    draining.signal(signal.SIGUSR1)
    held.free.set()
    assert held.client.answer().body == b"b"
    assert draining.ends() == 0


def test_a_drain_does_not_wait_for_ever(draining: Gorouter, apps: Apps) -> None:
    held = Held(draining, apps, "timeout")
    draining.signal(signal.SIGUSR1)
    assert draining.ends() == 0
    assert held.client.rest()[0] == b"", "the client sees an error"
    with pytest.raises(ConnectionRefusedError):
        Wire.connect(draining.port)


def test_websockets_do_not_hold_up_a_drain(bus: NatsServer, apps: Apps, tmp_path: Path) -> None:
    def switch(conn: Served) -> None:
        conn.request_head()
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        conn.rest()

    app = apps("ws-app", switch)
    with Gorouter({**spec([bus.port]), "drain_timeout": "5m0s"}, tmp_path) as router:
        app.register()
        app.keep_registering(0.05)
        until(lambda: router.has_route(app.uri))
        with Wire.connect(router.port) as client:
            lines = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            client.send(f"GET / HTTP/1.1\r\nHost: {app.uri}\r\n{lines}\r\n".encode())
            assert client.answer().status == 101
            router.signal(signal.SIGUSR1)
            assert router.ends() == 0
            assert client.rest()[0] == b""


def test_more_signals_do_not_disturb_a_drain(draining: Gorouter) -> None:
    for _ in range(11):
        draining.signal(signal.SIGUSR1)
        time.sleep(0.005)
    draining.says("gorouter.stopped")
    assert draining.ends() == 0


def test_a_drain_with_ssl_enabled(bus: NatsServer, tmp_path: Path) -> None:
    """TLS is not served yet; the file is taken, and the plain port drains."""
    subprocess.run(
        ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-x509", "-days", "2", "-subj", f"/CN=*.{DOMAIN}",
         "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    cert, key = (tmp_path / "cert.pem").read_text(), (tmp_path / "key.pem").read_text()
    config = {
        **spec([bus.port]), "enable_ssl": True, "tls_pem": [{"cert_chain": cert, "private_key": key}],
        "ca_certs": [cert], "cipher_suites": "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384",
        "client_cert_validation": "none",
    }  # fmt: skip
    with Gorouter(config, tmp_path) as router:
        router.signal(signal.SIGUSR1)
        assert router.ends() == 0


# -- where apps are -------------------------------------------------------------------------------------------


def test_an_app_at_the_machines_own_address(bus: NatsServer, apps: Apps, tmp_path: Path) -> None:
    app = apps("own", host=own_address())
    with Gorouter(spec([bus.port]), tmp_path) as router:
        app.register()
        app.keep_registering(0.05)
        until(lambda: router.has_route(app.uri))
        until(lambda: router.status_of(app.uri) == 200)
        router.terminates()


def test_an_address_is_found_without_a_default_route(tmp_path: Path) -> None:
    """In a network of its own that has nothing but loopback."""
    with NatsServer() as bus:
        config = spec([bus.port])
        config["nats"]["hosts"] = [{"hostname": "localhost", "port": 1}]
        router = Gorouter(config, tmp_path, None)
        alone = ["unshare", "--user", "--map-root-user", "--net"]
        if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
            pytest.skip("needs a kernel with namespaces for users and networks")
        router._command = [*alone, *router._command]
        with router:
            assert router.ends() == 1  # no bus there, and that is all that is missing
            router.says("nats-connection-error")
            assert not router.said("initialize-router-error")



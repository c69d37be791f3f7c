"""The configuration file: the original's keys, and one clear complaint for each mistake."""

from pathlib import Path

import pytest

from gorouter_py.component import ConfigError
from warden import config

ORIGINAL = """
server:
  unix_domain_path: /tmp/w.sock
  unix_domain_permissions: 0777
  container_klass: Warden::Container::Linux
  container_rootfs_path: /var/rootfs
  container_depot_path: /var/depot
  container_rlimits:
    as: 4294967296
    nofile: 8192
  quota:
    disk_quota_enabled: false
  job_output_limit: 1048576
  allow_nested_warden: true
  container_grace_time: 600
health_check_server:
  port: 2346
logging:
  level: debug2
  file: /var/log/warden.log
network:
  pool_start_address: 10.254.0.0
  pool_size: 256
  mtu: 1400
  allow_networks: [10.0.0.0/8]
  dns_servers: [8.8.8.8]
port:
  pool_start_port: 61001
  pool_size: 2000
user:
  pool_start_uid: 20000
  pool_size: 256
"""


def load(tmp_path: Path, text: str) -> config.Config:
    path = tmp_path / "warden.yml"
    path.write_text(text)
    return config.load(str(path))


def test_a_file_of_the_original(tmp_path: Path) -> None:
    loaded = load(tmp_path, ORIGINAL)
    assert loaded.warnings == []
    assert loaded.engine == "runc"
    assert loaded.server.unix_domain_permissions == 0o777
    assert loaded.server.container_rlimits.given() == {"as": 4294967296, "nofile": 8192}
    assert loaded.grace_time == 600
    settings = loaded.settings()
    assert settings.pool_network == "10.254.0.0/22"
    assert (settings.mtu, settings.allow_nested, settings.disk_limits) == (1400, True, False)
    assert (str(settings.depot), str(settings.rootfs)) == ("/var/depot", "/var/rootfs")
    assert (settings.allow_networks, settings.dns_servers) == (("10.0.0.0/8",), ("8.8.8.8",))


def test_defaults() -> None:
    loaded = config.load(None)
    assert (loaded.engine, loaded.grace_time, loaded.server.job_output_limit) == ("", 300.0, 10485760)
    assert (loaded.server.unix_domain_path, loaded.server.unix_domain_permissions) == ("/tmp/warden.sock", 0o755)
    assert (loaded.health_check_server.port, loaded.network.release_delay) == (2345, 5.0)
    assert (loaded.user.pool_start_uid, loaded.user.pool_size) == (10000, 64)
    assert str(loaded.pool_network) == "10.254.0.0/24"


def test_no_grace_time_is_for_ever(tmp_path: Path) -> None:
    assert load(tmp_path, "server:\n  container_grace_time:\n").grace_time is None
    assert load(tmp_path, "server:\n  container_grace_time: 0\n").grace_time == 0


def test_the_insecure_kind_is_chosen_by_either_key(tmp_path: Path) -> None:
    assert load(tmp_path, "server: {container_klass: 'Warden::Container::Insecure'}").engine == "insecure"
    assert load(tmp_path, "server: {engine: insecure}").engine == "insecure"


def test_unknown_keys_are_warnings(tmp_path: Path) -> None:
    (warning,) = load(tmp_path, "server:\n  unix_domain_pth: x\n").warnings
    assert "warden.yml:2:3: server.unix_domain_pth: unknown key; did you mean unix_domain_path?" in warning


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("server:\n  engine: docker\n", "2:11: server.engine: 'docker' is unknown; valid: runc, insecure"),
        ("server:\n  container_klass: X\n", "2:20: server.container_klass: 'X' is unknown; valid: Warden::Container::"),
        ("server:\n  job_output_limit: much\n", "2:21: server.job_output_limit: 'much' is no whole number"),
        ("server:\n  unix_domain_permissions: 010000\n", "server.unix_domain_permissions: 10000 is no mode"),
        (f"server:\n  unix_domain_path: /{'x' * 107}\n", "server.unix_domain_path: is too long for a socket"),
        ("server:\n  name: a-b\n", "server.name: 'a-b' cannot name a table"),
        ("logging: {level: loud}", "1:18: logging.level: 'loud' is unknown; valid: off, fatal"),
        ("network: {pool_network: 10.0.0.0/31}", "network.pool_network: 10.0.0.0/31 has no room for one /30"),
        ("network: {pool_network: nowhere}", "network.pool_network: "),
        ("network: {pool_start_address: 10.0.0}", "network.pool_start_address: "),
        ("network: {mtu: 100}", "network.mtu: 100 is too small; valid: 576"),
        ("network: {release_delay: -1}", "network.release_delay: -1.0 is no time"),
        ("network: {allow_networks: [10.0.0.0/8, x]}", "1:40: network.allow_networks[1]: "),
        ("network: {dns_servers: [ns]}", "network.dns_servers[0]: 'ns'"),
        ("server: {container_rlimits: {nofile: -1}}", "server.container_rlimits.nofile: '-1' is out of range"),
    ],
)
def test_complaints(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert complaint in str(caught.value)
    assert "warden.yml:" in str(caught.value)

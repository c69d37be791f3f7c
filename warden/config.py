"""The configuration file: the original's keys with its names and defaults, and this server's own beside them.

Problems come with file:line:column. Keys that nobody knows are warnings. What differs from the original: without
`server.engine` and `server.container_klass` the containers are real ones (the original: none of them are).
"""
# ruff: noqa: RUF009  (a NewType is a number, no call)

import dataclasses
import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

from gorouter_py import component
from gorouter_py.component import ConfigError, Problem, Reading, Uint, Uint16, Uint32
from warden import pools
from warden.engine.api import Settings

ENGINES = {"runc": "runc", "insecure": "insecure"}
KLASSES = {"Warden::Container::Linux": "runc", "Warden::Container::Insecure": "insecure"}
# The names of the original's levels, and what they are here.
LEVELS = {
    "off": "fatal", "fatal": "fatal", "error": "error", "warn": "warn", "info": "info",
    "debug": "debug", "debug1": "debug", "debug2": "debug", "all": "debug",
}  # fmt: skip
_UNSET = Uint(2**64 - 1)


@dataclass
class Quota:
    disk_quota_enabled: bool = True


@dataclass
class Rlimits:
    """Of every job; _UNSET = the built-in one."""

    as_: Uint = _UNSET
    core: Uint = _UNSET
    cpu: Uint = _UNSET
    data: Uint = _UNSET
    fsize: Uint = _UNSET
    locks: Uint = _UNSET
    memlock: Uint = _UNSET
    msgqueue: Uint = _UNSET
    nice: Uint = _UNSET
    nofile: Uint = _UNSET
    nproc: Uint = _UNSET
    rss: Uint = _UNSET
    rtprio: Uint = _UNSET
    sigpending: Uint = _UNSET
    stack: Uint = _UNSET

    def given(self) -> dict[str, int]:
        values = {item.name.rstrip("_"): int(getattr(self, item.name)) for item in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value != _UNSET}


@dataclass
class Server:
    unix_domain_path: str = "/tmp/warden.sock"
    unix_domain_permissions: Uint16 = Uint16(0o755)
    container_klass: str = ""
    container_rootfs_path: str = "/var/lib/warden/rootfs"
    container_depot_path: str = "/var/lib/warden/depot"
    container_grace_time: Uint = _UNSET  # s; null in the file: never
    container_rlimits: Rlimits = field(default_factory=Rlimits)
    job_output_limit: Uint = Uint(10 << 20)  # bytes of stdout and stderr together
    quota: Quota = field(default_factory=Quota)
    allow_nested_warden: bool = False
    pidfile: str = ""
    syslog_socket: str = ""
    # Ours.
    engine: str = ""
    disk_image_size: Uint = Uint(16 << 30)  # bytes of the sparse image that holds the containers' files
    pids_limit: Uint32 = Uint32(1024)
    cpu_quota_percent: Uint32 = Uint32(0)  # of one core; 0: none
    name: str = "warden"


@dataclass
class HealthCheckServer:
    port: Uint16 = Uint16(2345)  # 0: none


@dataclass
class Logging:
    level: str = "debug2"
    file: str = ""
    syslog: str = ""


@dataclass
class Network:
    pool_network: str = "10.254.0.0/24"
    pool_start_address: str = ""
    pool_size: Uint32 = Uint32(64)
    release_delay: float = 5.0  # s
    mtu: Uint16 = Uint16(1500)
    allow_networks: list[str] = field(default_factory=list)
    allow_host_access: bool = False
    dns_servers: list[str] = field(default_factory=list)


@dataclass
class Port:
    pool_start_port: Uint16 = Uint16(0)  # 0: behind the kernel's own range
    pool_size: Uint16 = Uint16(0)  # 0: as far as they go


@dataclass
class User:
    pool_start_uid: Uint32 = Uint32(10000)
    pool_size: Uint32 = Uint32(64)


@dataclass
class Config:
    server: Server = field(default_factory=Server)
    health_check_server: HealthCheckServer = field(default_factory=HealthCheckServer)
    logging: Logging = field(default_factory=Logging)
    network: Network = field(default_factory=Network)
    port: Port = field(default_factory=Port)
    user: User = field(default_factory=User)
    warnings: list[str] = field(default_factory=list)

    @property
    def engine(self) -> str:
        """ "runc", "insecure", or "" where the file leaves it open."""
        return ENGINES.get(self.server.engine, "") or KLASSES.get(self.server.container_klass, "")

    @property
    def grace_time(self) -> float | None:
        """Seconds a container outlives its last connection; None: for ever."""
        return None if self.server.container_grace_time == _UNSET else float(self.server.container_grace_time)

    @property
    def pool_network(self) -> ipaddress.IPv4Network:
        if self.network.pool_start_address:
            return pools.network_of(self.network.pool_start_address, int(self.network.pool_size))
        return ipaddress.IPv4Network(self.network.pool_network, strict=False)

    def settings(self) -> Settings:
        """What the engine gets."""
        server, network = self.server, self.network
        return Settings(
            depot=Path(server.container_depot_path).absolute(),
            rootfs=Path(server.container_rootfs_path).absolute(),
            pool_network=str(self.pool_network),
            allow_networks=tuple(network.allow_networks),
            allow_host_access=network.allow_host_access,
            dns_servers=tuple(network.dns_servers),
            mtu=int(network.mtu),
            disk_limits=server.quota.disk_quota_enabled,
            disk_image_size=int(server.disk_image_size),
            pids_limit=int(server.pids_limit),
            cpu_quota_percent=int(server.cpu_quota_percent),
            allow_nested=server.allow_nested_warden,
            name=server.name,
        )


def load(path: str | None) -> Config:
    """The configuration in a file (None: the defaults). ConfigError with all problems of it."""
    config = Config()
    reading = Reading("")
    if path is not None:
        reading = component.read_yaml(component.load_file(path), path, config)
    if "server.container_grace_time" not in reading.marks:
        config.server.container_grace_time = Uint(300)
    _check(config, reading)
    if reading.problems:
        raise ConfigError(reading.problems)
    config.warnings = [str(problem) for problem in reading.unknown]
    return config


def _check(config: Config, reading: Reading) -> None:
    """The rules that a type does not tell; a problem is added at the place of its key."""

    def refuse(key: str, text: str, valid: str) -> None:
        reading.problems.append(Problem(reading.mark(key), key, text, valid))

    def choice(key: str, value: str, valid: dict[str, str]) -> None:
        if value not in valid:
            refuse(key, f"{value!r} is unknown", f"valid: {', '.join(valid)}")

    server, network = config.server, config.network
    if server.engine:
        choice("server.engine", server.engine, ENGINES)
    if server.container_klass:
        choice("server.container_klass", server.container_klass, KLASSES)
    choice("logging.level", config.logging.level, LEVELS)
    if server.unix_domain_permissions > 0o7777:
        refuse("server.unix_domain_permissions", f"{server.unix_domain_permissions:o} is no mode", "valid: 0 to 07777")
    if len(os.fsencode(server.unix_domain_path)) > 107:
        refuse("server.unix_domain_path", "is too long for a socket", "valid: up to 107 bytes")
    if not server.name.replace("_", "").isalnum() or len(server.name) > 16:
        refuse("server.name", f"{server.name!r} cannot name a table", "valid: up to 16 letters, digits and _")
    if network.mtu < 576:
        refuse("network.mtu", f"{network.mtu} is too small", "valid: 576 to 65535")
    if not 0 <= network.release_delay < 86400:
        refuse("network.release_delay", f"{network.release_delay} is no time", "valid: 0 to 86400, in seconds")
    try:
        pool = config.pool_network
    except ValueError as error:
        key = "network.pool_start_address" if network.pool_start_address else "network.pool_network"
        refuse(key, str(error), "valid: an IPv4 address" + ("" if network.pool_start_address else " and /N"))
    else:
        if pool.prefixlen > pools.PREFIX:
            refuse("network.pool_network", f"{pool} has no room for one /30", "valid: A.B.C.D/N with N up to 30")
    for number, allowed in enumerate(network.allow_networks):
        try:
            ipaddress.IPv4Network(allowed, strict=False)
        except ValueError as error:
            refuse(f"network.allow_networks[{number}]", str(error), "valid: A.B.C.D or A.B.C.D/N")
    for number, address in enumerate(network.dns_servers):
        try:
            ipaddress.ip_address(address)
        except ValueError as error:
            refuse(f"network.dns_servers[{number}]", str(error), "valid: an IP address")

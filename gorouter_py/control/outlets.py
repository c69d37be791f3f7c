"""Where the access log and single requests' events go beside files: a syslog server and the metron agent.

Control opens the sockets, so that a wrong address ends the start, and hands them to the data plane, which writes them
by itself. `Outlets.look` tells the component log when lines could not be delivered. Control thread.
"""

import os
import socket
from collections.abc import Callable
from typing import Final, Protocol

from gorouter_py.control.keys import Config

DIAL_S: Final = 10.0
FAMILIES: Final = {"": socket.AF_UNSPEC, "4": socket.AF_INET, "6": socket.AF_INET6}


class CannotDial(Exception):
    """There is no syslog server at the address, or it is none."""


class Plane(Protocol):
    """What is needed of the data plane."""

    def stream_log(self, fd: int, ip: str, port: int, *, tcp: bool, origin: str, truncate: int = ...) -> None: ...
    def send_envelopes(
        self,
        fd: int,
        *,
        lines: bool = ...,
        server_events: bool = ...,
        client_events: bool = ...,
        source_instance: str = ...,
    ) -> None: ...
    def outlets(self) -> dict[str, int]: ...


class Log(Protocol):
    """What is needed of the component log."""

    def error(self, message: str, /, **data: object) -> None: ...


def dial(network: str, address: str) -> socket.socket:
    """A connected, non-blocking socket. CannotDial says why there is none."""
    kind, family = network[:3], FAMILIES.get(network[3:])
    if kind not in ("tcp", "udp") or family is None:
        raise CannotDial(f"syslog: invalid network: {network}; valid: tcp, tcp4, tcp6, udp, udp4, udp6")
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise CannotDial(f"dial {network}: address {address}: must be host:port")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    socket_kind = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    failure: OSError | None = None
    try:
        found = socket.getaddrinfo(host, int(port), family=family, type=socket_kind)
    except OSError as error:
        raise CannotDial(f"dial {network}: lookup {host}: {error}") from None
    for family_found, _, _, _, peer in sorted(found, key=lambda each: each[0] != socket.AF_INET):
        made = socket.socket(family_found, socket_kind | socket.SOCK_CLOEXEC)
        made.settimeout(DIAL_S)
        try:
            made.connect(peer)
        except OSError as error:
            failure = error
            made.close()
            continue
        made.setblocking(False)
        return made
    raise CannotDial(f"dial {network} {address}: {failure}")


def wants_tags(config: Config) -> bool:
    """Whether envelopes will speak of instances, so that the data plane needs their tags."""
    events = config.enable_envelope_v1_metrics and config.send_http_start_stop_server_event
    return events or config.logging.loggregator_enabled


class Outlets:
    """See the head of the file."""

    def __init__(self, plane: Plane, config: Config, log: Log) -> None:
        self._plane = plane
        self._config = config
        self._log = log
        self._lost = 0

    def open_syslog(self) -> None:
        """If the access log is streamed. CannotDial, ValueError."""
        config = self._config.logging
        if not self._config.access_log.enable_streaming:
            return
        made = dial(config.syslog_network, config.syslog_addr)
        host, port = made.getpeername()[:2]
        origin = f"{socket.gethostname() or '-'} {config.syslog} {os.getpid()}"
        tcp = made.type == socket.SOCK_STREAM
        self._plane.stream_log(made.fileno(), host, port, tcp=tcp, origin=origin, truncate=config.syslog_truncate)
        made.detach()

    def open_metron(self, connect: Callable[[str], socket.socket]) -> None:
        """If envelopes of requests are wanted. connect: makes a socket to the agent; what it raises goes through."""
        config = self._config
        lines, events = config.logging.loggregator_enabled, config.enable_envelope_v1_metrics
        server = events and config.send_http_start_stop_server_event
        client = events and config.send_http_start_stop_client_event
        if not (lines or server or client):
            return
        made = connect(config.logging.metron_address)
        self._plane.send_envelopes(
            made.detach(),
            lines=lines,
            server_events=server,
            client_events=client,
            source_instance=str(config.index),
        )

    def look(self) -> None:
        """Says in the log how many lines the syslog server did not get since the last look."""
        lost = self._plane.outlets()["syslog_lost"]
        if lost > self._lost:
            # gorouter: a line for each of them
            self._log.error("error-emitting-access-log-to-writer-syslog", lost=lost - self._lost)
            self._lost = lost

"""Listening sockets: groups, conflicts, and what is inherited."""

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from gorouter_py.control import listeners


@contextlib.contextmanager
def group(port: int, count: int = 3, host: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    sockets = listeners.open_group(host, port, count)
    try:
        yield sockets
    finally:
        listeners.close(sockets)


def test_a_group_shares_one_port() -> None:
    with group(0) as sockets:
        assert len({each.getsockname() for each in sockets}) == 1
        for each in sockets:
            assert each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
            assert each.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1
            assert each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert not each.getblocking()
            assert not os.get_inheritable(each.fileno())


def test_a_second_group_on_the_same_port_is_refused() -> None:
    with group(0) as sockets:
        port = sockets[0].getsockname()[1]
        with pytest.raises(listeners.CannotListen, match=rf"listen tcp 127.0.0.1:{port}: bind: address already in use"):
            listeners.open_group("127.0.0.1", port, 3)
        with pytest.raises(listeners.CannotListen, match="address already in use"):
            listeners.open_group("0.0.0.0", port, 3)
    with group(port):
        pass


def test_a_port_with_connections_of_the_last_run_can_be_taken_again() -> None:
    with group(0, 1) as sockets:
        address = sockets[0].getsockname()
        with socket.create_connection(address):
            sockets[0].setblocking(True)
            sockets[0].accept()[0].close()  # we close first: TIME_WAIT stays with us
    with group(address[1], 1):
        pass


def test_a_foreign_address_is_refused() -> None:
    with pytest.raises(listeners.CannotListen, match=r"192\.0\.2\.1"):
        listeners.open_group("192.0.2.1", 0, 1)


def test_one_socket() -> None:
    one = listeners.open_one("127.0.0.1", 0)
    try:
        assert not os.get_inheritable(one.fileno())
        with pytest.raises(listeners.CannotListen, match="address already in use"):
            listeners.open_one("127.0.0.1", one.getsockname()[1])
    finally:
        one.close()


def test_the_unspecified_ipv6_address_takes_ipv4_too() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("needs IPv6")
    with group(0, 1, "::") as sockets:
        port = sockets[0].getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port)).close()

"""Listening sockets: one SO_REUSEPORT group per address, so that every worker accepts on a socket of its own.

Called on the control thread before the workers start. All sockets are close-on-exec (a child that inherited one would
hang the connections the kernel spreads to it) and non-blocking. Closing is the business of whoever takes them.
"""

import contextlib
import errno
import os
import socket
import stat
from typing import Final

BACKLOG: Final = 4096  # the kernel caps it at net.core.somaxconn


class CannotListen(OSError):
    """The address cannot be listened on; str() names address and reason."""


def open_group(host: str, port: int, count: int, backlog: int = BACKLOG) -> list[socket.socket]:
    """`count` listening sockets on one address; with port 0 the kernel's choice is shared by all.

    Raises CannotListen. The address is first bound without SO_REUSEPORT: with it, a second router of the same user
    would join the group unnoticed and take half of the connections."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sockets: list[socket.socket] = []
    try:
        if port:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                _prepare(probe, host)
                probe.bind((host, port))
        for _ in range(count):
            listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            sockets.append(listener)
            _prepare(listener, host)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, port))
            port = listener.getsockname()[1]
        for listener in sockets:  # all or none: a group that grows while clients come would spread them unevenly
            listener.listen(backlog)
    except OSError as error:
        close(sockets)
        reason = "address already in use" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise CannotListen(error.errno, f"listen tcp {shown}: bind: {reason}") from None
    return sockets


def open_one(host: str, port: int, backlog: int = 128) -> socket.socket:
    """A single listening socket for the control plane itself. Raises CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _prepare(listener, host)
        listener.bind((host, port))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        reason = "address already in use" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
        raise CannotListen(error.errno, f"listen tcp {host}:{port}: bind: {reason}") from None
    return listener


def open_unix(path: str, backlog: int = 128) -> socket.socket:
    """A listening unix socket that our user alone may connect to. Raises CannotListen.

    What a process that has ended left there is replaced; where somebody listens, or where there is another kind of
    file, nothing is touched."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        os.fchmod(listener.fileno(), 0o600)  # Linux gives the file these permissions: there is no moment without them
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_left_over(path):
                raise
            os.unlink(path)
            listener.bind(path)
        listener.listen(backlog)
    except (OSError, ValueError) as error:  # ValueError: a NUL within
        listener.close()
        reason = (os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)).lower()
        raise CannotListen(getattr(error, "errno", 0), f"listen unix {path}: bind: {reason}") from None
    return listener


def remove_unix(path: str) -> None:
    """Takes the file of a closed listener away, unless another router listens there by now."""
    with contextlib.suppress(OSError):
        if _is_left_over(path):
            os.unlink(path)


def _is_left_over(path: str) -> bool:
    return stat.S_ISSOCK(os.lstat(path).st_mode) and not _is_answered(path)


def _is_answered(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except (BlockingIOError, PermissionError):  # a full queue; somebody else's
            return True
        except OSError:
            return False
        return True


def close(sockets: list[socket.socket]) -> None:
    """Closes what was not handed on."""
    for each in sockets:
        with contextlib.suppress(OSError):
            each.close()


def _prepare(listener: socket.socket, host: str) -> None:
    # Without it a restart would have to wait until the connections of the last run have left TIME_WAIT.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Inherited by every accepted socket: without it a large answer waits for the client's delayed ACK (40 ms).
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if listener.family == socket.AF_INET6:
        # "::" means every address there is, as in Go; the data plane shows clients over IPv4 as such.
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")

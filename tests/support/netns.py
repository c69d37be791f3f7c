"""Network namespaces with addresses of their own, for what 127.0.0.1 alone cannot show. Needs root and ip(8).

A socket belongs to the namespace of the thread that made it, so `inside` runs a function on a thread of its own.
"""

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def missing() -> str:
    """Why there can be none here; "" if there can."""
    if os.geteuid() != 0:
        return "needs root"
    probe = subprocess.run(["ip", "netns", "add", f"gr-probe-{os.getpid()}"], capture_output=True)
    subprocess.run(["ip", "netns", "delete", f"gr-probe-{os.getpid()}"], capture_output=True)
    return "" if probe.returncode == 0 else "needs a kernel with network namespaces"


def inside(namespace: str, action: Callable[[], Any]) -> Any:
    """The result of a function whose sockets are the namespace's; raises what it raises."""
    result: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            with open(f"/run/netns/{namespace}") as file:
                if _libc.setns(file.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            result.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return result[0]


@contextmanager
def pair(here: list[str], there: list[str]) -> Iterator[tuple[str, str]]:
    """Two namespaces joined by a wire, each with its addresses ("192.0.2.1/24"); their names."""
    names = (f"gr-a-{os.getpid()}", f"gr-b-{os.getpid()}")
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", names[0], "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", names[1])
        for name, addresses in zip(names, (here, there), strict=True):
            for address in addresses:
                # no duplicate address detection: an IPv6 address is usable at once
                _ip("-n", name, "address", "add", address, "dev", "wire", *(["nodad"] if ":" in address else []))
            _ip("-n", name, "link", "set", "wire", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"

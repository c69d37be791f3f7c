"""A data plane that the collector found in a circle of objects was taken apart before its end was told to it.

A router whose start failed showed it: its attributes were None by then, and what they held was never given back.
"""

import gc
import socket
import sys
import weakref
from typing import Any

import pytest

from gorouter_py._fastpath import DataPlane


class Holder:
    """An object that leads to itself, and to a data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self.plane, self.itself = plane, self


@pytest.mark.parametrize("started", [False, True])
def test_a_plane_in_a_circle_ends_whole(monkeypatch: pytest.MonkeyPatch, started: bool) -> None:
    complaints: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    plane = DataPlane({})
    plane.add("app.test", "127.0.0.1", 9)
    if started:
        listener = socket.socket()
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        port = listener.getsockname()[1]
        plane.start([("http", [])])
        plane.map_port([listener.detach()], "app.test", port)
        plane.stop()
    holder = Holder(plane)
    gone = weakref.ref(holder)
    del plane, holder
    gc.collect()
    assert gone() is None
    assert not complaints

"""Options of the router's sockets that no message shows."""

import os
from pathlib import Path

from tests.support.plane import MakeOrigin, MakeRouter


def test_descriptors_are_closed_on_exec(router: MakeRouter, origin: MakeOrigin) -> None:
    app, front = origin(), router(workers=2)
    front.add(app)
    with front.client() as client:
        assert client.is_open()
        for name in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{name}")
                flags = Path(f"/proc/self/fdinfo/{name}").read_text().split("flags:")[1].split()[0]
            except OSError:
                continue
            if target.startswith(("socket:", "anon_inode:")):
                assert int(flags, 8) & os.O_CLOEXEC, target

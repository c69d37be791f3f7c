"""net.ipv4.ip_forward, which the traffic of containers needs: set while a server here wants it, put back after.

Several servers may share a network namespace. Who set it first notes what was there; everybody who needs it puts a name
down, which is that of an nftables table; the last one to leave restores. A name whose table is gone is of a server that
left otherwise, and does not count. The notes are below /run, so they end with the machine. Blocks; OSError.
"""

import fcntl
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SWITCH = Path("/proc/sys/net/ipv4/ip_forward")
NOTES = Path("/run/warden")


def tables() -> set[str]:
    """Names of the nftables tables of this network namespace."""
    listing = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
    return {line.split()[2] for line in listing.splitlines() if len(line.split()) == 3}


class Forwarding:
    def __init__(
        self, name: str, switch: Path = SWITCH, notes: Path = NOTES, alive: Callable[[], set[str]] = tables
    ) -> None:
        self._name = name
        self._switch = switch
        self._alive = alive
        namespace = os.stat("/proc/self/ns/net").st_ino
        self._file = notes / f"ip_forward.{namespace}"

    def acquire(self) -> None:
        """Sets the switch. When it was on already, and by nobody of us, nothing is noted and nothing restored."""
        with self._noted() as notes:
            if not notes and self._switch.read_text().strip() == "1":
                return
            notes.setdefault("before", self._switch.read_text().strip())
            notes["names"] = sorted({*notes.get("names", ()), self._name})
            self._switch.write_text("1")

    def release(self) -> None:
        """Call it when one's own table is gone."""
        with self._noted() as notes:
            if not notes:
                return
            notes["names"] = sorted(set(notes["names"]) & self._alive() - {self._name})
            if not notes["names"]:
                self._switch.write_text(notes["before"])
                notes.clear()

    @contextmanager
    def _noted(self) -> Iterator[dict[str, Any]]:
        """The notes, under a lock; written back at the end, and removed when they are empty."""
        self._file.parent.mkdir(exist_ok=True, mode=0o755)
        with (self._file.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                notes = json.loads(self._file.read_text())
            except (FileNotFoundError, ValueError):
                notes = {}
            yield notes
            if notes:
                new = self._file.with_suffix(".new")
                new.write_text(json.dumps(notes))
                new.rename(self._file)
            else:
                self._file.unlink(missing_ok=True)

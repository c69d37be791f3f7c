"""A warden server that is killed at a step of what it does with certain containers: `dying.py CONFIG OUT`.

A step is whatever the interpreter audits of what changes a machine: files, folders, processes, sockets. A file that is
only read is none: the server looks at /proc as often as it likes, and nothing is different after it. Steps are counted
while the server creates or destroys a container. One with the handle `ACTION-STEP` is that server's end: in the ACTION,
before step number STEP, the process gets KILL. How many steps an action took that was survived is written to the file
OUT, a line "ACTION NUMBER" for each.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from warden import app, config
from warden.manager import Manager

ACTIONS = ("create", "destroy")
EVENTS = {
    "os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.symlink", "os.chmod", "os.chown", "subprocess.Popen",
    "os.posix_spawn", "os.kill", "socket.sendto", "socket.sendmsg", "shutil.rmtree",
    "fcntl.ioctl",  # subvolumes
    "sys.set_asyncgen_hook_firstiter",  # each request by netlink runs an event loop of its own
}  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def changes(event: str, arguments: Any) -> bool:
    return event in EVENTS or (event == "open" and bool(arguments[2] & WRITES))


class Counter:
    """Counts steps while an action goes on; the last of them is the process's end."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.armed = False
        self.count = 0
        self.last = 0  # 0: none is
        self.ours: set[str] = set()  # handles of what this server made

    def watch(self, event: str, arguments: Any) -> None:
        if self.armed and changes(event, arguments):
            self.count += 1
            if self.count == self.last:
                os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, action: str) -> None:
        original = getattr(Manager, action)

        async def counted(manager: Manager, *arguments: Any, **named: Any) -> Any:
            handle = named["handle"] if action == "create" else arguments[0].handle
            wanted, _, step = handle.partition("-")
            if action == "create":
                self.ours.add(handle)
            dies = wanted == action and handle in self.ours  # not of the one that the server before died of
            self.armed, self.count, self.last = True, 0, int(step) if dies else 0
            try:
                return await original(manager, *arguments, **named)
            finally:
                self.armed = False
                with self.out.open("a") as out:
                    out.write(f"{action} {self.count}\n")

        setattr(Manager, action, counted)


def main(path: str, out: str) -> None:
    counter = Counter(Path(out))
    for action in ACTIONS:
        counter.wrap(action)
    sys.addaudithook(counter.watch)
    asyncio.run(app.serve(config.load(path)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

"""A warden server that is killed at one step of one action: `dying.py CONFIG create|destroy STEP OUT`.

A step is whatever the interpreter audits of what changes a machine: files, folders, processes, sockets. From the begin
of the action they are counted; before step number STEP the process gets KILL. Where the action has fewer, the number
there were is written to the file OUT.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from warden import app, config
from warden.manager import Manager

EVENTS = {
    "open", "os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.symlink", "os.chmod", "os.chown", "subprocess.Popen",
    "os.posix_spawn", "os.kill", "socket.sendto", "socket.sendmsg", "shutil.rmtree",
}  # fmt: skip


def main(path: str, action: str, step: int, out: str) -> None:
    armed = False
    count = 0

    def watch(event: str, arguments: Any) -> None:
        nonlocal count
        if armed and event in EVENTS:
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)

    original = getattr(Manager, action)

    async def counted(self: Manager, *arguments: Any, **named: Any) -> Any:
        nonlocal armed
        armed = True
        try:
            return await original(self, *arguments, **named)
        finally:
            armed = False
            Path(out).write_text(str(count))

    setattr(Manager, action, counted)
    sys.addaudithook(watch)
    asyncio.run(app.serve(config.load(path)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])

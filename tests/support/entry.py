"""Stands for a job's supervisor: has `runc exec` put bash into the container, and ends as bash ends.

    python -I -S entry.py PID_FILE RUNC ARGUMENT...

runc hands its own stdin and outputs to bash, and leaves; bash, an orphan then, falls to this process, which made
itself the one that orphans fall to. Status 255 where a signal ended bash, which `runc exec` itself could not tell
from an exit status of 128 + n.
"""

import ctypes
import os
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36
KILLED = 255


def main(pid_file: str, command: list[str]) -> int:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Python ignores these two, and what is ignored stays so in all that follows.
    runc = os.posix_spawnp(command[0], command, os.environ, setsigdef=[signal.SIGPIPE, signal.SIGXFSZ])
    _, status = os.waitpid(runc, 0)
    if status:
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else KILLED
    for descriptor in (0, 1, 2):  # bash has them; nobody is to wait for us to close them
        os.close(descriptor)
    with open(pid_file) as stream:
        bash = int(stream.read())
    _, status = os.waitpid(bash, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else KILLED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))

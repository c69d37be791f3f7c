"""Lines for the system's log, sent as datagrams to its socket. A log that cannot take one never holds anybody up."""

import os
import socket
import time

from gorouter_py.component import Sink

DEFAULT_SOCKET = "/dev/log"
INFO, ERROR = 14, 11  # facility user
_LINE_MAX = 8192


class Syslog:
    """A datagram socket to one log; `dropped` counts lines nobody took."""

    def __init__(self, path: str = "") -> None:
        self._path = path or DEFAULT_SOCKET
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self.dropped = 0

    def send(self, priority: int, tag: str, line: bytes) -> None:
        head = f"<{priority}>{time.strftime('%b %e %H:%M:%S')} {tag}: ".encode(errors="replace")
        try:
            self._socket.sendto(head + line[:_LINE_MAX], self._path)
        except OSError:
            self.dropped += 1

    def close(self) -> None:
        self._socket.close()


class Tagged:
    """Cuts the output of one job into lines of the log: stdout as info, stderr as error."""

    def __init__(self, syslog: Syslog, tag: str) -> None:
        self._syslog = syslog
        self._tag = f"warden.{tag}"
        self._rest = {"stdout": b"", "stderr": b""}

    def __call__(self, name: str, data: bytes) -> None:
        """A piece of an output; no data: the output has ended, and so has its last line."""
        *lines, rest = (self._rest[name] + data).split(b"\n")
        if rest and (not data or len(rest) > _LINE_MAX):
            lines, rest = [*lines, rest], b""
        self._rest[name] = rest
        for line in lines:
            if line:
                self._syslog.send(INFO if name == "stdout" else ERROR, self._tag, line)


class SyslogSink(Sink):
    """The program's own log, as lines of the system's log."""

    def __init__(self, syslog: Syslog, identity: str, threshold: int) -> None:
        super().__init__(threshold=threshold)
        self._syslog = syslog
        self._tag = f"{identity}[{os.getpid()}]"

    def write(self, line: bytes) -> None:
        self._syslog.send(INFO, self._tag, line.rstrip(b"\n"))
        self.dropped = self._syslog.dropped

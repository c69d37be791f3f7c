"""HTTP/1 over a raw socket, read strictly: what the router writes must be well-formed to the octet.

A Wire sends bytes as they are and reads whole messages. What is not well-formed is an AssertionError; an end in the
middle of a message is a Cut that says how the connection ended and what came before.
"""

import re
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Self

DEADLINE_S = 20.0  # only a hang reaches it
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2}) ([^\x00-\x08\x0a-\x1f\x7f]*)")
REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^\x00-\x20\x7f]+) HTTP/1\.([01])")
FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*((?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)[ \t]*")
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})")

Fields = list[tuple[str, str]]


class Cut(Exception):
    """The connection ended inside a message, or where one was expected."""

    def __init__(self, how: str, before: bytes) -> None:
        super().__init__(f"{how} after {before[-200:]!r}")
        self.how = how  # "end", "reset" or "silence"
        self.before = before


@dataclass
class Message:
    """A request or an answer. Field names and values are as received, decoded as Latin-1."""

    start: bytes
    fields: Fields
    raw_head: bytes
    minor: int = 1
    status: int = 0
    reason: str = ""
    method: str = ""
    target: bytes = b""
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    interim: list["Message"] = field(default_factory=list)
    chunks: int = 0

    def all(self, name: str) -> list[str]:
        """Every value of a field, in order."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The value of a field that must not come twice."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} comes {len(values)} times in {self.raw_head!r}"
        return values[0] if values else None

    def names(self) -> list[str]:
        """Field names in order and case."""
        return [name for name, _ in self.fields]

    def options(self) -> set[str]:
        """What Connection lists, in lower case."""
        return {item.strip().lower() for value in self.all("Connection") for item in value.split(",")} - {""}


def _fields(lines: list[bytes]) -> Fields:
    found = []
    for line in lines:
        match = FIELD_LINE.fullmatch(line)
        assert match, f"malformed field line {line!r}"
        found.append((match[1].decode("latin-1"), match[2].decode("latin-1")))
    return found


class Wire:
    """One side of a TCP connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        self.sock.settimeout(DEADLINE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def connect(cls, port: int, *, receive_buffer: int = 0) -> Self:
        """A connection to a port of this machine. receive_buffer: octets the kernel may take ahead, 0 as it likes."""
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(DEADLINE_S)
        sock.connect(("127.0.0.1", port))
        return cls(sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """This side's "ip:port"."""
        host, port = self.sock.getsockname()[:2]
        return f"{host}:{port}"

    # -- writing --------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Writes all of it."""
        self.sock.sendall(data)

    def send_parts(self, parts: list[bytes], pause_s: float = 0.002) -> None:
        """Writes each part by itself, so that the reader is likely to see them apart."""
        for part in parts:
            self.sock.sendall(part)
            time.sleep(pause_s)

    def half_close(self) -> None:
        """Nothing more comes from here."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Ends both directions."""
        self.sock.close()

    def reset(self) -> None:
        """Closes so that the peer sees a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # -- reading --------------------------------------------------------------------------------------------------

    def fill(self) -> None:
        """Reads more; raises Cut where nothing more comes."""
        try:
            data = self.sock.recv(262144)
        except ConnectionError:
            raise Cut("reset", self.buffer) from None
        except TimeoutError:
            raise Cut("silence", self.buffer) from None
        if not data:
            raise Cut("end", self.buffer)
        self.buffer += data

    def take(self, n: int) -> bytes:
        """Exactly n octets."""
        if len(self.buffer) < n:
            parts = [self.buffer]
            have = len(self.buffer)
            self.buffer = b""
            while have < n:
                try:
                    self.fill()
                except Cut as cut:
                    self.buffer = b"".join(parts)
                    raise Cut(cut.how, self.buffer) from None
                parts.append(self.buffer)
                have += len(self.buffer)
                self.buffer = b""
            self.buffer = b"".join(parts)
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def line(self) -> bytes:
        """A line without its CR LF. A bare LF is an error."""
        while b"\n" not in self.buffer:
            self.fill()
        line, _, self.buffer = self.buffer.partition(b"\n")
        assert line.endswith(b"\r"), f"bare LF behind {line!r}"
        return line[:-1]

    def head(self) -> tuple[bytes, Fields, bytes]:
        """(start line, fields, the head as it came)."""
        while b"\r\n\r\n" not in self.buffer:
            assert b"\n\n" not in self.buffer and len(self.buffer) < 4_000_000
            self.fill()
        raw, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        start, *lines = raw.split(b"\r\n")
        return start, _fields(lines), raw + b"\r\n\r\n"

    def chunked(self, message: Message) -> None:
        """A chunked body and its trailers."""
        parts = []
        while True:
            match = CHUNK_LINE.fullmatch(self.line())
            assert match, "malformed chunk line"
            size = int(match[1], 16)
            if size == 0:
                break
            parts.append(self.take(size))
            message.chunks += 1
            assert self.take(2) == b"\r\n"
        message.body = b"".join(parts)
        lines = []
        while line := self.line():
            lines.append(line)
        message.trailers = _fields(lines)

    def _length(self, message: Message) -> int | None:
        length, coding = message.get("Content-Length"), message.get("Transfer-Encoding")
        assert length is None or coding is None, f"two lengths in {message.raw_head!r}"
        assert coding in (None, "chunked")
        assert length is None or re.fullmatch(r"[0-9]{1,19}", length)
        return None if length is None else int(length)

    def request_head(self) -> Message | None:
        """A request's head; None where the connection ends instead of it."""
        try:
            start, fields, raw = self.head()
        except Cut as cut:
            if cut.before == b"":
                return None
            raise
        match = REQUEST_LINE.fullmatch(start)
        assert match, f"malformed request line {start!r}"
        return Message(start, fields, raw, minor=int(match[3]), method=match[1].decode(), target=match[2])

    def request_body(self, message: Message) -> bytes:
        """The body that belongs to a head."""
        length = self._length(message)
        if message.get("Transfer-Encoding"):
            self.chunked(message)
        elif length:
            message.body = self.take(length)
        return message.body

    def request(self) -> Message | None:
        """A whole request, or None at the end of the connection."""
        message = self.request_head()
        if message is not None:
            self.request_body(message)
        return message

    def answer_head(self) -> Message:
        """One answer's head, interim or final."""
        start, fields, raw = self.head()
        match = STATUS_LINE.fullmatch(start)
        assert match, f"malformed status line {start!r}"
        return Message(start, fields, raw, minor=int(match[1]), status=int(match[2]), reason=match[3].decode("latin-1"))

    def answer(self, method: str = "GET") -> Message:
        """A whole final answer to that method; interim ones before it are in .interim."""
        interim = []
        while (message := self.answer_head()).status < 200 and message.status != 101:
            assert not message.get("Content-Length") and not message.get("Transfer-Encoding")
            interim.append(message)
        message.interim = interim
        length = self._length(message)
        if method == "HEAD" or message.status in (101, 204, 304):
            return message
        if message.get("Transfer-Encoding"):
            self.chunked(message)
        elif length is not None:
            message.body = self.take(length)
        else:
            assert "close" in message.options() or message.minor == 0, "no length and no close"
            message.body, how = self.rest()
            assert how == "end", f"a body that the end delimits ended by {how}"
        return message

    def rest(self) -> tuple[bytes, str]:
        """(what still comes, how it ends: "end", "reset" or "silence")."""
        parts = [self.buffer]
        self.buffer = b""
        while True:
            try:
                self.fill()
            except Cut as cut:
                return b"".join(parts), cut.how
            parts.append(self.buffer)
            self.buffer = b""

    def is_silent(self, for_s: float = 0.05) -> bool:
        """Whether nothing, not even an end, comes in that time."""
        if self.buffer:
            return False
        self.sock.settimeout(for_s)
        try:
            self.fill()
        except Cut as cut:
            return cut.how == "silence"
        finally:
            self.sock.settimeout(DEADLINE_S)
        return False

    def is_open(self, host: str = "app.test") -> bool:
        """Whether another request is answered on this connection."""
        try:
            self.send(f"GET /again HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            return self.answer().status == 200
        except (Cut, ConnectionError):
            return False

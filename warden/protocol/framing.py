"""Frames: `<decimal length>\\r\\n<payload>\\r\\n`, both ways, payload = a Message. Sans-IO: bytes in, messages out.

A payload that does not decode spoils only itself: `feed` gives a BadFrame in its place and goes on. A length line
that is none, or a frame over `limit`, spoils the rest of the connection: ProtocolError.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError, Message

from warden.protocol import warden_pb2 as pb

FRAME_MAX = 64 << 20  # bytes; the largest known one is the output of a job (10 MiB by default) in one reply
_LENGTH = re.compile(rb"[0-9]{1,10}")
_LENGTH_LINE_MAX = 12

# All requests and their replies, by type: ("Ping", PingRequest, PingResponse).
TYPES: dict[int, tuple[str, type[Message], type[Message]]] = {
    number: (name, getattr(pb, f"{name}Request"), getattr(pb, f"{name}Response"))
    for name, number in pb.Message.Type.items()
    if name != "Error"
}
_NUMBERS = {
    kind: number for number, (_, request, response) in TYPES.items() for kind in (request, response)
} | {pb.ErrorResponse: int(pb.Message.Error)}  # fmt: skip


class ProtocolError(Exception):
    """The bytes on a connection are no frames; nothing that follows can be told apart."""


@dataclass(frozen=True)
class BadFrame:
    """A frame whose payload is no message; reason says why."""

    reason: str


def encode(message: Message) -> bytes:
    """The frame of a request or a reply. ValueError if a required field is not set."""
    if not message.IsInitialized():
        raise ValueError(f"{type(message).__name__} lacks {_missing(message)}")
    outer = pb.Message()
    outer.type = _NUMBERS[type(message)]  # type: ignore[assignment]
    outer.payload = message.SerializeToString()
    payload = outer.SerializeToString()
    return b"%d\r\n%b\r\n" % (len(payload), payload)


def decode(payload: bytes, replies: bool = False) -> Message | BadFrame:
    """The request in a payload, or, with `replies`, the reply. What has the type Error is an ErrorResponse."""
    try:
        outer = pb.Message.FromString(payload)
        if not outer.IsInitialized():
            return BadFrame(f"Message lacks {_missing(outer)}, or its type is unknown")
        kind: Any = pb.ErrorResponse
        if outer.type != pb.Message.Error:
            kind = TYPES[outer.type][2 if replies else 1]
        message: Message = kind.FromString(outer.payload)
    except DecodeError as error:
        return BadFrame(str(error))
    if not message.IsInitialized():
        return BadFrame(f"{type(message).__name__} lacks {_missing(message)}")
    return message


def _missing(message: Any) -> str:
    return ", ".join(message.FindInitializationErrors())


class Decoder:
    """Cuts a stream of bytes into messages, however it arrives."""

    def __init__(self, replies: bool = False, limit: int = FRAME_MAX) -> None:
        self._replies = replies
        self._limit = limit
        self._buffer = bytearray()
        self._length = -1  # of the payload that is awaited; -1: a length line is

    def feed(self, data: bytes) -> Iterator[Message | BadFrame]:
        """The messages that are complete now; take them before the next call. ProtocolError where no frame is."""
        self._buffer += data
        while True:
            if self._length < 0:
                end = self._buffer.find(b"\r\n", 0, _LENGTH_LINE_MAX)
                if end < 0:
                    if len(self._buffer) >= _LENGTH_LINE_MAX:
                        self._refuse(bytes(self._buffer[:_LENGTH_LINE_MAX]))
                    return
                line = bytes(self._buffer[:end])
                if not _LENGTH.fullmatch(line) or int(line) > self._limit:
                    self._refuse(line)
                self._length = int(line)
                del self._buffer[: end + 2]
            if len(self._buffer) < self._length + 2:
                return
            payload = bytes(self._buffer[: self._length])
            if self._buffer[self._length : self._length + 2] != b"\r\n":
                raise ProtocolError(f"a frame of {self._length} bytes does not end with CR LF")
            del self._buffer[: self._length + 2]
            self._length = -1
            yield decode(payload, self._replies)

    def _refuse(self, line: bytes) -> None:
        raise ProtocolError(f"{line!r} is no length of a frame; valid: 0 to {self._limit}, in decimal, then CR LF")

"""The exchanges that are cut, split and delayed, and what a client may see of them.

A client may see a complete answer of the instance, a whole answer of the router's own with 4xx or 5xx, or one that is
visibly cut: never one made of two, never a shorter one that looks whole, never silence.
"""

from dataclasses import dataclass

from tests.support.origins import Served
from tests.support.wire import Cut, Message, Wire

BODY = bytes(range(256))
HOST = b"Host: app.test\r\n"
UPLOAD = b"upload " * 9
TURN = b"@turn@"  # in targets: exchanges are told apart by it


@dataclass(frozen=True)
class Request:
    """One request of an exchange, the body it has and the answer of the instance."""

    text: bytes
    method: str
    body: bytes
    answer: bytes
    answer_body: bytes
    trailers: tuple[tuple[str, str], ...] = ()

    def sent(self, turn: int) -> bytes:
        """The request as the client sends it in an exchange of that number."""
        return self.text.replace(TURN, b"%06d" % turn)

    def target(self, turn: int) -> bytes:
        """What it asks for then."""
        return self.sent(turn).split(b" ")[1]


def _of_length(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nX-From: instance\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def _chunks(body: bytes, size: int, trailer: bytes) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n" + trailer + b"\r\n"


def _get(target: bytes, answer: bytes, body: bytes, trailers: tuple[tuple[str, str], ...] = ()) -> Request:
    return Request(
        b"GET " + target + b"?" + TURN + b" HTTP/1.1\r\n" + HOST + b"\r\n", "GET", b"", answer, body, trailers
    )


_POST = b"POST /post?" + TURN + b" HTTP/1.1\r\n" + HOST
_CHUNKED = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (UPLOAD[:1], UPLOAD[1:20], UPLOAD[20:]))

EXCHANGES: dict[str, list[Request]] = {
    "get": [_get(b"/get", _of_length(b"got"), b"got")],
    "post": [
        Request(
            _POST + b"Content-Length: %d\r\n\r\n" % len(UPLOAD) + UPLOAD, "POST", UPLOAD, _of_length(b"taken"), b"taken"
        )
    ],
    "post-chunked": [
        Request(
            _POST + b"Transfer-Encoding: chunked\r\n\r\n" + _CHUNKED + b"0\r\nX-Sum: 1\r\n\r\n", "POST", UPLOAD,
            _of_length(b"taken"), b"taken",
        )
    ],
    "chunked-answer": [
        _get(b"/chunks", _chunks(BODY[32:96], 20, b"X-Sum: abc\r\n"), BODY[32:96], (("X-Sum", "abc"),))
    ],
    "pipelined": [
        _get(b"/first", _of_length(b"first answer"), b"first answer"),
        _get(b"/second", _of_length(b"2nd"), b"2nd"),
    ],
}  # fmt: skip


BY_PATH = {request.target(0).partition(b"?")[0]: request for requests in EXCHANGES.values() for request in requests}


class Instance:
    """A handler that answers as the exchanges say, and notes every request that came whole."""

    def __init__(self) -> None:
        self.whole: list[Message] = []

    def __call__(self, conn: Served) -> None:
        while (message := conn.request()) is not None:
            self.whole.append(message)
            request = BY_PATH[message.target.partition(b"?")[0]]
            assert message.body == request.body, f"a body of {len(message.body)} octets looks whole"
            conn.send(request.answer)


class Recorder(Wire):
    """A Wire that keeps all that came."""

    raw = b""

    def fill(self) -> None:
        before = len(self.buffer)
        super().fill()
        self.raw += self.buffer[before:]


def judge(client: Recorder, requests: list[Request]) -> list[str]:
    """What a client saw of each request: "whole", a status, or "cut" at last; AssertionError if it may not be."""
    seen = []
    for request in requests:
        start = len(client.raw) - len(client.buffer)
        try:
            answer = client.answer(request.method)
        except Cut as cut:
            assert cut.how != "silence", f"nothing came any more: {client.raw[start:]!r}"
            _judge_part(client.raw[start:], request)
            seen.append("cut")
            return seen
        if answer.status == 200:
            assert answer.body == request.answer_body
            assert answer.trailers == list(request.trailers)
            seen.append("whole")
            continue
        assert 400 <= answer.status < 600, answer.raw_head
        assert answer.body.startswith(b"%d " % answer.status), answer.body
        seen.append(str(answer.status))
        if "close" in answer.options():
            assert client.rest()[0] == b""
            return seen
    return seen


def _judge_part(raw: bytes, request: Request) -> None:
    """What came of an answer that was cut is the beginning of one answer."""
    head, found, rest = raw.partition(b"\r\n\r\n")
    if not found:
        assert b"HTTP/1.1 "[: len(head)] == head[:9]
        return
    if not head.startswith(b"HTTP/1.1 200 "):
        return
    if b"chunked" not in head:
        assert request.answer_body.startswith(rest)
        return
    body = b""
    while b"\r\n" in rest:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line, 16)
        if size == 0:
            break
        body += rest[:size]
        rest = rest[size + 2 :]
    assert request.answer_body.startswith(body)

"""The same octets read by three parsers: ours, h11 and httptools (llhttp).

A stream of octets becomes a Reading: the messages a reader took from it, one after the other, and whether it then
refused. Where a reader stops by its own rules (close, an upgrade) the rest is not read by any of them.
"""

from dataclasses import dataclass, field

import h11
import httptools

from tests import _probe

Fields = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class Message:
    """One request or response: names in lower case, the body decoded."""

    start: tuple[bytes, ...]
    fields: Fields
    body: bytes


@dataclass
class Reading:
    """What a reader made of a stream; refused is "" or its reason."""

    messages: list[Message] = field(default_factory=list)
    refused: str = ""
    stopped: bool = False


def lowered(pairs: list[tuple[bytes, bytes]]) -> Fields:
    """Names in lower case, and the value of Transfer-Encoding too, which h11 rewrites."""
    return tuple((n.lower(), v.lower() if n.lower() == b"transfer-encoding" else v) for n, v in pairs)


# -- ours -----------------------------------------------------------------------------------------------------


def body_of(said: dict, rest: bytes) -> tuple[bytes, int, str, bool]:
    """(body, octets used, fault, complete) of the message whose head said that, from what follows it."""
    if said["framing"] == "none":
        return b"", 0, "", True
    if said["framing"] == "length":
        n = said["content_length"]
        return rest[:n], min(n, len(rest)), "", len(rest) >= n
    if said["framing"] == "chunked":
        told = _probe.decode_chunks([rest])
        return told["body"], len(rest) - told["left"], told["fault"] or "", told["done"]
    if said["framing"] == "tunnel":
        return b"", 0, "", True  # what follows is not HTTP any more
    return rest, len(rest), "", True  # until the connection closes


def ours(data: bytes, *, request_method: str | None = None) -> Reading:
    """Requests, or the one response to request_method, as our parsers read them."""
    out = Reading()
    while data:
        said = _probe.parse_request(data) if request_method is None else _probe.parse_response(data, request_method)
        if said == "PARTIAL":
            break
        if isinstance(said, str):
            out.refused = said
            break
        data = data[said["length"] :]
        body, used, fault, complete = body_of(said, data)
        if fault:
            out.refused = fault
            break
        if not complete:
            break
        data = data[used:]
        version = b"1.%d" % said["minor"]
        start = (
            (said["method"], said["target"], version) if request_method is None else (b"%d" % said["status"], version)
        )
        out.messages.append(Message(start, lowered([pair[:2] for pair in said["fields"]]), body))
        if request_method is not None or "keep-alive" not in said["flags"] or "upgrade" in said["flags"]:
            out.stopped = True
            break
        if said["method_id"] == "CONNECT":
            out.stopped = True
            break
    return out


# -- h11 ------------------------------------------------------------------------------------------------------


def h11_requests(data: bytes) -> Reading:
    """Requests as h11 reads them on a server's side; each is answered so that the next one may come."""
    out = Reading()
    while not (out.stopped or out.refused):
        # RFC 9112 2.2: an empty line before a request line may be ignored; h11 does not, we do.
        rest = _h11_request(data.removeprefix(b"\r\n"), out)
        if rest is None:
            break
        data = rest
    return out


def _h11_request(data: bytes, out: Reading) -> bytes | None:
    """Reads one request into out: what follows it, None if there is no complete one."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    head: h11.Request | None = None
    body = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            out.refused = str(error)
            return None
        if isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            break
        else:
            return None
    start = (head.method, head.target, head.http_version)
    out.messages.append(Message(start, lowered(list(head.headers.raw_items())), body))
    if connection.their_state is h11.MIGHT_SWITCH_PROTOCOL:
        out.stopped = True
        return None
    connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    out.stopped = connection.our_state is not h11.DONE or connection.their_state is not h11.DONE
    return connection.trailing_data[0]


def h11_response(data: bytes, request_method: str) -> Reading:
    """The response to a request with that method, and what was interim before it, until the connection's end."""
    out = Reading()
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    target = "a:1" if request_method == "CONNECT" else "/"
    connection.send(h11.Request(method=request_method or "X", target=target, headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    head: h11.Response | None = None
    body = b""
    for octets in (data, b""):
        connection.receive_data(octets)
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError as error:
                out.refused = str(error)
                return out
            if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                break
            if isinstance(event, h11.Response | h11.InformationalResponse):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            # PAUSED: a tunnel begins here.
            if isinstance(event, h11.EndOfMessage | h11.InformationalResponse) or event is h11.PAUSED:
                assert head is not None
                start = (b"%d" % head.status_code, head.http_version)
                out.messages.append(Message(start, lowered(list(head.headers.raw_items())), body))
                out.stopped = True
                return out
    return out


# -- httptools (llhttp) ---------------------------------------------------------------------------------------


class _Collector:
    def __init__(self) -> None:
        self.reading = Reading()
        self.parser: httptools.HttpRequestParser | httptools.HttpResponseParser
        self.closing = False

    def on_message_begin(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.trailing = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.trailing:
            self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.trailing = True

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if self.closing:
            return
        version = self.parser.get_http_version().encode()
        start: tuple[bytes, ...]
        if isinstance(self.parser, httptools.HttpRequestParser):
            start = (self.parser.get_method(), self.url, version)
        else:
            start = (b"%d" % self.parser.get_status_code(), version)
        # llhttp keeps white space behind a value; RFC 9112 5.1 excludes it from the value.
        fields = [(name, value.strip(b" \t")) for name, value in self.fields]
        self.reading.messages.append(Message(start, lowered(fields), self.body))
        if not self.parser.should_keep_alive():
            self.closing = self.reading.stopped = True


def llhttp_requests(data: bytes) -> Reading:
    """Requests as llhttp reads them."""
    collector = _Collector()
    collector.parser = httptools.HttpRequestParser(collector)
    try:
        collector.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        collector.reading.stopped = True
    except httptools.HttpParserError as error:
        if not collector.closing:
            collector.reading.refused = f"{type(error).__name__}: {error}"
    return collector.reading


def llhttp_response(data: bytes) -> Reading:
    """The first response as llhttp reads it (it does not know the request's method)."""
    collector = _Collector()
    collector.parser = httptools.HttpResponseParser(collector)
    try:
        collector.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        collector.reading.stopped = True
    except httptools.HttpParserError as error:
        if not collector.closing:
            collector.reading.refused = f"{type(error).__name__}: {error}"
    del collector.reading.messages[1:]
    return collector.reading

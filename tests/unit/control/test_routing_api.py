"""The routing API's client and the token fetcher against small servers on the test's own loop."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorouter_py.control.http_client import Client, RequestFailed
from gorouter_py.control.registry import Limits, Registry
from gorouter_py.control.routing_api import EVENT_BYTES_MAX, Api, EventLines, Fetcher
from gorouter_py.control.uaa import NoTokens, Policy, Tokens
from tests.unit.control.fakes import FakeLog, FakeNames, FakeTable

Answer = tuple[int, bytes]
LENGTH = "Content-Length: {}\r\n"


class Server:
    """Answers each request with what `answers` yields next for its path; the last answer stays."""

    def __init__(self, **answers: list[Answer]) -> None:
        self.answers = answers
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.streams: list[asyncio.StreamWriter] = []
        self.port = 0

    @asynccontextmanager
    async def running(self):  # type: ignore[no-untyped-def]
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            try:
                yield self
            finally:
                for writer in self.streams:
                    writer.transport.abort()

    @property
    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.port}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        path = head[0].split(" ")[1]
        self.requests.append((path, dict(line.split(": ", 1) for line in head[1:] if line), body))
        queue = self.answers[path.rpartition("/")[2]]
        status, answer = queue.pop(0) if len(queue) > 1 else queue[0]
        if path.endswith("/events") and status == 200:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            if answer:
                writer.write(b"%x\r\n%s\r\n" % (len(answer), answer))
            self.streams.append(writer)
        else:
            writer.write(f"HTTP/1.1 {status} X\r\n{LENGTH.format(len(answer))}\r\n".encode() + answer)
            writer.close()


def routes(*rows: dict[str, Any]) -> Answer:
    return 200, json.dumps(list(rows)).encode()


def row(route: str = "a.test", ip: str = "10.0.0.1", port: int = 80, **more: Any) -> dict[str, Any]:
    return {"route": route, "ip": ip, "port": port, "log_guid": "guid", "ttl": 60, **more}


def event(action: str, fields: dict[str, Any]) -> bytes:
    return f"id: 1\nevent: {action}\ndata: {json.dumps(fields)}\n\n".encode()


class Bench:
    def __init__(self, server: Server, tokens: Any = None, interval_s: float = 0.01) -> None:
        self.table, self.log = FakeTable(), FakeLog()
        self.registry = Registry(self.table, FakeNames(), self.log, Limits())
        self.fetcher = Fetcher(
            Api(server.client), tokens or NoTokens(), self.registry, self.log, interval_s, retry_interval_s=0.001
        )

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.002)


def play(server: Server, scenario: Callable[[Server], Awaitable[None]]) -> None:
    async def run() -> None:
        async with server.running():
            await scenario(server)

    asyncio.run(run())


# -- lists ----------------------------------------------------------------------------------------------------


def test_a_list_becomes_routes_and_what_vanishes_goes() -> None:
    first = routes(
        row(modification_tag={"guid": "g", "index": 7}),
        row("b.test/ctx", "10.0.0.2", 81, route_service_url="https://rs.test"),
    )
    server = Server(routes=[first, routes(row("c.test"))])

    async def scenario(server: Server) -> None:
        bench = Bench(server)
        await bench.fetcher.refresh()
        assert bench.table.shown() == [("a.test", "10.0.0.1:80")]
        lines = {line["uri"]: line for line in bench.log.said("endpoint-registered")}
        line = lines["a.test"]
        assert (line["application_id"], line["server_cert_domain_san"], line["isTLS"]) == ("guid", "guid", False)
        assert line["modification_tag"] == {"guid": "g", "index": 7}
        assert lines["b.test/ctx"]["route_service_url"] == "https://rs.test"
        assert bench.registry.rows(["a.test"])["a.test"][0]["ttl"] == 60
        await bench.fetcher.refresh()
        assert bench.table.shown() == [("c.test", "10.0.0.1:80")]
        assert bench.registry.routes == 1

    play(server, scenario)


def test_a_list_that_fails_changes_nothing_and_is_asked_for_again() -> None:
    server = Server(routes=[routes(row()), (500, b"broken"), (200, b"{}"), routes(row("b.test"))], events=[(200, b"")])

    async def scenario(server: Server) -> None:
        bench = Bench(server)
        await bench.fetcher.refresh()
        for why in ("unexpected status 500: broken", "no list of routes"):
            with pytest.raises(RequestFailed, match=why):
                await bench.fetcher.refresh()
            assert bench.table.shown() == [("a.test", "10.0.0.1:80")]
        bench.fetcher.start()
        await bench.until(lambda: bench.table.shown() == [("b.test", "10.0.0.1:80")])
        await bench.fetcher.stop()

    play(server, scenario)


def test_unusable_routes_are_complained_about() -> None:
    server = Server(routes=[routes(row(ip=""), row(port=0), row(route_service_url="http://x"), row("b.test"))])

    async def scenario(server: Server) -> None:
        bench = Bench(server)
        await bench.fetcher.refresh()
        assert bench.table.shown() == [("b.test", "10.0.0.1:80")]
        assert len(bench.log.said("route-not-usable")) == 3

    play(server, scenario)


# -- events ---------------------------------------------------------------------------------------------------


def test_events_are_applied_as_they_come_and_the_stream_is_taken_up_again() -> None:
    first = event("Upsert", row()) + event("Upsert", row("b.test")) + event("Unknown", row("c.test"))
    server = Server(routes=[routes()], events=[(200, first), (200, event("Delete", row("b.test")))])

    async def scenario(server: Server) -> None:
        bench = Bench(server, interval_s=1000)
        bench.fetcher.start()
        await bench.until(lambda: bench.table.shown() == [("a.test", "10.0.0.1:80"), ("b.test", "10.0.0.1:80")])
        assert bench.fetcher.counts.subscribe_events_errors == 0
        server.streams[0].transport.abort()
        await bench.until(lambda: bench.table.shown() == [("a.test", "10.0.0.1:80")])
        assert bench.fetcher.counts.subscribe_events_errors == 1
        assert len(bench.log.said("Successfully-subscribed-to-routing-api-event-stream")) == 2
        assert len(bench.log.said("failed-getting-next-event: ")) == 1
        assert bench.log.said("received-event")[0]["action"] == "Upsert"
        await bench.fetcher.stop()

    play(server, scenario)


def test_a_refused_subscription_is_tried_three_times_more_and_then_counted() -> None:
    server = Server(routes=[routes()], events=[(500, b"no")] * 4 + [(200, b"")])

    async def scenario(server: Server) -> None:
        bench = Bench(server, interval_s=1000)
        bench.fetcher.start()
        await bench.until(lambda: bench.log.said("Successfully-subscribed-to-routing-api-event-stream"))
        assert bench.fetcher.counts.subscribe_events_errors == 1
        (line,) = bench.log.said("failed-subscribing-to-routing-api-event-stream")
        assert line["error"] == "unexpected status 500: no"
        await bench.fetcher.stop()

    play(server, scenario)


NAMED_TEXTS = st.tuples(st.sampled_from(["Upsert", "Delete"]), st.text("ab\\\"é ", max_size=20))


@given(st.lists(NAMED_TEXTS, max_size=4), st.data())
def test_events_may_arrive_in_any_pieces(wanted: list[tuple[str, str]], data: st.DataObject) -> None:
    newline = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    stream = "".join(
        f": comment{newline}event: {name}{newline}data:{json.dumps(text)}{newline}{newline}" for name, text in wanted
    ).encode() + (b":" if newline == "\r" else b"")  # a CR at the very end may still become a CRLF
    reader, found = EventLines(), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += reader.take(stream[:cut])
        stream = stream[cut:]
    assert [(name, json.loads(text)) for name, text in found] == wanted


def test_data_of_several_lines_is_one_text_and_events_without_data_are_none() -> None:
    assert EventLines().take(b"event: a\ndata: {\ndata: }\n\nevent: b\n\n") == [("a", b"{\n}")]


def test_an_event_has_an_end() -> None:
    reader = EventLines()
    with pytest.raises(RequestFailed, match="more than"):
        for _ in range(EVENT_BYTES_MAX // 1000 + 2):
            reader.take(b"data: " + b"x" * 1000 + b"\n")


# -- tokens ---------------------------------------------------------------------------------------------------


def token(name: str, expires_in: int = 1000) -> Answer:
    return 200, json.dumps({"access_token": name, "token_type": "bearer", "expires_in": expires_in}).encode()


def tokens_of(server: Server, log: FakeLog, clock: Callable[[], float] = lambda: 0.0, retries: int = 3) -> Tokens:
    return Tokens(server.client, "client", "s:e", Policy(retries, 0.001, 30), log, clock)


def test_a_token_is_asked_for_as_uaa_wants_it_and_kept_until_shortly_before_its_end() -> None:
    server, log, now = Server(token=[token("one"), token("two"), token("three")]), FakeLog(), [0.0]

    async def scenario(server: Server) -> None:
        tokens = tokens_of(server, log, lambda: now[0])
        assert await asyncio.gather(*(tokens.fetch(force=False) for _ in range(5))) == ["one"] * 5
        path, headers, body = server.requests[0]
        assert (path, body) == ("/oauth/token", b"grant_type=client_credentials")
        assert headers["Authorization"] == "Basic Y2xpZW50OnM6ZQ=="
        now[0] = 969
        assert await tokens.fetch(force=False) == "one"
        now[0] = 970
        assert await tokens.fetch(force=False) == "two"
        assert await tokens.fetch(force=True) == "three"
        assert len(server.requests) == 3
        assert {"force-update": True} in log.said("started-fetching-token")

    play(server, scenario)


def test_a_server_that_fails_is_asked_again_and_one_that_refuses_is_not() -> None:
    async def failing(server: Server) -> None:
        log = FakeLog()
        assert await tokens_of(server, log).fetch(force=False) == "late"
        assert [line["attempt"] for line in log.said("error-fetching-token")] == [1, 2]

    play(Server(token=[(503, b""), (500, b"oops"), token("late")]), failing)

    async def hopeless(server: Server) -> None:
        with pytest.raises(RequestFailed, match="status code: 500, body: oops"):
            await tokens_of(server, FakeLog(), retries=2).fetch(force=False)
        assert len(server.requests) == 3

    play(Server(token=[(500, b"oops")]), hopeless)

    async def refusing(server: Server) -> None:
        with pytest.raises(RequestFailed, match="status code: 401"):
            await tokens_of(server, FakeLog()).fetch(force=False)
        assert len(server.requests) == 1

    play(Server(token=[(401, b"bad credentials")]), refusing)


@pytest.mark.parametrize("answer", [b"{}", b"no json", b'{"access_token":""}'])
def test_an_answer_that_is_no_token(answer: bytes) -> None:
    async def scenario(server: Server) -> None:
        with pytest.raises(RequestFailed, match="token"):
            await tokens_of(server, FakeLog()).fetch(force=False)

    play(Server(token=[(200, answer)]), scenario)


def test_a_401_makes_the_next_attempt_with_a_new_token() -> None:
    server = Server(
        token=[token("old"), token("new")], routes=[(401, b""), routes(row())], events=[(401, b""), (200, b"")]
    )

    async def scenario(server: Server) -> None:
        bench = Bench(server, tokens_of(server, FakeLog()), interval_s=1000)
        await bench.fetcher.refresh()
        assert bench.table.shown() == [("a.test", "10.0.0.1:80")]
        sent = [headers["Authorization"] for path, headers, _ in server.requests if path.endswith("/routes")]
        assert sent == ["bearer old", "bearer new"]
        bench.fetcher.start()
        await bench.until(lambda: server.streams)
        (line,) = bench.log.said("failed-subscribing-to-routing-api-event-stream")
        assert line["error"] == "unauthorized"
        asked = [path for path, *_ in server.requests]
        assert asked.count("/oauth/token") == 3
        await bench.fetcher.stop()

    play(server, scenario)


def test_tokens_that_cannot_be_had_are_counted() -> None:
    async def scenario(server: Server) -> None:
        bench = Bench(server, tokens_of(server, FakeLog()), interval_s=1000)
        with pytest.raises(RequestFailed, match="unable-to-fetch-token: status code: 403"):
            await bench.fetcher.check()
        bench.fetcher.start()
        await bench.until(lambda: bench.log.said("failed-to-fetch-token") and bench.log.said("failed-to-fetch-routes"))
        assert bench.fetcher.counts.token_fetch_errors >= 2
        await bench.fetcher.stop()

    play(Server(token=[(403, b"")]), scenario)


# -- the client -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["127.0.0.1:1", "ftp://127.0.0.1:1", "http://127.0.0.1:99999", "http://127.0.0.1:1"])
def test_a_server_that_cannot_be_reached(base: str) -> None:
    with pytest.raises(RequestFailed, match=f"GET {base}/x: .+"):
        asyncio.run(Client(base).fetch("/x", {}))


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", b"hello\r\n\r\n"]
)
def test_an_answer_that_is_none(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(RequestFailed):
                await Client(f"http://127.0.0.1:{port}").fetch("/x", {})

    asyncio.run(run())

"""Connections: order, several at once, what is no frame, and a client that goes."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ports
from tests.system.harness import until
from tests.system.warden.servers import WardenServer, asked, create, run, spawn
from warden.client import BlockingClient, Client, WardenError
from warden.protocol import Decoder, encode, pb


@pytest.fixture(scope="module")
def health() -> int:
    return ports.take()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, health: int) -> Iterator[WardenServer]:
    settings = {"health_check_server": {"port": health}}
    with WardenServer(tmp_path_factory.mktemp("warden"), settings) as running:
        yield running


@pytest.fixture
def raw(server: WardenServer) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(server.socket)
        yield connection


def replies(connection: socket.socket, count: int) -> list[object]:
    decoder = Decoder(replies=True)
    found: list[object] = []
    while len(found) < count:
        data = connection.recv(65536)
        assert data, f"closed after {found}"
        found += decoder.feed(data)
    return found


def test_replies_come_in_the_order_of_the_requests(client: BlockingClient, raw: socket.socket) -> None:
    handle = create(client)
    raw.sendall(
        encode(pb.RunRequest(handle=handle, script=b"sleep 0.2; echo slow"))
        + encode(pb.EchoRequest(message=b"quick"))
        + encode(pb.InfoRequest(handle="no"))
        + encode(pb.PingRequest())
    )
    slow, quick, unknown, pong = replies(raw, 4)
    assert isinstance(slow, pb.RunResponse)
    assert slow.stdout == b"slow\n"
    assert (quick, unknown, pong) == (
        pb.EchoResponse(message=b"quick"), pb.ErrorResponse(message="unknown handle"), pb.PingResponse(),
    )  # fmt: skip


def test_bytes_one_by_one(raw: socket.socket) -> None:
    for byte in encode(pb.EchoRequest(message=b"slowly")):
        raw.sendall(bytes([byte]))
    assert replies(raw, 1) == [pb.EchoResponse(message=b"slowly")]


def test_many_requests_at_once(raw: socket.socket) -> None:
    raw.sendall(b"".join(encode(pb.EchoRequest(message=b"%d" % number)) for number in range(3000)))
    assert replies(raw, 3000) == [pb.EchoResponse(message=b"%d" % number) for number in range(3000)]


@pytest.mark.parametrize("payload", [b"", b"\xff" * 20, b"\x08\x63\x12\x00", b"\x08\x0d\x12\x00"])
def test_a_frame_that_does_not_decode(server: WardenServer, raw: socket.socket, payload: bytes) -> None:
    raw.sendall(b"%d\r\n%b\r\n" % (len(payload), payload) + encode(pb.EchoRequest(message=b"still here")))
    assert replies(raw, 1) == [pb.EchoResponse(message=b"still here")]
    assert server.lines("dropped a frame")


def test_what_is_no_frame_closes_that_connection_alone(client: BlockingClient, raw: socket.socket) -> None:
    handle = create(client)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as other:
        other.settimeout(60)
        other.connect(client._socket.getpeername())
        other.sendall(encode(pb.PingRequest()) + b"nonsense and more of it\r\n")
        assert replies(other, 1) == [pb.PingResponse()]
        assert other.recv(1) == b""
    raw.sendall(encode(pb.ListRequest()))
    assert replies(raw, 1) == [pb.ListResponse(handles=[handle])]


def test_a_request_of_no_known_kind(raw: socket.socket) -> None:
    raw.sendall(b"4\r\n\x08\x01\x12\x00\r\n")
    assert replies(raw, 1) == [pb.ErrorResponse(message="Unknown request: Error")]


def test_connections_run_side_by_side(server: WardenServer, client: BlockingClient) -> None:
    handle = create(client)
    job = spawn(client, handle, "while :; do sleep 0.05; done")
    with asked(server, pb.LinkRequest(handle=handle, job_id=job)) as linker:
        assert run(client, handle, "echo hello").stdout == b"hello\n"
        client.call(pb.StopRequest(handle=handle))
        linker.receive()


def test_a_client_that_goes_is_still_served(server: WardenServer, client: BlockingClient) -> None:
    handle = create(client)
    with server.client() as other:
        other.send(pb.RunRequest(handle=handle, script=b"sleep 0.1; echo done > mark"))
        other.send(pb.CopyInRequest(handle=handle, src_path="mark", dst_path="copy"))
    home = server.depot / handle / "root"
    until(lambda: (home / "copy").exists(), "the request of a client that went was not done")


def test_half_a_connection(raw: socket.socket) -> None:
    raw.sendall(encode(pb.EchoRequest(message=b"last")))
    raw.shutdown(socket.SHUT_WR)
    assert replies(raw, 1) == [pb.EchoResponse(message=b"last")]
    assert raw.recv(1) == b""


def test_handle_that_is_no_utf8(raw: socket.socket) -> None:
    raw.sendall(b"8\r\n\x08\x0d\x12\x04\x0a\x02\xff\xfe\r\n" + b"8\r\n\x08\x0b\x12\x04\x1a\x02\xff\xfe\r\n")
    unknown, refusal = replies(raw, 2)
    assert unknown == pb.ErrorResponse(message="unknown handle")
    assert isinstance(refusal, pb.ErrorResponse)


def test_health(health: int) -> None:
    with socket.create_connection(("127.0.0.1", health), timeout=60) as probe:
        probe.sendall(b"anything")
        assert b"".join(iter(lambda: probe.recv(100), b"")) == b"HTTP/1.1 200 OK\r\n"


def test_the_asyncio_client(server: WardenServer) -> None:
    async def talk() -> None:
        async with await Client.connect(server.socket) as client:
            handle = (await client.call(pb.CreateRequest())).handle
            echoes = await asyncio.gather(*(client.call(pb.EchoRequest(message=b"%d" % n)) for n in range(20)))
            assert [reply.message for reply in echoes] == [b"%d" % n for n in range(20)]
            job = (await client.call(pb.SpawnRequest(handle=handle, script=b"echo a; exit 2"))).job_id
            pieces = [piece async for piece in client.stream(handle, job)]
            assert (pieces[0].data, pieces[-1].exit_status) == (b"a\n", 2)
            with pytest.raises(WardenError, match=r"^no such job$"):
                _ = [piece async for piece in client.stream(handle, job)]
            await client.call(pb.DestroyRequest(handle=handle))
            call = asyncio.create_task(client.call(pb.PingRequest()))
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            with pytest.raises(ConnectionError):
                await client.call(pb.PingRequest())

    asyncio.run(talk())


def test_a_socket_that_is_taken(server: WardenServer, tmp_path: Path) -> None:
    second = WardenServer(tmp_path, {"server": {"unix_domain_path": server.socket}})
    with pytest.raises(AssertionError, match=f"another server answers at {server.socket}"):
        second.start()
        assert second.process is not None
        second.process.wait(60)
        pytest.fail(second.log.read_text())
    second._sockets.cleanup()

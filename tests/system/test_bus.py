"""The bus against a real nats-server, without a router around it: greetings, order, reconnect, credentials, TLS."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import nats
import pytest

from gorouter_py.control.bus import PENDING_MESSAGES, Bus, Servers, Unreachable, tls_context
from tests.system.harness import NatsServer, free_ports
from tests.unit.control.fakes import FakeLog

START = b'{"id":"0-test"}'


class Bench:
    """A bus, what it took in, and its log."""

    def __init__(self, *ports: int, optional: bool = False, **servers: object) -> None:
        self.log = FakeLog()
        self.taken: list[tuple[str, bytes]] = []
        self.closed = asyncio.Event()
        self.bus = Bus(
            Servers([("127.0.0.1", port) for port in ports], **servers),  # type: ignore[arg-type]
            self.log,
            lambda subject, payload: self.taken.append((subject, payload)),
            lambda: START,
            optional=optional,
            on_closed=self.closed.set,
        )

    def payloads(self, subject: str) -> list[bytes]:
        return [payload for known, payload in self.taken if known == subject]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def connected(bench: Bench) -> AsyncIterator[Bench]:
    await bench.bus.connect(3)
    await bench.bus.subscribe()
    try:
        yield bench
    finally:
        await bench.bus.stop()


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario()

    asyncio.run(main())


def test_it_announces_itself_answers_greetings_and_takes_messages_in_order() -> None:
    with NatsServer() as server:

        async def scenario() -> None:
            peer = await nats.connect(f"nats://127.0.0.1:{server.port}")
            starts: list[bytes] = []

            async def note(message: nats.aio.msg.Msg) -> None:
                starts.append(message.data)

            await peer.subscribe("router.start", cb=note)
            await peer.flush()
            async with connected(Bench(server.port)) as bench:
                await until(lambda: starts == [START])
                assert (await peer.request("router.greet", b"", timeout=30)).data == START
                for number in range(1000):
                    await peer.publish("router.register", b"%d" % number)
                await until(lambda: len(bench.payloads("router.register")) == 1000)
                assert bench.payloads("router.register") == [b"%d" % number for number in range(1000)]
                assert bench.log.order("info") == [
                    "Successfully-connected-to-nats", "subscriber-starting", "subscriber-started",
                ]  # fmt: skip
                assert bench.log.said("Successfully-connected-to-nats")[0] == {
                    "host": f"127.0.0.1:{server.port}", "addr": f"127.0.0.1:{server.port}",
                }  # fmt: skip
            await peer.close()

        play(scenario)


def test_it_comes_back_after_the_server_was_away_and_announces_itself_again() -> None:
    with NatsServer() as server:

        async def scenario() -> None:
            async with connected(Bench(server.port, ping_interval_s=0.2)) as bench:
                server.stop()
                await until(lambda: bench.log.said("nats-connection-disconnected"))
                assert not bench.bus.connected
                await until(lambda: bench.log.said("nats-connection-still-disconnected"))
                assert await bench.bus.publish("x", b"") is False
                server.start()
                await until(lambda: bench.log.said("nats-connection-reconnected"))
                assert bench.bus.connected and bench.bus.reconnects == 1
                await until(lambda: bench.payloads("router.start") == [START])  # its own, heard again on router.*
                peer = await nats.connect(f"nats://127.0.0.1:{server.port}")
                await peer.publish("router.register", b"after")
                await until(lambda: bench.payloads("router.register") == [b"after"])
                await peer.close()

        play(scenario)


def test_the_next_server_is_used_when_one_is_away() -> None:
    with NatsServer() as one, NatsServer() as other:

        async def scenario() -> None:
            (nobody,) = free_ports(1)
            async with connected(Bench(nobody, one.port, other.port)) as bench:
                first = bench.log.said("Successfully-connected-to-nats")[0]["host"]
                (one if first == f"127.0.0.1:{one.port}" else other).stop()
                await until(lambda: bench.log.said("nats-connection-reconnected"))
                assert bench.log.said("nats-connection-reconnected")[0]["host"] != first

        play(scenario)


def test_no_server_at_all_ends_after_three_attempts() -> None:
    async def scenario() -> None:
        bench = Bench(*free_ports(2))
        with pytest.raises(Unreachable, match="nats: no servers available for connection"):
            await bench.bus.connect(3)
        await bench.bus.stop()

    play(scenario)


@pytest.mark.parametrize(("user", "password", "fits"), [("u", "p@:/ss", True), ("u", "wrong", False), ("", "", False)])
def test_credentials(user: str, password: str, fits: bool) -> None:
    with NatsServer(arguments=("--user", "u", "--pass", "p@:/ss")) as server:

        async def scenario() -> None:
            bench = Bench(server.port, user=user, password=password)
            if fits:
                async with connected(bench):
                    assert bench.bus.connected
                return
            with pytest.raises(Unreachable, match=r"(?i)authorization violation|reset by peer"):
                await bench.bus.connect(3)

        play(scenario)


def test_an_optional_bus_keeps_trying_and_subscribes_once_it_can() -> None:
    (port,) = free_ports(1)

    async def scenario() -> None:
        bench = Bench(port, optional=True)
        bench.bus.connect_in_background()
        await until(lambda: bench.log.said("nats-connection-error"))
        with NatsServer(port) as server:
            await until(lambda: bench.log.said("subscriber-started"))
            peer = await nats.connect(f"nats://127.0.0.1:{server.port}")
            await peer.publish("router.register", b"x")
            await until(lambda: bench.payloads("router.register") == [b"x"])
            await peer.close()
            await bench.bus.stop()

    play(scenario)


class Quitter:
    """Speaks enough of the protocol to accept a client, and then sends it away for good."""

    def __init__(self) -> None:
        self.clients = 0

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients += 1
        writer.write(b'INFO {"server_id":"x","version":"2.10.0","max_payload":1048576}\r\n')
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
            if line.startswith(b"SUB router.*"):
                writer.write(b"PONG\r\n-ERR 'Maximum Connections Exceeded'\r\n")
        writer.close()


def test_a_connection_closed_for_good_is_reported() -> None:
    async def scenario() -> None:
        async with Quitter() as port:
            bench = Bench(port)
            await bench.bus.connect(3)
            with contextlib.suppress(nats.errors.Error):
                await bench.bus.subscribe()
            await asyncio.wait_for(bench.closed.wait(), 60)
            assert bench.log.said("nats-connection-closed")
            await bench.bus.stop()

    play(scenario)


def test_an_optional_bus_opens_a_new_connection_instead() -> None:
    async def scenario() -> None:
        quitter = Quitter()
        async with quitter as port:
            bench = Bench(port, optional=True)
            bench.bus.connect_in_background()
            await until(lambda: quitter.clients >= 3)
            assert not bench.closed.is_set()
            await bench.bus.stop()

    play(scenario)


def test_a_flood_leaves_the_loop_to_others() -> None:
    """Nothing is lost, and a task that only wants its turn gets it many times while messages are handled."""
    count = 20_000
    assert count < PENDING_MESSAGES

    with NatsServer() as server:

        async def scenario() -> None:
            async with connected(Bench(server.port)) as bench:
                turns_while_waiting = 0
                peer = await nats.connect(f"nats://127.0.0.1:{server.port}", pending_size=64 << 20)
                for number in range(count):
                    await peer.publish("router.register", b"%d" % number)
                flushing = asyncio.create_task(peer.flush(60))
                while len(bench.payloads("router.register")) < count:
                    turns_while_waiting += bench.bus.pending > 0
                    await asyncio.sleep(0)
                await flushing
                assert turns_while_waiting > 20
                assert bench.payloads("router.register") == [b"%d" % number for number in range(count)]
                assert bench.bus.dropped == 0
                await peer.close()

        play(scenario)


# -- TLS ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    new, sign = "req -newkey rsa:2048 -nodes -subj", "x509 -req -days 2 -CA ca.pem -CAkey ca.key -CAcreateserial"
    for command in (
        f"{new} /CN=ca -x509 -keyout ca.key -out ca.pem -days 2",
        f"{new} /CN=nats -keyout server.key -out server.csr -addext subjectAltName=IP:127.0.0.1",
        f"{sign} -in server.csr -out server.pem -copy_extensions copy",
        f"{new} /CN=router -keyout client.key -out client.csr",
        f"{sign} -in client.csr -out client.pem",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return folder


def tls_server(folder: Path) -> NatsServer:
    arguments = ("--tlsverify", "--tlscert", "server.pem", "--tlskey", "server.key", "--tlscacert", "ca.pem")
    return NatsServer(arguments=tuple(str(folder / word) if "." in word else word for word in arguments))


def texts(folder: Path, *names: str) -> list[str]:
    return [(folder / name).read_text() for name in names]


def test_tls_with_a_client_certificate(certificates: Path) -> None:
    with tls_server(certificates) as server:

        async def scenario() -> None:
            context = tls_context(*texts(certificates, "ca.pem", "client.pem", "client.key"))
            async with connected(Bench(server.port, tls=context)) as bench:
                assert bench.bus.connected

        play(scenario)


def test_a_server_of_unknown_origin_is_refused(certificates: Path) -> None:
    with tls_server(certificates) as server:

        async def scenario() -> None:
            context = tls_context("", *texts(certificates, "client.pem", "client.key"))
            with pytest.raises(Unreachable, match=r"(?i)certificate"):
                await Bench(server.port, tls=context).bus.connect(3)

        play(scenario)


def test_credentials_never_go_to_a_server_without_tls(certificates: Path) -> None:
    heard: list[bytes] = []

    async def scenario() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b'INFO {"server_id":"x","version":"2.10.0","max_payload":1048576}\r\n')
            heard.append(await reader.read(1000))
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            context = tls_context(*texts(certificates, "ca.pem"))
            bench = Bench(server.sockets[0].getsockname()[1], tls=context, user="u", password="secret")
            with pytest.raises(Unreachable, match="secure connection not available"):
                await bench.bus.connect(3)

    play(scenario)
    assert heard and not any(heard)


def test_unfit_certificates_are_refused_at_once() -> None:
    with pytest.raises(ssl.SSLError):
        tls_context("", "no certificate", "no key")
    with pytest.raises(ssl.SSLError):
        tls_context("no certificate")

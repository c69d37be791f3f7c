"""`serve` is told to end at any moment under load: right exit code, no core, no answered request without a line."""

import contextlib
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.support.origins import Origin, echo_request
from tests.support.wire import Cut, Wire
from tests.system.harness import Router

ROUNDS = 20
CLIENTS = 3


class Load:
    """Clients that ask one request after the other, now and then on a new connection, until the router is gone."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answered: list[str] = []
        self.wrong: list[BaseException] = []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def _run(self, name: int) -> None:
        number = 0
        while not self.stopping.is_set():
            try:
                with Wire.connect(self.port) as client:
                    for _ in range(20):
                        target = f"/{name}/{number}"
                        number += 1
                        self._ask(client, target)
            except (Cut, OSError):
                time.sleep(0.005)
            except BaseException as error:
                self.wrong.append(error)
                return

    def _ask(self, client: Wire, target: str) -> None:
        client.send(f"GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
        answer = client.answer()
        assert (answer.status, answer.body) == (200, target.encode() + b" "), answer.raw_head
        self.answered.append(target)
        if "close" in answer.options():
            raise Cut("end", b"")

    def end(self) -> None:
        """Joins the clients; raises what was wrong with an answer."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()
        if self.wrong:
            raise self.wrong[0]


def cores() -> set[Path]:
    root = Path(__file__).resolve().parent.parent.parent
    return {path for path in root.glob("core*") if path.is_file()}


@pytest.mark.parametrize("number", range(ROUNDS))
def test_told_to_end_at_any_moment(number: int, tmp_path: Path) -> None:
    dice = random.Random(number)
    signals = [[signal.SIGTERM], [signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]][number % 3]
    before = cores()
    app = Origin(echo_request)
    log = tmp_path / "access.log"
    try:
        with Router("--route", f"a.test={app.address}", "--access-log", str(log)) as router:
            load = Load(router.port)
            try:
                time.sleep(dice.random() * 0.15)
                for one in signals:
                    with contextlib.suppress(ProcessLookupError):
                        router.signal(one)
                    time.sleep(dice.random() * 0.02)
                assert router.wait() == 0, router.tail()
            finally:
                load.end()
            assert not [line for line in router.complaints if "Fatal" in line or "Sanitizer" in line], router.tail()
            assert router.said("gorouter.exited")
    finally:
        app.finish()
    assert cores() == before
    logged = [line.split('"')[1].split()[1] for line in log.read_text().splitlines()]
    assert len(set(logged)) == len(logged)
    assert set(load.answered) <= set(logged), "an answered request has no line"

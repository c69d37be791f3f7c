"""The component log: one JSON object per line and write, level and clock as configured."""

import contextlib
import json
import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gorouter_py.component import LEVELS, Logger, Sink
from gorouter_py.control import config, log


class Pipe:
    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)

    def text(self) -> bytes:
        try:
            return os.read(self.read_end, 1 << 20)
        except BlockingIOError:
            return b""

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().decode().splitlines()]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    both = Pipe()
    yield both
    for end in (both.read_end, both.write_end):
        with contextlib.suppress(OSError):  # closed by the test
            os.close(end)


def logger(pipe: Pipe, **values: object) -> Logger:
    loaded = config.serve_config(None, {"logging.level": "debug", **values}).config
    return log.configure(loaded, pipe.write_end)


def test_a_line(pipe: Pipe) -> None:
    logger(pipe).session("nats").info("Successfully-connected-to-nats", host="localhost:4222", list=["is1", "is2"])
    raw = pipe.text()
    assert re.fullmatch(
        rb'\{"log_level":1,"timestamp":\d+\.\d+,"message":"Successfully-connected-to-nats",'
        rb'"source":"gorouter.stdout.nats","data":\{"host":"localhost:4222","list":\["is1","is2"\]\}\}\n',
        raw,
    )


def test_numbers_of_levels(pipe: Pipe) -> None:
    root = logger(pipe)
    for write in (root.debug, root.info, root.warn, root.error, root.fatal):
        write("m")
    lines = pipe.lines()
    assert [line["log_level"] for line in lines] == [0, 1, 2, 3, 3]
    assert all("data" not in line for line in lines)


@pytest.mark.parametrize(("level", "count"), [(level, max(5 - number, 1)) for number, level in enumerate(LEVELS)])
def test_threshold(pipe: Pipe, level: str, count: int) -> None:
    root = logger(pipe, **{"logging.level": level})
    for write in (root.debug, root.info, root.warn, root.error, root.fatal):
        write("m")
    assert len(pipe.lines()) == count
    assert root.level == level


def test_level_changes_while_running_for_all_sessions(pipe: Pipe) -> None:
    root = logger(pipe)
    session = root.session("registry").session("deep")
    root.set_level("error")
    session.info("hidden")
    assert not session.enabled("info") and session.enabled("error")
    session.set_level("info")
    root.info("shown")
    session.info("shown")
    assert [line["source"] for line in pipe.lines()] == ["gorouter.stdout", "gorouter.stdout.registry.deep"]
    with pytest.raises(ValueError, match="'loud' is no log level; valid: debug, info, warn"):
        root.set_level("loud")


def test_prefix(pipe: Pipe) -> None:
    logger(pipe, **{"logging.syslog": "vcap.gorouter"}).session("router").info("m")
    assert pipe.lines()[0]["source"] == "vcap.gorouter.router"


def test_rfc3339_is_local_time_with_a_z() -> None:
    code = (
        "from gorouter_py.control import config, log\n"
        "c = config.serve_config(None, {'logging.format.timestamp': 'rfc3339'}).config\n"
        "log.configure(c).info('m')\n"
        "import gorouter_py.component as k; print(k.rfc3339_local(1_000_000_000_000_000_007))"
    )
    env = {**os.environ, "TZ": "UTC-3"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    line, stamp = result.stdout.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", json.loads(line)["timestamp"])
    assert stamp == "2001-09-09T04:46:40.000000007Z"


def test_bare_has_no_source(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = log.bare()
    monkeypatch.setattr(bare.sink, "descriptor", pipe.write_end)
    bare.fatal("Error loading config:", error="x")
    assert list(pipe.lines()[0]) == ["log_level", "timestamp", "message", "data"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (ValueError("why"), "why"),
        ("two\nlines\u2028", "two\nlines\u2028"),
        ("\udc80", "\udc80"),
        ({1: {2}}, {"1": "{2}"}),
        (b"raw", "b'raw'"),
    ],
)
def test_any_value_is_written_on_one_line(pipe: Pipe, value: object, shown: object) -> None:
    logger(pipe).info("m", value=value)
    raw = pipe.text()
    assert raw.count(b"\n") == 1
    assert json.loads(raw)["data"]["value"] == shown


def cycle() -> list[object]:
    loop: list[object] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize("value", [math.nan, math.inf, cycle(), {(1, 2): 3}], ids=["nan", "inf", "cycle", "tuple key"])
def test_what_json_cannot_say_is_still_told(pipe: Pipe, value: object) -> None:
    logger(pipe).info("m", value=value)
    assert "value" in pipe.lines()[0]["data"]["unencodable"]


def test_data_may_be_called_as_the_parameters(pipe: Pipe) -> None:
    logger(pipe).info("m", message="x", source="y", self="z")
    assert pipe.lines()[0]["data"] == {"message": "x", "source": "y", "self": "z"}


def test_a_log_nobody_reads_stops_nobody(pipe: Pipe) -> None:
    root = logger(pipe)
    os.close(pipe.read_end)
    root.error("m")
    assert root.sink.dropped == 1


def test_a_full_pipe_drops_and_counts(pipe: Pipe) -> None:
    os.set_blocking(pipe.write_end, False)
    root = logger(pipe)
    while root.sink.dropped == 0:
        root.info("x" * 2000)
    complete = pipe.text().split(b"\n")
    assert len(complete) > 10
    assert all(json.loads(line)["message"] == "x" * 2000 for line in complete[:-1])


def test_lines_of_threads_do_not_mix(pipe: Pipe) -> None:
    root = Logger(Sink(descriptor=pipe.write_end), "s")

    def write(name: str) -> None:
        for number in range(100):
            root.info(name * 50, number=number)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pipe.lines()) == 400


def test_one_write_per_line(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []

    def spy(_descriptor: int, data: bytes) -> int:
        writes.append(bytes(data))
        return len(data)

    monkeypatch.setattr("gorouter_py.component.os.write", spy)
    logger(pipe).info("m", big="x" * 100_000)
    assert len(writes) == 1 and writes[0].endswith(b"\n")


def test_a_short_write_is_continued(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr("gorouter_py.component.os.write", lambda descriptor, data: write(descriptor, data[:7]))
    logger(pipe).info("message")
    assert pipe.lines()[0]["message"] == "message"

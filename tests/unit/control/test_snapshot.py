"""The snapshot file: what comes back, what does not, and what a broken file does."""

import asyncio
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorouter_py.control import snapshot
from gorouter_py.control.messages import Options, Registration
from tests.unit.control.fakes import FakeLog

Row = tuple[str, float, Registration]


def packed(rows: list[Row], portion: int = 2) -> bytes:
    portions = [rows[start : start + portion] for start in range(0, len(rows), portion)]
    *turns, pieces = snapshot.pack(portions, 1000.0)
    assert len(turns) >= len(portions)  # the caller gets its turns
    assert pieces is not None
    return b"".join(pieces)


def rows(count: int = 5) -> list[Row]:
    facts = {"host": "10.0.0.1", "tags": {"a": "b"}, "options": Options("x")}
    return [(f"App-{n}.test/Ctx", 100.0 + n, Registration(port=n + 1, **facts)) for n in range(count)]  # type: ignore[arg-type]


GOOD = packed(rows(3))


@pytest.mark.parametrize("count", [0, 1, 5, 300])
def test_round_trip(count: int) -> None:
    header, entries = snapshot.unpack(packed(rows(count)))
    assert header.entries == count
    assert abs(header.written_at - time.time()) < 60
    assert [(each.uri, each.until - 1000.0, each.registration) for each in entries] == rows(count)


def test_stale_entries_are_left_out(tmp_path: Path) -> None:
    path, log = tmp_path / "routes", FakeLog()
    snapshot.write(path, [packed(rows(5))])
    alive = snapshot.load(path, log, now=1102.0)
    assert [entry.until for entry in alive] == [1103.0, 1104.0]
    assert log.said("snapshot-loaded")[0]["stale"] == 3


def test_a_missing_file_is_an_empty_one(tmp_path: Path) -> None:
    log = FakeLog()
    assert snapshot.load(tmp_path / "none", log) == []
    assert log.lines == []


@given(st.data())
def test_no_damaged_file_passes_as_a_snapshot(data: st.DataObject) -> None:
    checksum = GOOD.index(b"\xdd\0\0\0\3") - 5  # the header's time may change unnoticed; what is served may not
    at = data.draw(st.integers(checksum, len(GOOD) - 1))
    bit = data.draw(st.integers(0, 7))
    bad = bytearray(GOOD)
    bad[at] ^= 1 << bit
    with pytest.raises(snapshot.Corrupt):
        snapshot.unpack(bytes(bad))


@given(st.integers(0, 400))
def test_no_cut_file_passes_as_a_snapshot(length: int) -> None:
    if length < len(GOOD):
        with pytest.raises(snapshot.Corrupt):
            snapshot.unpack(GOOD[:length])


@given(st.binary(max_size=100))
def test_no_other_file_passes_as_a_snapshot(data: bytes) -> None:
    with pytest.raises(snapshot.Corrupt):
        snapshot.unpack(data)


def test_another_version_says_so() -> None:
    data = packed([]).replace(b"\xa7version\x01", b"\xa7version\x02")
    with pytest.raises(snapshot.Corrupt, match="version 2"):
        snapshot.unpack(data)


def test_a_corrupt_file_is_put_aside(tmp_path: Path) -> None:
    path, log = tmp_path / "routes", FakeLog()
    path.write_bytes(b"garbage")
    assert snapshot.load(path, log) == []
    assert not path.exists()
    assert (tmp_path / "routes.corrupt").read_bytes() == b"garbage"
    assert log.said("snapshot-corrupt")[0]["kept_as"] == str(tmp_path / "routes.corrupt")


def test_writing_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "routes"
    snapshot.write(path, [b"one", b"more"])
    snapshot.write(path, [b"tw", b"", b"o"])
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["routes"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "routes"
    target.mkdir()
    (target / "kept").touch()
    with pytest.raises(OSError):
        snapshot.write(target, [b"data"])  # a folder cannot be replaced by a file
    assert (target / "kept").exists()
    assert os.listdir(tmp_path) == ["routes"]


def test_the_writer_writes_when_something_changed(tmp_path: Path) -> None:
    path, log, state = tmp_path / "routes", FakeLog(), {"version": 1, "rows": rows(2)}
    writer = snapshot.Writer(path, lambda: [state["rows"]], lambda: state["version"], log)  # type: ignore[list-item, return-value]

    async def scenario() -> None:
        assert await writer.write()
        first = path.stat().st_ino
        assert await writer.write()
        assert path.stat().st_ino == first  # nothing changed, nothing written
        state.update(version=2, rows=rows(4))
        assert await writer.write()
        assert len(snapshot.unpack(path.read_bytes())[1]) == 4
        assert await writer.write(force=True)

    asyncio.run(scenario())
    until = snapshot.unpack(path.read_bytes())[1][0].until
    assert abs(until - (100.0 + time.time() - time.monotonic())) < 60  # monotonic became wall clock


def test_the_writer_reports_and_survives_a_full_disk(tmp_path: Path) -> None:
    log = FakeLog()
    writer = snapshot.Writer(tmp_path / "no-such-folder" / "routes", lambda: [], lambda: 1, log)
    assert asyncio.run(writer.write()) is False
    assert writer.failures == 1
    assert "No such file" in str(log.said("snapshot-not-written")[0]["error"])

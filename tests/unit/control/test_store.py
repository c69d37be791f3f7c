"""The local file that survives a restart: compare and set, whole files only, broken ones put aside."""

import asyncio
import json
from pathlib import Path

import pytest

from gorouter_py.control.store import Conflict, Entry, FileStore, Unavailable, decode
from tests.unit.control.fakes import FakeLog


def put(store: FileStore, key: str, value: object, revision: int | None = None) -> int:
    return asyncio.run(store.put(key, value, revision))


def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    store = FileStore(str(file), FakeLog())
    assert put(store, "rollout.a.test", {"weight": 5}) == 1
    assert put(store, "rollout.a.test", {"weight": 25}, 1) == 2
    put(store, "ports.1", [1, 2])
    asyncio.run(store.delete("ports.1"))
    asyncio.run(store.delete("ports.1"))
    again = FileStore(str(file), FakeLog())
    assert again.entries("") == {"rollout.a.test": Entry({"weight": 25}, 2)}
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_the_slower_one_of_two_is_told(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path / "state.json"), FakeLog())
    put(store, "key", 1, 0)
    for revision in (0, 2):
        with pytest.raises(Conflict):
            put(store, "key", 2, revision)
    with pytest.raises(Conflict):
        asyncio.run(store.delete("key", 7))
    assert store.get("key") == Entry(1, 1)


def test_without_a_file_it_lives_in_memory() -> None:
    store = FileStore("", FakeLog())
    put(store, "key", {"a": [1]})
    assert store.get("key") == Entry({"a": [1]}, 1)


def test_what_the_caller_changes_later_was_not_written() -> None:
    store = FileStore("", FakeLog())
    value = {"a": [1]}
    put(store, "key", value)
    value["a"].append(2)
    assert store.get("key") == Entry({"a": [1]}, 1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "no JSON"),
        (b"[]", "format"),
        (b'{"format": "gorouter-py state", "version": 9}', "version"),
        (b'{"format": "gorouter-py state", "version": 1, "entries": []}', "entries"),
        (b'{"format": "gorouter-py state", "version": 1, "entries": {"k": {"value": 1}}}', "entries['k']"),
        (b'{"format": "gorouter-py state", "version": 1, "entries": {"k": {"value": 1, "revision": 0}}}', "revision"),
    ],
)
def test_a_broken_file_is_told_and_put_aside(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "state.json"
    file.write_bytes(content)
    log = FakeLog()
    store = FileStore(str(file), log)
    assert store.entries("") == {}
    (line,) = log.said("state-corrupt")
    assert said in str(line["error"]) and line["file"] == str(file) and "put it back" in str(line["mend"])
    assert (tmp_path / "state.json.corrupt").read_bytes() == content
    put(store, "key", 1)
    assert decode(file.read_bytes()) == {"key": Entry(1, 1)}


def test_a_file_that_cannot_be_read_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    file.mkdir()  # unreadable for root, too
    store = FileStore(str(file), FakeLog())
    with pytest.raises(Unavailable, match=r"state\.json could not be read"):
        put(store, "key", 1)
    assert store.get("key") is None and file.is_dir()


def test_a_disk_that_does_not_take_it_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    store = FileStore(str(folder / "state.json"), FakeLog())
    put(store, "key", 1)
    (folder / "state.json").unlink()
    folder.rmdir()
    with pytest.raises(Unavailable, match="could not be written"):
        put(store, "key", 2)
    assert store.get("key") == Entry(1, 1) and store.failures == 1


def test_the_file_is_for_people_too(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    put(FileStore(str(file), FakeLog()), "key", {"a": 1})
    whole = json.loads(file.read_text())
    assert whole["entries"] == {"key": {"revision": 1, "value": {"a": 1}}} and len(file.read_text().splitlines()) > 5

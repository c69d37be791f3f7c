"""A container over an engine that refuses: what the client is told, and what stays."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gorouter_py.component import Logger, Sink
from warden import snapshot
from warden.container import Container, Host
from warden.engine.api import EngineError
from warden.errors import WardenError
from warden.jobs import Starter
from warden.snapshot import Resources, Snapshot
from warden.state import State


class Refusing:
    """Sets no limit."""

    async def limit(self, *_: object) -> None:
        raise EngineError("EINVAL Invalid argument")

    limit_memory = limit_cpu = limit


@pytest.fixture
def container(tmp_path: Path) -> Container:
    engine: Any = Refusing()
    host = Host(engine, tmp_path, Logger(Sink(), "test"), {}, 0, True, lambda _: lambda *_: None, Starter(False))
    made = Container(host, Resources("0123456789a", "handle"), None, state=State.ACTIVE)
    made.spec.path.mkdir()
    return made


@pytest.mark.parametrize(
    ("name", "text"), [("limit_memory", "Failed setting memory limit"), ("limit_cpu", "Failed setting cpu shares")]
)
def test_a_limit_that_is_refused(container: Container, name: str, text: str) -> None:
    with pytest.raises(WardenError, match=f"^{text}: EINVAL Invalid argument$"):
        asyncio.run(getattr(container, name)(1 << 20))
    kept = snapshot.read(container.spec.path, snapshot.SNAPSHOT, Snapshot)
    assert kept is not None, "the container is whole"
    assert getattr(kept.resources, name) is None

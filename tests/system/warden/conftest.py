"""What several files share: `client` talks to the file's own `server`; `host` is a real engine for the file, `box` one
container of it for a test.
"""

from collections.abc import Iterator

import pytest

from tests.support.containers import Box, Host, running
from tests.system.warden.servers import WardenServer
from warden.client import BlockingClient
from warden.protocol import pb


@pytest.fixture
def client(server: WardenServer) -> Iterator[BlockingClient]:
    """After the test no container is left."""
    with server.client() as connected:
        yield connected
        for handle in connected.call(pb.ListRequest()).handles:
            connected.call(pb.DestroyRequest(handle=handle))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with running(tmp_path_factory.mktemp("warden")) as host:
        yield host


@pytest.fixture
def box(host: Host) -> Iterator[Box]:
    with host.box() as box:
        yield box

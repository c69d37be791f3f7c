"""The port map of a router, built and joined: workers' listeners, the store, the admin API and the bus.

A share of app.py's work, constructed there once. Control thread.
"""

from collections.abc import Sequence
from typing import Final

from gorouter_py import _fastpath
from gorouter_py.component import Logger
from gorouter_py.control import bus, config, listeners, ports_api, store
from gorouter_py.control.admin_api import Api
from gorouter_py.control.keys import Config
from gorouter_py.control.ports import Listener, Ports

RETRY_S: Final = 5.0
QUEUE: Final = "gorouter-py.ports"


class PortSide:
    """See the head of the file. `ports` is the map itself."""

    def __init__(
        self, settings: Config, data_plane: "_fastpath.DataPlane", workers: int, kept: store.Store, log: Logger
    ) -> None:
        def open_group(host: str, port: int) -> Sequence[Listener]:
            return listeners.open_group(host, port, workers)

        def has_route(host: str) -> bool:
            return data_plane.lookup(host, "/") is not None

        # What routers share, one of them changes for all.
        self._queue = QUEUE if kept.shared else ""
        self.ports = Ports(
            data_plane, open_group, has_route, kept, config.port_map(settings), config.port_map_range(settings), log
        )

    def api(self) -> Api:
        """What the admin API offers of it."""
        return ports_api.api(self.ports)

    async def offer(self, on: bus.Bus) -> None:
        """Answers requests on the bus, for good."""
        for subject, answer in ports_api.on_bus(self.ports).items():
            await on.serve(subject, answer, self._queue)

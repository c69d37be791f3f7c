"""A bus, a router process with its admin API, and instances in versions: what the tests of rollouts begin with."""

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from gorouter_py.control.admin_client import AdminClient, route_path
from tests.system.crowd import Instance
from tests.system.harness import NatsServer, Router, until

HOST = "shop.test"
Rollout = dict[str, Any]


class Rig:
    """NATS, one router and the named instances of HOST; `flags` go to `serve`.

    versions: name -> percent of requests it fails. messages: how an instance is registered, else by options.version."""

    def __init__(self, versions: dict[str, float], *flags: str, workers: int = 1) -> None:
        self._stack = contextlib.ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="rig-")))
        self.socket = self._folder / "admin.sock"
        self._flags = ("--workers", str(workers), "--admin-socket", str(self.socket), *flags)
        self._versions = versions
        self.instances: dict[str, Instance] = {}

    def __enter__(self) -> Self:
        with self._stack:
            self.nats = self._stack.enter_context(NatsServer())
            url = f"nats://127.0.0.1:{self.nats.port}"
            self.router = self._stack.enter_context(Router("--nats", url, *self._flags, wait_for="subscriber-started"))
            for version, broken in self._versions.items():
                self.instances[version] = self._stack.enter_context(Instance(version, broken))
            self.register()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *reason: object) -> None:
        self._stack.close()

    def register(self, fields: Callable[[str], dict[str, Any]] | None = None) -> None:
        """All instances; fields: what a version's registration has besides."""
        for version, instance in self.instances.items():
            more = fields(version) if fields else {"options": {"version": version}}
            self.nats.register(HOST, instance.port, private_instance_id=f"id-{version}", **more)
        until(lambda: len(self.router.routes().get(HOST, [])) == len(self.instances), "not all are registered")

    @property
    def port(self) -> int:
        return self.router.port

    @property
    def client(self) -> AdminClient:
        return AdminClient(str(self.socket))

    def start(self, **body: Any) -> Rollout:
        """A rollout to v2 that nothing but the test moves, unless the body says otherwise."""
        whole = {"to": "v2", "hold": "1h", "abort_if": {"errors": False, "latency": False}, **body}
        found: Rollout = self.client.call("PUT", route_path(HOST), whole)
        return found

    def act(self, action: str, **body: Any) -> Rollout:
        found: Rollout = self.client.call("POST", route_path(HOST, "actions", action), {"who": "test", **body})
        return found

    def rollout(self) -> Rollout:
        found: Rollout = self.client.call("GET", route_path(HOST))
        return found

    def version(self, name: str) -> dict[str, Any]:
        """The numbers of a version."""
        return next(each for each in self.rollout()["versions"] if each["name"] == name)

    def wait_for_state(self, *states: str) -> Rollout:
        return until(lambda: (found := self.rollout())["state"] in states and found, f"never {states}")  # type: ignore[no-any-return]


def share(crowd: Sequence[Any], version: str) -> float:
    """Percent of the people whose last answer came from that version."""
    return 100 * sum(person.versions[-1] == version for person in crowd) / len(crowd)

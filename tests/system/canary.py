"""What tests of rollouts through whole routers share: instances of versions, clients, and waiting for a state."""

import http.client
import http.server
import json
from collections import Counter
from pathlib import Path
from typing import Any

from gorouter_py.control.admin_client import AdminClient, AdminError, route_path
from tests.system.harness import DEADLINE_S, NatsServer, Router, Served, until


class Instance(Served):
    """An app that answers its version; `status` can be changed while it runs."""

    def __init__(self, version: str) -> None:
        super().__init__(_Answer)
        self.version = version
        self.status = 200


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Instance

    def do_GET(self) -> None:
        body = self.server.version.encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def register(server: NatsServer, instances: list[Instance], route: str = "shop.test") -> None:
    for each in instances:
        server.register(route, each.port, options={"version": each.version}, app=each.version)


def ask(router: Router, cookie: str = "", route: str = "shop.test", **headers: str) -> tuple[int, str, str]:
    """Status, version that answered, and the cohort cookie (given or set)."""
    connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=DEADLINE_S)
    try:
        sent = {"Host": route, **headers, **({"Cookie": f"gr_c={cookie}"} if cookie else {})}
        connection.request("GET", "/", headers=sent)
        answer = connection.getresponse()
        found = cookie
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie" and value.startswith("gr_c="):
                found = value.partition(";")[0].partition("=")[2]
        return answer.status, answer.read().decode(), found
    finally:
        connection.close()


def shares(router: Router, clients: int) -> Counter[str]:
    """How many of so many new clients each version got."""
    return Counter(ask(router)[1] for _ in range(clients))


class Steering:
    """The rollout of one route through a router's admin socket."""

    def __init__(self, socket: Path, route: str = "shop.test") -> None:
        self.client = AdminClient(str(socket))
        self.route = route

    def start(self, **body: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.client.call("PUT", route_path(self.route), {"to": "v2", **body})
        return found

    def act(self, action: str, **body: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.client.call("POST", route_path(self.route, "actions", action), body)
        return found

    def get(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.call("GET", route_path(self.route))
        return found

    def state(self) -> tuple[str, float]:
        """("none", 0) while there is none."""
        try:
            shown = self.get()
        except AdminError as error:
            if error.status != 404:
                raise
            return "none", 0.0
        return shown["state"], shown["weight"]

    def until(self, state: str, weight: float | None = None) -> dict[str, Any]:
        def there() -> bool:
            now = self.state()
            return now[0] == state and weight in (None, now[1])

        try:
            until(there)
        except TimeoutError:
            raise AssertionError(f"never {state} {weight}: {json.dumps(self.get())[:2000]}") from None
        return self.get()

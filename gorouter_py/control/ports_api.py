"""The port map as others reach it: operations of the admin API, and requests on the bus.

On the bus a request to router.ports.add, .remove or .list (JSON, or nothing) is answered with the same JSON as the API
gives; a refusal is {"error": code, "reason": text}. Control loop.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from gorouter_py.control.admin_api import Api, Call, Operation, Refusal

SUBJECT: Final = "router.ports."
_ENTRY: Final = {
    "type": "object",
    "properties": {
        "listen": {"type": "string", "description": "ADDRESS:PORT"},
        "host": {"type": "string", "description": "the app's host; requests get it as their Host"},
        "cookies": {"type": "array", "items": {"type": "string"}, "description": "names with the app's tag outside"},
        "origin": {"enum": ["file", "added"], "description": "file: of the configuration, and changed there alone"},
        "open": {"type": "boolean"},
        "error": {"type": "string", "description": "why it is not open; it is tried again"},
        "routed": {"type": "boolean", "description": "whether the host has a route now"},
        "warning": {"type": "string"},
    },
}
_WANTED: Final = {
    "type": "object",
    "required": ["host"],
    "properties": {
        "listen": {"type": "string", "description": "ADDRESS:PORT, or auto for one of port_map_range (POST alone)"},
        "host": {"type": "string"},
        "cookies": {"type": "array", "items": {"type": "string"}},
    },
}
_PORTS: Final = {"type": "array", "items": {"$ref": "#/components/schemas/Port"}}
_LIST: Final = {"type": "object", "properties": {"ports": _PORTS}}


class Ports(Protocol):
    def list(self) -> list[dict[str, Any]]: ...
    async def add(self, value: Any, *, replace: bool = False) -> dict[str, Any]: ...
    async def remove(self, listen: str) -> dict[str, Any]: ...


def api(ports: Ports) -> Api:
    """GET and POST /v1/ports; PUT and DELETE /v1/ports/{listen}."""

    async def show(_call: Call) -> Any:
        return {"ports": ports.list()}

    async def add(call: Call) -> Any:
        return await ports.add(call.body)

    async def put(call: Call) -> Any:
        listen = call.params["listen"]
        if call.body.get("listen", listen) != listen:
            raise Refusal(422, "unfit", f"the body says listen {call.body['listen']!r}, the path {listen!r}")
        return await ports.add({**call.body, "listen": listen}, replace=True)

    async def remove(call: Call) -> Any:
        return await ports.remove(call.params["listen"])

    changing = (409, 422)
    return Api(
        "Port map",
        [
            Operation("GET", "/v1/ports", "Every entry of the port map", show, "Ports", refusals=()),
            Operation("POST", "/v1/ports", "Map a port to an app", add, "Port", body="NewPort", refusals=changing),
            Operation("PUT", "/v1/ports/{listen}", "Map a port, or change what it is mapped to without closing it",
                      put, "Port", body="NewPort", refusals=changing),
            Operation("DELETE", "/v1/ports/{listen}", "Close a port and forget it", remove, "Port",
                      refusals=(404, *changing)),
        ],
        {"Port": _ENTRY, "NewPort": _WANTED, "Ports": _LIST},
    )  # fmt: skip


def on_bus(ports: Ports) -> dict[str, Callable[[bytes], Awaitable[bytes]]]:
    """Subject -> what answers a request there. None of them raises."""

    async def show(_value: Any) -> Any:
        return {"ports": ports.list()}

    async def add(value: Any) -> Any:
        replace = bool(value.pop("replace", False))
        return await ports.add(value, replace=replace)

    async def remove(value: Any) -> Any:
        return await ports.remove(str(value.get("listen")))

    verbs = {"add": add, "remove": remove, "list": show}
    return {SUBJECT + verb: _answering(do) for verb, do in verbs.items()}


def _answering(do: Callable[[Any], Awaitable[Any]]) -> Callable[[bytes], Awaitable[bytes]]:
    async def answer(payload: bytes) -> bytes:
        try:
            value = json.loads(payload) if payload.strip() else {}
            if not isinstance(value, dict):
                raise Refusal(400, "no_object", "the request is no JSON object")
            return json.dumps(await do(value)).encode()
        except (ValueError, RecursionError) as error:
            return json.dumps(Refusal(400, "no_json", f"the request is no JSON: {error}").body()).encode()
        except Refusal as refusal:
            return json.dumps(refusal.body()).encode()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}; this is a defect of the router"
            return json.dumps(Refusal(500, "internal", reason).body()).encode()

    return answer

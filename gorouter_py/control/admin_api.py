"""What the admin API is made of: operations in tables, refusals with a reason, and the OpenAPI document of both.

A part that has something to offer gives an `Api`: rows of `Operation` and the schemas they name. The server
(control/admin.py) turns the rows into routes and the document alike, so that neither can differ from the other.
`handle` runs on the control loop and must not block it. Pure: no socket, no clock.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

BODY_BYTES_MAX: Final = 1 << 20
OPENAPI: Final = "3.1.0"
# What can go wrong, by status: the meaning is the same for every operation.
FAULTS: Final = {
    400: "The request is malformed",
    401: "The token is missing or wrong",
    403: "The request came in the name of another site",
    404: "There is no such thing",
    405: "The path exists, this method of it does not",
    409: "It does not fit the present state",
    413: f"The body has more than {BODY_BYTES_MAX} bytes",
    422: "The body says something that cannot be done",
    500: "A defect of the router",
    503: "Not possible just now; try again",
}


class Refusal(Exception):
    """An answer that is no success. reason: a text that names the fault and the mend."""

    def __init__(self, status: int, code: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code
        self.reason = reason

    def body(self) -> dict[str, str]:
        return {"error": self.code, "reason": self.reason}


class Call(NamedTuple):
    """One request: parameters of the path (decoded), of the query, and the JSON of the body (None without one)."""

    params: Mapping[str, str]
    query: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Operation:
    """One row: GET /v1/things/{name} and what answers it.

    path: parameters in braces take one segment each; a "/" in one comes as %2F. body, answer: names of schemas.
    streams: a stream of server-sent events, each the JSON of a new call of `handle`: one at once, one per change and
    one each second. refusals: statuses of FAULTS that `handle` may raise."""

    method: str
    path: str
    summary: str
    handle: Callable[[Call], Awaitable[Any]]
    answer: str
    body: str = ""
    streams: bool = False
    refusals: Sequence[int] = (404,)
    query: Sequence[str] = ()

    @property
    def id(self) -> str:
        words = [word.strip("{}") for word in self.path.split("/") if word not in ("", "v1")]
        return "_".join([self.method.lower(), *words])


@dataclass(frozen=True)
class Api:
    """What one part offers. name: heading in the document; schemas: JSON Schema (2020-12) by name."""

    name: str
    operations: Sequence[Operation]
    schemas: Mapping[str, Any] = field(default_factory=dict)


ERROR_SCHEMA: Final = {
    "type": "object",
    "required": ["error", "reason"],
    "properties": {
        "error": {"type": "string", "description": "a word for programs"},
        "reason": {"type": "string", "description": "names the fault and the mend"},
    },
}


def document(apis: Iterable[Api], version: str) -> dict[str, Any]:
    """The OpenAPI document of everything that is offered."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {"Error": ERROR_SCHEMA}
    for api in apis:
        for name, schema in api.schemas.items():
            if name in schemas:
                raise ValueError(f"schema {name!r} is offered twice")
            schemas[name] = schema
        for operation in api.operations:
            known = paths.setdefault(operation.path, {})
            if operation.method.lower() in known:
                raise ValueError(f"{operation.method} {operation.path} is offered twice")
            known[operation.method.lower()] = _described(operation, api.name)
    return {
        "openapi": OPENAPI,
        "info": {"title": "gorouter-py admin API", "version": version},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "not on the unix socket"}},
        },
        "security": [{"token": []}, {}],
    }


def parameters(path: str) -> list[str]:
    """The names in braces."""
    return [word[1:-1] for word in path.split("/") if word.startswith("{")]


def _described(operation: Operation, heading: str) -> dict[str, Any]:
    kind = "text/event-stream" if operation.streams else "application/json"
    found: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [heading],
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"},
               "description": 'a "/" in it is written %2F'} for name in parameters(operation.path)),
            *({"name": name, "in": "query", "schema": {"type": "string"}} for name in operation.query),
        ],
        "responses": {"200": {"description": "Done", "content": {kind: {"schema": _ref(operation.answer)}}}},
    }  # fmt: skip
    general = {401, 403, 500, 503} | ({400, 413} if operation.body else set())
    for status in sorted(general | set(operation.refusals)):
        content = {"application/json": {"schema": _ref("Error")}}
        found["responses"][str(status)] = {"description": FAULTS[status], "content": content}
    if operation.body:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(operation.body)}}}
    return found


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}

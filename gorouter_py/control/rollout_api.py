"""Rollouts for whoever asks: the operations of the admin API, and the same as requests on the bus.

    gorouter.rollout.start    {"route": "shop.example.com", ...the body of PUT}
    gorouter.rollout.action   {"route": ..., "action": "promote", "who": ..., "why": ..., "weight": "7.5%"}

Answers are rollout objects, or {"error", "reason"}. Control loop.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

from gorouter_py.control import rollout_schema, rollout_spec, rollout_states
from gorouter_py.control.admin_api import Api, Call, Operation, Refusal
from gorouter_py.control.messages import is_token
from gorouter_py.control.rollout_spec import Spec

START, ACTION = "gorouter.rollout.start", "gorouter.rollout.action"
HEADERS_MAX: Final = 64


class Rollouts(Protocol):
    """Who does it. All raise Refusal."""

    async def begin(self, route: str, spec: Spec, who: str, why: str) -> dict[str, Any]: ...
    async def act(self, route: str, action: str, who: str, why: str, weight: float | None) -> dict[str, Any]: ...
    async def documents(self) -> list[dict[str, Any]]: ...
    async def forget(self, route: str) -> dict[str, Any]: ...
    def of(self, route: str) -> dict[str, Any]: ...
    def why(self, route: str) -> dict[str, Any]: ...
    def explain(self, route: str, headers: Mapping[str, str], cookie: str, address: str) -> dict[str, Any]: ...


class RolloutApi:
    """See the head of the file."""

    def __init__(self, rollouts: Rollouts) -> None:
        self._rollouts = rollouts

    def api(self) -> Api:
        one = "/v1/rollouts/{route}"
        return Api(
            "rollouts",
            [
                Operation("GET", "/v1/rollouts", "All rollouts", self._list, "Rollouts", refusals=()),
                Operation("GET", one, "The rollout of a route", self._show, "Rollout"),
                Operation("PUT", one, "Start one", self._start, "Rollout", "RolloutStart", refusals=(404, 409, 422)),
                Operation("DELETE", one, "Forget one that has ended", self._forget, "Rollout", refusals=(404, 409)),
                Operation(
                    "POST", one + "/actions/{action}", f"Change it: {', '.join(rollout_states.ACTIONS)}",
                    self._act, "Rollout", "RolloutAction", refusals=(404, 409, 422),
                ),
                Operation("GET", one + "/events", "Follow it", self._show, "Rollout", streams=True),
                Operation("GET", one + "/why", "Its verdict and what it rests on", self._why, "RolloutWhy"),
                Operation(
                    "POST", one + "/explain", "Which version a request would get, and why",
                    self._explain, "RolloutExplanation", "RolloutQuestion", refusals=(404, 422),
                ),
            ],
            rollout_schema.SCHEMAS,
        )  # fmt: skip

    async def answer_start(self, payload: bytes) -> bytes:
        """What a request on the bus to start a rollout is answered."""
        return await _answered(payload, self._bus_start)

    async def answer_action(self, payload: bytes) -> bytes:
        return await _answered(payload, self._bus_action)

    async def _list(self, _call: Call) -> Any:
        return {"rollouts": await self._rollouts.documents()}

    async def _show(self, call: Call) -> Any:
        return self._rollouts.of(call.params["route"])

    async def _forget(self, call: Call) -> Any:
        return await self._rollouts.forget(call.params["route"])

    async def _why(self, call: Call) -> Any:
        return self._rollouts.why(call.params["route"])

    async def _start(self, call: Call) -> Any:
        return await self._begin(call.params["route"], call.body)

    async def _act(self, call: Call) -> Any:
        return await self._change(call.params["route"], call.params["action"], call.body)

    async def _explain(self, call: Call) -> Any:
        body = call.body
        _known(body, ("headers", "cookie", "address"))
        headers = body.get("headers") or {}
        if not isinstance(headers, dict) or len(headers) > HEADERS_MAX:
            raise Refusal(422, "unfit", f'headers: write at most {HEADERS_MAX} names and values, {{"X-Tenant": "7"}}')
        for name, value in headers.items():
            if not is_token(name):
                raise Refusal(422, "unfit", f"headers: {name!r} is no name of a header")
            _line(value, f"headers.{name}")
        cookie, address = (_line(body.get(key) or "", key) for key in ("cookie", "address"))
        return self._rollouts.explain(call.params["route"], headers, cookie, address)

    async def _bus_start(self, body: dict[str, Any]) -> Any:
        route = _route(body)
        return await self._begin(route, {key: value for key, value in body.items() if key != "route"})

    async def _bus_action(self, body: dict[str, Any]) -> Any:
        action = body.get("action")
        if not isinstance(action, str):
            raise Refusal(422, "unfit", f"action: it is missing; valid: {', '.join(rollout_states.ACTIONS)}")
        rest = {key: value for key, value in body.items() if key not in ("route", "action")}
        return await self._change(_route(body), action, rest)

    async def _begin(self, route: str, body: dict[str, Any]) -> Any:
        try:
            spec = rollout_spec.read(body)
        except rollout_spec.Unfit as error:
            raise Refusal(422, "unfit", str(error)) from None
        return await self._rollouts.begin(route, spec, *_reasons(body))

    async def _change(self, route: str, action: str, body: dict[str, Any]) -> Any:
        if action not in rollout_states.ACTIONS:
            reason = f"{action!r} is no action; valid: {', '.join(rollout_states.ACTIONS)}"
            raise Refusal(404, "unknown_action", reason)
        _known(body, ("weight", "who", "why"))
        weight = None
        if action == "set":
            try:
                weight = rollout_spec.read_percent(body.get("weight"))
            except ValueError as error:
                raise Refusal(422, "unfit", f"weight: {error}") from None
        return await self._rollouts.act(route, action, *_reasons(body), weight)


def _known(body: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    for key in body:
        if key not in keys:
            raise Refusal(422, "unfit", f"{key}: unknown key; valid: {', '.join(keys)}")


def _route(body: Mapping[str, Any]) -> str:
    route = body.get("route")
    if not isinstance(route, str) or not route:
        raise Refusal(422, "unfit", 'route: it is missing; write "shop.example.com"')
    return route


def _reasons(body: Mapping[str, Any]) -> tuple[str, str]:
    return _line(body.get("who") or "somebody", "who"), _line(body.get("why") or "", "why")


def _line(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise Refusal(422, "unfit", f"{path}: {value!r:.60} is no text; write it in quotes")
    if len(value) > 8192 or re.search(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]", value):
        raise Refusal(422, "unfit", f"{path}: it is too long, or has control characters; write one line")
    return value


async def _answered(payload: bytes, handle: Any) -> bytes:
    try:
        try:
            body = json.loads(payload)
        except (ValueError, RecursionError) as error:
            raise Refusal(400, "no_json", f"the request is no JSON: {error}") from None
        if not isinstance(body, dict):
            raise Refusal(400, "no_object", "the request is no JSON object")
        answer = await handle(body)
    except Refusal as refusal:
        answer = refusal.body()
    return json.dumps(answer).encode()

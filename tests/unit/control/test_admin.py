"""The admin application: routes made of rows, errors with a reason, and who may ask."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import openapi_spec_validator
import pytest

from gorouter_py.control import admin, admin_api, listeners, status
from gorouter_py.control.admin_api import Api, Call, Operation, Refusal
from gorouter_py.control.admin_client import AdminClient, AdminError
from tests.support import ports
from tests.unit.control.serving import Serving

TOKEN = "0123456789abcdef"


class Things:
    """Something to offer."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"a.test/x": 1}

    async def show(self, call: Call) -> Any:
        if call.params["name"] not in self.values:
            raise Refusal(404, "unknown_thing", f"there is no thing {call.params['name']!r}; there are: a.test/x")
        return {"name": call.params["name"], "value": self.values[call.params["name"]], "query": dict(call.query)}

    async def set(self, call: Call) -> Any:
        if "value" not in call.body:
            raise Refusal(422, "no_value", '"value" is missing; write {"value": 5}')
        self.values[call.params["name"]] = call.body["value"]
        return await self.show(call)

    async def fail(self, call: Call) -> Any:
        raise KeyError("oops")

    async def hang(self, call: Call) -> Any:
        raise TimeoutError

    def api(self) -> Api:
        row = Operation
        path = "/v1/things/{name}"
        return Api(
            "things",
            [
                row("GET", path, "Show a thing", self.show, "Thing", query=("full",)),
                row("PUT", path, "Set a thing", self.set, "Thing", "ThingBody", refusals=(404, 422)),
                row("GET", path + "/events", "Follow a thing", self.show, "Thing", streams=True),
                row("POST", path + "/fail", "Fail", self.fail, "Thing", "ThingBody"),
                row("POST", path + "/hang", "Hang", self.hang, "Thing", "ThingBody"),
            ],
            {"Thing": {"type": "object"}, "ThingBody": {"type": "object"}},
        )


class Offered:
    """The application on a unix socket and on a port."""

    def __init__(self, folder: Path) -> None:
        self.things = Things()
        self.path = str(folder / "admin.sock")
        self.port = ports.take()
        self.admin: admin.Admin | None = None

    def pages(self, call: Callable[..., Any]) -> list[status.Page]:
        self.admin = admin.Admin([self.things.api()], "1.2.3", call)
        return [
            status.Page(listeners.open_unix(self.path), application=self.admin.application()),
            status.Page(listeners.open_one("127.0.0.1", self.port), application=self.admin.application(TOKEN)),
        ]

    def on_socket(self) -> AdminClient:
        return AdminClient(self.path)

    def on_port(self, token: str = TOKEN) -> AdminClient:
        return AdminClient(url=f"http://127.0.0.1:{self.port}", token=token)


@pytest.fixture(scope="module")
def offered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Offered]:
    it = Offered(tmp_path_factory.mktemp("admin"))
    with Serving(it.pages):
        yield it


def refused(client: AdminClient, method: str, path: str, body: Any = None) -> AdminError:
    with pytest.raises(AdminError) as caught:
        client.call(method, path, body)
    return caught.value


def test_an_operation_gets_path_query_and_body(offered: Offered) -> None:
    client = offered.on_socket()
    assert client.call("GET", "/v1/things/a.test%2Fx?full=yes")["query"] == {"full": "yes"}
    assert client.call("PUT", "/v1/things/b%252F%20c", {"value": 5})["value"] == 5
    assert offered.things.values["b%2F c"] == 5


def test_a_slash_in_a_name_is_no_other_path(offered: Offered) -> None:
    offered.things.values["a.test/events"] = 7
    assert offered.on_socket().call("GET", "/v1/things/a.test%2Fevents")["value"] == 7


@pytest.mark.parametrize(
    ("method", "path", "body", "status_code", "code"),
    [
        ("GET", "/v1/things/none", None, 404, "unknown_thing"),
        ("PUT", "/v1/things/a", {}, 422, "no_value"),
        ("PUT", "/v1/things/a", [1], 400, "no_object"),
        ("GET", "/v1/nothing", None, 404, "not_found"),
        ("GET", "/none.css", None, 404, "not_found"),
        ("GET", "/..%2f..%2fetc%2fpasswd", None, 404, "not_found"),
        ("DELETE", "/v1/things/a", None, 405, "wrong_method"),
        ("POST", "/v1/things/a/fail", {}, 500, "internal"),
        ("POST", "/v1/things/a/hang", {}, 503, "busy"),
        ("PUT", "/v1/things/a", {"value": "x" * (admin_api.BODY_BYTES_MAX + 1)}, 413, "too_large"),
    ],
)
def test_errors_have_a_word_and_a_reason(
    offered: Offered, method: str, path: str, body: Any, status_code: int, code: str
) -> None:
    error = refused(offered.on_socket(), method, path, body)
    assert (error.status, error.code) == (status_code, code)
    assert len(str(error)) > 10


def test_a_body_that_is_no_json(offered: Offered) -> None:
    with Serving.connect(offered.path) as connection:
        connection.request("PUT", "/v1/things/a", b"{'value': 1}")
        answer = connection.getresponse()
        assert answer.status == 400
        said = json.loads(answer.read())
    assert said["error"] == "no_json" and "the body is no JSON" in said["reason"]


def test_a_stream_tells_changes_at_once(offered: Offered) -> None:
    events = offered.on_socket().events("/v1/things/a.test%2Fx/events")
    assert next(events)["value"] == 1
    offered.things.values["a.test/x"] = 2
    assert offered.admin is not None
    offered.admin.changed()
    found = next(events)
    while found["value"] != 2:
        found = next(events)
    del offered.things.values["a.test/x"]
    for found in events:  # it ends when the thing has gone
        assert found["value"] == 2
    offered.things.values["a.test/x"] = 1
    assert refused(offered.on_socket(), "GET", "/v1/things/none/events").status == 404


def test_streams_are_bounded(offered: Offered) -> None:
    deadline = time.monotonic() + 30
    open_ones = []
    while True:
        try:
            stream = offered.on_socket().events("/v1/things/a.test%2Fx/events")
            next(stream)
            open_ones.append(stream)
        except AdminError as error:
            assert error.status == 503 and error.code == "too_many_streams"
            break
        assert len(open_ones) <= admin.STREAMS_MAX and time.monotonic() < deadline
    assert len(open_ones) == admin.STREAMS_MAX
    for stream in open_ones:
        stream.close()


def test_the_port_wants_the_token(offered: Offered) -> None:
    assert offered.on_port().call("GET", "/v1/things/a.test%2Fx")["value"] == 1
    assert refused(offered.on_port(""), "GET", "/v1/things/a.test%2Fx").code == "token_missing"
    assert refused(offered.on_port("wrong-wrong-wrong"), "PUT", "/v1/things/a", {}).code == "token_wrong"
    assert refused(offered.on_port(""), "GET", "/v1/openapi.json").status == 401


def test_other_sites_may_not(offered: Offered) -> None:
    def asked(method: str, path: str, **headers: str) -> tuple[int, str]:
        with Serving.connect("", offered.port) as connection:
            connection.request(method, path, b"{}", {"Authorization": f"Bearer {TOKEN}", **headers})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()).get("error", "")

    path = "/v1/things/a.test%2Fx"
    own = f"http://127.0.0.1:{offered.port}"
    assert asked("GET", path, Host="evil.example") == (403, "strange_host")
    assert asked("GET", path, Host=f"evil.example:{offered.port}") == (403, "strange_host")
    assert asked("GET", path, Host="localhost:1234") == (200, "")
    assert asked("GET", path, Host="[::1]:1234") == (200, "")
    assert asked("PUT", path, Origin="http://evil.example") == (403, "strange_origin")
    assert asked("PUT", path, Origin="null") == (403, "strange_origin")
    assert asked("PUT", path, Origin=own)[0] == 422  # ours: the body is what is wrong


def test_the_page_is_open_and_locked_down(offered: Offered) -> None:
    for path, kind in (("/", "text/html"), ("/app.js", "text/javascript"), ("/app.css", "text/css")):
        with Serving.connect("", offered.port) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            assert answer.status == 200 and answer.headers["Content-Type"].startswith(kind)
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.read()


def test_the_document_is_valid_and_says_what_is_offered(offered: Offered) -> None:
    document = offered.on_socket().call("GET", "/v1/openapi.json")
    openapi_spec_validator.validate(document)
    assert document["info"]["version"] == "1.2.3"
    offers = {(method.upper(), path) for path, rows in document["paths"].items() for method in rows}
    assert offers == {(row.method, row.path) for row in offered.things.api().operations}
    put = document["paths"]["/v1/things/{name}"]["put"]
    assert set(put["responses"]) == {"200", "400", "401", "403", "404", "413", "422", "500", "503"}
    assert "text/event-stream" in document["paths"]["/v1/things/{name}/events"]["get"]["responses"]["200"]["content"]


def test_nothing_is_offered_twice() -> None:
    api = Things().api()
    with pytest.raises(ValueError, match="twice"):
        admin_api.document([api, api], "1")
    with pytest.raises(ValueError, match="twice"):
        admin_api.document([api, Api("more", api.operations)], "1")


def test_the_socket_is_for_its_user_alone(offered: Offered, tmp_path: Path) -> None:
    assert Path(offered.path).stat().st_mode & 0o777 == 0o600
    with pytest.raises(listeners.CannotListen, match="address already in use"):
        listeners.open_unix(offered.path)
    (tmp_path / "file").write_text("keep")
    with pytest.raises(listeners.CannotListen, match="address already in use"):
        listeners.open_unix(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "keep"
    with pytest.raises(listeners.CannotListen, match="no such file"):
        listeners.open_unix(str(tmp_path / "none" / "admin.sock"))


def test_a_socket_that_was_left_over_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    listeners.open_unix(path).close()
    with listeners.open_unix(path):
        listeners.remove_unix(path)
        assert Path(path).exists()  # somebody listens
    listeners.remove_unix(path)
    assert not Path(path).exists()


def test_changes_reach_no_loop_that_has_ended() -> None:
    async def call(function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return await function()

    it = admin.Admin([Things().api()], "1", call)
    loop = asyncio.new_event_loop()
    it._streams.add((loop, asyncio.Event()))
    loop.close()
    it.changed()
    assert not it._streams

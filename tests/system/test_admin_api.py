"""The admin API of a whole router: its listeners, and starts that must fail."""

import json
from pathlib import Path
from typing import Any

import openapi_spec_validator

from gorouter_py.control.admin_client import AdminClient, AdminError
from tests.system.harness import Router, free_ports

ROUTE = ("--route", "static.test=127.0.0.1:9")


def configured(folder: Path, **admin: Any) -> tuple[str, ...]:
    path = folder / "config.yml"
    path.write_text(json.dumps({"gorouter_py": {"admin": admin}}))
    return (*ROUTE, "--config", str(path))


def test_it_is_offered_on_a_socket_and_on_a_port(tmp_path: Path) -> None:
    socket, token = tmp_path / "admin.sock", tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    (port,) = free_ports(1)
    with Router(*configured(tmp_path, port=port, token_file=str(token)), "--admin-socket", str(socket)) as router:
        assert socket.stat().st_mode & 0o777 == 0o600
        document = AdminClient(str(socket)).call("GET", "/v1/openapi.json")
        openapi_spec_validator.validate(document)
        url = f"http://127.0.0.1:{port}"
        assert AdminClient(url=url, token="0123456789abcdef").call("GET", "/v1/openapi.json") == document
        try:
            AdminClient(url=url, token="0123456789abcdeX").call("GET", "/v1/openapi.json")
        except AdminError as error:
            assert error.status == 401
        else:
            raise AssertionError("a wrong token was let in")
        assert router.stop() == 0
    assert not socket.exists()


def test_a_token_that_is_none_stops_the_start(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("short")
    (port,) = free_ports(1)
    with Router(*configured(tmp_path, port=port, token_file=str(token)), wait_for=None) as router:
        assert router.wait() == 1
        (line,) = router.said("admin-listener-error")
        assert str(token) in line["data"]["error"] and "openssl rand" in line["data"]["error"]


def test_a_port_without_a_token_is_refused(tmp_path: Path) -> None:
    with Router(*configured(tmp_path, port=9999), wait_for=None) as router:
        assert router.wait() != 0
        said = "".join(router.complaints)
        assert "gorouter_py.admin.port" in said and "token_file" in said


def test_a_socket_of_another_router_is_left_to_it(tmp_path: Path) -> None:
    socket = tmp_path / "admin.sock"
    with Router(*ROUTE, "--admin-socket", str(socket)):
        with Router(*ROUTE, "--admin-socket", str(socket), wait_for=None) as second:
            assert second.wait() == 1
            assert "address already in use" in second.said("admin-listener-error")[0]["data"]["error"]
        assert AdminClient(str(socket)).call("GET", "/v1/openapi.json")["openapi"] == "3.1.0"

"""A client of a router's admin API, for commands: over its unix socket, or over its loopback port with a token.

It blocks, opens a connection per request, and owns nothing that outlives a call. Every way to fail is an AdminError
whose text names the fault and the mend. It knows no command and no resource of the API beyond JSON.
"""

import http.client
import json
import os
import socket
import urllib.parse
from collections.abc import Iterator
from typing import Any, Final

DEFAULT_SOCKET: Final = "/run/gorouter-py/admin.sock"
TIMEOUT_S: Final = 15.0
ANSWER_BYTES_MAX: Final = 64 << 20


class AdminError(Exception):
    """str() is for people. status: of the answer, 0 without one; code: the API's word for the fault."""

    def __init__(self, text: str, status: int = 0, code: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.code = code


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
        except BaseException:
            self.sock.close()
            raise


class AdminClient:
    """Talks to one router. url wins over path, the unix socket; both default to DEFAULT_SOCKET."""

    def __init__(self, path: str = "", url: str = "", token: str = "") -> None:
        self.where = url or path or DEFAULT_SOCKET
        self._path = "" if url else self.where
        self._token = token
        target = urllib.parse.urlsplit(url)
        try:
            port = target.port
        except ValueError:
            port = None
        if url and (target.scheme != "http" or not target.hostname or port is None or target.path not in ("", "/")):
            raise AdminError(f"{url!r} is no address of an admin API; write http://127.0.0.1:PORT")
        self._address = (target.hostname or "", port or 0)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The JSON of the answer. AdminError unless it is a success."""
        connection = self._connection()
        try:
            answer = self._request(connection, method, path, body)
            try:
                return json.loads(answer.read(ANSWER_BYTES_MAX) or b"null")
            except (OSError, http.client.HTTPException) as error:
                raise self._unheard(error) from None
            except ValueError as error:
                raise AdminError(f"{self.where} sent no JSON for {method} {path}: {error}; is that a router?") from None
        finally:
            connection.close()

    def events(self, path: str) -> Iterator[Any]:
        """The JSON of each event of a stream, until its end. AdminError as for call."""
        connection = self._connection()
        try:
            answer = self._request(connection, "GET", path, None, "text/event-stream")
            data: list[str] = []
            while line := answer.readline(ANSWER_BYTES_MAX):
                text = line.decode(errors="replace").rstrip("\r\n")
                if text.startswith("data:"):
                    data.append(text[5:].removeprefix(" "))
                elif not text and data:
                    yield json.loads("\n".join(data))
                    data.clear()
        except (OSError, http.client.HTTPException) as error:
            raise self._unheard(error) from None
        except ValueError as error:
            raise AdminError(f"{self.where} sent an event that is no JSON: {error}") from None
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._path:
            return _UnixConnection(self._path)
        return http.client.HTTPConnection(*self._address, timeout=TIMEOUT_S)

    def _request(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: object, accept: str = ""
    ) -> http.client.HTTPResponse:
        headers = {"Accept": accept or "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            if answer.status < 300:
                return answer
            said = answer.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise self._unheard(error) from None
        raise self._refused(answer.status, said)

    def _unheard(self, error: Exception) -> AdminError:
        flag = "--socket" if self._path else "--url"
        if isinstance(error, FileNotFoundError):
            return AdminError(
                f"there is no socket {self.where}; is a router running, with --admin-socket or "
                f"gorouter_py.admin.socket? That path goes to {flag} or GOROUTER_ADMIN_SOCKET"
            )
        if isinstance(error, PermissionError):
            return AdminError(f"{self.where}: not allowed for {_user()}; only the router's own user and root may")
        if isinstance(error, ConnectionRefusedError):
            return AdminError(f"nobody listens on {self.where}; is the router running? Its address goes to {flag}")
        return AdminError(f"no answer from {self.where}: {error or type(error).__name__}")

    def _refused(self, status: int, body: bytes) -> AdminError:
        try:
            said = json.loads(body)
            code, reason = str(said["error"]), str(said["reason"])
        except (ValueError, KeyError, TypeError):
            return AdminError(f"{self.where} answered {status} without a reason; is that a router's admin API?", status)
        if status == 401:
            reason += "; give --token, --token-file or GOROUTER_ADMIN_TOKEN"
        return AdminError(reason, status, code)


def _user() -> str:
    return f"user {os.getuid()}"


def route_path(route: str, *rest: str) -> str:
    """The path of a rollout in the API: route_path("a.test/x", "why") is "/v1/rollouts/a.test%2Fx/why"."""
    return "/".join(["/v1/rollouts", urllib.parse.quote(route, safe=""), *rest])

"""Tokens that UAA gives out by client_credentials.

`Tokens` holds one token until shortly before it expires; several askers share one request for it. Called on the
control loop. Does not know what the tokens are for.
"""

import asyncio
import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from gorouter_py.control.http_client import Client, RequestFailed


class Log(Protocol):
    """What is needed of the component log."""

    def debug(self, message: str, /, **data: Any) -> None: ...
    def error(self, message: str, /, **data: Any) -> None: ...


@dataclass(frozen=True)
class Policy:
    """How hard a token is tried for, and how early it is renewed."""

    retries: int = 3
    retry_interval_s: float = 5.0
    expiration_buffer_s: float = 30.0


class _Answer(msgspec.Struct):
    access_token: str = ""
    expires_in: float = 0.0


class Tokens:
    """Tokens for one client of UAA, by client_credentials."""

    def __init__(
        self,
        client: Client,
        name: str,
        secret: str,
        policy: Policy,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        credentials = base64.b64encode(f"{name}:{secret}".encode()).decode()
        self._headers = {
            "Authorization": f"Basic {credentials}",
            "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
            "Accept": "application/json; charset=utf-8",
        }
        self._client = client
        self._policy = policy
        self._log = log
        self._clock = clock
        self._token = ""
        self._renew_at = 0.0
        self._lock = asyncio.Lock()

    async def fetch(self, *, force: bool) -> str:
        """A token that is good for a while; force: a new one. RequestFailed when all attempts have failed."""
        self._log.debug("started-fetching-token", **{"force-update": force})
        held = self._token
        async with self._lock:
            if self._token and self._clock() < self._renew_at and (not force or self._token != held):
                return self._token  # good, or forced by another asker while this one waited
            attempt = 0
            while True:
                try:
                    return await self._ask()
                except RequestFailed as error:
                    # gorouter: a refusal stays one, only what may pass is tried again
                    if 400 <= error.status < 500 or attempt >= self._policy.retries:
                        raise
                    attempt += 1
                    self._log.error("error-fetching-token", error=str(error), attempt=attempt)
                    await asyncio.sleep(self._policy.retry_interval_s)

    async def _ask(self) -> str:
        began = self._clock()
        status, body = await self._client.fetch(
            "/oauth/token", self._headers, method="POST", body=b"grant_type=client_credentials"
        )
        if status != 200:
            raise RequestFailed(f"status code: {status}, body: {body[:500].decode(errors='replace')}", status)
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except msgspec.MsgspecError as error:
            raise RequestFailed(f"the token endpoint's answer is no token: {error}", 422) from None
        if not answer.access_token:
            raise RequestFailed("empty token fetched", 422)
        self._token = answer.access_token
        self._renew_at = began + answer.expires_in - self._policy.expiration_buffer_s
        self._log.debug("successfully-fetched-token")
        return self._token


class NoTokens:
    """In the place of Tokens where the server asks for none."""

    async def fetch(self, *, force: bool) -> str:
        return ""

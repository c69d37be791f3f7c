"""What tests of rollouts share: specs, clients with cookies, the arithmetic of coordinates."""

import base64
import struct
from typing import Any

from tests.support.plane import HOST, Router, until
from tests.support.wire import Message

DRAW_STEP = 40503


def spec(*weights: float, **more: Any) -> dict[str, Any]:
    """A rollout of versions v1 (stable), v2, ...: weights of v2 and the others in percent, cut from the end."""
    ends, at = [], 65536
    for version in range(len(weights), 0, -1):
        share = round(weights[version - 1] * 655.36)
        if share:
            ends.append((at, version))
        at -= share
    if at:
        ends.append((at, 0))
    names = [f"v{number + 1}" for number in range(len(weights) + 1)]
    return {"id": 1, "versions": names, "stable": 0, "intervals": ends[::-1], **more}


def cookie(u: int, low: int = 1) -> str:
    """gr_c of a coordinate."""
    return base64.urlsafe_b64encode(struct.pack(">Q", u << 48 | low)).decode().rstrip("=")


def coordinate(value: str) -> int:
    """The coordinate that gr_c says."""
    return int(struct.unpack(">H", base64.urlsafe_b64decode(value[:11] + "=")[:2])[0])


def handed_out(answer: Message) -> str | None:
    """The value of gr_c in an answer."""
    found = [line for line in answer.all("Set-Cookie") if line.startswith("gr_c=")]
    assert len(found) <= 1
    return found[0].partition("=")[2].partition(";")[0] if found else None


def version_of(answer: Message) -> str:
    """Which version served: what the test's instances answer with."""
    return answer.body.decode()


def answer(body: str, head: str = "", status: str = "200 OK") -> bytes:
    """An answer in bytes."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{head}\r\n{body}".encode()


def numbers(router: Router, version: int) -> dict[str, Any]:
    """The numbers of one version of the only rollout, once no request is in progress any more."""
    until(lambda: router.counter("requests_active") == 0)
    (one,) = router.plane.rollouts()
    return dict(one["versions"][version])


def start(router: Router, apps: list[Any], *weights: float, **more: Any) -> list[int]:
    """Registers apps[i] as version i and starts a rollout; the endpoints' handles."""
    handles = [router.add(app, version=number) for number, app in enumerate(apps)]
    router.plane.set_rollout(HOST, spec(*weights, **more))
    return handles

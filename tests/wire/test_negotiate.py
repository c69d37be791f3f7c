"""Negotiate authentication binds a client to the instance it talked to, where sticky_auth_negotiate is on."""

import pytest

from tests.support.origins import OK, Origin, Served
from tests.support.plane import MakeOrigin, MakeRouter, Router
from tests.support.ports import take as refused_port
from tests.wire.test_attempts import counts

ASKS = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: %s\r\nContent-Length: 0\r\n\r\n"
BOUND = "Authorization: Negotiate dG9rZW4=\r\nCookie: __VCAP_ID__=%s\r\n"
COOKIE = "__VCAP_ID__=%s; Path=/; Max-Age=60; HttpOnly; SameSite=Strict"


def fleet(
    router: MakeRouter, origin: MakeOrigin, answer: bytes = OK, **settings: object
) -> tuple[Router, list[Origin]]:
    front = router(**{"sticky_auth_negotiate": True, **settings})
    apps = [origin(answer) for _ in range(3)]
    for n, app in enumerate(apps):
        front.add(app, instance_id=f"id-{n}")
    return front, apps


@pytest.mark.parametrize("value", [b"Negotiate", b"negotiate", b"NEGOTIATE b2s=", b"Negotiated"])
def test_a_challenge_binds(router: MakeRouter, origin: MakeOrigin, value: bytes) -> None:
    front, apps = fleet(router, origin, ASKS % value)
    for _ in range(3):
        answer = front.get()
        served = [len(app.requests) for app in apps]
        assert answer.status == 401
        assert answer.get("WWW-Authenticate") == value.decode()
        assert (answer.get("Set-Cookie") or "").startswith("__VCAP_ID__=id-")
    assert served == [1, 1, 1]
    only = router(sticky_auth_negotiate=True)
    only.add(apps[1], host="app.test/Deep/Path", instance_id="one")
    assert only.get("/deep/path/x").get("Set-Cookie") == (COOKIE % "one").replace("Path=/;", "Path=/Deep/Path;")


def test_secure_cookies(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(sticky_auth_negotiate=True, secure_cookies=True)
    front.add(origin(ASKS % b"Negotiate"), instance_id="one")
    assert front.get().get("Set-Cookie") == "__VCAP_ID__=one; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Strict"


@pytest.mark.parametrize("value", [b"Basic realm=x", b"Basic, Negotiate", b"NTLM", b"Nego"])
def test_other_challenges_do_not(router: MakeRouter, origin: MakeOrigin, value: bytes) -> None:
    front, _ = fleet(router, origin, ASKS % value)
    assert front.get().get("Set-Cookie") is None


def test_it_must_be_switched_on(router: MakeRouter, origin: MakeOrigin) -> None:
    front, apps = fleet(router, origin, ASKS % b"Negotiate", sticky_auth_negotiate=False)
    for _ in range(6):
        assert front.get(lines=BOUND % "id-1").get("Set-Cookie") is None
    assert counts(apps) == [2, 2, 2]


def test_the_bound_stay_where_they_are(router: MakeRouter, origin: MakeOrigin) -> None:
    front, apps = fleet(router, origin, ASKS % b"Negotiate")
    for scheme in ("Negotiate", "negotiate x", "NEGOTIATE\ty", "Negotiatex"):
        answer = front.get(lines=f"Authorization: {scheme}\r\nCookie: a=b; __VCAP_ID__=id-2\r\n")
        assert answer.get("Set-Cookie") is None, "it is the instance that was asked for"
    assert counts(apps) == [0, 0, 4]
    assert apps[2].last().get("Cookie") == "a=b; __VCAP_ID__=id-2", "passed on"
    assert apps[2].last().get("Authorization") == "Negotiatex"


def test_the_address_is_as_good_as_the_id(router: MakeRouter, origin: MakeOrigin) -> None:
    front, apps = fleet(router, origin)
    for _ in range(3):
        assert front.get(lines=BOUND % apps[1].address).status == 200
    assert counts(apps) == [0, 3, 0]


@pytest.mark.parametrize(
    "lines", ["Cookie: __VCAP_ID__=id-2\r\n", "Authorization: Basic x\r\nCookie: __VCAP_ID__=id-2\r\n"]
)
def test_the_cookie_alone_binds_nobody(router: MakeRouter, origin: MakeOrigin, lines: str) -> None:
    front, apps = fleet(router, origin)
    for _ in range(6):
        assert front.get(lines=lines).get("Set-Cookie") is None
    assert counts(apps) == [2, 2, 2]


def test_negotiate_without_a_cookie_goes_anywhere(router: MakeRouter, origin: MakeOrigin) -> None:
    front, apps = fleet(router, origin)
    for _ in range(6):
        assert front.get(lines="Authorization: Negotiate x\r\nCookie: JSESSIONID=1\r\n").status == 200
    assert counts(apps) == [2, 2, 2]


def test_an_instance_that_is_gone(router: MakeRouter, origin: MakeOrigin) -> None:
    front, apps = fleet(router, origin)
    answer = front.get(lines=BOUND % "id-9")
    assert answer.status == 502
    assert answer.get("X-Cf-RouterError") == "endpoint_failure (No endpoints available)"
    assert answer.body == b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"
    assert answer.get("Set-Cookie") is None
    assert counts(apps) == [0, 0, 0]


def test_an_instance_that_is_full(router: MakeRouter, origin: MakeOrigin) -> None:
    def hold(conn: Served) -> None:
        while (request := conn.request()) is not None:
            if request.target == b"/held":
                conn.origin.stopping.wait()
                return
            conn.send(OK)

    front = router(sticky_auth_negotiate=True, max_conns=1)
    full, free = origin(hold), origin()
    front.add(full, instance_id="full")
    front.add(free, instance_id="free")
    held = front.client()
    held.send(f"GET /held HTTP/1.1\r\nHost: app.test\r\n{BOUND % 'full'}\r\n".encode())
    full.wait(lambda: full.requests)
    answer = front.get(lines=BOUND % "full")
    assert (answer.status, answer.get("X-Cf-RouterError")) == (502, "endpoint_failure (No endpoints available)")
    assert front.get(lines="Cookie: JSESSIONID=1; __VCAP_ID__=full\r\n").status == 200, "others go elsewhere"
    assert counts([full, free]) == [1, 1]


def test_a_refused_instance_is_not_replaced(router: MakeRouter, origin: MakeOrigin) -> None:
    front, apps = fleet(router, origin, max_attempts=3)
    front.add(refused_port(), instance_id="down")
    answer = front.get(lines=BOUND % "down")
    assert answer.status == 502
    assert "connection refused" in (answer.get("X-Cf-RouterError") or "")
    assert counts(apps) == [0, 0, 0]


def test_a_cookie_of_the_instance_is_left_alone(router: MakeRouter, origin: MakeOrigin) -> None:
    front, _ = fleet(
        router,
        origin,
        b"HTTP/1.1 401 No\r\nWWW-Authenticate: Negotiate\r\nSet-Cookie: __VCAP_ID__=mine\r\nContent-Length: 0\r\n\r\n",
    )
    assert front.get().all("Set-Cookie") == ["__VCAP_ID__=mine"]


def test_session_cookies_work_beside_it(router: MakeRouter, origin: MakeOrigin) -> None:
    front, apps = fleet(router, origin)
    for _ in range(3):
        assert front.get(lines="Cookie: JSESSIONID=1; __VCAP_ID__=id-1\r\n").get("Set-Cookie") is None
    assert counts(apps) == [0, 3, 0]
    answer = front.get(lines="Cookie: JSESSIONID=1; __VCAP_ID__=gone\r\n")
    assert answer.status == 200
    assert (answer.get("Set-Cookie") or "").endswith("; Path=/; HttpOnly")

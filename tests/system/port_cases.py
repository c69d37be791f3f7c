"""What a client and an app see of each other through a public port: one list, for both ways there.

The ways: "chain", two tiers of HAProxy before the router, and "alone", a mapped port of the router. {public} is the
"127.0.0.1:PORT" that the client connects to, {port} its port. Names of fields are looked at in any case; None means
that there is none, a list all of them in order.
"""

from dataclasses import dataclass, field

APP = "shop.apps.test"
Seen = dict[str, str | list[str] | None]


@dataclass(frozen=True)
class Case:
    """One request, the app's answer, and what each side sees of the other.

    app, client: what is the same both ways; of the ways that differ, chain and alone say what the field is there, and
    `differs` is the row of docs/port-mapping.md that explains it. reaches_app: False where the router answers."""

    name: str
    host: str | None = "{public}"
    lines: tuple[str, ...] = ()
    start: str = "GET /case HTTP/1.1"
    body: str = ""
    answer: tuple[str, ...] = ()
    status: str = "200 OK"
    expected: int = 200
    app: Seen = field(default_factory=dict)
    client: Seen = field(default_factory=dict)
    chain: Seen = field(default_factory=dict)
    alone: Seen = field(default_factory=dict)
    differs: str = ""
    reaches_app: bool = True


def location(name: str, said: str, seen: str, *, host: str = "{public}", chain: str = "", differs: str = "") -> Case:
    """A redirect: what the app says, and what the client sees (through the chain, if that is not the same)."""
    both: Seen = {} if chain else {"Location": seen}
    return Case(
        name, host, answer=(f"Location: {said}",), status="302 Found", expected=302, client=both,
        chain={"Location": chain} if chain else {}, alone={"Location": seen} if chain else {}, differs=differs,
    )  # fmt: skip


def cookie(
    name: str, said: tuple[str, ...], seen: list[str], chain: list[str] | None = None, differs: str = ""
) -> Case:
    """Cookies that the app sets, and what the client sees of them."""
    both: Seen = {} if chain else {"Set-Cookie": list(seen)}
    return Case(
        name, answer=tuple(f"Set-Cookie: {each}" for each in said), client=both, differs=differs,
        chain={"Set-Cookie": chain} if chain else {}, alone={"Set-Cookie": list(seen)} if chain else {},
    )  # fmt: skip


TOLD: Seen = {
    "Host": APP,
    "X-Forwarded-Host": "{public}",
    "X-Forwarded-Port": "{port}",
    "X-Forwarded-Proto": "http",
}
PUBLIC = "http://{public}"

CASES = [
    # -- towards the app
    Case("the app hears what the client used", app=TOLD),
    Case("a name of its own is kept", "www.shop.test:{port}", app={**TOLD, "X-Forwarded-Host": "www.shop.test:{port}"}),
    Case("a host without a port", "127.0.0.1", app={**TOLD, "X-Forwarded-Host": "127.0.0.1"}),
    Case("no host at all", None, start="GET /case HTTP/1.0", app=TOLD),
    Case(
        "spoofed lines are dropped",
        lines=("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Host: evil.test", "X-Forwarded-Port: 6",
               "X-Forwarded-Proto: https"),
        app=TOLD,
    ),
    Case("and when they come twice", lines=("X-Forwarded-Host: a.test", "x-forwarded-host: b.test"), app=TOLD),
    Case("Connection takes none of them away", lines=("Connection: X-Forwarded-Host, X-Forwarded-For",), app=TOLD),
    Case(
        "Forwarded",
        lines=("Forwarded: for=6.6.6.6;host=evil.test",),
        chain={"Forwarded": None},
        alone={"Forwarded": 'for=127.0.0.1;host="{public}";proto=http'},
        differs="Forwarded",
    ),
    Case(
        "other spoofed names",
        lines=("X-Forwarded-Prefix: /evil", "X-Forwarded-Ssl: on"),
        chain={"X-Forwarded-Prefix": "/evil", "X-Forwarded-Ssl": "on"},
        alone={"X-Forwarded-Prefix": None, "X-Forwarded-Ssl": None},
        differs="other X-Forwarded-*",
    ),
    Case("other lines pass", lines=("X-Mine: 1", "Accept: */*", "Referer: http://{public}/a"),
         app={"X-Mine": "1", "Accept": "*/*", "Referer": "http://{public}/a"}),
    Case("cookies of the app pass", lines=("Cookie: a=1; b=2",), app={"Cookie": "a=1; b=2"}),
    Case("a body passes", start="POST /case HTTP/1.1", body="hello", app=TOLD),
    Case("a HEAD passes", start="HEAD /case HTTP/1.1", app=TOLD),
    Case("a query stays", start="GET /case?to=http://shop.apps.test/x HTTP/1.1", app=TOLD),
    Case("a target in absolute form", start="GET http://{public}/case HTTP/1.1", app=TOLD),
    Case(
        "the client's address",
        lines=("X-Forwarded-For: 6.6.6.6",),
        chain={"X-Forwarded-For": "127.0.0.1, 127.0.0.1"},
        alone={"X-Forwarded-For": "127.0.0.1"},
        differs="X-Forwarded-For",
    ),
    # -- redirects
    location("a redirect to itself", "http://shop.apps.test/next?x=1#f", PUBLIC + "/next?x=1#f"),
    location("another scheme, port and case", "HTTPS://SHOP.Apps.test:8443/Next", PUBLIC + "/Next"),
    location("its port written out", "http://shop.apps.test:80/a", PUBLIC + "/a"),
    location("without a path", "http://shop.apps.test", PUBLIC),
    location("a query at once", "http://shop.apps.test?a=b", PUBLIC + "?a=b"),
    location("back to the client's own name", "http://shop.apps.test/a", "http://www.shop.test:81/a",
             host="www.shop.test:81"),
    location("another host that begins so", "http://shop.apps.test.evil.test/", "http://shop.apps.test.evil.test/"),
    location("another host", "https://pay.test/?to=http://shop.apps.test/", "https://pay.test/?to=http://shop.apps.test/"),
    location("a parent's host", "http://apps.test/", "http://apps.test/"),
    location("a host behind a user", "http://shop.apps.test@evil.test/", "http://shop.apps.test@evil.test/"),
    location("a relative one", "/next", "/next"),
    location("a relative one without a slash", "next?a", "next?a"),
    location("one slash too few", "http:/shop.apps.test/", "http:/shop.apps.test/"),
    location("another scheme", "ftp://shop.apps.test/", "ftp://shop.apps.test/"),
    location("a backslash", "http://shop.apps.test\\@evil.test/", "http://shop.apps.test\\@evil.test/"),
    location("with the root's dot", "http://shop.apps.test./a", PUBLIC + "/a", chain="http://shop.apps.test./a",
             differs="root's dot, user"),
    location("with a user", "http://me@shop.apps.test/a", "http://me@{public}/a", chain="http://me@shop.apps.test/a",
             differs="root's dot, user"),
    location("an empty port", "http://shop.apps.test:/a", PUBLIC + "/a"),
    location("without a scheme", "//shop.apps.test/a", "//{public}/a", chain="//shop.apps.test/a",
             differs="//host"),
    Case("Content-Location", answer=("Content-Location: http://shop.apps.test/doc",),
         chain={"Content-Location": "http://shop.apps.test/doc"}, alone={"Content-Location": PUBLIC + "/doc"},
         differs="Content-Location, Refresh"),
    Case("Refresh", answer=("Refresh: 5; url=http://shop.apps.test/a",),
         chain={"Refresh": "5; url=http://shop.apps.test/a"}, alone={"Refresh": f"5; url={PUBLIC}/a"},
         differs="Content-Location, Refresh"),
    Case("other lines of an answer", answer=("Link: <http://shop.apps.test/>", "Strict-Transport-Security: max-age=1"),
         client={"Link": "<http://shop.apps.test/>", "Strict-Transport-Security": "max-age=1"}),
    # -- cookies
    cookie("a Domain of its own", ("a=1; Domain=shop.apps.test; Path=/",), ["a=1; Path=/"]),
    cookie("a parent's Domain", ("a=1; Path=/; domain=.apps.test; HttpOnly",), ["a=1; Path=/; HttpOnly"]),
    cookie("only those that have one", ("a=1", "b=2; Domain=apps.test", "c=3; Secure"), ["a=1", "b=2", "c=3; Secure"]),
    cookie("in their order", ("a=1; Domain=apps.test", "a=2", "a=3; Domain=.test"), ["a=1", "a=2", "a=3"]),
    cookie("another's Domain", ("a=1; Domain=evil.test",), ["a=1; Domain=evil.test"], ["a=1"], "another's Domain"),
    cookie("blanks in it", ("a=1; Domain = apps.test",), ["a=1"], ["a=1; Domain = apps.test"], "blanks, two Domains"),
    cookie("two Domains", ("a=1; Domain=x.test; Domain=apps.test",), ["a=1"], ["a=1; Domain=apps.test"],
           "blanks, two Domains"),
    Case("the sticky cookie", answer=("Set-Cookie: JSESSIONID=1",),
         chain={"Set-Cookie": ["JSESSIONID=1", "__VCAP_ID__=id-1; Path=/; HttpOnly"]},
         alone={"Set-Cookie": ["JSESSIONID=1", "__VCAP_ID__{tag}=id-1; Path=/; HttpOnly"]}, differs="sticky cookie"),
    # -- what the router answers
    Case("a load balancer's health check", lines=("User-Agent: HTTP-Monitor/1.1",), reaches_app=False,
         client={"Cache-Control": "private, max-age=0"}),
    Case("an error of the app", status="500 Internal Server Error", expected=500, app=TOLD),
    Case("no content", status="204 No Content", expected=204, app=TOLD),
]  # fmt: skip

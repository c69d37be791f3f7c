"""The page of a rollout in a real browser, fed by a scripted admin API, which can show what is hard to bring about:
every state, hostile names, a router that goes away. tests/system/test_canary_acceptance.py has it before a router."""

import copy
import http.server
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.rollouts import ROLLOUT
from tests.system.chromium import Browser, browser
from tests.system.harness import until

pytestmark = [pytest.mark.slow, pytest.mark.foreign, pytest.mark.release_only]

WEB = Path(__file__).resolve().parents[2] / "gorouter_py" / "web"
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


class Admin:
    """Serves the page, a rollout and its events; `rollout` may be changed at any time, `acted` are the actions."""

    def __init__(self) -> None:
        self.rollout = copy.deepcopy(ROLLOUT)
        self.token = ""
        self.acted: list[tuple[str, str, dict[str, Any]]] = []
        self.refuse: dict[str, str] | None = None
        self.stopping = False
        self.events = 0  # sent so far
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, status: int, kind: str, body: bytes | None) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Security-Policy", POLICY)
                self.send_header("X-Content-Type-Options", "nosniff")
                self.end_headers()
                self.wfile.write(body or b"")

            def json(self, value: object, status: int = 200) -> None:
                self.answer(status, "application/json", json.dumps(value).encode())

            def do_GET(self) -> None:
                path = urllib.parse.urlsplit(self.path).path
                if not path.startswith("/v1/"):
                    file = WEB / (path.removeprefix("/") or "index.html")
                    self.answer(200, TYPES[file.suffix], file.read_bytes())
                elif outer.token and self.headers["Authorization"] != f"Bearer {outer.token}":
                    self.json({"error": "token", "reason": "a token is wanted"}, 401)
                elif path == "/v1/rollouts":
                    self.json({"rollouts": [outer.rollout]})
                else:
                    assert path == "/v1/rollouts/shop.test%2Feu/events"
                    self.answer(200, "text/event-stream", None)
                    while not outer.stopping:
                        try:
                            self.wfile.write(b"data: " + json.dumps(outer.rollout).encode() + b"\n\n")
                            outer.events += 1
                        except OSError:
                            return
                        time.sleep(0.1)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                _, _, _, route, _, action = self.path.split("/")
                if outer.refuse:
                    return self.json(outer.refuse, 409)
                outer.acted.append((urllib.parse.unquote(route), action, body))
                outer.rollout["state"] = {"pause": "paused", "abort": "aborted"}.get(action, "ramping")
                self.json(outer.rollout)

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.stopping = True
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def admin() -> Iterator[Admin]:
    running = Admin()
    yield running
    running.close()


def shown(page: Browser, selector: str) -> str:
    return str(page.script(f"return document.querySelector({selector!r}).innerText"))


def open_rollout(page: Browser, admin: Admin) -> None:
    page.complaints()  # those of the test before
    page.open(admin.url)
    page.until("document.querySelector('#rollouts tbody a')")
    page.click("#rollouts tbody a")
    page.until("document.getElementById('rollout').hidden === false")


def test_a_rollout_as_it_happens(page: Browser, admin: Admin) -> None:
    open_rollout(page, admin)
    assert page.script("return location.hash") == "#shop.test%2Feu"
    assert shown(page, "#route") == "shop.test/eu" and shown(page, "#state") == "ramping"
    assert shown(page, "#steps [aria-current]") == "5%"
    assert "v2 (canary): wanted 5%, actual 5.04%" in shown(page, "#shares")
    assert shown(page, "#versions tbody tr:nth-child(2)").split() == [
        "v2", "canary", "5%", "1", "470", "158", "12", "(2.6%)", "4.4", "ms", "1.20", "s", "0",
    ]  # fmt: skip
    assert "GET /cart" in shown(page, "#failing") and "id-7" in shown(page, "#failing")
    assert "192.0.2.7" in shown(page, "#failing") and "traffic differs" in shown(page, "#notes")
    assert "kim" in shown(page, "#history")
    meter = "document.getElementById('evidence')"
    assert page.script(f"return {meter}.getAttribute('aria-valuenow')") == "2.60"
    admin.rollout["verdict"] |= {"log_e": 9.0, "state": "worse"}
    admin.rollout |= {"state": "aborted", "weight": 0.0}
    page.until(f"{meter}.dataset.state === 'worse' && {meter}.getAttribute('aria-valuenow') === '4.61'")
    assert page.script(f"return {meter}.firstElementChild.style.width") == "100%"
    assert page.script("return document.title") == "aborted 0% · shop.test/eu"
    page.until("document.querySelectorAll('#charts svg').length === 4")
    assert "p99: v1 31 ms, v2 1200 ms" in page.script("return document.querySelector('#charts').innerText")
    disabled = "Array.from(document.querySelectorAll('#actions button')).filter(b => b.disabled).map(b => b.innerText)"
    assert page.script(f"return {disabled}") == ["Promote", "Pause", "Resume", "Set weight", "Abort"]
    assert page.complaints() == []


def test_actions_ask_first(page: Browser, admin: Admin) -> None:
    open_rollout(page, admin)
    page.click("[data-action=abort]")
    page.until("document.getElementById('confirm').open")
    page.click("#confirm-no")
    page.until("!document.getElementById('confirm').open")
    assert admin.acted == []

    page.click("[data-action=set]")
    page.type("#weight", "7.5")
    page.type("#who", "kim")
    page.type("#why", "more")
    page.click("#confirm-yes")
    page.click("[data-action=pause]")
    page.click("#confirm-yes")
    page.until("document.getElementById('state').innerText === 'paused'")
    page.click("[data-action=abort]")
    page.click("#confirm-yes")
    page.until("document.getElementById('state').innerText === 'aborted'")
    assert [each[:2] for each in admin.acted] == [
        ("shop.test/eu", "set"),
        ("shop.test/eu", "pause"),
        ("shop.test/eu", "abort"),
    ]
    assert admin.acted[0][2] == {"who": "kim", "why": "more", "weight": 7.5}


def test_a_refusal_can_be_read(page: Browser, admin: Admin) -> None:
    """It stays while events come, until the next action."""
    open_rollout(page, admin)
    admin.refuse = {"error": "ended", "reason": "the rollout has ended"}
    page.click("[data-action=undo]")
    page.click("#confirm-yes")
    page.until("document.getElementById('problem').innerText === 'the rollout has ended'")
    three_events_more(admin)
    place = page.script("return document.getElementById('problem').getBoundingClientRect().toJSON()")
    assert 0 < place["top"] < place["bottom"] <= page.script("return innerHeight")  # in sight, though the page is long
    assert shown(page, "#problem") == "the rollout has ended"
    admin.refuse = None
    page.click("[data-action=pause]")
    page.click("#confirm-yes")
    page.until("document.getElementById('state').innerText === 'paused'")
    assert page.script("return document.getElementById('problem').hidden")


def three_events_more(admin: Admin) -> None:
    wanted = admin.events + 4  # one may have been on its way
    until(lambda: admin.events >= wanted)


def test_an_action_counts_though_the_next_is_asked_for_at_once(page: Browser, admin: Admin) -> None:
    open_rollout(page, admin)
    page.click("[data-action=promote]")
    page.script(
        "document.getElementById('confirm-yes').click();"
        "document.querySelector('[data-action=pause]').click();"
        "document.getElementById('confirm-yes').click()"
    )
    until(lambda: {action for _, action, _ in admin.acted} == {"promote", "pause"})


def test_a_question_is_about_the_rollout_it_was_asked_of(page: Browser, admin: Admin) -> None:
    open_rollout(page, admin)
    page.click("[data-action=abort]")
    page.script("location.hash = ''")
    page.until("!document.getElementById('confirm').open && document.getElementById('list').hidden === false")
    assert page.script("return document.getElementById('rollout').hidden") and admin.acted == []


def test_what_is_under_the_pointer_is_not_taken_away(page: Browser, admin: Admin) -> None:
    """Numbers change in place: a click whose button is held while the page is drawn anew counts."""
    page.open(admin.url)
    page.until("document.querySelector('#rollouts tbody a')")
    page.press("#rollouts tbody a")
    admin.rollout["weight"] = 6.0
    page.until("document.getElementById('rollouts').innerText.includes('6%')")
    page.release()
    page.until("document.getElementById('rollout').hidden === false")
    rows = (
        "Array.from(document.querySelectorAll('#versions tr, #failing tr, #history tr, #steps li, #shares .stack div'))"
    )
    page.script(f"{rows}.forEach(row => row.isOld = true)")
    second = {**admin.rollout["evidence"][0], "request_id": "id-8", "path": "/pay"}
    admin.rollout["evidence"] = [*admin.rollout["evidence"], second]
    admin.rollout["versions"][1] |= {"requests": 480, "share_actual": 12.0}
    page.until("document.getElementById('versions').innerText.includes('480')")
    assert page.script(f"return {rows}.filter(row => !row.isOld).map(row => row.innerText.includes('id-8'))") == [True]
    failing = "Array.from(document.querySelectorAll('#failing tbody tr')).map(row => row.lastChild.innerText)"
    assert page.script(f"return {failing}") == ["id-8", "id-7"]
    assert page.script("return document.querySelectorAll('#shares .stack')[1].children[1].style.width") == "12%"
    assert page.complaints() == []


def test_a_weight_is_checked(page: Browser, admin: Admin) -> None:
    open_rollout(page, admin)
    page.click("[data-action=set]")
    page.type("#weight", "101")
    page.click("#confirm-yes")
    assert page.script("return document.getElementById('confirm').open") and admin.acted == []


def test_names_are_text(page: Browser, admin: Admin) -> None:
    evil = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
    admin.rollout["canary"] = admin.rollout["versions"][1]["name"] = evil
    admin.rollout["evidence"][0]["path"] = admin.rollout["history"][0]["why"] = "/" + evil
    admin.rollout["verdict"]["reason"] = evil
    open_rollout(page, admin)
    page.until("document.querySelector('#versions tbody').innerText.includes('<img src=x')")
    assert "<script>" in shown(page, "#failing") and "<script>" in shown(page, "#verdict")
    assert page.script("return document.title") == "ramping 5% · shop.test/eu"
    assert page.script("return document.querySelectorAll('main img, main script').length") == 0
    assert page.complaints() == []


def test_a_token_is_asked_for_once(page: Browser, admin: Admin) -> None:
    admin.token = "secret"
    page.open(admin.url)
    page.until("document.getElementById('login').hidden === false")
    page.type("#token", "wrong")
    page.click("#login button")
    page.until("document.getElementById('token').value === ''")
    page.until("document.getElementById('login').hidden === false")
    page.type("#token", "secret")
    page.click("#login button")
    page.until("document.querySelector('#rollouts tbody a')")
    page.open(admin.url + "#shop.test%2Feu")
    page.until("document.getElementById('state').innerText === 'ramping'")


def test_a_router_that_goes_away_is_said(page: Browser, admin: Admin) -> None:
    open_rollout(page, admin)
    page.until("document.getElementById('link').dataset.state === 'live'")
    port = admin.server.server_address[1]
    assert port
    admin.close()
    page.until("document.getElementById('link').dataset.state === 'lost'")


def test_it_can_be_used_without_a_mouse_and_read_aloud(page: Browser, admin: Admin) -> None:
    open_rollout(page, admin)
    nameless = page.script(
        "return Array.from(document.querySelectorAll('button, input, a, [role=meter], [role=img], [role=region]'))"
        ".filter(e => !e.closest('dialog'))"
        ".filter(e => !(e.innerText || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')"
        " || (e.labels && e.labels.length) || e.textContent.trim())).map(e => e.outerHTML)"
    )
    assert nameless == []
    assert page.script("return document.documentElement.lang") == "en"
    levels = page.script("return Array.from(document.querySelectorAll('article h2, article h3')).map(e => e.tagName)")
    assert levels[0] == "H2" and set(levels[1:]) == {"H3"}
    ground, text = (
        [int(part) for part in page.script(f"return getComputedStyle(document.body).{name}").strip("rgb()").split(",")]
        for name in ("backgroundColor", "color")
    )
    assert contrast(ground, text) >= 7


def contrast(one: list[int], other: list[int]) -> float:
    """Ratio of two colours as WCAG has it."""

    def luminance(colour: list[int]) -> float:
        parts = [value / 255 for value in colour]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)

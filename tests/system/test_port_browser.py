"""A real browser uses two apps by address and port: it logs in, is redirected, and keeps both sessions."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from gorouter_py import _fastpath
from tests.support import ports
from tests.system.chromium import Browser, browser
from tests.system.harness import ROOT, NatsServer, Router, fetch, free_ports, until

pytestmark = [pytest.mark.slow, pytest.mark.foreign, pytest.mark.release_only]
SHOP, BLOG = "shop.apps.example.com", "blog.apps.example.com"


@contextmanager
def instance(name: str) -> Iterator[int]:
    """An instance of the sample app; its port."""
    port = ports.take()
    command = [sys.executable, "-m", "uvicorn", "examples.account.app:app", "--port", str(port)]
    command += ["--log-level", "warning"]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "SHOP_NAME": name})
    try:
        until(lambda: answers(port), f"{name} does not listen")
        yield port
    finally:
        process.terminate()
        process.wait(30)


def answers(port: int) -> bool:
    try:
        return fetch(port, "/login")[0] == 200
    except OSError:
        return False


def text(page: Browser, element: str) -> str:
    """The text of an element, once the page has it."""
    deadline = time.monotonic() + 60
    script = f"const e = document.getElementById('{element}'); return e && e.textContent"
    while not (found := page.script(script)):
        assert time.monotonic() < deadline, page.script("return location.href + document.body.innerText")
        time.sleep(0.05)
    return str(found)


def log_in(page: Browser, url: str) -> None:
    """Opens the app, is sent to its form, and sends that."""
    page.open(url)
    page.script("document.getElementById('login').submit()")
    assert text(page, "visits") == "1"


def test_two_apps_of_one_address_keep_their_sessions(tmp_path: Path) -> None:
    admin, (shop, blog) = tmp_path / "admin", free_ports(2)
    with ExitStack() as stack:
        nats = stack.enter_context(NatsServer())
        router = stack.enter_context(
            Router("--nats", f"nats://127.0.0.1:{nats.port}", "--admin-socket", str(admin), "--workers", "2")
        )
        router.saw("subscriber-started")
        for number, (host, name) in enumerate([(SHOP, "shop"), (SHOP, "shop"), (BLOG, "blog")]):
            nats.register(host, stack.enter_context(instance(name)), private_instance_id=f"id-{number}")
        until(lambda: len(router.routes().get(SHOP, [])) == 2 and router.routes().get(BLOG))
        for port, host in ((shop, SHOP), (blog, BLOG)):
            command = [sys.executable, "-m", "gorouter_py", "ports", "add", f"127.0.0.1:{port}", host]
            command += ["--cookie", "JSESSIONID", "--socket", str(admin)]
            subprocess.run(command, cwd=ROOT, check=True, timeout=60)

        page = stack.enter_context(browser(tmp_path))
        log_in(page, f"http://127.0.0.1:{shop}/")
        assert page.script("return location.href") == f"http://127.0.0.1:{shop}/account"
        log_in(page, f"http://127.0.0.1:{blog}/")
        assert text(page, "shop") == "blog"
        for visit in range(2, 6):  # of two instances that know only their own sessions
            page.open(f"http://127.0.0.1:{shop}/account")
            assert (text(page, "shop"), text(page, "visits")) == ("shop", str(visit))
        page.open(f"http://127.0.0.1:{blog}/account")
        assert (text(page, "shop"), text(page, "visits")) == ("blog", "2")

        cookies = {cookie["name"]: cookie["domain"] for cookie in page.call("GET", "/cookie")}
        tags = [_fastpath.cookie_tag(host) for host in (SHOP, BLOG)]
        assert cookies == {f"{name}{tag}": "127.0.0.1" for name in ("JSESSIONID", "__VCAP_ID__") for tag in tags}

        page.open(f"http://127.0.0.1:{shop}/logout")
        assert page.script("return location.href") == f"http://127.0.0.1:{shop}/login"
        page.open(f"http://127.0.0.1:{blog}/account")
        assert text(page, "visits") == "3"

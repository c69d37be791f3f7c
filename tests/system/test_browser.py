"""A real browser opens http://hello.localhost:PORT/: the name resolves, the page renders, its websocket echoes."""

import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.system.demo import running

pytestmark = [pytest.mark.slow, pytest.mark.foreign, pytest.mark.release_only]

CHROMIUM_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]


class Browser:
    """As much of the WebDriver protocol as one page needs."""

    def __init__(self, driver: str, profile: Path) -> None:
        self.driver = driver
        options = {"args": [*CHROMIUM_FLAGS, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
        capabilities = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        self.session = ""
        self.session = f"/session/{self.call('POST', '/session', {'capabilities': capabilities})['sessionId']}"

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The value of the answer; urllib's HTTPError if the driver refuses."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.driver + self.session + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> None:
        self.call("POST", "/url", {"url": url})

    def script(self, source: str) -> Any:
        return self.call("POST", "/execute/sync", {"script": source, "args": []})


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    program = shutil.which("chromedriver")
    assert program is not None and shutil.which("chromium") is not None, "bin/test installs chromium and its driver"
    log = folder / "chromedriver.log"
    with log.open("wb") as out:
        driver = subprocess.Popen(
            [program, "--port=0"], stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "HOME": str(folder)}
        )
    try:
        deadline = time.monotonic() + 60
        while not (started := re.search(r"started successfully on port (\d+)", log.read_text())):
            assert driver.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        opened = Browser(f"http://127.0.0.1:{started[1]}", folder / "profile")
        try:
            yield opened
        finally:
            opened.call("DELETE", "")
    finally:
        driver.terminate()
        driver.wait(timeout=30)


def test_chromium_opens_the_sample_app(free_port: Callable[[], int], tmp_path: Path) -> None:
    with running(free_port) as demo, browser(tmp_path) as page:
        page.open(f"http://hello.localhost:{demo.port}/")
        assert page.script("return document.getElementById('instance').textContent") in ("0", "1")
        assert "x-vcap-request-id" in page.script("return document.body.innerText")
        deadline = time.monotonic() + 60
        while page.script("return document.body.dataset.ws") != "echoed":
            assert time.monotonic() < deadline, page.script("return document.getElementById('ws').textContent")
            time.sleep(0.1)
        assert re.search(r"instance [01] heard: hello", page.script("return document.getElementById('ws').textContent"))

        page.open(f"http://hello.localhost:{demo.port}/login")
        names = {cookie["name"] for cookie in page.call("GET", "/cookie")}
        assert names == {"JSESSIONID", "__VCAP_ID__"}

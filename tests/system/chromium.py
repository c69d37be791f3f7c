"""A headless Chromium, driven through chromedriver: as much of the WebDriver protocol as the tests need."""

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import ports

CHROMIUM_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]


class Browser:
    """As much of the WebDriver protocol as one page needs."""

    def __init__(self, driver: str, profile: Path) -> None:
        self.driver = driver
        options = {"args": [*CHROMIUM_FLAGS, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        capabilities = {"alwaysMatch": wanted}
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

    def until(self, condition: str, deadline_s: float = 60.0) -> Any:
        """The first true value of a JavaScript expression."""
        end = time.monotonic() + deadline_s
        while not (value := self.script(f"return {condition}")):
            assert time.monotonic() < end, (condition, self.script("return document.body.innerText"))
            time.sleep(0.05)
        return value

    def click(self, selector: str) -> None:
        """A real click: the driver refuses one on what cannot be seen or is covered."""
        found = self.call("POST", "/element", {"using": "css selector", "value": selector})
        self.call("POST", f"/element/{next(iter(found.values()))}/click", {})

    def press(self, selector: str) -> None:
        """Holds the mouse's button down there, until release()."""
        found = self.call("POST", "/element", {"using": "css selector", "value": selector})
        self._mouse({"type": "pointerMove", "origin": found, "x": 0, "y": 0}, {"type": "pointerDown", "button": 0})

    def release(self) -> None:
        self._mouse({"type": "pointerUp", "button": 0})

    def _mouse(self, *actions: dict[str, Any]) -> None:
        self.call("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": list(actions)}]})

    def type(self, selector: str, text: str) -> None:
        found = self.call("POST", "/element", {"using": "css selector", "value": selector})
        element = next(iter(found.values()))
        self.call("POST", f"/element/{element}/clear", {})
        self.call("POST", f"/element/{element}/value", {"text": text})

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))

    def complaints(self) -> list[str]:
        """What the console said since the last call that is a warning or worse: also breaches of a page's policy."""
        said = self.call("POST", "/se/log", {"type": "browser"})
        return [str(line["message"]) for line in said if line["level"] in ("WARNING", "SEVERE")]


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    program = shutil.which("chromedriver")
    assert program is not None and shutil.which("chromium") is not None, "bin/test installs chromium and its driver"
    log = folder / "chromedriver.log"
    # Not port 0: the driver takes a free one of IPv6 and ends if the same one of IPv4 is not free.
    port = ports.take()
    with log.open("wb") as out:
        driver = subprocess.Popen(
            [program, f"--port={port}"], stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "HOME": str(folder)}
        )
    try:
        deadline = time.monotonic() + 60
        while "started successfully" not in log.read_text():
            assert driver.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        opened = Browser(f"http://127.0.0.1:{port}", folder / "profile")
        try:
            yield opened
        finally:
            opened.call("DELETE", "")
    finally:
        driver.terminate()
        driver.wait(timeout=30)

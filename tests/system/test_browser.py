"""A real browser opens http://hello.localhost:PORT/: the name resolves, the page renders, its websocket echoes."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.chromium import browser
from tests.system.demo import running

pytestmark = [pytest.mark.slow, pytest.mark.foreign, pytest.mark.release_only]


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

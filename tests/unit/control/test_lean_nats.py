"""The bus is imported without what its library needs for websockets alone."""

import importlib.util
import subprocess
import sys


def test_the_bus_comes_without_aiohttp() -> None:
    assert importlib.util.find_spec("aiohttp") is not None  # else there is nothing to leave out
    program = (
        "import sys, gorouter_py.control.bucket, gorouter_py.control.bus\n"
        "assert 'aiohttp' not in sys.modules\n"
        "import aiohttp\n"
        "print(aiohttp.__name__)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "aiohttp\n"

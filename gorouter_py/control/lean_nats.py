"""Imported before `nats`: takes it in without aiohttp.

The client library imports aiohttp wherever that is installed, for servers at ws:// addresses, which the bus never has;
it copes without. That import is a third of the time in which a router starts.
"""

import sys

if "aiohttp" not in sys.modules:
    sys.modules["aiohttp"] = None  # type: ignore[assignment]  # "import aiohttp" raises ImportError
    try:
        import nats.aio.client  # noqa: F401
    finally:
        del sys.modules["aiohttp"]

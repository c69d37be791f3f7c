"""gorouter's own suite, played in Python: a routing API and a UAA of the test's own, there and not there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.blackbox import Gorouter, spec
from tests.system.harness import NatsServer
from tests.system.test_routing_api_router import Api, certificates

__all__ = ["certificates"]


@pytest.fixture(scope="module")
def bus() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


def config(bus: NatsServer, api: Api, **changes: Any) -> dict[str, Any]:
    """The suite's file with this API in it."""
    whole = spec([bus.port])
    given = api.config()
    whole["routing_api"] |= given["routing_api"]
    whole["oauth"] |= given["oauth"]
    return {**whole, **changes}


def test_without_credentials_no_token_is_fetched(bus: NatsServer, certificates: Path, tmp_path: Path) -> None:
    with Api(certificates) as api:
        api.open = True
        whole = config(bus, api)
        whole["routing_api"]["auth_disabled"] = True
        with Gorouter(whole, tmp_path) as router:
            router.says("using-noop-token-fetcher")
            router.terminates()
        assert api.tokens_given == 0


def test_a_token_is_fetched(bus: NatsServer, certificates: Path, tmp_path: Path) -> None:
    with Api(certificates) as api, Gorouter(config(bus, api), tmp_path) as router:
        router.says("started-fetching-token")
        assert router.process is not None and router.process.poll() is None
        router.terminates()


def test_no_uaa_no_start(bus: NatsServer, certificates: Path, tmp_path: Path) -> None:
    with Api(certificates) as api:
        whole = config(bus, api, token_fetcher_retry_interval="100ms")
        whole["oauth"]["port"] = 1
        with Gorouter(whole, tmp_path, None) as router:
            router.says("unable-to-fetch-token")
            assert router.ends() == 1


def test_no_routing_api_no_start(bus: NatsServer, certificates: Path, tmp_path: Path) -> None:
    with Api(certificates) as api:
        whole = config(bus, api)
        whole["routing_api"]["port"] = 1
        with Gorouter(whole, tmp_path, None) as router:
            router.says("routing-api-connection-failed")
            assert router.ends() == 1


@pytest.mark.parametrize("port", [0, -1])
def test_uaa_without_tls_fails_fast(bus: NatsServer, certificates: Path, tmp_path: Path, port: int) -> None:
    with Api(certificates) as api:
        whole = config(bus, api)
        whole["oauth"]["port"] = port
        with Gorouter(whole, tmp_path, None) as router:
            router.says("tls-not-enabled")
            router.says("UAA client requires TLS enabled")
            assert router.ends() == 1

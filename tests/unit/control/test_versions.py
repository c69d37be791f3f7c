"""Versions of instances, and the registry that labels them for the data plane."""

import pytest

from gorouter_py.control import messages, versions
from gorouter_py.control.messages import Options, Registration
from gorouter_py.control.registry import Limits, Registry
from tests.unit.control.fakes import FakeLog, FakeNames, FakeTable

FULL = Registration(
    host="10.0.0.1", port=1, app="shop", tags={"process_id": "p1", "color": "blue"}, options=Options(version="v1")
)
BARE = Registration(host="10.0.0.1", port=2)


@pytest.mark.parametrize(
    ("by", "wanted"), [("app", "shop"), ("process_id", "p1"), ("tag:color", "blue"), ("version", "v1")]
)
def test_a_version_is_read_off_the_registration(by: str, wanted: str) -> None:
    name = versions.naming(by)
    assert name(FULL) == wanted and name(BARE) == "unnamed"


@pytest.mark.parametrize("by", ["", "label", "tag:", "tags"])
def test_other_ways_are_refused(by: str) -> None:
    with pytest.raises(ValueError, match="process_id"):
        versions.naming(by)


def test_the_way_is_guessed() -> None:
    cloud_foundry = Registration(app="a", tags={"process_id": "p"})
    assert versions.guess([BARE, FULL]) == "version"
    assert versions.guess([BARE, cloud_foundry]) == "process_id"
    assert versions.guess([BARE, Registration(app="a")]) == versions.guess([BARE]) == "app"
    assert versions.count("version", [FULL, FULL, BARE]) == {"v1": 2, "unnamed": 1}


def test_the_message_may_name_its_version() -> None:
    message = messages.decode(b'{"host":"a","port":1,"uris":["x"],"options":{"version":"v7","other":true}}')
    assert message.options == Options(version="v7")
    assert messages.decode(b'{"host":"a","port":1,"options":{"Version":"v7"}}').options == Options(version="v7")


class Labelled:
    """A registry whose route a.test is split by options.version: v1 is 0, v2 is 1."""

    def __init__(self) -> None:
        self.table, self.names = FakeTable(), FakeNames()
        self.registry = Registry(self.table, self.names, FakeLog(), Limits())
        self.back: list[str] = []
        self.registry.on_split_route = self.back.append
        name = versions.naming("version")
        self.version = lambda facts: {"v1": 0, "v2": 1}.get(name(facts), 255)

    def register(self, port: int, version: str, uri: str = "a.test", host: str = "10.0.0.1") -> None:
        message = Registration(host=host, port=port, uris=[uri], options=Options(version=version))
        self.registry.register(message, 0.0)

    def labels(self) -> dict[int, int]:
        return {held.port: held.more.get("version", -1) for held in self.table.held.values()}


def test_endpoints_are_labelled_as_they_come_change_and_go() -> None:
    it = Labelled()
    it.register(1, "v1")
    assert it.labels() == {1: -1}
    (handle,) = it.table.held
    assert it.registry.set_split("a.test", it.version) == {handle: 0}
    it.register(2, "v2")
    it.register(3, "v3")
    it.register(4, "v1", "b.test")
    assert it.labels() == {1: -1, 2: 1, 3: 255, 4: -1}
    it.register(1, "v2")  # the address has another version now: a new endpoint
    assert it.labels()[1] == 1
    it.registry.set_split("a.test", None)
    it.register(2, "v1")
    assert it.labels()[2] == -1


def test_names_have_a_version_on_each_address() -> None:
    it = Labelled()
    it.names.known["app.internal"] = ("10.0.0.8", "10.0.0.9")
    it.register(1, "v2", host="app.internal")
    assert set(it.registry.set_split("a.test", it.version).values()) == {1}
    assert len(it.registry.members("a.test")) == 2


def test_it_is_told_when_a_split_route_is_back() -> None:
    it = Labelled()
    it.registry.set_split("a.test", it.version)
    it.register(1, "v1", "A.test/")
    it.register(2, "v2")
    it.register(3, "v1", "b.test")
    assert it.back == ["a.test"] and it.registry.spelling("a.test") == "A.test/"
    for port in (1, 2):
        it.registry.unregister(Registration(host="10.0.0.1", port=port, uris=["a.test"]), 0.0)
    assert it.registry.spelling("a.test") is None
    it.register(2, "v2")
    assert it.back == ["a.test", "a.test"]

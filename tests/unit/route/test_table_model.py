"""The route table against gorouter's lookup rules written plainly, over random histories."""

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from tests import _probe as probe

# Few names, so that histories meet: hosts under and over each other's wildcards, paths that are prefixes of others.
HOSTS = st.sampled_from(["a.w", "A.W", "b.a.w", "*.w", "*.a.w", "w", "*", "ab.w", "a-rather-long-name.b.a.w"])
SEGMENTS = st.sampled_from(["x", "x", "X", "y", "xy", "", "a-rather-long-segment"])
PATHS = st.lists(SEGMENTS, max_size=3).map(lambda parts: "".join("/" + part for part in parts))
QUERIES = st.sampled_from(["", "", "", "?", "?q=/x"])
PORTS = st.sampled_from(["", "", ":80", ":"])


class Model:
    """Routes by key; what a request takes, as gorouter's uris.go and trie.go decide it."""

    def __init__(self) -> None:
        self.routes: dict[str, list[int]] = {}
        self.contexts: dict[str, str] = {}

    @staticmethod
    def key(uri: str) -> str:
        return uri.lower().split("?")[0].removesuffix("/").removeprefix("/")

    @staticmethod
    def context(uri: str) -> str:
        path = uri.split("?")[0].removesuffix("/").removeprefix("/")
        return path[path.index("/") :] if "/" in path else "/"

    def add(self, uri: str, serial: int) -> bool:
        key = self.key(uri)
        new = key not in self.routes
        self.contexts.setdefault(key, self.context(uri))
        self.routes.setdefault(key, []).append(serial)
        return new

    def drop(self, key: str) -> None:
        del self.routes[key], self.contexts[key]

    def match(self, key: str) -> str | None:
        parts = key.removesuffix("/").split("/")
        prefixes = ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]
        known = [prefix for prefix in prefixes if prefix in self.routes]
        return next((prefix for prefix in known if self.routes[prefix]), known[0] if known else None)

    def find(self, host: str, path: str) -> str | None:
        name = host.split(":")[0].lower()
        while True:
            found = self.match(name + path.lower())
            rest = name.removeprefix("*.")
            if found is not None or "." not in rest:
                return found
            name = "*" + rest[rest.index(".") :]


class TableMachine(RuleBasedStateMachine):
    endpoints: Bundle[int] = Bundle("endpoints")
    known_uris: Bundle[str] = Bundle("known_uris")

    def __init__(self) -> None:
        super().__init__()
        self.before = probe.route_live()
        self.table = probe.RouteTable()
        self.model = Model()
        self.home: dict[int, str] = {}
        self.ports = itertools.count(1)
        self.online = False

    def make(self) -> int:
        serial: int = self.table.make(text=b"10.0.0.1:%d" % next(self.ports))
        return serial

    def put(self, uri: str) -> int:
        serial = self.make()
        assert self.table.add(uri.encode(), serial) == self.model.add(uri, serial)
        self.home[serial] = Model.key(uri)
        return serial

    @rule(targets=(endpoints,), host=HOSTS, path=PATHS, query=QUERIES, lead=st.sampled_from(["", "", "/"]))
    def add(self, host: str, path: str, query: str, lead: str) -> int:
        return self.put(lead + host + path + query)

    @rule(target=known_uris, host=HOSTS, path=PATHS)
    def name(self, host: str, path: str) -> str:
        return host + path

    @rule(target=endpoints, uri=known_uris)
    def add_again(self, uri: str) -> int:
        return self.put(uri)

    @rule(target=endpoints, serial=consumes(endpoints))
    def replace(self, serial: int) -> object:
        if serial not in self.home:
            return multiple()  # vacate took it
        new = self.make()
        self.table.replace(serial, new)
        key = self.home[new] = self.home.pop(serial)
        instances = self.model.routes[key]
        instances[instances.index(serial)] = new
        self.table.forget(serial)
        return new

    @rule(target=endpoints, serial=consumes(endpoints), keep_empty=st.booleans())
    def remove(self, serial: int, keep_empty: bool) -> object:
        if serial not in self.home:
            return multiple()
        self.table.remove(serial, keep_empty)
        key = self.home.pop(serial)
        self.model.routes[key].remove(serial)
        if not self.model.routes[key] and not keep_empty:
            self.model.drop(key)
        self.table.forget(serial)
        return multiple()

    @rule(targets=(endpoints,), host=HOSTS, path=PATHS, below=SEGMENTS)
    def nest_with_an_empty_route_within(self, host: str, path: str, below: str) -> int:
        inner = self.put(f"{host}{path}/{below}")
        self.remove(inner, True)
        return self.put(host + path)

    @rule(host=HOSTS, path=PATHS)
    def vacate(self, host: str, path: str) -> None:
        uri = host + path
        key = Model.key(uri)
        gone = self.model.routes.get(key, [])
        assert self.table.vacate(uri.encode()) == gone
        self.model.contexts.setdefault(key, Model.context(uri))
        self.model.routes[key] = []
        for serial in gone:
            del self.home[serial]
            assert self.table.describe(serial)["dead"]
            self.table.forget(serial)

    @rule(host=HOSTS, path=PATHS)
    def drop_empty(self, host: str, path: str) -> None:
        key = Model.key(host + path)
        empty = self.model.routes.get(key) == []
        assert self.table.drop_empty((host + path).encode()) == empty
        if empty:
            self.model.drop(key)

    @rule(host=HOSTS, path=PATHS, port=PORTS)
    def lookup(self, host: str, path: str, port: str) -> None:
        self.ask(host + port, path)

    @rule(label=st.sampled_from(["", "a.", "a.B."]), tail=PATHS, upper=st.booleans())
    def look_at_every_route(self, label: str, tail: str, upper: bool) -> None:
        for key in list(self.model.routes):
            host, slash, path = key.partition("/")
            path = slash + path + tail
            self.ask(label + (host.upper() if upper else host), path.upper() if upper else path)

    def ask(self, host: str, path: str) -> None:
        key = self.model.find(host, path)
        expected = None if key is None else (key.encode(), self.model.contexts[key].encode(), self.model.routes[key])
        assert self.table.find(host.encode(), path.encode()) == expected

    @rule()
    def reader_turns(self) -> None:
        if self.online:
            self.table.quiesce()
        else:
            self.table.online()
        self.online = True

    @rule()
    def reader_sleeps(self) -> None:
        if self.online:
            self.table.offline()
        self.online = False
        assert self.table.poll() == 0

    @invariant()
    def counts(self) -> None:
        keys = set(self.model.routes)
        assert self.table.count == len(keys)
        nodes = keys | {key.split("/")[0] for key in keys}
        assert self.table.nodes == len(nodes)
        assert self.table.wildcards == sum(node.startswith("*.") for node in nodes)

    def teardown(self) -> None:
        if self.online:
            self.table.offline()
        self.table.close()
        assert probe.route_live() == self.before


TestTable = TableMachine.TestCase
TestTable.settings = settings(stateful_step_count=80)

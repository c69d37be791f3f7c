"""The registry against a recording table: who is added, replaced, refreshed, dropped, and when."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gorouter_py.control.messages import Options, Registration, RoutingApiRegistration
from gorouter_py.control.registry import Limits, Registry, is_address, route_key
from tests.unit.control.fakes import FakeLog, FakeNames, FakeTable


class Bench:
    """A registry with everything around it."""

    def __init__(self, **limits: object) -> None:
        self.table, self.names, self.log = FakeTable(), FakeNames(), FakeLog()
        self.registry = Registry(self.table, self.names, self.log, Limits(**limits))  # type: ignore[arg-type]

    def register(self, *uris: str, now: float = 0.0, **fields: object) -> None:
        self.registry.register(message(*uris, **fields), now)

    def unregister(self, *uris: str, now: float = 0.0, **fields: object) -> None:
        self.registry.unregister(message(*uris, **fields), now)

    def prune(self, now: float, bus_up: bool = True) -> None:
        for _ in self.registry.prune(now, bus_up):
            pass


def message(*uris: str, **fields: object) -> Registration:
    return Registration(uris=list(uris), **{"host": "10.0.0.1", "port": 80, **fields})  # type: ignore[arg-type]


def test_new_unchanged_and_changed() -> None:
    bench = Bench()
    bench.register("a.test", app="one", private_instance_id="i", private_instance_index="0")
    (held,) = bench.table.held.values()
    assert (held.uri, held.ip, held.port, held.app, held.instance_id, held.instance_index) == (
        "a.test", "10.0.0.1", 80, "one", "i", "0",
    )  # fmt: skip
    bench.register("a.test", app="one", private_instance_id="i", private_instance_index="0")
    assert bench.table.replaced == 0
    bench.register("a.test", app="two", private_instance_id="i", private_instance_index="0")
    (held,) = bench.table.held.values()
    assert (held.app, bench.table.replaced) == ("two", 1)
    bench.register("a.test", app="three")  # the handle that replace() gave is the one in use
    (held,) = bench.table.held.values()
    assert held.app == "three"
    counts = bench.registry.counts
    assert (counts.added, counts.refreshed, counts.updated, counts.unmodified) == (1, 1, 2, 0)
    assert counts.by_component == {("", "added"): 1, ("", "updated"): 3}


def test_one_message_may_name_several_routes_and_a_changed_list_changes_no_endpoint() -> None:
    bench = Bench()
    bench.register("a.test", "b.test/ctx")
    bench.register("a.test", "b.test/ctx", "c.test")
    assert bench.table.shown() == [("a.test", "10.0.0.1:80"), ("b.test/ctx", "10.0.0.1:80"), ("c.test", "10.0.0.1:80")]
    assert bench.table.replaced == 0
    assert (bench.registry.routes, bench.registry.endpoints) == (3, 3)


def test_several_instances_of_a_route() -> None:
    bench = Bench()
    for number in range(1, 4):
        bench.register("a.test", host=f"10.0.0.{number}")
    bench.register("a.test", host="10.0.0.2", now=5)
    assert (bench.registry.routes, bench.registry.endpoints, bench.registry.counts.refreshed) == (1, 3, 1)
    bench.unregister("a.test", host="10.0.0.2")
    assert [address for _, address in bench.table.shown()] == ["10.0.0.1:80", "10.0.0.3:80"]
    bench.unregister("a.test", host="10.0.0.1")
    bench.unregister("a.test", host="10.0.0.3")
    assert (bench.registry.routes, bench.registry.endpoints, bench.table.held) == (0, 0, {})


def test_uris_that_mean_the_same_route() -> None:
    bench = Bench()
    bench.register("C.test/Ctx/Path/", "c.test/ctx/path", "/c.test/ctx/path?x=1")
    assert bench.table.shown() == [("C.test/Ctx/Path/", "10.0.0.1:80")]  # the first spelling makes the cookie's path
    bench.unregister("C.TEST/ctx/path/")
    assert bench.table.held == {}


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        ("a.test", "a.test"),
        ("A.Test", "a.test"),
        ("a.test/", "a.test"),
        ("a.test//", "a.test/"),
        ("/a.test", "a.test"),
        ("a.test/x?y=/z/", "a.test/x"),
        ("*.w.test", "*.w.test"),
        ("", ""),
        ("/", ""),
        ("?", ""),
    ],
)
def test_route_key(uri: str, key: str) -> None:
    assert route_key(uri) == key


@pytest.mark.parametrize(
    ("host", "is_ip"),
    [("10.0.0.1", True), ("::1", True), ("fe80::1", True), ("10.0.0", False), ("a.b", False), ("localhost", False),
     ("10.0.0.1\0", False), ("", False)],
)  # fmt: skip
def test_is_address(host: str, is_ip: bool) -> None:
    assert is_address(host) is is_ip


def test_unregister_compares_the_address_alone() -> None:
    bench = Bench()
    bench.register("a.test", private_instance_id="one", app="x")
    bench.unregister("unknown.test")
    assert not bench.log.said("endpoint-not-unregistered")  # gorouter: unknown routes are not worth a line
    bench.unregister("a.test", port=81)
    assert len(bench.table.held) == 1
    assert bench.log.said("endpoint-not-unregistered")
    bench.unregister("a.test", private_instance_id="two")
    assert bench.table.held == {}
    assert bench.log.said("endpoint-unregistered")[0]["instance_id"] == "one"
    assert bench.log.said("route-unregistered") == [{"uri": "a.test"}]


def test_log_lines_of_a_registration() -> None:
    bench = Bench()
    bench.register("a.test")
    assert bench.log.order("info", "debug") == ["route-registered", "uri-added", "endpoint-registered"]
    bench.log.lines.clear()
    bench.register("a.test")  # gorouter: known is updated, even if nothing changed
    assert bench.log.order("info", "debug") == ["endpoint-registered"]
    assert bench.log.lines[0][0] == "debug"
    bench.log.lines.clear()
    bench.register("a.test", app="x")
    assert bench.log.lines[0][:2] == ("debug", "endpoint-registered")
    assert bench.log.lines[0][2]["modification_tag"] == {"guid": "", "index": 0}
    assert bench.log.lines[0][2]["isolation_segment"] == "-"


# -- time to live ---------------------------------------------------------------------------------------------


def test_stale_endpoints_go_and_refreshed_ones_stay() -> None:
    bench = Bench(stale_s=120.0)
    bench.register("a.test", now=0)
    bench.register("b.test", now=0)
    bench.register("b.test", now=60)
    bench.prune(120)
    assert [uri for uri, _ in bench.table.shown()] == ["a.test", "b.test"]
    bench.prune(121)
    assert [uri for uri, _ in bench.table.shown()] == ["b.test"]
    assert bench.log.said("pruned-route") == [
        {"uri": "a.test", "endpoints": ["10.0.0.1:80"], "isolation_segment": "-"}
    ]
    bench.prune(181)
    assert bench.table.held == {}
    assert bench.registry.counts.pruned == 2


@pytest.mark.parametrize(("own", "lives"), [(30, 30), (0, 120), (120, 120), (500, 120), (-1, 120)])
def test_a_message_may_shorten_its_life_but_not_extend_it(own: int, lives: int) -> None:
    bench = Bench(stale_s=120.0)
    bench.register("a.test", now=0, stale_threshold_in_seconds=own)
    bench.prune(lives)
    assert bench.table.held
    bench.prune(lives + 0.1)
    assert not bench.table.held


def test_tls_endpoints_do_not_go_by_age() -> None:
    bench = Bench()
    bench.register("a.test", tls_port=443)
    bench.prune(1e9)
    assert bench.registry.endpoints == 1


def test_pruning_is_suspended_while_the_bus_is_away_if_so_configured() -> None:
    bench = Bench(stale_s=120.0, suspend_pruning=True)
    bench.register("a.test", now=0)
    bench.prune(1000, bus_up=False)
    assert bench.table.held
    assert bench.log.said("prune-suspended") == [{}]
    bench.prune(1030, bus_up=True)  # the first cycle after: everyone counts as just updated
    assert bench.table.held
    bench.prune(1150, bus_up=True)
    assert bench.table.held
    bench.prune(1151, bus_up=True)
    assert not bench.table.held


def test_pruning_goes_on_without_the_bus_by_default() -> None:
    bench = Bench(stale_s=120.0)
    bench.register("a.test", now=0)
    bench.prune(121, bus_up=False)
    assert not bench.table.held


def test_an_endpoint_refreshed_between_two_portions_is_spared() -> None:
    bench = Bench(stale_s=10.0)
    for number in range(600):
        bench.register(f"r{number}.test", now=0)
    portions = bench.registry.prune(20, True)
    next(portions)  # 256 are gone
    bench.register("r599.test", now=20)
    bench.register("fresh.test", now=20)
    for _ in portions:
        pass
    assert [uri for uri, _ in bench.table.shown()] == ["fresh.test", "r599.test"]


# -- empty routes ---------------------------------------------------------------------------------------------


def test_an_empty_route_is_kept_for_a_while() -> None:
    bench = Bench(keep_empty_s=10.0)
    bench.register("a.test", now=0)
    bench.unregister("a.test", now=5)
    assert bench.table.empty == {"a.test"}
    assert bench.registry.rows(bench.registry.keys()) == {"a.test": []}
    assert not bench.log.said("route-unregistered")
    bench.registry.drop_empty(14.9)
    assert bench.table.empty == {"a.test"}
    bench.prune(15)  # so does each pruning cycle, which may come more often
    assert bench.table.empty == set()
    assert bench.registry.keys() == []


def test_an_empty_route_that_comes_back_stays() -> None:
    bench = Bench(keep_empty_s=10.0)
    bench.register("a.test", now=0)
    bench.unregister("a.test", now=5)
    bench.register("a.test", now=6)
    bench.registry.drop_empty(100)
    assert bench.table.shown() == [("a.test", "10.0.0.1:80")]
    assert bench.registry.keys() == ["a.test"]


# -- what cannot be routed ------------------------------------------------------------------------------------


def test_tls_endpoints_are_listed_but_never_put_into_the_table() -> None:
    bench = Bench()
    bench.register("a.test", tls_port=443)
    assert bench.table.held == {}
    assert bench.registry.rows(["a.test"])["a.test"][0]["tls"] is True
    assert bench.registry.counts.tls_endpoints_unsupported == 1
    assert "TLS" in str(bench.log.said("endpoint-not-routable")[0]["reason"])
    bench.register("a.test", tls_port=443)
    assert bench.registry.counts.tls_endpoints_unsupported == 1
    bench.unregister("a.test", tls_port=443)
    assert bench.registry.routes == 0


def test_an_address_that_turns_to_tls_leaves_the_table_and_comes_back() -> None:
    bench = Bench()
    bench.register("a.test", port=443)
    bench.register("a.test", port=80, tls_port=443)  # the same identity: 10.0.0.1:443
    assert bench.table.held == {}
    bench.register("a.test", port=443)
    assert bench.table.shown() == [("a.test", "10.0.0.1:443")]


def test_routes_with_a_route_service_are_not_served_around_it() -> None:
    bench = Bench()
    bench.register("a.test", route_service_url="https://rs.test")
    assert bench.table.held == {}
    assert bench.registry.counts.route_services_unsupported == 1
    bench.register("a.test")
    assert len(bench.table.held) == 1


def test_what_the_table_refuses_is_logged_counted_and_forgotten() -> None:
    bench = Bench()
    bench.register("a b.test", "", "c.test")
    assert bench.table.shown() == [("c.test", "10.0.0.1:80")]
    assert (bench.registry.counts.rejected, bench.registry.endpoints) == (2, 1)
    assert [line["uri"] for line in bench.log.said("endpoint-not-registered")] == ["a b.test", ""]


def test_an_unknown_balancing_algorithm_is_complained_about() -> None:
    bench = Bench()
    bench.register("a.test", options=Options(loadbalancing="magic"))
    assert len(bench.table.held) == 1
    assert bench.log.said("invalid-endpoint-load-balancing-algorithm-provided-keeping-pool-lb-algo")


def test_options_reach_the_table() -> None:
    bench = Bench(zone="z1")
    options = Options(loadbalancing="hash", hash_header="X-Tenant", hash_balance="1.25")
    bench.register("a.test", options=options, availability_zone="z1", tags={"process_id": "p", "component": "c"})
    (held,) = bench.table.held.values()
    assert held.more == {
        "process_id": "p", "local": True, "balancing": "hash", "hash_header": "X-Tenant", "hash_balance": 1.25,
    }  # fmt: skip
    assert bench.registry.counts.by_component == {("c", "added"): 1}
    bench.register("a.test", options=Options(lb_algo="least-connection"), availability_zone="z2")
    (held,) = bench.table.held.values()
    assert held.more == {"balancing": "least-connection", "hash_header": "", "hash_balance": 0.0}
    bench.register("a.test")
    (held,) = bench.table.held.values()
    assert held.more == {}  # which leaves the route's balancer as it is


@pytest.mark.parametrize(
    "options",
    [
        Options(loadbalancing="magic"),
        Options(loadbalancing="hash"),
        Options(loadbalancing="hash", hash_header="not a name"),
        Options(loadbalancing="hash", hash_header="x" * 64),
        Options(loadbalancing="hash", hash_header="X-T", hash_balance="much"),
        Options(loadbalancing="hash", hash_header="X-T", hash_balance=0.5),
        Options(loadbalancing="hash", hash_header="X-T", hash_balance=float("inf")),
    ],
)
def test_bad_options_keep_the_balancer_of_the_route(options: Options) -> None:
    bench = Bench()
    bench.register("a.test", options=options)
    (held,) = bench.table.held.values()
    assert held.more == {}
    (line,) = bench.log.said("invalid-endpoint-load-balancing-algorithm-provided-keeping-pool-lb-algo")
    assert line["endpointLBAlgorithm"] == options.loadbalancing


def test_a_route_that_cannot_be_routed_is_held_so_that_no_wildcard_takes_its_requests() -> None:
    bench = Bench()
    bench.register("a.test", tls_port=443)
    assert (bench.table.held, bench.table.empty) == ({}, {"a.test"})
    bench.register("a.test", host="10.0.0.2")
    assert bench.table.empty == set()
    bench.unregister("a.test", host="10.0.0.2")
    assert bench.table.empty == {"a.test"}
    bench.unregister("a.test", tls_port=443)
    assert bench.table.empty == set()
    bench.register("b.test", host="not.resolved.yet")
    assert bench.table.empty == {"b.test"}
    bench.registry.resolved("not.resolved.yet", ("10.0.0.3",))
    assert bench.table.empty == set()
    bench.registry.resolved("not.resolved.yet", ())
    assert bench.table.empty == {"b.test"}


def test_a_route_is_barred_in_one_step() -> None:
    """Nothing is published on the way, and no instance is left for a moment while others are withdrawn."""
    bench = Bench()
    calls: list[str] = []
    for name in ("add", "remove", "replace", "vacate"):
        real = getattr(bench.table, name)
        setattr(bench.table, name, lambda *a, _n=name, _r=real, **k: calls.append(_n) or _r(*a, **k))
    bench.register("a.test", tls_port=443)
    assert calls == ["vacate"]
    bench.names.known["name.test"] = ("10.0.0.7", "10.0.0.8")
    for host in ("10.0.0.1", "10.0.0.2", "name.test"):
        bench.register("B.test", host=host)
    assert [address for _, address in bench.table.shown()] == [f"10.0.0.{n}:80" for n in (1, 2, 7, 8)]
    calls.clear()
    bench.register("b.test", host="10.0.0.2", route_service_url="https://rs.test")
    assert calls == ["vacate"]
    assert (bench.table.held, bench.table.empty) == ({}, {"a.test", "b.test"})
    assert bench.names.users == {}
    bench.register("b.test", host="10.0.0.2")  # the service is gone again
    assert [address for _, address in bench.table.shown()] == [f"10.0.0.{n}:80" for n in (1, 2, 7, 8)]


def test_the_latest_registration_says_which_route_service_a_route_has() -> None:
    bench = Bench()
    bench.register("a.test", host="10.0.0.1")
    bench.register("a.test", host="10.0.0.2")
    bench.register("a.test", host="10.0.0.2", route_service_url="https://rs.test")
    assert (bench.table.held, bench.table.empty) == ({}, {"a.test"})
    bench.register("a.test", host="10.0.0.1")  # unchanged, and still the latest word
    assert [address for _, address in bench.table.shown()] == ["10.0.0.1:80", "10.0.0.2:80"]
    bench.register("a.test", host="10.0.0.2", route_service_url="https://rs.test")
    assert bench.table.held == {}
    bench.unregister("a.test", host="10.0.0.1")
    bench.unregister("a.test", host="10.0.0.2")
    assert bench.table.empty == set()
    bench.register("a.test")  # the service went with the route
    assert len(bench.table.held) == 1


# -- modification tags ----------------------------------------------------------------------------------------


def tagged(guid: str, index: int, app: str = "x") -> RoutingApiRegistration:
    return RoutingApiRegistration(
        uris=["a.test"], host="10.0.0.1", port=80, app=app, tag_guid=guid, tag_index=index
    )  # fmt: skip


@pytest.mark.parametrize(
    ("known", "new", "taken"),
    [(("g", 1), ("g", 2), True), (("g", 2), ("g", 1), False), (("g", 2), ("h", 1), True), (("g", 2), ("", 0), True),
     (("", 0), ("g", 0), True), (("g", 2), ("g", 2), False)],
)  # fmt: skip
def test_modification_tags(known: tuple[str, int], new: tuple[str, int], taken: bool) -> None:
    bench = Bench(stale_s=10.0)
    bench.registry.register(tagged(*known, app="old"), 0)
    bench.registry.register(tagged(*new, app="new"), 5)
    (held,) = bench.table.held.values()
    assert held.app == ("new" if taken else "old")
    assert bench.registry.counts.unmodified == (not taken)
    assert bool(bench.log.said("endpoint-not-registered")) is not taken
    bench.prune(11)  # what is not taken refreshes nothing
    assert bool(bench.table.held) is taken


@pytest.mark.parametrize(("tag", "gone"), [(("g", 4), False), (("g", 5), True), (("g", 6), True), (("h", 0), True)])
def test_an_older_withdrawal_does_not_count(tag: tuple[str, int], gone: bool) -> None:
    bench = Bench()
    bench.registry.register(tagged("g", 5), 0)
    bench.registry.unregister(tagged(*tag), 1)
    assert (not bench.table.held) is gone
    (line,) = bench.log.said("endpoint-unregistered" if gone else "endpoint-not-unregistered")
    assert line["modification_tag"] == {"guid": "g" if gone else tag[0], "index": 5 if gone else tag[1]}


def test_the_bus_and_the_routing_api_may_name_the_same_address() -> None:
    bench = Bench()
    bench.registry.register(tagged("g", 5), 0)
    bench.register("a.test", app="x")
    assert bench.registry.counts.updated == 1
    (portion,) = bench.registry.export()
    assert len(portion) == 1
    bench.registry.register(tagged("g", 5), 0)
    assert list(bench.registry.export()) == [[]]  # the routing API keeps its own routes


# -- sharding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "taken"),
    [("all", ["", "is1", "is2"]), ("segments", ["is1"]), ("shared-and-segments", ["", "is1"])],
)
def test_sharding(mode: str, taken: list[str]) -> None:
    bench = Bench(sharding_mode=mode, isolation_segments=frozenset({"is1"}))
    for number, segment in enumerate(["", "is1", "is2"]):
        bench.register(f"{segment}.test", host=f"10.0.0.{number}", isolation_segment=segment)
    assert [uri for uri, _ in bench.table.shown()] == [f"{segment}.test" for segment in taken]
    bench.log.lines.clear()
    for number, segment in enumerate(["", "is1", "is2"]):
        if segment not in taken:  # silently, and not counted
            bench.unregister(f"{segment}.test", host=f"10.0.0.{number}", isolation_segment=segment)
    assert (bench.log.lines, bench.registry.counts.unregistered) == ([], 0)
    bench.unregister("is1.test", host="10.0.0.1", isolation_segment="is2" if mode != "all" else "is1")
    assert ("is1.test", "10.0.0.1:80") in bench.table.shown() or mode == "all"


# -- names and static routes ----------------------------------------------------------------------------------


def test_a_name_is_served_once_it_is_resolved_and_follows_its_addresses() -> None:
    bench = Bench()
    bench.register("a.test", host="app.internal")
    assert bench.table.held == {}
    bench.registry.resolved("app.internal", ("10.1.0.1", "10.1.0.2", "fd00::1"))
    assert bench.table.shown() == [("a.test", "10.1.0.1:80"), ("a.test", "10.1.0.2:80")]  # no IPv6 beside IPv4
    bench.registry.resolved("app.internal", ("10.1.0.2", "10.1.0.3"))
    assert bench.table.shown() == [("a.test", "10.1.0.2:80"), ("a.test", "10.1.0.3:80")]
    bench.register("a.test", host="app.internal", app="new")
    assert {held.app for held in bench.table.held.values()} == {"new"}
    bench.unregister("a.test", host="app.internal")
    assert (bench.table.held, bench.names.users) == ({}, {})


def test_a_name_with_ipv6_alone() -> None:
    bench = Bench()
    bench.names.known["six.internal"] = ("fd00::1",)
    bench.register("a.test", host="six.internal")
    assert bench.table.shown() == [("a.test", "fd00::1:80")]


def test_a_static_name_is_tried_over_both_families() -> None:
    bench = Bench()
    bench.names.known["localhost"] = ("127.0.0.1", "::1")
    bench.registry.add_static("a.test", "localhost", 3000)
    assert bench.table.shown() == [("a.test", "127.0.0.1:3000"), ("a.test", "::1:3000")]


def test_static_routes_cannot_be_changed_by_messages_and_do_not_age() -> None:
    bench = Bench()
    bench.registry.add_static("a.test", "10.0.0.1", 80)
    bench.register("a.test", app="intruder")
    bench.unregister("a.test")
    bench.prune(1e9)
    assert [held.app for held in bench.table.held.values()] == [""]
    bench.register("a.test", host="10.0.0.2")  # more instances may join
    assert len(bench.table.held) == 2


@pytest.mark.parametrize(
    "route", [("", "h", 1), ("/", "h", 1), ("a.test", "", 1), ("a.test", "h", 0), ("a b", "::1", 1)]
)
def test_bad_static_routes(route: tuple[str, str, int]) -> None:
    with pytest.raises(ValueError, match="not a route"):
        Bench().registry.add_static(*route)


def test_export_holds_what_can_grow_stale_and_restore_takes_it_back() -> None:
    bench = Bench()
    bench.registry.add_static("static.test", "10.0.0.9", 80)
    bench.register("A.test/Ctx", now=5, app="x")
    bench.register("tls.test", tls_port=443)
    (portion,) = bench.registry.export()
    assert [(uri, until) for uri, until, _ in portion] == [("A.test/Ctx", 125.0)]
    other = Bench()
    for uri, until, facts in portion:
        other.registry.restore(uri, facts, until)
    assert other.table.shown() == [("A.test/Ctx", "10.0.0.1:80")]
    assert other.log.lines == []
    other.register("A.test/Ctx", app="x", now=10)
    assert other.registry.counts.refreshed == 1
    other.registry.restore("a.test/ctx", portion[0][2], math.inf)  # what is known stays as it is
    other.prune(131)
    assert not other.table.held


def test_rows_are_those_of_gorouter() -> None:
    bench = Bench()
    bench.register("a.test", tags={"component": "x"}, private_instance_id="i", isolation_segment="s")
    bench.register("a.test", host="10.0.0.2", protocol="http2", availability_zone="z", stale_threshold_in_seconds=7)
    assert bench.registry.rows(["a.test", "unknown.test"]) == {
        "a.test": [
            {
                "address": "10.0.0.1:80", "availability_zone": "", "protocol": "http1", "tls": False, "ttl": 120,
                "tags": {"component": "x"}, "isolation_segment": "s", "private_instance_id": "i",
            },
            {
                "address": "10.0.0.2:80", "availability_zone": "z", "protocol": "http2", "tls": False, "ttl": 7,
                "tags": None,
            },
        ]
    }  # fmt: skip


# -- against a model ------------------------------------------------------------------------------------------


class Against(RuleBasedStateMachine):
    """Random messages and time; the model is a dict of what must be in the table and until when."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(stale_s=100.0, keep_empty_s=0.0)
        self.now = 0.0
        self.model: dict[tuple[str, str], tuple[float, str, bool]] = {}  # route, address -> until, app, routed

    hosts = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"])
    uris = st.lists(st.sampled_from(["a.test", "A.test/", "b.test", "b.test/x"]), min_size=1, max_size=3, unique=True)

    @rule(host=hosts, uris=uris, app=st.sampled_from(["x", "y"]), tls=st.booleans(), own=st.sampled_from([0, 20]))
    def register(self, host: str, uris: list[str], app: str, tls: bool, own: int) -> None:
        fields = {"port": 1, "tls_port": 80} if tls else {"port": 80}
        self.bench.register(*uris, now=self.now, host=host, app=app, stale_threshold_in_seconds=own, **fields)
        for uri in uris:
            until = math.inf if tls else self.now + (own or 100)
            self.model[route_key(uri), f"{host}:80"] = (until, app, not tls)

    @rule(host=hosts, uris=uris)
    def unregister(self, host: str, uris: list[str]) -> None:
        self.bench.unregister(*uris, now=self.now, host=host)
        for uri in uris:
            self.model.pop((route_key(uri), f"{host}:80"), None)

    @rule(seconds=st.sampled_from([1.0, 19.0, 50.0, 101.0]))
    def wait_and_prune(self, seconds: float) -> None:
        self.now += seconds
        self.bench.prune(self.now)
        self.model = {key: value for key, value in self.model.items() if value[0] >= self.now}

    @invariant()
    def table_is_the_model(self) -> None:
        held = sorted(
            (route_key(held.uri), f"{held.ip}:{held.port}", held.app) for held in self.bench.table.held.values()
        )
        assert held == sorted((key, address, app) for (key, address), (_, app, routed) in self.model.items() if routed)
        assert self.bench.registry.endpoints == len(self.model)
        assert self.bench.table.empty == {key for key, _ in self.model} - {
            key for (key, _), (_, _, routed) in self.model.items() if routed
        }
        assert sorted(self.bench.registry.keys()) == sorted({key for key, _ in self.model})


TestAgainstModel = Against.TestCase
TestAgainstModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

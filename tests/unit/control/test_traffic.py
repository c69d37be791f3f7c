"""Sums over routes by the tags of their registrations."""

from collections.abc import Iterable, Iterator

from gorouter_py.control.messages import Registration
from gorouter_py.control.traffic import Flow, Histogram, Traffic


def series(route: str, *requests: int, buckets: tuple[int, ...] = (0, 0, 0), sum_ns: int = 0) -> dict[str, object]:
    return {"route": route, "requests": requests, "buckets": buckets, "sum_ns": sum_ns}


class Known:
    def __init__(self, **routes: Registration) -> None:
        self.routes = routes

    def __call__(self, keys: Iterable[str]) -> Iterator[tuple[str, Registration]]:
        for key in keys:
            if key in self.routes:
                yield key, self.routes[key]


def test_sums() -> None:
    known = Known(
        a=Registration(app="one", tags={"component": "api", "source_id": "s1"}),
        b=Registration(app="two", tags={"component": "api"}),
        c=Registration(app="one"),
    )
    taken = Traffic(known).take(
        [
            series("a", 1, 2, 3, 4, 5, 6, buckets=(1, 2, 18), sum_ns=100),
            series("b", 0, 0, 1, 0, 0, 0, buckets=(0, 1, 0), sum_ns=10),
            series("c", 0, 0, 2, 0, 0, 0, buckets=(2, 0, 0), sum_ns=1),
            series("", 0, 0, 0, 0, 0, 7, buckets=(0, 0, 7), sum_ns=1000),
        ],  # type: ignore[list-item]
        3,
    )
    assert taken.whole == Flow([6, 4, 5, 13, 3], [3, 3, 25], 1111)  # gorouter: 1xx counts as xxx
    assert taken.whole.requests == 31
    assert taken.components == {"api": Flow([4, 4, 5, 6, 3], [1, 3, 18], 110)}
    assert set(taken.sources) == {"s1", "gorouter"}
    assert taken.sources["gorouter"].requests == 10
    assert taken.apps == {"one": 23, "two": 1}


def test_a_route_that_changes_hands() -> None:
    """Its component stays, so that no counter shrinks; its new requests are the new application's."""
    known = Known(a=Registration(app="old", tags={"component": "api"}))
    traffic = Traffic(known)
    traffic.take([series("a", 0, 0, 5, 0, 0, 0)], 3)  # type: ignore[list-item]
    known.routes["a"] = Registration(app="new", tags={"component": "web"})
    taken = traffic.take([series("a", 0, 0, 8, 0, 0, 0)], 3)  # type: ignore[list-item]
    assert {name: flow.requests for name, flow in taken.components.items()} == {"api": 8}
    assert taken.apps == {"old": 5, "new": 3}
    known.routes.clear()
    taken = traffic.take([series("a", 0, 0, 9, 0, 0, 0)], 3)  # type: ignore[list-item]
    assert taken.components["api"].requests == 9
    assert taken.apps == {"old": 5, "new": 3}


def test_a_histogram_counts_up_to_its_bounds() -> None:
    histogram = Histogram([4.0, 0.1, 1.0, 1.0])
    for value in (0.05, 0.1, 0.5, 1.0, 4.5):
        histogram.observe(value)
    assert histogram.bounds == [0.1, 1.0, 4.0]
    assert histogram.counts == [2, 2, 0, 1]
    assert histogram.total == 6.15

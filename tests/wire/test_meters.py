"""What the workers measure for histograms with the operator's bounds."""

import threading

import pytest

from gorouter_py import _fastpath
from tests.support.origins import OK, Served
from tests.support.plane import MakeOrigin, MakeRouter, until

HOUR_NS = 3_600_000_000_000


def test_nothing_is_measured_unasked(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router()
    front.add(origin())
    front.get()
    assert front.plane.meters() == {}


def test_counts_and_sums(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(
        workers=2, meter_requests=True, lookup_time_bounds_ns=(HOUR_NS, 0), gorouter_time_bounds_ns=[HOUR_NS] * 2
    )
    front.add(origin())
    for _ in range(8):
        front.get()
    assert front.get(host="unknown.test").status == 404
    assert front.get(host="127.0.0.1").status == 400  # no lookup
    until(lambda: front.counter("responses_2xx") == 8 and sum(front.plane.meters()["gorouter_time"]["counts"]) == 8)
    meters = front.plane.meters()
    lookup, own = meters["lookup_time"], meters["gorouter_time"]
    assert (lookup["bounds_ns"], lookup["counts"]) == ((0, HOUR_NS), (0, 9, 0))
    assert (own["bounds_ns"], own["counts"]) == ((HOUR_NS,), (8, 0))
    assert 0 < lookup["sum_ns"] < HOUR_NS and 0 < own["sum_ns"] < HOUR_NS


def test_the_time_of_the_instance_is_not_the_routers(router: MakeRouter, origin: MakeOrigin) -> None:
    waited = threading.Event()

    def handle(conn: Served) -> None:
        conn.request()
        waited.wait(0.5)
        conn.send(OK)
        conn.rest()

    front = router(log=True, meter_requests=True)
    front.add(origin(handle))
    front.get()
    line = front.log_lines(1)[0]
    total = float(line.partition(" response_time:")[2].partition(" ")[0])
    until(lambda: sum(front.plane.meters()["gorouter_time"]["counts"]) == 1)
    meter = front.plane.meters()["gorouter_time"]
    assert meter["counts"] == (1,) and meter["bounds_ns"] == ()
    assert total >= 0.5 and meter["sum_ns"] / 1e9 <= total - 0.5
    assert f" gorouter_time:{meter['sum_ns'] // 1000 / 1e6:.6f} " in line


@pytest.mark.parametrize("bounds", [(-1,), (1 << 63,), tuple(range(65))])
def test_bounds_that_are_unfit(bounds: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="lookup_time_bounds_ns"):
        _fastpath.check_settings({"lookup_time_bounds_ns": bounds})

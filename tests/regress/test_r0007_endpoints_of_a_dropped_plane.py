"""A DataPlane that was dropped with routes still listed left each handle's endpoint behind.

The table was freed, but the references that the handles held were not. Earlier tests removed every route themselves
before they stopped. Builds without assertions count no objects; there the memory shows it.
"""

import gc

from gorouter_py import _fastpath

ROUTES = 2000
ROUNDS = 15


def resident_kib() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def drop_one_with_routes() -> None:
    plane = _fastpath.DataPlane({})
    for number in range(ROUTES):
        plane.add(f"h{number}.test/p", "10.0.0.1", 1 + number, app="app" * 20, instance_id=f"id-{number:064d}")
    assert plane.routes() == ROUTES
    del plane
    gc.collect()


def test_endpoints_of_a_dropped_plane_are_freed() -> None:
    before = _fastpath.live_objects()
    for _ in range(3):
        drop_one_with_routes()
    assert _fastpath.live_objects() == before
    if _fastpath.BUILD == "release":
        start = resident_kib()
        for _ in range(ROUNDS):
            drop_one_with_routes()
        grown = (resident_kib() - start) * 1024 / (ROUNDS * ROUTES)
        assert grown < 100, f"{grown:.0f} octets stay of each endpoint"

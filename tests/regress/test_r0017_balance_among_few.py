"""Local instances beside each other were not chosen evenly, and a small load made every instance look overloaded."""

import pytest

from tests.support.plane import MakeOrigin, MakeRouter
from tests.wire.test_balancing import HASH, Farm


def test_locals_beside_each_other_share_evenly(router: MakeRouter, origin: MakeOrigin) -> None:
    """gorouter: round robin with local preference keeps rotation among the locals (here one gets 3 of 4)."""
    farm = Farm(router, origin, 4, zone_preference=True)
    for n, app in enumerate(farm.apps):
        farm.front.add(app, local=n in (0, 1))
    for _ in range(20):
        farm.ask()
    assert farm.counts() == [10, 10, 0, 0]


@pytest.mark.parametrize("factor", [1.1, 1.25, 2.0])
def test_second_in_rank_is_stable(router: MakeRouter, origin: MakeOrigin, factor: float) -> None:
    """One request in progress at home, 4 instances: factor*(1+1)/4 < 1 bars even the idle ones, so it goes round."""
    farm = Farm(router, origin, 4)
    farm.add_all(**HASH, hash_balance=factor)
    home = farm.hold("X-Tenant: one\r\n")
    went = {farm.ask("X-Tenant: one\r\n") for _ in range(8)}
    assert home not in went
    assert len(went) == 1

"""The idle pool against a model: the newest connection of a key first, bounds per key, removal from anywhere."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests import _probe as probe

CONNECTIONS, KEYS = 40, 90
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["put", "take", "remove"]), st.integers(0, CONNECTIONS - 1), st.integers(1, KEYS)),
    max_size=200,
)


@settings(deadline=None)
@given(ACTIONS, st.integers(0, 3))
def test_against_a_model(actions: list[tuple[str, int, int]], most: int) -> None:
    pool = probe.IdleConnections(CONNECTIONS)
    model: dict[int, list[int]] = {}
    where: dict[int, int] = {}
    for action, connection, key in actions:
        held = model.setdefault(key, [])
        if action == "put" and connection not in where:
            assert pool.put(connection, key, most) == (len(held) < most)
            if len(held) < most:
                held.append(connection)
                where[connection] = key
        elif action == "take":
            assert pool.peek(key) == (held[-1] if held else None)
            assert pool.take(key) == (held[-1] if held else None)
            if held:
                del where[held.pop()]
        elif action == "remove":
            pool.remove(connection)
            if connection in where:
                model[where.pop(connection)].remove(connection)
        assert pool.total == len(where)
    for key, held in model.items():
        for connection in reversed(held):
            assert pool.take(key) == connection
        assert pool.take(key) is None


def test_many_keys_come_and_go() -> None:
    pool = probe.IdleConnections(1000)
    for round_ in range(20):
        for connection in range(1000):
            assert pool.put(connection, 1 + connection + round_ * 1000, 4)
        for connection in range(1000):
            assert pool.take(1 + connection + round_ * 1000) == connection
    assert pool.total == 0

"""Which instance an attempt goes to: the three algorithms, zones, and the bound of attempts an instance may have."""

import threading
from collections import Counter

import pytest

from tests.support.origins import OK, Origin, Served
from tests.support.plane import MakeOrigin, MakeRouter, Router, until
from tests.support.wire import Wire
from tests.wire.test_attempts import refused_port

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
HELD = b"GET /held HTTP/1.1\r\nHost: app.test\r\n"


class Farm:
    """Instances of one route. A request for /held is answered once released; any other at once."""

    def __init__(self, router: MakeRouter, origin: MakeOrigin, count: int, **settings: object) -> None:
        self.free = [threading.Semaphore(0) for _ in range(count)]
        self.apps: list[Origin] = [origin(self._handler(n)) for n in range(count)]
        self.front: Router = router(**settings)
        self.handles: list[int] = []
        self.clients: list[list[Wire]] = [[] for _ in range(count)]

    def _handler(self, number: int) -> object:
        def handle(conn: Served) -> None:
            while (request := conn.request()) is not None:
                if request.target == b"/held":
                    while not self.free[number].acquire(timeout=0.02):
                        if conn.origin.stopping.is_set():
                            return
                conn.send(OK)

        return handle

    def add_all(self, **options: object) -> None:
        """Registers every instance with the same options."""
        for n, app in enumerate(self.apps):
            self.handles.append(self.front.add(app, instance_id=f"id-{n}", **options))

    def counts(self) -> list[int]:
        """Requests each instance has seen."""
        return [len(app.requests) for app in self.apps]

    def ask(self, lines: str = "") -> int:
        """Which instance serves a request at once."""
        before = self.counts()
        answer = self.front.get(lines=lines)
        assert answer.status == 200, answer.raw_head
        return self._changed(before)

    def hold(self, lines: str = "") -> int:
        """Which instance gets a request that stays without an answer until release."""
        before = self.counts()
        client = self.front.client()
        client.send(HELD + lines.encode() + b"\r\n")
        until(lambda: sum(self.counts()) > sum(before))
        served = self._changed(before)
        self.clients[served].append(client)
        return served

    def release(self, number: int) -> None:
        """Lets an instance answer one held request, and reads that."""
        self.free[number].release()
        until(lambda: self.front.counter("requests_active") < sum(map(len, self.clients)))
        for client in self.clients[number]:
            if not client.is_silent(0.01):
                assert client.answer().status == 200
                client.close()
                self.clients[number].remove(client)
                return
        raise AssertionError("no held request was answered")

    def _changed(self, before: list[int]) -> int:
        served = [n for n, (old, new) in enumerate(zip(before, self.counts(), strict=True)) if old != new]
        assert len(served) == 1
        return served[0]


# -- round robin --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("options", [{}, {"balancing": "round-robin"}])
def test_exact_round_robin(router: MakeRouter, origin: MakeOrigin, count: int, options: dict[str, str]) -> None:
    farm = Farm(router, origin, count)
    farm.add_all(**options)
    first = farm.ask()
    assert [farm.ask() for _ in range(4 * count)] == [(first + 1 + n) % count for n in range(4 * count)]


def test_round_robin_over_clients_connections_and_workers(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, 5, workers=2)
    farm.add_all()
    clients = [farm.front.client() for _ in range(10)]
    for client in clients * 10:
        assert client.is_open()
    assert farm.counts() == [20] * 5


def test_round_robin_takes_no_notice_of_load(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, 2)
    farm.add_all()
    assert {farm.hold(), farm.hold()} == {0, 1}
    first = farm.hold()
    assert [farm.ask() for _ in range(4)] == [1 - first, first, 1 - first, first]


# -- least connection ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_setting", [False, True])
def test_least_connection_fills_evenly(router: MakeRouter, origin: MakeOrigin, by_setting: bool) -> None:
    if by_setting:
        farm = Farm(router, origin, 3, balancing_algorithm="least-connection")
        farm.add_all()
    else:
        farm = Farm(router, origin, 3)
        farm.add_all(balancing="least-connection")
    for level in range(1, 4):
        assert sorted(farm.hold() for _ in range(3)) == [0, 1, 2], f"not even at {level}"
    for number in (1, 1, 2, 0, 1):
        farm.release(number)
    # in progress now: 2, 0, 2
    assert [farm.ask() for _ in range(5)] == [1] * 5
    assert [farm.hold(), farm.hold()] == [1, 1]
    assert sorted(farm.hold() for _ in range(3)) == [0, 1, 2]


def test_least_connection_goes_round_where_all_are_idle(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, 4)
    farm.add_all(balancing="least-connection")
    assert set(Counter(farm.ask() for _ in range(60))) == {0, 1, 2, 3}


def test_least_connection_goes_on_after_a_refused_connect(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, 1)
    farm.front.add(refused_port(), balancing="least-connection")
    farm.add_all(balancing="least-connection")
    for _ in range(6):
        assert farm.ask() == 0
    farm.hold()
    assert farm.ask() == 0  # the idle one is tried and refuses, the busy one serves


def test_the_last_registration_decides_for_the_route(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, 2, balancing_algorithm="least-connection")
    farm.add_all(balancing="round-robin")
    busy = farm.hold()
    assert sorted(farm.ask() for _ in range(4)) == [0, 0, 1, 1]
    idle = 1 - busy
    handle = farm.front.plane.replace(farm.handles[idle], instance_id="new", balancing="least-connection")
    farm.front.handles[farm.front.handles.index(farm.handles[idle])] = handle
    assert [farm.ask() for _ in range(4)] == [idle] * 4


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"balancing": "random"}, "random"), ({"balancing": "hash"}, "hash_header"),
        ({"balancing": "Round-Robin"}, "Round-Robin"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(router: MakeRouter, options: dict[str, str], text: str) -> None:
    front = router()
    with pytest.raises(ValueError, match=text):
        front.add(1, **options)
    assert front.plane.routes() == 0


# -- hash ---------------------------------------------------------------------------------------------------------

VALUES = [f"tenant-{n}" for n in range(200)]
HASH = {"balancing": "hash", "hash_header": "X-Tenant"}


def homes(farm: Farm, name: str = "X-Tenant") -> dict[str, int]:
    """Which instance each value goes to, over one connection."""
    found = {}
    with farm.front.client() as client:
        for value in VALUES:
            before = farm.counts()
            client.send(f"GET / HTTP/1.1\r\nHost: app.test\r\n{name}: {value}\r\n\r\n".encode())
            assert client.answer().status == 200
            found[value] = farm._changed(before)
    return found


def test_a_value_stays_with_its_instance(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, 4)
    farm.add_all(**HASH)
    first = homes(farm)
    assert homes(farm, "x-TENANT") == first
    share = Counter(first.values())
    assert set(share) == {0, 1, 2, 3}
    assert min(share.values()) >= 20 and max(share.values()) <= 90, share


def test_two_routers_agree(router: MakeRouter, origin: MakeOrigin) -> None:
    """Another router, with its instances in another order and on other connections, sends a value to the same one."""
    farm = Farm(router, origin, 4)
    farm.add_all(**HASH)
    first = homes(farm)
    farm.front = router(workers=2)
    for n in (2, 0, 3, 1):
        farm.front.add(farm.apps[n], instance_id=f"id-{n}", **HASH)
    assert homes(farm) == first


def test_an_instance_removed_moves_its_own_values_alone(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, 4)
    farm.add_all(**HASH)
    first = homes(farm)
    farm.front.remove(farm.handles[2])
    second = homes(farm)
    assert {value for value in VALUES if first[value] != second[value]} == {v for v in VALUES if first[v] == 2}
    assert {second[value] for value in VALUES if first[value] == 2} == {0, 1, 3}
    farm.front.add(farm.apps[2], instance_id="id-2", **HASH)
    assert homes(farm) == first


def test_a_request_without_the_header_goes_round(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, 3)
    farm.add_all(**HASH)
    first = farm.ask("X-Tenants: a\r\n")
    assert [farm.ask() for _ in range(6)] == [(first + 1 + n) % 3 for n in range(6)]


def test_a_value_whose_instance_refuses_goes_to_another(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, 3)
    farm.add_all(**HASH)
    first = homes(farm)
    farm.apps[0].close_listener()
    farm.apps[0].cut_all()
    farm.apps[0].wait(lambda: farm.apps[0].ended == farm.apps[0].accepted)
    second = homes(farm)
    assert {value for value in VALUES if first[value] != second[value]} == {v for v in VALUES if first[v] == 0}


def test_all_requests_of_a_value_may_wait_at_one_instance(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, 3)
    farm.add_all(**HASH)
    assert len({farm.hold("X-Tenant: one\r\n") for _ in range(6)}) == 1


def test_hash_balance_moves_what_is_too_much(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, 3)
    farm.add_all(**HASH, hash_balance=1.5)
    home = farm.ask("X-Tenant: one\r\n")
    assert farm.ask("X-Tenant: one\r\n") == home, "an idle instance keeps its values"
    for _ in range(9):
        farm.hold("X-Tenant: one\r\n")
    load = Counter({n: len(clients) for n, clients in enumerate(farm.clients)})
    assert load[home] == max(load.values())
    assert max(load.values()) <= 6, f"more than 1.5 times the mean of 3: {load}"
    assert len([n for n in load.values() if n]) > 1, load
    while farm.clients[home]:
        farm.release(home)
    assert farm.ask("X-Tenant: one\r\n") == home


# -- zones --------------------------------------------------------------------------------------------------------


def test_first_attempts_stay_in_the_zone(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, 4, zone_preference=True)
    for n, app in enumerate(farm.apps):
        farm.handles.append(farm.front.add(app, local=n in (1, 3)))
    for _ in range(20):
        farm.ask()
    assert farm.counts()[0] == farm.counts()[2] == 0
    assert farm.counts()[1] == farm.counts()[3] == 10


@pytest.mark.parametrize("balancing", ["round-robin", "least-connection"])
def test_further_attempts_leave_the_zone(router: MakeRouter, origin: MakeOrigin, balancing: str) -> None:
    farm = Farm(router, origin, 2, zone_preference=True, max_attempts=2)
    farm.front.add(refused_port(), local=True, balancing=balancing)
    farm.front.add(refused_port(), local=True, balancing=balancing)
    farm.add_all(balancing=balancing)
    statuses = [farm.front.get().status for _ in range(8)]
    assert statuses.count(200) >= 4, statuses  # the second attempt may be the other local one, which refuses too
    assert sum(farm.counts()) == statuses.count(200)


def test_a_zone_without_a_fit_instance_is_left(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, 2, zone_preference=True)
    farm.add_all()
    farm.front.add(refused_port(), local=True)
    for _ in range(10):
        assert farm.front.get().status == 200
    assert min(farm.counts()) >= 3 and sum(farm.counts()) == 10
    assert farm.front.counter("retries") == 1


def test_without_the_preference_zones_do_not_count(router: MakeRouter, origin: MakeOrigin) -> None:
    farm = Farm(router, origin, 2)
    for n, app in enumerate(farm.apps):
        farm.front.add(app, local=n == 0)
    for _ in range(10):
        farm.ask()
    assert farm.counts() == [5, 5]


# -- max_conns ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("balancing", ["round-robin", "least-connection", "hash"])
def test_all_at_their_limit(router: MakeRouter, origin: MakeOrigin, balancing: str) -> None:
    farm = Farm(router, origin, 2, max_conns=2, log=True)
    farm.add_all(balancing=balancing, hash_header="X-Tenant" if balancing == "hash" else "")
    tenant = "X-Tenant: one\r\n"
    assert Counter(farm.hold(tenant) for _ in range(4)) == {0: 2, 1: 2}
    with farm.front.client() as client:
        client.send(b"GET /full HTTP/1.1\r\nHost: App.test:80\r\nX-Tenant: one\r\n\r\n")
        answer = client.answer()
        assert (answer.status, answer.reason) == (503, "Service Unavailable")
        expected = b"503 Service Unavailable: Requested route ('App.test:80') has reached the connection limit.\n"
        assert answer.body == expected
        assert answer.get("X-Cf-RouterError") == "Connection Limit Reached"
        assert answer.get("Content-Type") == "text/plain; charset=utf-8"
        assert answer.get("X-Content-Type-Options") == "nosniff"
        assert answer.get("Cache-Control") is None
        assert farm.counts() == [2, 2]
        farm.release(1)
        client.send(GET)
        assert client.answer().status == 200
    assert farm.counts() == [2, 3]
    assert farm.front.counter("backend_exhausted_conns") == 1
    line = farm.front.log_lines(1)[0]
    assert '"GET /full HTTP/1.1" 503 0 ' in line
    assert line.endswith('x_cf_routererror:"Connection Limit Reached"')


def test_bodies_do_not_count(router: MakeRouter, origin: MakeOrigin) -> None:
    """gorouter: an attempt counts until its response head is there."""

    def handle(conn: Served) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        conn.origin.wait(lambda: len(conn.origin.requests) == 5)
        conn.send(b"ok")
        conn.rest()

    app, front = origin(handle), router(max_conns=1)
    front.add(app)
    clients = []
    for _ in range(5):
        client = front.client()
        client.send(GET)
        head = client.answer_head()
        assert head.status == 200
        clients.append(client)
    for client in clients:
        assert client.take(2) == b"ok"
    assert front.counter("backend_exhausted_conns") == 0


def test_tunnels_do_not_count(router: MakeRouter, origin: MakeOrigin) -> None:
    def handle(conn: Served) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        conn.rest()

    app, front = origin(handle), router(max_conns=1)
    front.add(app)
    for _ in range(4):
        client = front.client()
        client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert client.answer().status == 101
    assert front.counter("tunnels_open") == 4


@pytest.mark.parametrize("end", ["client", "instance"])
def test_what_ends_without_an_answer_is_not_counted_any_more(router: MakeRouter, origin: MakeOrigin, end: str) -> None:
    farm = Farm(router, origin, 1, max_conns=1)
    farm.add_all()
    for turn in range(3):
        farm.hold()
        assert farm.front.get().status == 503
        if end == "client":
            farm.clients[0].pop().reset()
        else:
            farm.apps[0].cut_all(hard=True)
            # sent once more, since it may be; the second end is final
            farm.apps[0].wait(lambda turn=turn: len(farm.apps[0].requests) > 2 * turn + 1)
            farm.apps[0].cut_all(hard=True)
            assert farm.clients[0].pop().answer().status == 502
        until(lambda: farm.front.counter("requests_active") == 0)
    farm.free[0].release()
    assert farm.ask() == 0


def test_a_full_instance_is_no_second_choice(router: MakeRouter, origin: MakeOrigin) -> None:
    """What failed says more than that nobody else is free."""
    farm = Farm(router, origin, 1, max_conns=1, cool_down_ms=1)
    farm.add_all()
    farm.hold()
    port = refused_port()
    farm.front.add(port)
    answer = farm.front.get()
    assert answer.status == 502
    error = f"endpoint_failure (dial tcp 127.0.0.1:{port}: connect: connection refused)"
    assert answer.get("X-Cf-RouterError") == error
    assert farm.counts() == [1]

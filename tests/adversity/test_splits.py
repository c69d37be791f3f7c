"""However the octets are cut into pieces on their way, both sides read the same."""

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.adversity.exchanges import EXCHANGES, Request
from tests.adversity.test_cuts import Chain
from tests.support.between import Between
from tests.support.plane import MakeOrigin, MakeRouter
from tests.support.wire import Message, Wire

VARY = {"x-vcap-request-id", "x-request-start", "x-forwarded-for", "date", "x-cf-instanceid"}
Told = tuple[bytes, list[tuple[str, str]], bytes, list[tuple[str, str]]]

pieces = st.lists(st.one_of(st.integers(1, 4), st.integers(1, 64), st.integers(1, 600)), min_size=1, max_size=8)


def told(message: Message) -> Told:
    """What a message says, without what is new each time and where chunks end."""
    fields = [(name, value if name.lower() not in VARY else "") for name, value in message.fields]
    return message.start, fields, message.body, message.trailers


def exchange(chain: Chain, requests: list[Request]) -> tuple[list[Told], list[Told]]:
    """(what the client read, what the instances read)."""
    chain.connects += 1
    with Wire.connect(chain.near.port) as client:
        client.send(b"".join(request.sent(chain.turn) for request in requests))
        answers = [told(client.answer(request.method)) for request in requests]
    chain.quiet()
    return answers, [told(message) for message in chain.whole(requests)[-len(requests) :]]


def test_splitting_changes_nothing(router: MakeRouter, origin: MakeOrigin, between: Callable[[int], Between]) -> None:
    chain = Chain(router, origin, between)
    whole = {name: exchange(chain, requests) for name, requests in EXCHANGES.items()}

    @settings(max_examples=150, deadline=None)
    @given(name=st.sampled_from(sorted(EXCHANGES)), sizes=st.tuples(pieces, pieces, pieces, pieces), slow=st.booleans())
    def run(name: str, sizes: tuple[list[int], ...], slow: bool) -> None:
        pause = 0.0002 if slow else 0.0
        chain.near.arm(sizes=(sizes[0], sizes[1]), pause_s=pause)
        for far in chain.fars:
            far.arm(sizes=(sizes[2], sizes[3]), pause_s=pause)
        assert exchange(chain, EXCHANGES[name]) == whole[name]

    run()


def test_octet_by_octet_on_both_sides(
    router: MakeRouter, origin: MakeOrigin, between: Callable[[int], Between]
) -> None:
    chain = Chain(router, origin, between)
    for requests in EXCHANGES.values():
        chain.arm()
        whole = exchange(chain, requests)
        for one in (chain.near, *chain.fars):
            one.arm(sizes=([1], [1]))
        assert exchange(chain, requests) == whole

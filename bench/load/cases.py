"""The cases of the load measurement: what is asked, of which table, over how many connections."""

from dataclasses import dataclass

from bench.load.table import Instance, Table

HOST = "r0.bench"


@dataclass(frozen=True)
class Case:
    """One kind of load.

    routes: hosts in the table; active_hosts: how many of them are asked, spread evenly over the table.
    """

    name: str
    title: str
    routes: int = 10
    active_hosts: int = 1
    target: str = "/"
    post_bytes: int = 0
    close: bool = False
    connections: int = 32

    def hosts(self) -> list[str]:
        """The hosts that are asked, in turn."""
        step = self.routes // self.active_hosts
        return [f"r{i * step}.bench" for i in range(self.active_hosts)]


# Cases of one group are measured in the same rounds, so that they can be compared with each other.
GROUPS: tuple[tuple[Case, ...], ...] = (
    (Case("small", "small keep-alive GETs"),),
    (
        Case("routes-10", "10 routes, 10 asked", active_hosts=10),
        Case("routes-10000", "10,000 routes, 10 asked", routes=10_000, active_hosts=10),
        Case("routes-10000-spread", "10,000 routes, 1,000 asked", routes=10_000, active_hosts=1000),
    ),
    (Case("body-64k", "64 KiB responses", target="/64k"),),
    (Case("post-4k", "4 KiB POSTs", post_bytes=4096),),
    (Case("close", "a new connection per request", close=True),),
)
CASES = {case.name: case for group in GROUPS for case in group}


def make_table(routes: int, ports: list[int], extra: Table | None = None) -> Table:
    """`routes` hosts that all have the same origins as instances, plus the extra ones."""
    instances = [Instance(port, f"i{number}") for number, port in enumerate(ports)]
    return {**{f"r{i}.bench": instances for i in range(routes)}, **(extra or {})}

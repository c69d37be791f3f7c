"""The table of the chain's measurement, from figures that are known."""

from pathlib import Path

from bench.load import chain, steady
from bench.load.measure import Sample
from bench.load.peers import Running, Settings
from bench.load.wrk import Load


def way(name: str, cpu_us: float, split: dict[str, float]) -> chain.Way:
    """A way with two rounds that saw the same."""
    load = Load(1000, 1_000_000, 0, 0, 0, 0, 0, 0, 50.0, 60.0, 70.0, 80.0)
    sample = Sample(load, {"worker": int(cpu_us * 1000 * 1000)}, 0, 0.05, 0.5, 1000)
    seen = steady.Seen(1000, 999, 1, {}, {}, 5, 6, 7, 8, 9)
    names = [case.name for case in chain.CASES]
    running = Running(name, 1, Settings({}, Path("x"), 0, 1), [])
    samples = {case: [sample, sample] for case in names}
    return chain.Way(name, running, samples, {case: [split] for case in names}, [seen])


def test_the_ways_are_compared_case_by_case() -> None:
    found = chain.rows(
        [
            way(chain.CHAIN, 30.0, {"tier 1": 11.0, "tier 2": 10.0, "router": 9.0}),
            way(chain.ALONE, 9.0, {"router": 9.0}),
        ]
    )
    assert len(found) == 2 * len(chain.CASES)
    assert all(len(row) == len(chain.HEADINGS) for row in found)
    small = [dict(zip(chain.HEADINGS, row, strict=True)) for row in found[:2]]
    assert [row["/ chain"] for row in small] == ["1.00", "0.30"]
    assert small[0]["tier 1"] == "11.00" and small[1]["tier 1"] == "-"
    assert small[0]["steady p99"] == "7" and found[2][chain.HEADINGS.index("steady p99")] == ""
    assert [row["errors"] for row in small] == ["1", "1"]

"""Tables and verdicts of the load harness, from made-up samples."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from bench.load import report, wrk
from bench.load.cases import CASES, make_table
from bench.load.measure import Result, Sample
from bench.load.procs import BenchError
from bench.load.wrk import Load


def sample(cpu_us: float, requests: int = 1000, threads: int = 1, helper_us: float = 0, errors: int = 0) -> Sample:
    load = Load(requests, 2_000_000, 0, 0, 0, 0, errors, 0, 100.0, 150.0, 200.0, 300.0)
    per_thread = int(cpu_us * 1000 * requests / threads)
    return Sample(
        load, {f"t{i}": per_thread for i in range(threads)}, int(helper_us * 1000 * requests), 0, 0.25, requests
    )


def result(peer: str, *cpu_us: float, case: str = "small", threads: int = 1, helper_us: float = 0) -> Result:
    return Result(CASES[case], peer, [sample(us, threads=threads, helper_us=helper_us) for us in cpu_us])


def test_rows_hold_medians_and_the_ratio_to_haproxy() -> None:
    table = report.rows([result("haproxy", 16, 20, 15), result("gorouter-py", 12, 8, 30)], "small")
    found = [dict(zip(report.HEADINGS, row, strict=True)) for row in table]
    assert [row["CPU us/request"] for row in found] == ["16.00", "12.00"]
    assert [row["/ haproxy"] for row in found] == ["1.00", "0.75"]
    assert found[0]["user us"] == "4.00" and found[0]["kernel us"] == "12.00"
    assert found[0]["+- rounds"] == "31 %"
    assert found[0]["requests/s"] == "500" and found[0]["log %"] == "100.0"


def test_without_haproxy_there_is_no_ratio() -> None:
    row = dict(zip(report.HEADINGS, report.rows([result("nginx", 10, 10)], "small")[0], strict=True))
    assert row["/ haproxy"] == "-"


def test_findings_name_the_watched_figures() -> None:
    results = [
        result("haproxy", 20, 20),
        result("gorouter-py", 10, 10),
        result("plain-python", 30, 30),
        result("gorouter-py", 10, case="routes-10"),
        result("gorouter-py", 10.4, case="routes-10000"),
    ]
    assert report.findings(results) == [
        "small keep-alive: 0.50 x the CPU of HAProxy",
        "plain-python needs 3.0 x the router's CPU per request, 3.0 x in user space",
        "gorouter-py: 10,000 routes cost +4.0 % CPU per request against 10",
    ]


def test_threads_are_shown_apart_and_helpers_are_not_charged() -> None:
    lone, many = result("nginx", 10), result("gorouter-py", 10, threads=2, helper_us=3)
    assert report.thread_rows([lone, many]) == [
        ["small", "gorouter-py", "t0", "5.000"],
        ["small", "gorouter-py", "t1", "5.000"],
        ["small", "gorouter-py", "helpers, not charged", "3.000"],
    ]


def test_text_table_lines_columns_up() -> None:
    assert report.text_table(("a", "long"), [["wide cell", "1"], ["x", "22"]]).splitlines() == [
        "a          long",
        "---------------",
        "wide cell     1",
        "x            22",
    ]


def test_markdown_table() -> None:
    assert report.markdown_table(("a", "b"), [["x", "1"]]) == "| a | b |\n|---|---:|\n| x | 1 |"


def test_saved_files_carry_date_and_every_sample(tmp_path: Path) -> None:
    results = [result("haproxy", 16, 20)]
    facts = {"date": "d", "host": {"cpu": "c"}, "peers": {"haproxy": "v"}, "command": "run me"}
    when = datetime(2026, 1, 2, 3, 4, 5)
    markdown, data = report.render(results, facts, markdown=True), report.as_json(results, facts)
    path = report.save("load", markdown, data, when, tmp_path)
    assert path.name == "2026-01-02-030405-load.md"
    assert "run me" in path.read_text() and "| haproxy |" in path.read_text()
    read = json.loads(path.with_suffix(".json").read_text())
    assert [s["cpu_us_per_request"] for s in read["results"][0]["samples"]] == [16.0, 20.0]


def test_wrk_output_is_read() -> None:
    text = (
        'Running 1s test\n\nJSON{"requests":10,"duration_us":2000000,"bytes":5,"connect":1,"read":0,"write":0,'
        '"status":2,"timeout":0,"p50_us":1.0,"p90_us":2.0,"p99_us":3.5,"max_us":9.0}\n'
    )
    load = wrk.parse(text)
    assert (load.rate, load.errors, load.p99_us) == (5.0, 3, 3.5)
    with pytest.raises(BenchError, match="no result"):
        wrk.parse("unable to connect")


def test_case_spreads_its_hosts_over_the_whole_table() -> None:
    case = CASES["routes-10000"]
    table = make_table(case.routes, [1, 2, 3])
    assert len(table) == 10_000 and len(case.hosts()) == 10
    assert case.hosts()[0] == "r0.bench" and case.hosts()[-1] == "r9000.bench"
    assert set(case.hosts()) <= table.keys()

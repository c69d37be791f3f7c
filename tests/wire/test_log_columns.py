"""What the operator may add to, and leave out of, the access log."""

import hashlib
import re
import threading

import pytest

from tests.support.origins import OK, Served
from tests.support.plane import HOST, MakeOrigin, MakeRouter, Router, until
from tests.support.ports import take as refused_port

ALL = ("backend_time", "dial_time", "dns_time", "failed_attempts", "failed_attempts_time", "local_address", "tls_time")
VALUE = r'(?:"(?:[^"\\]|\\.)*"|[0-9.]+)'


def extras(line: str) -> dict[str, str]:
    """Columns between instance_id and x_cf_routererror, in order, with values as they stand."""
    match = re.search(rf"instance_id:{VALUE}((?: [a-z_]+:{VALUE})*) x_cf_routererror:", line)
    assert match, line
    return dict(re.findall(rf" ([a-z_]+):({VALUE})", match[1]))


def headers(line: str) -> list[tuple[str, str]]:
    """Columns behind x_cf_routererror."""
    match = re.search(rf" x_cf_routererror:{VALUE}((?: \S+:{VALUE})*)$", line)
    assert match, line
    return re.findall(rf" (\S+?):({VALUE})", match[1])


def seconds(value: str) -> float:
    assert re.fullmatch(r"[0-9]+\.[0-9]{6}", value), value
    return float(value)


def logged(router: MakeRouter, origin: MakeOrigin, answer: bytes = OK, **settings: object) -> Router:
    front = router(log=True, **settings)
    front.add(origin(answer), app="guid", instance_index="3", instance_id="one")
    return front


# -- extra_access_log_fields ----------------------------------------------------------------------------------


def test_nothing_extra_by_default(router: MakeRouter, origin: MakeOrigin) -> None:
    front = logged(router, origin)
    front.get()
    line = front.log_lines(1)[0]
    assert extras(line) == {}
    assert line.endswith('app_id:"guid" app_index:"3" instance_id:"one" x_cf_routererror:"-"')


@pytest.mark.parametrize("names", [ALL, ALL[::-1], ("tls_time", "backend_time")])
def test_order_is_the_operators(router: MakeRouter, origin: MakeOrigin, names: tuple[str, ...]) -> None:
    front = logged(router, origin, extra_access_log_fields=names)
    front.get()
    assert tuple(extras(front.log_lines(1)[0])) == names


def test_unknown_names_and_repetitions(router: MakeRouter, origin: MakeOrigin) -> None:
    names = ("dns_time", "no_such", "failed_attempts", "dns_time", "", "DIAL_TIME", "failed_attempts")
    front = logged(router, origin, extra_access_log_fields=names)
    front.get()
    line = front.log_lines(1)[0]
    assert list(extras(line)) == ["dns_time", "failed_attempts"]
    assert line.count("dns_time:") == line.count("failed_attempts:") == 1


def test_an_attempt_that_succeeds(router: MakeRouter, origin: MakeOrigin) -> None:
    peers: list[str] = []

    def handle(conn: Served) -> None:
        peers.append("{}:{}".format(*conn.sock.getpeername()))
        while conn.request() is not None:
            conn.send(OK)

    front = router(log=True, extra_access_log_fields=ALL)
    front.add(origin(handle))
    front.get()
    front.get()
    fresh, reused = (extras(line) for line in front.log_lines(2))
    assert peers == [fresh["local_address"].strip('"')]
    assert reused["local_address"] == fresh["local_address"]
    assert seconds(fresh["dial_time"]) >= 0
    for columns in (fresh, reused):
        assert columns["failed_attempts"] == "0"
        assert columns["failed_attempts_time"] == '"-"'
        assert columns["dns_time"] == columns["tls_time"] == "0.000000"
        assert seconds(columns["backend_time"]) > 0
    assert reused["dial_time"] == "0.000000", "no connect took place"


def test_attempts_that_fail_before_one_succeeds(router: MakeRouter, origin: MakeOrigin) -> None:
    front = router(log=True, extra_access_log_fields=ALL, max_attempts=3)
    front.add(refused_port())
    front.add(refused_port())
    front.add(origin())
    assert front.get().status == 200
    line = front.log_lines(1)[0]
    columns = extras(line)
    assert columns["failed_attempts"] == "2"
    total = re.search(r"response_time:([0-9.]+)", line)
    assert total
    failed, worked = seconds(columns["failed_attempts_time"]), seconds(columns["backend_time"])
    assert failed > 0 < worked
    assert failed + worked <= float(total[1]) + 0.00001
    assert columns["local_address"] != '"-"'


def test_no_attempt_that_succeeds(router: MakeRouter) -> None:
    front = router(log=True, extra_access_log_fields=ALL, max_attempts=2)
    for _ in range(3):
        front.add(refused_port())
    assert front.get().status == 502
    columns = extras(front.log_lines(1)[0])
    assert columns.pop("failed_attempts") == "2"
    assert seconds(columns.pop("failed_attempts_time")) > 0
    assert columns == dict.fromkeys(("backend_time", "dial_time", "dns_time", "local_address", "tls_time"), '"-"')


def test_no_attempt_at_all(router: MakeRouter, origin: MakeOrigin) -> None:
    front = logged(router, origin, extra_access_log_fields=ALL)
    assert front.get(host="other.test").status == 404
    columns = extras(front.log_lines(1)[0])
    assert columns.pop("failed_attempts") == "0"
    assert set(columns.values()) == {'"-"'}


def test_gorouter_time_without_an_instance(router: MakeRouter, origin: MakeOrigin) -> None:
    front = logged(router, origin)
    front.get(host="other.test")
    assert " gorouter_time:0.000000 " in front.log_lines(1)[0]


# -- extra_headers_to_log -------------------------------------------------------------------------------------


def test_headers_of_the_request(router: MakeRouter, origin: MakeOrigin) -> None:
    names = ("X-Some-Header", "cache-control", "X_Under", "Not-There", "X-Empty", "x-some-header")
    front = logged(router, origin, extra_headers_to_log=names)
    lines = 'x-SOME-header: a "b" \\c\r\nX-Some-Header: second\r\nCache-Control: no-cache\r\n'
    front.get(lines=lines + "X_Under: u\r\nX-Empty:\r\n")
    assert headers(front.log_lines(1)[0]) == [
        ("x_some_header", '"a \\"b\\" \\\\c"'),
        ("cache_control", '"no-cache"'),
        ("x_under", '"u"'),
        ("not_there", '"-"'),
        ("x_empty", '"-"'),
    ]


def test_headers_of_the_request_not_of_the_answer(router: MakeRouter, origin: MakeOrigin) -> None:
    front = logged(router, origin, OK.replace(b"\r\n\r\n", b"\r\nX-A: answer\r\n\r\n"), extra_headers_to_log=("X-A",))
    front.get()
    assert headers(front.log_lines(1)[0]) == [("x_a", '"-"')]


@pytest.mark.parametrize("host", [HOST, "other.test"])
def test_headers_and_columns_together(router: MakeRouter, origin: MakeOrigin, host: str) -> None:
    front = logged(router, origin, extra_headers_to_log=("X-A",), extra_access_log_fields=("tls_time",))
    front.get(host=host, lines="X-A: \t\xe9\r\n")
    line = front.log_lines(1)[0]
    assert list(extras(line)) == ["tls_time"]
    assert headers(line)[0][0] == "x_a"


def test_octets_that_are_no_text(router: MakeRouter, origin: MakeOrigin) -> None:
    front = logged(router, origin, extra_headers_to_log=("X-A",))
    front.ask(b"GET / HTTP/1.1\r\nHost: app.test\r\nX-A: \xc3\xa9 \xff\tz\r\n\r\n")
    assert headers(front.log_lines(1)[0]) == [("x_a", '"\xe9 \\xff\\tz"')]


# -- what is left out -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "shown"),
    [
        ("GET", "/a?secret=1&b", "/a"),
        ("GET", "/a?", "/a?"),
        ("GET", "/a", "/a"),
        ("GET", "http://app.test/a?secret=1", "/a"),
        ("GET", "/a?b?c", "/a"),
        ("HEAD", "/a?b=1", "/a?b=1"),
        ("POST", "/a?b=1", "/a?b=1"),
        ("DELETE", "/a?b=1", "/a?b=1"),
        ("GETS", "/a?b=1", "/a?b=1"),
    ],
)
def test_redacted_queries(router: MakeRouter, origin: MakeOrigin, method: str, target: str, shown: str) -> None:
    front = logged(router, origin, redact_query_params="all")
    front.ask(f"{method} {target} HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n\r\n".encode(), method)
    assert f'"{method} {shown} HTTP/1.1" 200 ' in front.log_lines(1)[0]


def test_instances_see_the_whole_query(router: MakeRouter, origin: MakeOrigin) -> None:
    app = origin()
    front = router(log=True, redact_query_params="all")
    front.add(app)
    front.get("/a?b=1")
    front.get("/a?b=1", host="other.test")
    assert app.last().target == b"/a?b=1"
    assert '"GET /a HTTP/1.1" 404 ' in front.log_lines(2)[1]


def test_queries_are_shown_by_default(router: MakeRouter, origin: MakeOrigin) -> None:
    front = logged(router, origin)
    front.get("/a?b=1&c")
    assert '"GET /a?b=1&c HTTP/1.1" 200 ' in front.log_lines(1)[0]


@pytest.mark.parametrize(
    ("method", "target", "shown"),
    [
        ("GET", "/a?secret=1&b=%20", "/a?hash=" + hashlib.sha1(b"secret=1&b=%20").hexdigest()),
        ("GET", "http://app.test?secret=1", "/?hash=" + hashlib.sha1(b"secret=1").hexdigest()),
        ("GET", "/a?" + "x" * 20000, "/a?hash=" + hashlib.sha1(b"x" * 20000).hexdigest()),
        ("GET", "/a?", "/a?"),
        ("GET", "/a", "/a"),
        ("POST", "/a?b=1", "/a?b=1"),
    ],
)
def test_hashed_queries(router: MakeRouter, origin: MakeOrigin, method: str, target: str, shown: str) -> None:
    front = logged(router, origin, redact_query_params="hash")
    front.ask(f"{method} {target} HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n\r\n".encode(), method)
    assert f'"{method} {shown} HTTP/1.1" 200 ' in front.log_lines(1)[0]


@pytest.mark.parametrize(("target", "host"), [("/a?b;c", HOST), ("/a;b", HOST), ("/;", "other.test"), ("/", HOST)])
def test_semicolons_are_noted(router: MakeRouter, origin: MakeOrigin, target: str, host: str) -> None:
    front = logged(router, origin)
    answer = front.get(target, host=host)
    noted = "unknown_route" if answer.status == 404 else "deprecated-semicolon-params" if ";" in target else "-"
    assert front.log_lines(1)[0].endswith(f' x_cf_routererror:"{noted}"')
    assert answer.get("X-Cf-RouterError") == ("unknown_route" if answer.status == 404 else None)


@pytest.mark.parametrize("shown", [True, False])
def test_forwarded_for(router: MakeRouter, origin: MakeOrigin, shown: bool) -> None:
    app = origin()
    front = router(log=True, log_forwarded_for=shown)
    front.add(app)
    front.get(lines="X-Forwarded-For: 192.0.2.1\r\n")
    line = front.log_lines(1)[0]
    assert f' x_forwarded_for:"{"192.0.2.1, 127.0.0.1" if shown else "-"}" x_forwarded_proto:"http" ' in line
    assert '"127.0.0.1:' in line
    assert app.last().get("X-Forwarded-For") == "192.0.2.1, 127.0.0.1", "only the log leaves it out"


@pytest.mark.parametrize("shown", [True, False])
def test_source_address(router: MakeRouter, origin: MakeOrigin, shown: bool) -> None:
    app = origin()
    front = router(log=True, log_source_ip=shown)
    front.add(app)
    with front.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\nUser-Agent: u\r\nReferer: r\r\n\r\n")
        assert client.answer().status == 200
        address = client.address
    assert f'200 0 2 "r" "u" "{address if shown else "-"}" "{app.address}" x_forwarded_for:' in front.log_lines(1)[0]


def test_proto_of_a_request_that_found_no_instance(router: MakeRouter, origin: MakeOrigin) -> None:
    front = logged(router, origin)
    front.get(host="other.test")
    front.get(host="other.test", lines="X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n")
    bare, own = front.log_lines(2)
    assert 'x_forwarded_for:"-" x_forwarded_proto:"-" ' in bare
    assert 'x_forwarded_for:"192.0.2.1" x_forwarded_proto:"https" ' in own


def test_lines_of_many_connections_stay_whole(router: MakeRouter, origin: MakeOrigin) -> None:
    front = logged(router, origin, extra_access_log_fields=ALL, extra_headers_to_log=("X-N",))

    def ask(number: int) -> None:
        for _ in range(5):
            front.get(lines=f"X-N: {number}\r\n")

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = front.log_lines(20)
    until(lambda: front.counter("access_log_lines") == 20)
    assert sorted(headers(line)[0][1] for line in lines) == sorted(f'"{n}"' for n in range(4) for _ in range(5))
    assert all(tuple(extras(line)) == ALL for line in lines)


def test_what_was_cut_says_so(router: MakeRouter, origin: MakeOrigin) -> None:
    names = tuple(f"X-{number}" for number in range(64))
    front = logged(router, origin, extra_headers_to_log=names)
    long = "x" * 1025
    lines = "".join(f"{name}: {long}\r\n" for name in ("Referer", "User-Agent", "X-Forwarded-For", "X-Forwarded-Proto"))
    assert front.get("/" + "y" * 9000, lines=lines).status == 200
    assert front.get("/", lines=lines, host="other.test").status == 404
    junk = b"\xff" * 1024
    head = b"GET / HTTP/1.1\r\nHost: app.test\r\n" + b"".join(b"%s: %s\r\n" % (n.encode(), junk) for n in names)
    assert front.ask(head + b"\r\n").status == 200
    first, second, third = front.log_lines(3)
    assert "y...REQUEST-URI-TOO-LONG-TO-LOG--TRUNCATED HTTP/1.1" in first
    for line in (first, second):
        for name in ("REFERER", "USER-AGENT", "X-FORWARDED-FOR", "X-FORWARDED-PROTO"):
            assert f'x...{name}-TOO-LONG-TO-LOG--TRUNCATED" ' in line
    assert third.endswith(" ...EXTRA-REQUEST-HEADERS-TOO-LONG-TO-LOG--TRUNCATED")
    assert "TRUNCATED" not in third[:-60]

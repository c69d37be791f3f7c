"""First tiers as people have them, both forms, and what becomes of each of their lines."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from gorouter_py.control import config
from haproxy import convert, render
from haproxy.cli import main
from haproxy.report import CHANGED, TAKEN, UNKNOWN

OLD = r"""
global
    daemon
    maxconn 4096
defaults
    mode http
    clitimeout 60000
    timeout server 30s
    option forwardfor except 10.0.0.0/8

frontend shop
    bind 192.0.2.10:9001
    reqidel ^X-Forwarded-For:.*
    reqadd X-Forwarded-Proto:\ http
    reqirep ^Host:.* Host:\ shop.apps.example.com
    rspirep ^Location:\ http://shop.apps.example.com(.*) Location:\ http://192.0.2.10:9001\1
    rspirep ^Location:\ http://pay\.example\.com(.*) Location:\ http://192.0.2.10:9002\1
    rspirep ^(Set-Cookie:.*);\ ?Domain=[^;]*(.*) \1\2
    reqirep ^User-Agent:.* User-Agent:\ x
    default_backend tier2

listen blog 192.0.2.10:9002
    reqrep ^[Hh]ost:.* Host:\ Blog.Apps.example.com:80
    server tier2 10.0.0.2:80

backend tier2
    balance roundrobin
    server tier2 10.0.0.2:80 check
"""

NEW = r"""
global
    maxconn 2000
defaults
    mode http
    timeout connect 5s
    timeout client 1m
    timeout server 1m
frontend apps
    bind 127.0.0.1:9001,127.0.0.1:9002
    bind :9010-9012
    bind ipv6@[::1]:9003
    acl is_shop dst_port 9001
    acl is_shop dst_port 9011
    http-request set-header X-Forwarded-Proto http
    http-request set-header Host shop.test if is_shop
    http-request set-header Host blog.test if { dst_port 9002 9010 } { dst 127.0.0.0/8 0.0.0.0 }
    http-request replace-value Host .* six.test if { dst_port 9003 }
    http-request set-header Host any.test if { dst_port 9012 }
    http-response replace-header Location ^https?://shop\.test(:[0-9]+)?(/.*)?$ http://127.0.0.1:9001\2
    http-response set-header Strict-Transport-Security max-age=1
    default_backend tier2
backend tier2
    server tier2 127.0.0.1:8180
"""

BACKENDS = """
frontend one
    bind 127.0.0.1:9001
    bind 127.0.0.1:9002
    use_backend blog if { dst_port 9002 }
    default_backend shop
backend shop
    http-request set-header Host shop.test
    server tier2 127.0.0.1:8180
backend blog
    http-request set-header Host blog.test
    server tier2 127.0.0.1:8180
"""


def found(text: str, folder: Path = Path("/nonexistent")) -> convert.Found:
    return convert.convert(text, "old.cfg", folder)


def hosts(result: convert.Found) -> dict[str, str]:
    return {str(address): host for address, host in result.hosts.items()}


def verdicts(result: convert.Found) -> dict[str, str]:
    return {each.text: each.verdict for each in result.report.sorted()}


def test_the_old_form() -> None:
    result = found(OLD)
    assert hosts(result) == {"192.0.2.10:9001": "shop.apps.example.com", "192.0.2.10:9002": "blog.apps.example.com"}
    assert result.problems == []
    told = verdicts(result)
    unknown = [text for text, verdict in told.items() if verdict == UNKNOWN]
    assert unknown == [
        r"rspirep ^Location:\ http://pay\.example\.com(.*) Location:\ http://192.0.2.10:9002\1",
        r"reqirep ^User-Agent:.* User-Agent:\ x",
    ]
    assert told[r"reqirep ^Host:.* Host:\ shop.apps.example.com"] == TAKEN
    assert told[r"reqidel ^X-Forwarded-For:.*"] == TAKEN
    assert told[r"rspirep ^Location:\ http://shop.apps.example.com(.*) Location:\ http://192.0.2.10:9001\1"] == CHANGED
    assert told["listen blog 192.0.2.10:9002"] == TAKEN
    assert result.keys["gorouter_py.port_map_trusted"] == ["10.0.0.0/8"]
    assert result.keys["gorouter_py.body_timeout"] == "60s"


@pytest.mark.foreign
def test_the_new_form(tmp_path: Path) -> None:
    result = found(NEW)
    assert hosts(result) == {
        "127.0.0.1:9001": "shop.test",
        "0.0.0.0:9011": "shop.test",
        "127.0.0.1:9002": "blog.test",
        "0.0.0.0:9010": "blog.test",
        "[::1]:9003": "six.test",
        "0.0.0.0:9012": "any.test",
    }
    assert [text for text, verdict in verdicts(result).items() if verdict == UNKNOWN] == [
        "http-response set-header Strict-Transport-Security max-age=1"
    ]
    (tmp_path / "new.cfg").write_text(NEW)
    assert render.check(tmp_path / "new.cfg") == ""  # the real one takes it
    (tmp_path / "old.cfg").write_text(OLD)
    assert "reqidel" in render.check(tmp_path / "old.cfg")


def test_backends_that_set_the_host() -> None:
    result = found(BACKENDS)
    assert hosts(result) == {"127.0.0.1:9001": "shop.test", "127.0.0.1:9002": "blog.test"}
    assert result.problems == []


def test_every_line_has_one_verdict() -> None:
    for text in (OLD, NEW, BACKENDS):
        said = [number for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        assert [each.line for each in found(text).report.sorted()] == said


MAPPED = """
frontend apps
    bind 127.0.0.1:9001
    bind :9002
    http-request set-header Host %[dst_port,map(apps.map)]
    http-request deny deny_status 404 unless { hdr(host) -m found }
"""


def test_maps(tmp_path: Path) -> None:
    (tmp_path / "apps.map").write_text("# port app\n9001 shop.test\n9002 Blog.test\n\n9003 other.test\n")
    assert hosts(found(MAPPED, tmp_path)) == {"127.0.0.1:9001": "shop.test", "0.0.0.0:9002": "blog.test"}
    (tmp_path / "apps.map").write_text("127.0.0.1:9001 shop.test\n127.0.0.1:9002 a.test\n127.0.0.2:9002 b.test\n")
    assert hosts(found(MAPPED, tmp_path)) == {
        "127.0.0.1:9001": "shop.test",
        "127.0.0.1:9002": "a.test",
        "127.0.0.2:9002": "b.test",
    }
    (tmp_path / "apps.map").unlink()
    missing = found(MAPPED, tmp_path)
    assert any("apps.map cannot be read" in each.note for each in missing.report.verdicts)


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("bind /run/x.sock", "no address and port"),
        ("bind 127.0.0.1:443 ssl crt x.pem", "TLS on a port is not served yet"),
        ("bind 127.0.0.1:81 accept-proxy", "accept-proxy has no counterpart"),
        ("bind a.test:80", "no IP address"),
        ("bind :1-60000", "at most 1000"),
        ("http-request set-header Host a.test if { hdr(host) -i b.test }", "a condition on hdr(host)"),
        ("http-request set-header Host a.test if !x", "the condition '!x'"),
        ("http-request set-header Host %[req.hdr(X)]", "no rule like this"),
        ("use_backend x if { path /a }", "a condition on path"),
        ("redirect scheme https", "no redirects"),
        ("compression algo gzip", "no counterpart"),
        ("x 'y", "does not end"),
        ("timeout queue 5s", "no counterpart"),
        ("http-request set-header Host c.test if { dst_port 9 }", "no bind"),
    ],
)
def test_what_is_not_understood(line: str, note: str) -> None:
    result = found(f"frontend a\n bind 127.0.0.1:80\n http-request set-header Host a.test\n {line}\n")
    last = result.report.sorted()[-1]
    assert (last.line, last.verdict) == (4, UNKNOWN)
    assert note in last.note
    assert hosts(result) == {"127.0.0.1:80": "a.test"}


def test_tcp_and_other_sections() -> None:
    result = found("listen ssh\n bind :22\n mode tcp\n server a 10.0.0.1:22\npeers x\n peer a 10.0.0.1:1\n")
    assert {each.verdict for each in result.report.verdicts[1:]} == {UNKNOWN}
    assert "first tier" in result.problems[0]


# -- the command ----------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path) -> None:
    old, out, report = tmp_path / "old.cfg", tmp_path / "new.yml", tmp_path / "report"
    old.write_text(NEW)
    done = CliRunner().invoke(main, ["convert", str(old), "--out", str(out), "--report", str(report)])
    assert done.exit_code == 3, done.output
    assert "1 not understood" in report.read_text()
    loaded = config.load(str(out)).config
    assert [each.host for each in config.port_map(loaded)][:2] == ["shop.test", "shop.test"]
    assert loaded.endpoint_dial_timeout == 5
    assert loaded.gorouter_py.max_connections == 2000
    done = CliRunner().invoke(main, ["convert", str(old), "--report", str(report), "--json"])
    assert json.loads(report.read_text())["lines"][0]["verdict"] == CHANGED
    assert done.output == out.read_text()


def test_the_command_fails_clearly(tmp_path: Path) -> None:
    old = tmp_path / "old.cfg"
    missing = CliRunner().invoke(main, ["convert", str(old)])
    assert missing.exit_code == 1 and "No such file" in missing.output
    old.write_text("frontend a\n bind 127.0.0.1:80\n")
    nothing = CliRunner().invoke(main, ["convert", str(old)])
    assert nothing.exit_code == 1 and "nothing gives it an app" in nothing.output
    old.write_text("frontend a\n bind 127.0.0.1:80\n bind :80\n http-request set-header Host a.test\n")
    overlap = CliRunner().invoke(main, ["convert", str(old)])
    assert overlap.exit_code == 1 and "overlap" in overlap.output
    old.write_bytes(b"\xff\xfe")
    assert CliRunner().invoke(main, ["convert", str(old)]).exit_code == 1

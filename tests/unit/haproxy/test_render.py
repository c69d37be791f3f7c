"""Both tiers, rendered from the router's tables, as HAProxy takes them; and back again."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gorouter_py.control import config
from haproxy import convert
from haproxy.cli import main

pytestmark = pytest.mark.foreign  # haproxy -c
MAP = [
    {"listen": "127.0.0.1:9001", "host": "shop.test"},
    {"listen": "0.0.0.0:9002", "host": "blog.test"},
    {"listen": "[::1]:9003", "host": "six.test"},
    {"listen": "[::]:9004", "host": "all.test"},
]
ROUTES = {
    "shop.test": [{"address": "10.0.0.1:80"}, {"address": "10.0.0.2:80"}],
    "blog.test": [{"address": "10.0.0.3:80"}],
    "blog.test/api": [{"address": "10.0.0.4:80"}],
    "empty.test": [],
}


def settings(folder: Path, **own: Any) -> str:
    path = folder / "gorouter.yml"
    path.write_text(json.dumps({"gorouter_py": {"port_map": MAP, **own}}))
    return str(path)


def render(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["render", *arguments])


def test_haproxy_takes_both_tiers_and_they_convert_back(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = render("--config", settings(tmp_path), "--router", "10.0.0.1:8081", "--router", "10.0.0.2:8081",
                  "--out", str(out))  # fmt: skip
    assert done.exit_code == 0, done.output  # checked by the real one
    assert done.output.split() == [str(out / name) for name in ("apps.map", "tier1.cfg", "tier2.cfg")]
    back = convert.convert((out / "tier1.cfg").read_text(), "tier1.cfg", out)
    assert {str(address): host for address, host in back.hosts.items()} == {
        each["listen"]: each["host"] for each in MAP
    }
    assert back.problems == []
    assert "10.0.0.2:8081" in (out / "tier2.cfg").read_text()


def test_a_list_of_ports_and_a_table_of_routes(tmp_path: Path) -> None:
    ports, routes, out = tmp_path / "ports", tmp_path / "routes", tmp_path / "out"
    ports.write_text(json.dumps(MAP))
    routes.write_text(json.dumps(ROUTES))
    done = render("--ports", str(ports), "--routes", str(routes), "--out", str(out))
    assert done.exit_code == 0, done.output
    assert "six.test has no route" in done.output
    tier2 = (out / "tier2.cfg").read_text()
    assert "10.0.0.3:80" in tier2 and "10.0.0.4:80" not in tier2
    assert (out / "hosts.map").read_text() == "blog.test app-blog.test\nshop.test app-shop.test\n"


def test_trusted_senders(tmp_path: Path) -> None:
    own = settings(tmp_path, port_map_trusted=["10.0.0.0/8", "192.0.2.1"])
    assert render("--config", own, "--router", "10.0.0.1:8081", "--out", str(tmp_path)).exit_code == 0
    assert "acl trusted src 10.0.0.0/8 192.0.2.1" in (tmp_path / "tier1.cfg").read_text()


@pytest.mark.parametrize(
    ("content", "reason"),
    [("{", "no port map"), ("[5]", "no port map"), ('[{"listen": "x", "host": "a"}]', "no port map"), ("[]", "noth")],
)
def test_unfit_ports(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "ports"
    path.write_text(content)
    done = render("--ports", str(path), "--router", "10.0.0.1:8081", "--out", str(tmp_path))
    assert done.exit_code == 1 and reason in done.output


def test_wrong_flags_and_files(tmp_path: Path) -> None:
    assert render("--router", "10.0.0.1:1").exit_code == 2
    assert render("--config", "x").exit_code == 2
    assert render("--config", "x", "--router", "nonsense").exit_code == 2
    missing = render("--config", str(tmp_path / "x"), "--router", "10.0.0.1:1")
    assert missing.exit_code == 1 and "No such file" in missing.output
    bad = tmp_path / "bad.yml"
    bad.write_text('{"gorouter_py": {"port_map": [{"listen": "x", "host": "a"}]}}')
    assert render("--config", str(bad), "--router", "10.0.0.1:1").exit_code == 1
    routes = tmp_path / "routes"
    routes.write_text("[]")
    unfit = render("--config", settings(tmp_path), "--routes", str(routes))
    assert unfit.exit_code == 1 and "no table of routes" in unfit.output
    assert config.load(settings(tmp_path)).problems == []

"""Small parts of the real engine without a kernel's help: names, forwarding, layers, root file systems, the doctor."""

import json
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner

from warden import cli, doctor
from warden.engine import copy, disk, kernel, rootfs
from warden.engine.api import EngineError, Settings, Spec
from warden.engine.forwarding import Forwarding
from warden.engine.network import link
from warden.engine.runc import tag


def settings(depot: Path, **changes: object) -> Settings:
    return Settings(depot, depot / "rootfs", "10.254.0.0/24", **changes)  # type: ignore[arg-type]


def test_names_fit_and_differ(tmp_path: Path) -> None:
    assert link("0123456789a") == "w-0123456789a-0"
    assert len(link("0123456789a", 2)) == 15
    tags = {tag(settings(tmp_path / "a")), tag(settings(tmp_path / "b")), tag(settings(tmp_path / "a", name="other"))}
    assert len(tags) == 3
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert tag(settings(tmp_path / "link")) == tag(settings(tmp_path / "a"))


# -- ip_forward ---------------------------------------------------------------------------------------------------


class Machine:
    def __init__(self, folder: Path, value: str) -> None:
        self.switch = folder / "ip_forward"
        self.switch.write_text(f"{value}\n")
        self.notes = folder / "notes"
        self.tables: set[str] = set()

    def server(self, name: str) -> Forwarding:
        self.tables.add(name)
        return Forwarding(name, self.switch, self.notes, lambda: self.tables)

    @property
    def value(self) -> str:
        return self.switch.read_text().strip()

    def files(self) -> list[str]:
        return [path.name for path in self.notes.iterdir() if path.name != "lock"]


def test_forwarding_is_restored_by_the_last(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0")
    one, two = machine.server("one"), machine.server("two")
    one.acquire()
    two.acquire()
    one.acquire()  # after a restart
    assert machine.value == "1"
    machine.tables.discard("one")
    one.release()
    assert machine.value == "1"
    machine.tables.discard("two")
    two.release()
    assert machine.value == "0"
    assert not machine.files()
    two.release()
    assert machine.value == "0"


def test_forwarding_that_was_on_stays_on(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "1")
    one = machine.server("one")
    one.acquire()
    one.release()
    assert machine.value == "1"
    assert not machine.files()


def test_a_server_that_left_otherwise_does_not_hold_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0")
    lost, one = machine.server("lost"), machine.server("one")
    lost.acquire()
    one.acquire()
    machine.tables.clear()  # lost's by hand, one's by its teardown
    one.release()
    assert machine.value == "0"


# -- layers, mounts -----------------------------------------------------------------------------------------------


def test_layers_by_what_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "lacking", list)
    assert disk.find(tmp_path, tmp_path, 1, True).name == "btrfs"
    assert disk.find(tmp_path, tmp_path, 1, False).name == "folder"
    monkeypatch.setattr(disk, "lacking", lambda: ["loop devices"])
    layers = disk.find(tmp_path, tmp_path, 1, True)
    assert (layers.name, layers.remark) == ("tmpfs", "disk layer in memory (tmpfs)")


def test_the_mount_table() -> None:
    found = list(kernel.mounts())
    assert any(mount.target == Path("/proc") and mount.kind == "proc" for mount in found)


# -- root file systems --------------------------------------------------------------------------------------------


def test_a_minimal_root_file_system(tmp_path: Path) -> None:
    target = tmp_path / "root"
    rootfs.build(target, minimal=True)
    assert (target / "usr").is_dir()
    assert not list((target / "usr").iterdir())
    assert rootfs.binds(target)[0].src == "/usr"
    assert all(bind.read_only for bind in rootfs.binds(target))
    assert (target / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert not (target / "etc" / "shadow").exists()
    assert not (target / "etc" / "ssl" / "private").exists()
    with pytest.raises(EngineError, match="not an empty folder"):
        rootfs.build(target, minimal=True)


def test_a_broken_mark_is_named(tmp_path: Path) -> None:
    assert rootfs.binds(tmp_path) == ()
    (tmp_path / rootfs.MARK).write_text("[1]")
    with pytest.raises(EngineError, match=rf"{rootfs.MARK}: .*; `warden rootfs build --minimal` writes it anew"):
        rootfs.binds(tmp_path)


def test_debootstrap_is_asked_for_a_small_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = rootfs.debootstrap_command(tmp_path, "bookworm", "http://mirror.example/debian")
    assert command[:2] == ["debootstrap", "--variant=minbase"]
    assert command[-3:] == ["bookworm", str(tmp_path), "http://mirror.example/debian"]
    monkeypatch.setattr(rootfs.shutil, "which", lambda name: None)
    with pytest.raises(EngineError, match="debootstrap is missing; install the package"):
        rootfs.build(tmp_path / "new", minimal=False)
    assert not (tmp_path / "new").exists()


def test_resolvers(tmp_path: Path) -> None:
    own = settings(tmp_path, dns_servers=("9.9.9.9", "1.1.1.1"))
    assert rootfs.resolvers(own, "10.0.0.1", ["nameserver 8.8.8.8"]) == ["nameserver 9.9.9.9", "nameserver 1.1.1.1"]
    none = settings(tmp_path)
    assert rootfs.resolvers(none, "10.0.0.1", ["nameserver 127.0.0.1", ""]) == ["nameserver 10.0.0.1"]
    assert rootfs.resolvers(none, "10.0.0.1", ["search x", "nameserver 8.8.8.8"]) == ["search x", "nameserver 8.8.8.8"]


def test_links_in_the_folder_below_are_not_followed(tmp_path: Path) -> None:
    below, layer = tmp_path / "below", tmp_path / "layer"
    (below / "etc").mkdir(parents=True)
    layer.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("root:x:0:0:secret\n")
    for name in ("hosts", "passwd", "resolv.conf", "hostname"):
        (below / "etc" / name).symlink_to(secret)
    spec = Spec("0123456789a", "h", tmp_path, below, 10001, "10.0.0.1", "10.0.0.2", 30)
    assert rootfs.write_etc(spec, settings(tmp_path), layer) is None
    assert "secret" not in (layer / "etc" / "passwd").read_text()
    assert "vcap:x:10001:10001::" in (layer / "etc" / "passwd").read_text()
    assert secret.read_text() == "root:x:0:0:secret\n"


# -- copies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "parts"),
    [("/a/b", ("/a", "b")), ("/a/b/", ("/a/b", "")), ("b", (".", "b")), ("/b", ("/", "b")), ("/a/.", ("/a/.", ""))],
)
def test_a_slash_at_the_end_means_the_content(path: str, parts: tuple[str, str]) -> None:
    assert copy.split(path) == parts


# -- doctor -------------------------------------------------------------------------------------------------------


def test_the_doctor_names_what_is_missing_and_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(disk, "lacking", lambda: ["a kernel with btrfs"])
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 1000)
    config = tmp_path / "warden.yml"
    config.write_text(json.dumps({"server": {"container_rootfs_path": str(tmp_path / "none")}}))
    result = CliRunner().invoke(cli.main, ["doctor", "-c", str(config)])
    assert result.exit_code == 1
    for text in (
        "lacks  runc, which runs the containers", "-> apt-get install runc", "-> apt-get install nftables",
        "-> apt-get install catatonit", "lacks  root", "--engine insecure", "note   a kernel with btrfs is missing",
        f"lacks  the root file system {tmp_path / 'none'}", f"-> warden rootfs build {tmp_path / 'none'}",
        "things are missing",
    ):  # fmt: skip
        assert text in result.output, result.output


def test_the_doctor_sees_a_firewall_that_drops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Done:
        returncode = 0
        chain: ClassVar = {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}
        stdout = json.dumps({"nftables": [{"chain": chain}]})

    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 0)
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: Done)
    findings = list(doctor._network(settings(tmp_path)))
    dropped = next(one for one in findings if one.state == doctor.REMARK)
    assert "chain ip filter FORWARD" in dropped.what
    assert "nft insert rule ip filter FORWARD ip saddr 10.254.0.0/24 accept" in dropped.remedy

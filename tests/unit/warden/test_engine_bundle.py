"""What runc is told: limits, rights and mounts of containers and jobs."""

import resource
from pathlib import Path

import pytest

from warden.engine import bundle, seccomp
from warden.engine.api import UNLIMITED, BindMount, EngineError, Settings, Spec

SPEC = Spec("0123456789a", "h", Path("/depot/0123456789a"), Path("/rootfs"), 10001, "10.1.0.1", "10.1.0.2", 30)


def config(**settings: object) -> dict[str, object]:
    made = Settings(Path("/depot"), Path("/rootfs"), "10.1.0.0/24", **settings)  # type: ignore[arg-type]
    binds = (BindMount("/a", "/b", True), BindMount("/c", "/d", False))
    return bundle.config(SPEC, made, Path("/merged"), binds, Path("/init"), "/ns", "/groups/x")


def test_namespaces_and_mounts() -> None:
    made = config()
    kinds = {item["type"] for item in made["linux"]["namespaces"]}  # type: ignore[index]
    assert kinds == {"pid", "mount", "ipc", "uts", "cgroup", "network"}
    binds = {item["destination"]: item["options"] for item in made["mounts"] if item["type"] == "bind"}  # type: ignore[attr-defined]
    assert binds["/b"] == ["rbind", "rro", "nosuid", "nodev"]
    assert binds["/d"] == ["rbind", "rw", "nosuid", "nodev"]
    assert made["process"]["noNewPrivileges"] is True  # type: ignore[index]
    assert "capabilities" not in made["process"]  # type: ignore[operator]


def test_resources() -> None:
    found = config(pids_limit=99, cpu_quota_percent=25)["linux"]["resources"]  # type: ignore[index]
    assert found["pids"] == {"limit": 99}
    assert found["cpu"] == {"period": 100_000, "quota": 25_000}
    assert found["devices"][0] == {"allow": False, "access": "rwm"}
    assert all(rule["access"] == "rw" for rule in found["devices"][1:])
    assert "cpu" not in config()["linux"]["resources"]  # type: ignore[index]


def test_nested_containers_are_less_confined() -> None:
    linux = config(allow_nested=True)["linux"]
    assert "seccomp" not in linux  # type: ignore[operator]
    assert {"allow": True, "access": "rwm"} in linux["resources"]["devices"]  # type: ignore[index]
    assert "CAP_SYS_ADMIN" in bundle.process("root", 1, {}, True)["capabilities"]["bounding"]
    assert bundle.process("vcap", 1, {}, True)["capabilities"]["bounding"] == []


def test_the_rights_of_jobs() -> None:
    vcap, root = bundle.process("vcap", 10001, {}, False), bundle.process("root", 10001, {}, False)
    assert vcap["user"] == {"uid": 10001, "gid": 10001, "umask": 0o022}
    assert root["user"]["uid"] == 0
    assert vcap["capabilities"] == {"bounding": [], "effective": [], "permitted": []}
    assert not {"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_MKNOD", "CAP_SYS_PTRACE"} & set(root["capabilities"]["bounding"])


def test_resource_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_may_raise", lambda: False)
    hard = {resource.RLIMIT_NOFILE: 500, resource.RLIMIT_AS: 1 << 40}
    monkeypatch.setattr(resource, "getrlimit", lambda number: (0, hard.get(number, resource.RLIM_INFINITY)))
    found = {item["type"]: item["hard"] for item in bundle.rlimits({"nofile": 4096, "cpu": UNLIMITED, "core": 5})}
    assert found["RLIMIT_NOFILE"] == 500, "what the server may not have it cannot give"
    assert found["RLIMIT_AS"] == 1 << 40
    assert found["RLIMIT_CPU"] == UNLIMITED
    assert found["RLIMIT_CORE"] == 5
    assert found["RLIMIT_MEMLOCK"] == 64 << 10
    assert len(found) == 15
    monkeypatch.setattr(bundle, "_may_raise", lambda: True)
    found = {item["type"]: item["soft"] for item in bundle.rlimits({"nofile": 4096})}
    assert found["RLIMIT_NOFILE"] == 4096
    with pytest.raises(EngineError, match="unknown resource limit 'filez'; valid: as, core, "):
        bundle.rlimits({"filez": 1})


def test_the_filter() -> None:
    profile = seccomp.profile("x86_64")
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = profile["syscalls"][0]["names"]
    assert len(allowed) == len(set(allowed)), "no call is named twice"
    dangerous = {
        "mount", "umount2", "pivot_root", "setns", "unshare", "init_module", "finit_module", "kexec_load", "bpf",
        "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key", "ptrace", "process_vm_writev",
        "open_by_handle_at", "swapon", "reboot", "settimeofday", "clock_settime", "io_uring_setup", "clone", "clone3",
        "personality", "sethostname", "quotactl", "acct", "iopl", "ioperm", "move_mount", "open_tree", "fsopen",
    }  # fmt: skip
    assert not dangerous & set(allowed)
    rules = {rule["names"][0]: rule for rule in profile["syscalls"][1:]}
    assert rules["clone3"]["action"] == "SCMP_ACT_ERRNO"
    assert rules["clone"]["args"][0]["op"] == "SCMP_CMP_MASKED_EQ"
    assert seccomp.profile("riscv64")["architectures"] == [], "runc takes the machine's own"

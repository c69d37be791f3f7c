"""Who may import whom: docs/layers.md as a test."""

import ast
import re
from pathlib import Path

import pytest

from tests.style.sources import FASTPATH, ROOT, files, layer, name

ALLOWED = {
    "base": {"base"},
    "http": {"base", "http"},
    "route": {"base", "route"},
    "net": {"base", "net"},
    "flow": {"base", "http", "route", "net", "flow"},
    "_fastpath": {"base", "http", "route", "net", "flow"},
}
# Foreign C headers with one home each; everything else comes from the C library.
C_HOMES = {"openssl/": {"net/tls.pxd", "net/crypto.pxd"}, "nghttp2/": {"http/h2.pxd"}}

# Modules of control by what they are; one that is not named here is a part (bus, registry, admin, ...).
# Values: types, formats and functions without a life of their own.
VALUES = {
    "admin_api",
    "admin_client",
    "http_client",
    "intervals",
    "keys",
    "lean_nats",
    "lease",
    "messages",
    "throttle",
    "log",
    "mappings",
    "metrics",
    "rollout_api",
    "rollout_checks",
    "rollout_judge",
    "rollout_plane",
    "rollout_schema",
    "rollout_spec",
    "rollout_states",
    "rollout_view",
    "snapshot",
    "sonde",
    "store",
    "traffic",
    "verdict",
    "versions",
}
CONFIG = {"config", "migrate", "rules", "schema"}
APP = {"app", "app_admin", "app_ports"}
COMMANDS = {"canary_cmd", "canary_flags", "canary_view", "cli", "flags", "check", "ports_cmd", "reach", "routes_cmd"}
# Who may import whom in control. Parts never import each other: app constructs them and hands one to the other.
CONTROL_ALLOWED = {
    "values": {"values"},
    "config": {"values", "config"},
    "part": {"values", "config"},
    "app": {"values", "config", "part", "app"},
    "command": {"values", "config", "app", "command"},
}
PYTHON_HOMES = {
    "yaml": {"component", "control.config"},
    "nats": {"component", "control.bus", "control.bucket", "control.lean_nats"},
    "click": {f"control.{command}" for command in COMMANDS},
    "uvloop": {"control.app", "control.cli"},
    "prometheus_client": {"control.metrics"},
    "starlette": {"control.status", "control.admin"},
    "uvicorn": {"control.status"},
    "h11": {"control.http_client"},
}
SERVICES = {"dea", "warden", "collector", "syslog_aggregator", "haproxy"}

_CIMPORT = re.compile(
    r"^\s*(?:from\s+gorouter_py\.fastpath\.(\w+)(?:\.(\w+))?\s+cimport\s+(.+)|cimport\s+gorouter_py\.fastpath\.(\w+))"
)
_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"|cdef extern from "([^"<]+)"|cdef extern from "<([^>]+)>"')


def cimports(path: Path) -> list[tuple[int, str, list[str]]]:
    """(line, layer, modules) of each cimport from the data plane; no modules if a name of the layer itself is meant."""
    found = []
    for number, line in enumerate(path.read_text().split("\n"), 1):
        if match := _CIMPORT.match(line):
            to_layer = match[1] or match[4]
            names = [part.split(" as ")[0].strip(" ()") for part in (match[3] or "").partition("#")[0].split(",")]
            modules = [match[2]] if match[2] else names
            found.append((number, to_layer, [module for module in modules if module]))
    return found


def unit_files() -> list[Path]:
    return [*sorted(FASTPATH.rglob("*.pxd")), *sorted((ROOT / "gorouter_py").glob("*.p[yx][xd]"))]


def test_the_reader_sees_cimports() -> None:
    assert any(to == "base" for path in sorted(FASTPATH.glob("base/*.pxd")) for _, to, _ in cimports(path))


def test_lower_layers_do_not_know_upper_ones() -> None:
    breaches = [
        f"{name(path)}:{number}: {layer(path)} must not cimport {to}"
        for path in unit_files()
        for number, to, _ in cimports(path)
        if layer(path) != "fastpath" and to not in ALLOWED[layer(path)]
    ]
    assert not breaches, "\n".join(breaches)


def test_headers_stay_in_their_layer() -> None:
    home = {path.name: layer(path) for path in FASTPATH.rglob("*.h")}
    breaches = []
    for path in [*unit_files(), *FASTPATH.rglob("*.h")]:
        for number, line in enumerate(path.read_text().split("\n"), 1):
            match = _INCLUDE.search(line)
            header = next((group for group in match.groups() if group), "") if match else ""
            if header in home and home[header] not in ALLOWED[layer(path)]:
                breaches.append(f"{name(path)}:{number}: {layer(path)} must not include {header}")
            for prefix, homes in C_HOMES.items():
                if header.startswith(prefix) and str(path.relative_to(FASTPATH)) not in homes:
                    breaches.append(f"{name(path)}:{number}: {header} belongs into {' or '.join(sorted(homes))}")
    assert not breaches, "\n".join(breaches)


def test_header_modules_form_no_circle() -> None:
    modules = {f"{layer(path)}.{path.stem}": path for path in FASTPATH.rglob("*.pxd") if path.stem != "__init__"}
    edges = {
        module: {f"{to}.{part}" for _, to, parts in cimports(path) for part in parts} & modules.keys()
        for module, path in modules.items()
    }
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for other in sorted(edges[module]):
                visit(other, (*way, module))
            done.add(module)

    for module in sorted(modules):
        visit(module, ())


# -- Python ---------------------------------------------------------------------------------------------------


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, dotted name) of everything imported at run time; `from a import b` gives a and a.b."""
    found: list[tuple[int, str]] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            found.extend((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: imports are absolute here"
            found.append((node.lineno, node.module or ""))
            found.extend((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(), str(path)))
    return found


def package_files() -> list[Path]:
    return [path for path in files(".py", under=("gorouter_py",)) if path.is_relative_to(ROOT / "gorouter_py")]


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT / "gorouter_py").with_suffix("").parts)


def kind(module: str) -> str:
    """What a module of control is, by its name without the package."""
    if module in VALUES:
        return "values"
    if module in CONFIG:
        return "config"
    if module in COMMANDS:
        return "command"
    return "app" if module in APP else "part"


@pytest.mark.parametrize("path", package_files(), ids=dotted)
def test_control_is_wired_in_one_place(path: Path) -> None:
    if not dotted(path).startswith("control.") or path.name == "__init__.py":
        return
    mine = kind(path.stem)
    breaches = []
    for number, imported in imports(path):
        parts = imported.split(".")
        if parts[:2] == ["gorouter_py", "control"] and len(parts) > 2 and parts[2] != path.stem:
            if kind(parts[2]) not in CONTROL_ALLOWED[mine]:
                breaches.append(f"{name(path)}:{number}: a {mine} module imports {imported}; app hands it in instead")
        elif parts[:2] == ["gorouter_py", "_fastpath"] and mine not in ("app", "command"):
            breaches.append(f"{name(path)}:{number}: a {mine} module imports the data plane; app hands it in instead")
    assert not breaches, "\n".join(breaches)


def test_foreign_libraries_have_one_home() -> None:
    breaches = []
    for path in package_files():
        for number, imported in imports(path):
            homes = PYTHON_HOMES.get(imported.split(".")[0])
            if homes is not None and dotted(path) not in homes:
                breaches.append(f"{name(path)}:{number}: {imported} belongs into {' or '.join(sorted(homes))}")
    assert not breaches, "\n".join(sorted(set(breaches)))


def test_the_router_imports_no_service() -> None:
    breaches = [
        f"{name(path)}:{number}: {imported}"
        for path in package_files()
        for number, imported in imports(path)
        if imported.split(".")[0] in SERVICES
    ]
    assert not breaches, "\n".join(breaches)


# -- warden -----------------------------------------------------------------------------------------------------

# Its modules in ranks: each may import what is in lower ranks, and of the router the shared component alone.
WARDEN_RANKS = (
    {"errors", "supervisor", "protocol", "engine", "syslog"},
    {"client", "state", "pools", "jobs", "limits", "doctor"},
    {"config", "snapshot"},
    {"container"},
    {"manager"},
    {"commands"},
    {"server"},
    {"app"},
    {"demo"},
    {"cli"},
    {"__main__"},
)
WARDEN_HOMES = {
    "click": {"cli"},
    "yaml": set[str](),
    "google": {"protocol"},
    "grpc_tools": {"protocol"},
    "pyroute2": {"engine", "doctor"},
}


def warden_files() -> list[Path]:
    found = [path for path in files(".py", under=("warden",)) if path.is_relative_to(ROOT / "warden")]
    return [path for path in found if path != ROOT / "warden" / "__init__.py" and not path.stem.endswith("_pb2")]


@pytest.mark.parametrize("path", warden_files(), ids=name)
def test_warden_is_built_in_ranks(path: Path) -> None:
    mine = path.relative_to(ROOT / "warden").parts[0].removesuffix(".py")
    lower: set[str] = set()
    for rank in WARDEN_RANKS:
        if mine in rank:
            break
        lower |= rank
    else:
        pytest.fail(f"{name(path)} has no rank here")
    if mine == "client":
        lower = {"protocol"}  # programs that talk to warden take nothing else of it along
    breaches = []
    for number, imported in imports(path):
        top, _, rest = imported.partition(".")
        part = rest.partition(".")[0]
        if (top == "warden" and part and part not in lower | {mine}) or (
            top == "gorouter_py" and part not in ("", "component")
        ):
            breaches.append(f"{name(path)}:{number}: {mine} must not import {imported}")
        if top in WARDEN_HOMES and mine not in WARDEN_HOMES[top]:
            breaches.append(f"{name(path)}:{number}: {top} belongs into {' or '.join(sorted(WARDEN_HOMES[top]))}")
        if top in SERVICES - {"warden"}:
            breaches.append(f"{name(path)}:{number}: one service does not know another: {imported}")
    assert not breaches, "\n".join(breaches)


def test_haproxy_knows_the_configuration_alone() -> None:
    breaches = [
        f"{name(path)}:{number}: {imported}"
        for path in files(".py", under=("haproxy",))
        if path.is_relative_to(ROOT / "haproxy")
        for number, imported in imports(path)
        if imported.partition(".")[0] in {"gorouter_py", "warden", "dea"}
        and not "gorouter_py.control.config".startswith(imported)
    ]
    assert not breaches, "\n".join(breaches)

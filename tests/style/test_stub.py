"""_fastpath.pyi says what the compiled module has, name by name and parameter by parameter."""

import ast
import inspect
import re
from types import ModuleType

import pytest

from tests.style.sources import ROOT

STUB = ast.parse((ROOT / "gorouter_py" / "_fastpath.pyi").read_text())


def is_typed_dict(node: ast.stmt) -> bool:
    """A class that only describes others: TypedDict or Protocol."""
    bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
    return any(base in ("TypedDict", "Protocol") for base in bases)


def stub_names() -> set[str]:
    """Names of the stub that exist at run time; TypedDicts and Protocols are for type checkers alone."""
    names = set()
    for node in STUB.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not is_typed_dict(node):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def stub_class(wanted: str) -> ast.ClassDef:
    return next(node for node in STUB.body if isinstance(node, ast.ClassDef) and node.name == wanted)


def parameters(node: ast.FunctionDef) -> list[tuple[str, bool, bool]]:
    """(name, keyword only, has a default) of each parameter but self."""
    plain = [*node.args.posonlyargs, *node.args.args]
    first_default = len(plain) - len(node.args.defaults)
    found = [(arg.arg, False, index >= first_default) for index, arg in enumerate(plain)]
    pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    found += [(arg.arg, True, default is not None) for arg, default in pairs]
    return [entry for entry in found if entry[0] != "self"]


def compiled_parameters(function: object) -> list[tuple[str, bool, bool]]:
    assert callable(function)
    entries = inspect.signature(function).parameters.values()
    return [
        (entry.name, entry.kind is entry.KEYWORD_ONLY, entry.default is not entry.empty)
        for entry in entries
        if entry.name != "self"
    ]


@pytest.fixture(scope="module")
def module() -> ModuleType:
    from gorouter_py import _fastpath

    return _fastpath


def test_names(module: ModuleType) -> None:
    public = {
        each for each, value in vars(module).items() if not each.startswith("_") and not isinstance(value, ModuleType)
    }
    typed = {node.name for node in STUB.body if isinstance(node, ast.ClassDef) and is_typed_dict(node)}
    assert public - typed == stub_names()


def test_methods(module: ModuleType) -> None:
    methods = {node.name: node for node in stub_class("DataPlane").body if isinstance(node, ast.FunctionDef)}
    compiled = module.DataPlane
    public = {each for each in vars(compiled) if not each.startswith("_")}
    assert public == {each for each in methods if not each.startswith("_")}
    for each, node in methods.items():
        if each != "__init__":
            assert compiled_parameters(getattr(compiled, each)) == parameters(node), each


def test_functions(module: ModuleType) -> None:
    for node in STUB.body:
        if isinstance(node, ast.FunctionDef):
            assert compiled_parameters(getattr(module, node.name)) == parameters(node), node.name


def default_of(key: str) -> object:
    """The default that the stub gives beside a setting, in the form `key: type  # DEFAULT: what it is`."""
    source = (ROOT / "gorouter_py" / "_fastpath.pyi").read_text()
    match = re.search(rf"^    {key}: (.+?)  # (\([^)]*\)|\"[^\"]*\"|True|False|\d+)", source, re.M)
    assert match is not None, f"{key}: the stub names no default"
    value: object = ast.literal_eval(match[2])
    assert type(value).__name__ in (match[1], "tuple"), f"{key}: {value!r} is no {match[1]}"
    return value


def test_settings_are_those_of_the_stub(module: ModuleType) -> None:
    fields = stub_class("Settings").body
    keys = [node.target.id for node in fields if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    for key in keys:
        plane = module.DataPlane({key: default_of(key)})
        del plane
    with pytest.raises(ValueError, match="no_such_setting"):
        module.DataPlane({"no_such_setting": 1})

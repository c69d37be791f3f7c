"""Compiles bench/micro/_micro.pyx with the release flags of setup.py into build/bench/micro and imports it.

It is compiled anew when any source of the data plane is newer. As a program: python -m bench.micro.build.
"""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

REPO = Path(__file__).resolve().parents[2]
OUT = REPO / "build" / "bench" / "micro"
SOURCE = Path("bench/micro/_micro.pyx")


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_stale() -> bool:
    """Whether the unit is missing or older than one of its sources."""
    built = sorted(OUT.glob("_micro.*.so"))
    sources = [REPO / SOURCE, REPO / "setup.py", *(REPO / "gorouter_py" / "fastpath").rglob("*.[hp]*")]
    return not built or built[-1].stat().st_mtime < max(path.stat().st_mtime for path in sources)


def compile_unit() -> None:
    """Runs Cython and the C compiler; raises what they raise."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension  # type: ignore[import-untyped]

    flags = _load("gorouter_setup", REPO / "setup.py")
    layers = ("base", "http", "route", "net", "flow")
    unit = Extension(
        "_micro",
        [str(SOURCE)],
        extra_compile_args=[*flags.MODES["release"], "-g1", "-fvisibility=hidden", "-w"],
        extra_link_args=["-pthread"],
        include_dirs=[str(REPO / "gorouter_py" / "fastpath" / layer) for layer in layers],
    )
    units = cythonize(  # type: ignore[no-untyped-call]
        [unit],
        compiler_directives=flags.DIRECTIVES,
        build_dir=str(OUT / "cython"),
        include_path=[str(REPO)],
        force=True,
        quiet=True,
    )
    distribution = Distribution({"name": "micro", "ext_modules": units})
    command = distribution.get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(OUT), str(OUT / "temp")
    command.force = True
    command.ensure_finalized()
    command.run()


def micro() -> ModuleType:
    """The compiled unit, fresh."""
    if is_stale():
        before = Path.cwd()
        os.chdir(REPO)
        try:
            compile_unit()
        finally:
            os.chdir(before)
    return _load("_micro", sorted(OUT.glob("_micro.*.so"))[-1])


if __name__ == "__main__":
    print(micro().__file__)
    sys.exit(0)

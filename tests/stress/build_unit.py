"""Compiles tests/stress/_unit.pyx into a directory, with the flags of a build mode of setup.py.

Usage: build_unit.py OUT MODE [DEFINE ...]. The unit is OUT/_unit.*.so; other builds see nothing of it.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))


def build(out: Path, mode: str, defines: list[str]) -> None:
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    import setup as project

    flags = [*project.MODES[mode], "-g1", "-Wall", "-Wno-unused-function", "-Wno-unused-variable"]
    unit = Extension(
        "_unit",
        [str(ROOT / "tests" / "stress" / "_unit.pyx")],
        extra_compile_args=[*flags, *(f"-D{name}" for name in defines)],
        extra_link_args=[*(flag for flag in flags if flag.startswith("-fsanitize")), "-pthread"],
        include_dirs=[str(ROOT / "gorouter_py" / "fastpath" / layer) for layer in ("base", "http", "route", "net")],
    )
    units = cythonize(
        [unit], compiler_directives=project.DIRECTIVES, build_dir=str(out / "c"), include_path=[str(ROOT)], quiet=True
    )
    command = Distribution({"ext_modules": units}).get_command_obj("build_ext")
    command.build_lib = str(out)
    command.build_temp = str(out / "o")
    command.ensure_finalized()
    command.run()


if __name__ == "__main__":
    build(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])

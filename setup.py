"""Builds the one compiled unit of the data plane and, for tests, its probe.

Modes, chosen with GOROUTER_BUILD: release (default), dev (assertions, live-object counters), asan
(dev plus address and undefined-behaviour sanitizers), tsan (dev plus the thread sanitizer), none (metadata only:
bin/run and bin/test install the package so and compile by themselves, visibly and only when sources changed).
GOROUTER_PROBE=1 builds tests/_probe.pyx as well. Cython directives live here and nowhere else: they
would not travel into the .pxd files. Each mode has its own tree under build/, so none overwrites another.
"""

import os
import platform
import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup

TUNED = []
if platform.machine() == "x86_64" and "clang" not in (os.environ.get("CC") or sysconfig.get_config_var("CC") or ""):
    # Small structs are cleared by plain stores: gcc's own choice, "rep stos", takes some 30 cycles to get going.
    TUNED = ["-mmemset-strategy=unrolled_loop:512:noalign,libcall:-1:noalign"]
MODES = {
    "release": ["-O2", *TUNED],
    "dev": ["-O1", "-DDP_DEBUG"],
    "asan": ["-O1", "-DDP_DEBUG", "-DDP_POISON", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"],
    "tsan": ["-O1", "-DDP_DEBUG", "-fsanitize=thread"],
}
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "nonecheck": False,
    "freethreading_compatible": False,
}


def extensions(mode: str) -> list[Extension]:
    """The units of one mode, from Cython source to shared object."""
    from Cython.Build import cythonize

    flags = [*MODES[mode], "-g1", "-fvisibility=hidden", "-Wall", "-Wno-unused-function", "-Wno-unused-variable",
             "-Wno-sign-compare", "-Wno-unused-but-set-variable"]
    link = [flag for flag in flags if flag.startswith("-fsanitize")]
    if mode == "asan":
        flags.append("-fno-sanitize=alignment")  # x86 text scans read unaligned words on purpose
    common = {
        "extra_compile_args": flags,
        "extra_link_args": [*link, "-pthread"],
        "include_dirs": [f"gorouter_py/fastpath/{layer}" for layer in ("base", "http", "route", "net", "flow")],
        # Flags sit in this file and tables in the .h files: a change there compiles anew as one in a .pxd does.
        "depends": [
            "setup.py", *glob("gorouter_py/*.pxi"), *sorted(glob("gorouter_py/fastpath/**/*.[hp]*", recursive=True))
        ],
    }
    units = [Extension("gorouter_py._fastpath", ["gorouter_py/_fastpath.pyx"], **common)]
    if os.environ.get("GOROUTER_PROBE"):
        common["depends"] += sorted(glob("tests/_probe*.pxi"))
        units.append(Extension("tests._probe", ["tests/_probe.pyx"], **common))
    out = f"build/{mode}/cython"
    # Cython does not see modules that are cimported by way of their package (from a.b cimport c).
    stale = any(is_older(f"{out}/{unit.sources[0].removesuffix('.pyx')}.c", unit.depends) for unit in units)
    return cythonize(units, compiler_directives=DIRECTIVES, build_dir=out, force=stale)


def is_older(target: str, sources: list[str]) -> bool:
    """Whether a file is missing or older than one of its sources."""
    return not os.path.exists(target) or os.path.getmtime(target) < max(os.path.getmtime(path) for path in sources)


def main() -> None:
    mode = os.environ.get("GOROUTER_BUILD", "release")
    if mode not in (*MODES, "none"):
        raise SystemExit(f"GOROUTER_BUILD={mode}: must be one of {', '.join((*MODES, 'none'))}")
    metadata_only = mode == "none" or "egg_info" in sys.argv
    setup(ext_modules=[] if metadata_only else extensions(mode))


if __name__ == "__main__":
    main()

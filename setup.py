"""Builds the one compiled unit of the data plane and, for tests, its probe.

Modes, chosen with GOROUTER_BUILD: release (default), dev (assertions, live-object counters), asan
(dev plus address and undefined-behaviour sanitizers), tsan (dev plus the thread sanitizer).
GOROUTER_PROBE=1 builds tests/_probe.pyx as well. Cython directives live here and nowhere else: they
would not travel into the .pxd files.
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

MODES = {
    "release": ["-O2"],
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


def extensions() -> list[Extension]:
    mode = os.environ.get("GOROUTER_BUILD", "release")
    if mode not in MODES:
        raise SystemExit(f"GOROUTER_BUILD={mode}: must be one of {', '.join(MODES)}")
    flags = [*MODES[mode], "-g1", "-fvisibility=hidden", "-Wall", "-Wno-unused-function", "-Wno-unused-variable"]
    link = [flag for flag in flags if flag.startswith("-fsanitize")]
    if mode == "asan":
        flags.append("-fno-sanitize=alignment")  # x86 text scans read unaligned words on purpose
    common = {
        "extra_compile_args": flags,
        "extra_link_args": link + ["-pthread"],
        "include_dirs": [f"gorouter_py/fastpath/{layer}" for layer in ("base", "http", "route", "net", "flow")],
    }
    units = [Extension("gorouter_py._fastpath", ["gorouter_py/_fastpath.pyx"], **common)]
    if os.environ.get("GOROUTER_PROBE"):
        units.append(Extension("tests._probe", ["tests/_probe.pyx"], **common))
    return units


setup(ext_modules=cythonize(extensions(), compiler_directives=DIRECTIVES, build_dir="build/cython"))

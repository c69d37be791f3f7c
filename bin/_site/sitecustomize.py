"""Lets every Python process of a test run load the compiled units of one build mode.

Active when this folder is on PYTHONPATH and GOROUTER_LIB names a folder such as build/asan/lib. The package's Python
files still come from the checkout; only gorouter_py._fastpath and tests._probe are taken from there. A unit
that is missing is an error: falling back to another mode's would test the wrong code and say nothing.
"""

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location

UNITS = ("gorouter_py._fastpath", "tests._probe")


class ModeFinder:
    """Finds the compiled units below one folder, ahead of every other finder."""

    def __init__(self, lib: str) -> None:
        self.lib = lib

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in UNITS:
            return None
        stem = os.path.join(self.lib, *name.split("."))
        for suffix in EXTENSION_SUFFIXES:
            if os.path.exists(stem + suffix):
                loader = ExtensionFileLoader(name, stem + suffix)
                return spec_from_file_location(name, stem + suffix, loader=loader)
        raise ModuleNotFoundError(f"{name} is not built in {self.lib} (GOROUTER_LIB)", name=name)


if os.environ.get("GOROUTER_LIB"):
    sys.meta_path.insert(0, ModeFinder(os.path.abspath(os.environ["GOROUTER_LIB"])))

"""Header modules of the data plane: no Python, and no way for one to slip in.

Without `noexcept` Cython checks for an exception after each call, taking the GIL to do so when -1 comes back; without
`nogil` a call is refused or takes it. Both are looked for in the sources and in the C that Cython makes of them.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.style.sources import FASTPATH, ROOT, Line, after_bracket, logical_lines, name

ENDING = "noexcept nogil"
_POINTER = re.compile(r"\(\s*\*\s*\w*\s*\)\s*\(")
_PYTHON = re.compile(r"^(def|cpdef|class|try|except|raise|with|import|from\s+\S+\s+import|yield|print|lambda|del)\b")
_VARIABLE = re.compile(
    r"^cdef\s+(?!extern|enum|struct|union|packed|inline|class|public|cppclass)[\w ]+?[ *]+\w+(\[[^]]*\])*\s*(=|$|,)"
)


def header_modules() -> list[Path]:
    return sorted(FASTPATH.rglob("*.pxd"))


def endings(lines: list[Line]) -> list[tuple[int, str]]:
    """(line, complaint) for each function or function-pointer type that ends otherwise than it must."""
    found = []
    extern_indent: int | None = None
    extern_nogil = False
    for line in lines:
        text = line.text
        if extern_indent is not None and line.indent <= extern_indent:
            extern_indent = None
        if text.startswith("cdef extern from"):
            extern_indent = line.indent
            extern_nogil = text.endswith("nogil:")
            continue
        for match in _POINTER.finditer(text):
            tail = text[after_bracket(text, match.end() - 1) :]
            if not tail.lstrip().startswith(ENDING):
                found.append((line.number, f"function pointer must end `{ENDING}`: {text}"))
        if _POINTER.search(text) and not text.startswith("cdef inline"):
            continue
        head = text.partition("(")[0]
        if "=" in head or "(" not in text:
            continue  # a variable with its first value, or no function at all
        in_extern = extern_indent is not None
        if not re.match(r"(cdef\s+)?[\w. ]+?[ *]+\w+\s*(\"\"\s*)?$" if in_extern else r"cdef\b.*\w\s*$", head):
            continue
        tail = text[after_bracket(text, len(head)) :].strip().rstrip(":").strip()
        wanted = ("noexcept", ENDING) if in_extern else (ENDING,)
        if tail not in wanted:
            found.append((line.number, f"function must end `{wanted[0]}`: {text}"))
        elif in_extern and not extern_nogil and tail != ENDING:
            found.append((line.number, "an extern block with functions ends `nogil:`"))
    return found


def test_the_reader_sees_what_it_must_refuse() -> None:
    def complaints(source: str) -> int:
        return len(endings(logical_lines(source)))

    assert complaints("cdef inline int f(int a,\n        int b) noexcept nogil:\n    return g(a)\n") == 0
    assert complaints("cdef inline int f(int a) nogil:\n    return a\n") == 1
    assert complaints("cdef inline int f(int a) noexcept:\n    return a\n") == 1
    assert complaints("cdef inline int f(int a) except -1 nogil:\n    return a\n") == 1
    assert complaints("ctypedef int (*F)(void *) noexcept nogil\n") == 0
    assert complaints("ctypedef int (*F)(void *) nogil\n") == 1
    assert complaints("cdef struct S:\n    void (*end)(int)\n    int (*ok)(int) noexcept nogil\n") == 1
    assert complaints("cdef inline void f(int (*cb)(int), int b) noexcept nogil:\n    pass\n") == 1
    assert complaints('cdef extern from "x.h" nogil:\n    int f(int) noexcept\n    int g(int)\n') == 1
    assert complaints('cdef extern from "x.h" nogil:\n    int f "C_F"(int)\n') == 1
    assert complaints('cdef extern from "x.h":\n    int f(int) noexcept\n') == 1
    assert complaints("cdef inline int f() noexcept nogil:\n    cdef int *a = <int *>malloc(g(3))\n") == 0


@pytest.mark.parametrize("path", header_modules(), ids=name)
def test_functions_neither_raise_nor_take_the_gil(path: Path) -> None:
    found = [f"{name(path)}:{number}: {what}" for number, what in endings(logical_lines(path.read_text()))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", header_modules(), ids=name)
def test_no_python_and_no_module_state(path: Path) -> None:
    found = []
    for line in logical_lines(path.read_text()):
        if _PYTHON.match(line.text):
            found.append(f"{name(path)}:{line.number}: Python in a header module: {line.text}")
        if re.match(r"cdef\s+(object|list|dict|tuple|str|bytes|set)\b", line.text):
            found.append(f"{name(path)}:{line.number}: a Python object: {line.text}")
        if line.indent == 0 and _VARIABLE.match(line.text):
            found.append(f"{name(path)}:{line.number}: state hangs off a struct, never off the module: {line.text}")
        if re.search(r"#\s*cython:", line.text):
            found.append(f"{name(path)}:{line.number}: directives live in setup.py")
    assert not found, "\n".join(found)


# -- the generated C ------------------------------------------------------------------------------------------

# What a function without the GIL has no business with: whatever is Python's, whatever Cython's run-time adds for it.
_TABOO = re.compile(
    r"\b(?:__Pyx_PyGILState_\w+|PyGILState_\w+|__Pyx_ErrOccurred\w*|PyErr_\w+|PyEval_\w+|Py_(?:X?INCREF|X?DECREF|CLEAR|BEGIN\w+|"
    r"END\w+|BLOCK\w+|UNBLOCK\w+)|__Pyx_(?:AddTraceback|WriteUnraisable\w*|Raise\w*|GetModuleGlobal\w*|X?DECREF\w*|X?INCREF\w*|"
    r"RefNanny\w*|FastGIL\w*|GetBuiltin\w*)|PyObject|PyObject_\w+|PyLong_\w+|PyList_\w+|PyDict_\w+|PyUnicode_\w+)\b"
)
# A definition in generated C: at the start of a line, its body closed by a brace at the start of a line.
_DEFINITION = re.compile(r"^[^\s#/}][^\n;]*?\b(__pyx_f_\w+)\([^;{]*\)\s*\{\n(.*?)^\}", re.M | re.S)
_NOGIL_IN_UNIT = re.compile(r"^cdef\s+(?:inline\s+)?[\w\s*]+?\b(\w+)\s*\(.*\)\s*noexcept nogil:")


def build_script() -> ModuleType:
    """setup.py as a module, without running a build."""
    spec = importlib.util.spec_from_file_location("project_setup", ROOT / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """C functions of the unit as it would be compiled now: name to body, comments cut."""
    script = build_script()
    unit = ROOT / "gorouter_py" / "_fastpath.pyx"
    out = ROOT / "build" / "release" / "cython" / "gorouter_py" / "_fastpath.c"
    if script.is_older(out, [unit, ROOT / "setup.py", *ROOT.glob("gorouter_py/*.pxi"), *FASTPATH.rglob("*.[hp]*")]):
        out = tmp_path_factory.mktemp("c") / "_fastpath.c"
        flags = [part for key, value in script.DIRECTIVES.items() for part in ("-X", f"{key}={value}")]
        subprocess.run(
            [sys.executable, "-m", "cython", *flags, str(unit), "-o", str(out)],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
    source = re.sub(r"/\*.*?\*/", "", out.read_text(), flags=re.S)
    return {match[1]: match[2] for match in _DEFINITION.finditer(source)}


def mangled(path: Path, function: str) -> str:
    """Cython's C name of a module-level cdef function."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "__pyx_f_" + "_".join(f"{len(part)}{part}" for part in parts) + "_" + function


def nogil_functions() -> list[tuple[Path, str]]:
    found = []
    for path in [*header_modules(), ROOT / "gorouter_py" / "_fastpath.pyx"]:
        for line in logical_lines(path.read_text()):
            if line.indent == 0 and (match := _NOGIL_IN_UNIT.match(line.text)):
                found.append((path, match[1]))
    return found


def test_generated_functions_are_free_of_python(generated: dict[str, str]) -> None:
    seen = 0
    found = []
    for path, function in nogil_functions():
        body = generated.get(mangled(path, function))
        if body is None:
            continue  # an inline function that nobody calls is not generated
        seen += 1
        if taboo := _TABOO.search(body):
            found.append(f"{name(path)}: {function} uses {taboo[0]} in the generated C")
    assert seen > 50, "the reader of generated C no longer finds the functions"
    assert not found, "\n".join(found)


def test_the_reader_of_generated_c_finds_the_gil(tmp_path: Path) -> None:
    source = tmp_path / "sample.pyx"
    source.write_text(
        "# cython: language_level=3\n"
        "cdef int bad(int a) except? -1 nogil:\n"
        "    if a:\n        with gil:\n            raise ValueError(a)\n    return 1\n"
        "cdef inline int good(int a) noexcept nogil:\n    return a + 1\n"
        "cdef int caller(int a) noexcept nogil:\n    return bad(a)\n"
        "def use(int a):\n    return bad(a) + good(a) + caller(a)\n"
    )
    out = tmp_path / "sample.c"
    subprocess.run([sys.executable, "-m", "cython", str(source), "-o", str(out)], check=True, capture_output=True)
    text = re.sub(r"/\*.*?\*/", "", out.read_text(), flags=re.S)
    bodies = {match[1]: match[2] for match in _DEFINITION.finditer(text)}
    assert _TABOO.search(bodies["__pyx_f_6sample_bad"])
    assert _TABOO.search(bodies["__pyx_f_6sample_caller"])
    assert not _TABOO.search(bodies["__pyx_f_6sample_good"])

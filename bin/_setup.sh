# What bin/run, bin/test and the Makefile share: finding Python, installing what is missing, compiling.
# Sourced, with `set -euo pipefail` on and the root of the checkout as current folder.
# Every step is silent and quick when there is nothing to do, and says what it does when there is.

VENV=.venv
PY=$VENV/bin/python
# pytest's arguments for a run of everything: two processes a core, a file of tests in one of them.
SPREAD=(-n "$(($(nproc) * 2))" --dist loadfile -p no:benchmark)

# Python's compiled modules are kept, which container images like to forbid: without them each start of a router, and
# each process of a test run, compiles every module anew.
unset PYTHONDONTWRITEBYTECODE

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Runs apt-get with the rights to do so. While it runs no package may start a daemon: the user asked for
# programs, not for an nginx on port 80. A policy-rc.d that was there before is put back.
apt_install() {
    command -v apt-get >/dev/null || die "missing: $*. This script installs packages on Debian and its kin only; install them by hand and run it again."
    local sudo=""
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "missing Debian packages: $* - install them as root: apt-get install $*"
        sudo=sudo
    fi
    say "Installing Debian packages${sudo:+ (with sudo)}: $*"
    $sudo env DEBIAN_FRONTEND=noninteractive bash -euc '
        policy=/usr/sbin/policy-rc.d
        kept=
        restore() {
            rm -f "$policy"
            if [ -n "$kept" ]; then mv "$kept" "$policy"; fi
        }
        if [ -e "$policy" ] || [ -L "$policy" ]; then kept=$policy.kept-$$; mv "$policy" "$kept"; fi
        trap restore EXIT
        trap "exit 1" INT TERM HUP
        printf "#!/bin/sh\nexit 101\n" >"$policy"
        chmod 755 "$policy"
        install() {
            apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 -qq "$@" </dev/null >/dev/null
        }
        # An old package index names files that are gone: fetch a new one, then once more.
        install "$@" 2>/dev/null || { apt-get update -qq </dev/null; install "$@"; }
        # Not at the next boot either.
        for unit in haproxy nginx; do
            case " $* " in
                *" $unit"*) if [ -d /run/systemd/system ]; then systemctl disable -q "$unit" || true; fi ;;
            esac
        done
    ' apt_install "$@" || die "apt-get could not install: $*"
}

# Installs those of the named "program=package" pairs whose program is not there.
need_programs() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || [ -x "/usr/sbin/${pair%%=*}" ] || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

# Sets BASE_PY to a Python of 3.11 or newer.
need_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            BASE_PY=$(command -v "$candidate")
            return
        fi
    done
    apt_install python3
    /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "needs Python 3.11 or newer; set PYTHON to one"
    BASE_PY=/usr/bin/python3
}

# The packages that belong to BASE_PY when it is Debian's: "python3" or "python3.12".
python_package() {
    case $("$BASE_PY" -c 'import os, sys; print(os.path.realpath(sys.executable))') in
        /usr/bin/python3*) "$BASE_PY" -c 'import sys; print("python%d.%d" % sys.version_info[:2])' ;;
        *) die "$BASE_PY lacks $1, and it is not Debian's: install that for it, or set PYTHON=/usr/bin/python3" ;;
    esac
}

need_venv() {
    if [ -x "$PY" ] && "$PY" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then return; fi
    need_python
    "$BASE_PY" -c 'import ensurepip, venv' 2>/dev/null || { local p; p=$(python_package venv); apt_install "$p-venv"; }
    say "Creating $VENV with $("$BASE_PY" -V)"
    "$BASE_PY" -m venv --clear "$VENV"
}

# A C compiler, the C library's headers and Python's. The test is the thing itself: a program that includes both.
need_compiler() {
    local include stamp=build/stamps/compiler
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$("$PY" -V)" ] && command -v gcc >/dev/null && return
    include=$("$PY" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    try_compile() { printf '#include <Python.h>\n#include <pthread.h>\nint main(void){return 0;}\n' | gcc -I"$include" -x c -fsyntax-only - 2>/dev/null; }
    if ! try_compile; then
        local packages=(gcc libc6-dev)
        if [ ! -f "$include/Python.h" ]; then
            BASE_PY=$(readlink -f "$PY")
            packages+=("$(python_package "its headers (Python.h)")-dev")
        fi
        apt_install "${packages[@]}"
        try_compile || die "gcc cannot compile a program that includes Python.h from $include"
    fi
    mkdir -p build/stamps
    "$PY" -V >"$stamp"
}

# need_packages EXTRA...: the package, editable, with its extras, in the venv. Skipped while neither the
# requirements nor the interpreter changed. A larger set installed before is kept as it is.
need_packages() {
    local extras hash stamp
    extras=$(IFS=,; echo "$*")
    stamp=$VENV/.installed-${extras//,/-}
    hash=$( (cat pyproject.toml gorouter_py/__init__.py; "$PY" -V) | sha256sum | cut -c1-64)
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$hash" ] && return
    say "Installing Python packages into $VENV: gorouter-py[$extras]"
    "$PY" -m pip install -q --disable-pip-version-check 'setuptools>=65.5' wheel 'Cython>=3.3' || die "pip failed"
    GOROUTER_BUILD=none "$PY" -m pip install -q --disable-pip-version-check --no-build-isolation -e ".[$extras]" || die "pip failed"
    echo "$hash" >"$stamp"
}

# Every file that goes into the compiled unit (and, with "probe", into the test probe), as one hash.
sources_hash() {
    {
        find gorouter_py -name '*.pyx' -o -name '*.px[di]' -o -name '*.h'
        echo setup.py
        [ "${1:-}" != probe ] || ls tests/_probe*.p*
    } | LC_ALL=C sort | xargs sha256sum | { cat; "$PY" -V; gcc -dumpfullversion; } | sha256sum | cut -c1-64
}

# need_build MODE [probe]: compiles unless the sources are those of the last time. The release build goes beside the
# Python files, where an editable install looks for it; every other mode to build/MODE/lib (see bin/_site).
need_build() {
    local mode=$1 probe=${2:-} stamp hash log where began=$SECONDS
    stamp=build/stamps/$mode${probe:+-probe}
    hash=$(sources_hash "$probe")
    if [ "$mode" = release ]; then where=.; else where=build/$mode/lib; fi
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$hash" ] &&
        compgen -G "$where/gorouter_py/_fastpath.*.so" >/dev/null &&
        { [ -z "$probe" ] || compgen -G "$where/tests/_probe.*.so" >/dev/null; }; then
        return
    fi
    say "Compiling the data plane ($mode${probe:+, with the test probe})"
    mkdir -p build/stamps "build/$mode"
    log=build/$mode/build.log
    # Not in setuptools' own build/lib: a wheel would pick the probe up there.
    local place=(--build-lib "build/$mode/lib")
    [ "$mode" != release ] || place+=(--inplace)
    if ! GOROUTER_BUILD=$mode GOROUTER_PROBE=${probe:+1} \
        "$PY" setup.py -q build_ext "${place[@]}" --build-temp "build/$mode/tmp" >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        die "compiling failed; the whole output is in $log"
    fi
    echo "$hash" >"$stamp"
    say "Compiled in $((SECONDS - began)) s"
}

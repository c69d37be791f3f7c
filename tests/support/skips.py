"""For which reasons a test may be skipped where everything is installed: only for what no installation gives.

A program that `bin/test` installs is none of them: a test that misses it fails.
"""

import re

_NOT_ROOT = "needs root"  # all of it: nothing else hides behind
_MACHINE = re.compile(r"needs (a kernel with .+|IPv6)")


def accepted(reason: str, root: bool) -> bool:
    """Whether a skip may go by. root: whether the tests run as root."""
    return (reason == _NOT_ROOT and not root) or _MACHINE.fullmatch(reason) is not None

"""What a gorouter configuration means here, key by key: the same, stricter, different on purpose, or not supported.

The table of keys says what has no effect; the tables below say where a key that has one is not quite gorouter's.
docs/migrating-from-gorouter.md tells the rest, which no key decides. Pure.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gorouter_py.component import Mark, Problem, Reading
from gorouter_py.control import keys, rules

SAME, STRICTER, DIFFERENT, UNSUPPORTED, UNKNOWN = "same", "stricter", "different", "not supported", "unknown"
KINDS: Final = (UNSUPPORTED, STRICTER, DIFFERENT, UNKNOWN, SAME)

_TOO_LONG = "at most {} bytes, a bound of the places they are kept in"
_HEADERS = (
    f"names must be header names and values one line, at most {rules.HEADERS_MAX} of them: what cannot be sent is "
    "refused at the start and not when it is used"
)
_STRICTER: Final = {
    "sticky_session_cookie_names": f"at most {rules.COOKIE_NAMES_MAX} names of {rules.COOKIE_NAME_BYTES_MAX} bytes",
    "extra_headers_to_log": _HEADERS,
    "http_rewrite.responses.add_headers_if_not_present[].name": _HEADERS,
    "http_rewrite.responses.add_headers_if_not_present[].value": _HEADERS,
    "http_rewrite.responses.remove_headers[].name": _HEADERS,
    **{path: _TOO_LONG.format(size) for path, size in rules.TEXT_BYTES_MAX.items()},
    "max_request_headers": "0 means 4096, and more is not possible: so many fields in one head are an attack",
    "max_response_header_bytes": "0 means 1 MiB, not 10: an answer's head is held in memory",
    "backends.max_attempts": "at most 16: more only keep a client waiting",
    "nats.hosts[].hostname": "must not be empty",
    "nats.tls_enabled": "credentials are never sent to a server that does not speak TLS",
    "go_max_procs": "at most 64 threads",
}
_DIFFERENT: Final = {
    "prune_stale_droplets_interval": "the routing API's routes are fetched at the start, too",
    "empty_pool_timeout": "ends to the second, not with the next pruning cycle",
    "enable_http1_concurrent_read_write": "always on: bodies stream both ways at once",
    "max_idle_conns_per_host": "counts per worker thread",
    "disable_keep_alives": "an instance that was told to close may do so first, so that ports are not used up",
}


@dataclass(frozen=True)
class Finding:
    """One key of a file: where it is, what it means here (one of KINDS) and why."""

    mark: Mark
    path: str
    kind: str
    reason: str = ""


def findings(reading: Reading) -> Iterator[Finding]:
    """What there is to say about each key of a file, in its order. A list of sections is told by its keys, once."""
    table = {row.path: row for row in keys.rows()}
    told: set[str] = set()
    unknown = [_unknown(problem) for problem in reading.unknown]
    known = []
    for path, mark in reading.marks.items():
        name = rules.generic(path)
        row = table.get(name)
        if row is None or name in told:
            continue
        told.add(name)
        if name in _DIFFERENT:
            known.append(Finding(mark, name, DIFFERENT, _DIFFERENT[name]))
        elif row.now and name in _STRICTER:
            known.append(Finding(mark, name, STRICTER, _STRICTER[name]))
        elif row.now or row.note.startswith(keys.PARSED_ONLY):
            known.append(Finding(mark, name, SAME, "" if row.now else row.note))
        else:
            known.append(Finding(mark, name, UNSUPPORTED, row.note))
    yield from sorted(known + unknown, key=lambda finding: (finding.mark.line, finding.mark.column))


def _unknown(problem: Problem) -> Finding:
    return Finding(problem.mark, problem.path, UNKNOWN, "ignored, as in gorouter")

"""What is checked of one fuzzed input, for each parser: any cut gives the same, and the model agrees."""

import random
from collections.abc import Callable
from itertools import pairwise

from tests import _probe
from tests.fuzz import model
from tests.unit.http.differences import compare

# Comparing with the foreign parsers costs a hundred times the rest: a part of the inputs is enough.
PEERS_ONE_IN = 8


def cuts(rng: random.Random, length: int) -> list[int]:
    """Rising positions at which the input is cut."""
    return sorted(rng.randint(0, length) for _ in range(rng.choice((0, 1, 1, 2, 3, 8))))


def _same_lines(data: bytes, said: dict, start: bytes) -> None:
    """The offsets in a Head cover the octets without gap or overlap."""
    lines = said["lines"]
    text = start + b"\r\n" + b"".join(lines) + b"\r\n"
    assert data[said["length"] - said["head_len"] : said["length"]] == text
    for (name, value, number), line in zip(said["fields"], lines, strict=True):
        assert line.startswith(name + b":")
        assert line[len(name) + 1 :].strip(b" \t\r\n") == value
        assert _probe.name_id(name) == number
    known = _probe.name_table()
    numbers = [field[2] for field in said["fields"]]
    wanted = {text.decode(): numbers.index(number) for number, text, *_ in known if number in numbers}
    assert said["first"] == wanted
    assert said["stray_flags"] == 0


def _same_verdict(data: bytes, whole: object, pieces: object, wanted: model.Head | None) -> None:
    if isinstance(whole, dict):
        assert pieces == whole
        assert wanted is not None, "taken, but the model refuses it"
        assert (whole["length"], whole["minor"]) == (wanted.length, wanted.minor)
        assert [field[:2] for field in whole["fields"]] == wanted.fields
        assert (whole["framing"], whole["content_length"]) == (wanted.framing, wanted.content_length)
        return
    assert wanted is None, f"refused with {whole}, but the model takes it"
    # A complete head gets its verdict however it comes. Half a head may wait for the time-out instead.
    assert pieces == whole or (pieces == "PARTIAL" and b"\r\n\r\n" not in data)
    assert whole != "PARTIAL" or b"\r\n\r\n" not in data


def request(data: bytes, rng: random.Random) -> str:
    whole = _probe.parse_request(data)
    wanted = model.request(data)
    _same_verdict(data, whole, _probe.parse_request(data, cuts(rng, len(data))), wanted)
    growing = _probe.parse_request_growing(data, cuts(rng, len(data)), [rng.randint(1, 8), 48, 4096])
    assert growing == whole or growing == "PARTIAL"
    if isinstance(whole, dict):
        assert wanted is not None
        assert ((whole["method"], whole["target"]), whole["host"], whole["path"]) == (
            wanted.start,
            wanted.host,
            wanted.path,
        )
        _same_lines(data, whole, whole["method"] + b" " + whole["target"] + b" HTTP/1.%d" % whole["minor"])
    if rng.randrange(PEERS_ONE_IN) == 0:
        compare("h11 request", data)
        compare("llhttp request", data)
    return whole if isinstance(whole, str) else "taken"


def response(data: bytes, rng: random.Random) -> str:
    method = rng.choice(("GET", "GET", "GET", "HEAD", "POST", "CONNECT", ""))
    whole = _probe.parse_response(data, method)
    wanted = model.response(data, method)
    _same_verdict(data, whole, _probe.parse_response(data, method, cuts(rng, len(data))), wanted)
    if isinstance(whole, dict):
        assert wanted is not None
        assert (b"%d" % whole["status"], whole["reason"]) == wanted.start
        start = data[: data.index(b"\r\n")]
        assert start.startswith(b"HTTP/1.%d %d" % (whole["minor"], whole["status"]))
        _same_lines(data, whole, start)
    if rng.randrange(PEERS_ONE_IN) == 0:
        compare("h11 response", data)
        compare("llhttp response", data)
    return whole if isinstance(whole, str) else "taken"


def chunked(data: bytes, rng: random.Random) -> str:
    whole = _probe.decode_chunks([data])
    edges = [0, *cuts(rng, len(data)), len(data)]
    pieces = _probe.decode_chunks([data[a:b] for a, b in pairwise(edges)])
    assert {**pieces, "pieces": 0, "left": 0} == {**whole, "pieces": 0, "left": 0}
    assert pieces["left"] == whole["left"] or whole["fault"]
    wanted = model.chunked(data)
    if whole["done"]:
        assert wanted == (whole["body"], whole["trailer"], whole["left"])
    else:
        assert wanted is None, f"{whole['fault'] or 'not done'}, but the model takes it"
    return whole["fault"] or ("taken" if whole["done"] else "PARTIAL")


def cookie(data: bytes, rng: random.Random) -> str:
    line = bytes(octet for octet in data if octet == 9 or (octet >= 32 and octet != 127)).strip(b" \t")
    name = rng.choice((b"n", b"JSESSIONID", b"__VCAP_ID__", b"x"))
    found = _probe.get_cookie(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + line + b"\r\n\r\n", name)
    assert found == model.cookie(line, name)
    return "taken" if found is not None else "PARTIAL"


def set_cookie(data: bytes, rng: random.Random) -> str:
    said = _probe.parse_set_cookie(data)
    assert said == model.set_cookie(data)
    assert said is None or _probe.set_cookie_name(data) == said["name"]
    return "taken" if said is not None else "PARTIAL"


HEAD_VERDICTS = {"taken", "PARTIAL", "P_FIELD_NAME", "P_FIELD_VALUE", "P_BARE_LF", "P_BARE_CR", "P_OBS_FOLD",
                 "P_LENGTH_INVALID", "P_LENGTH_AND_CODING", "P_CODING_UNKNOWN"}  # fmt: skip
# name: (check, verdicts that a run of some thousand inputs must have met, or it has gone blind)
TARGETS: dict[str, tuple[Callable[[bytes, random.Random], str], set[str]]] = {
    "request": (request, {*HEAD_VERDICTS, "P_REQ_LINE", "P_METHOD", "P_TARGET", "P_VERSION", "P_HOST_MISSING",
                          "P_HOST_DUPLICATE", "P_HOST_INVALID", "P_CODING_OLD_VERSION"}),
    "response": (response, {*HEAD_VERDICTS, "P_RESP_LINE"}),
    "chunked": (chunked, {"taken", "PARTIAL", "P_CHUNK_SIZE", "P_CHUNK_EXT", "P_CHUNK_END", "P_TRAILER"}),
    "cookie": (cookie, {"taken", "PARTIAL"}),
    "set_cookie": (set_cookie, {"taken", "PARTIAL"}),
}  # fmt: skip

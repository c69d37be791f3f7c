"""The wire format of dropsonde version 1: envelopes of numbers, and the tags of an instance (public sonde protocol).

Protocol buffers by hand, fields in the order of their numbers. Nothing is sent here; envelopes of single requests are
made by the data plane (fastpath/flow/envelope).
"""

import struct
from collections.abc import Mapping
from typing import Final

ORIGIN: Final = "gorouter"
VALUE_METRIC: Final = 6
COUNTER_EVENT: Final = 7
TAGS_MAX: Final = 1024  # bytes that the data plane keeps of an instance's tags


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _chunk(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _envelope(kind: int, event_field: int, event: bytes, at_ns: int, origin: str) -> bytes:
    # Envelope: origin 1, eventType 2, timestamp 6, valueMetric 9, counterEvent 10
    return _chunk(1, origin.encode()) + _number(2, kind) + _number(6, at_ns) + _chunk(event_field, event)


def counter_event(name: str, delta: int, at_ns: int, origin: str = ORIGIN) -> bytes:
    """An envelope with a CounterEvent; at_ns: wall clock."""
    return _envelope(COUNTER_EVENT, 10, _chunk(1, name.encode()) + _number(2, delta), at_ns, origin)


def value_metric(name: str, value: float, unit: str, at_ns: int, origin: str = ORIGIN) -> bytes:
    """An envelope with a ValueMetric; at_ns: wall clock."""
    event = _chunk(1, name.encode()) + b"\x11" + struct.pack("<d", value) + _chunk(3, unit.encode())
    return _envelope(VALUE_METRIC, 9, event, at_ns, origin)


def encode_tags(tags: Mapping[str, str]) -> bytes:
    """The tags as entries of an envelope's map, in the order of the alphabet; those that no longer fit are left out."""
    encoded = b""
    for name, value in sorted(tags.items()):
        entry = _chunk(17, _chunk(1, name.encode()) + _chunk(2, value.encode()))
        if len(encoded) + len(entry) <= TAGS_MAX:
            encoded += entry
    return encoded

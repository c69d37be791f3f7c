"""Conditions that choose by the port or address a client reached: acls, and conditions in braces."""

import ipaddress
from collections.abc import Callable, Sequence

from haproxy.binds import Address

Test = Callable[[Address], bool]


class NotUnderstood(ValueError):
    """A condition on something else; str() names it."""


def acl(words: Sequence[str]) -> Test:
    """The test of "dst_port 9001 9002", "dst 10.0.0.0/8" and their like. NotUnderstood."""
    if not words:
        raise NotUnderstood("an empty condition")
    fetch, values = words[0], [word for word in words[1:] if word not in ("-m", "int", "ip", "eq", "--", "-n")]
    if fetch not in ("dst", "dst_port"):
        raise NotUnderstood(f"a condition on {fetch}")
    if not values or any(value.startswith("-") for value in values):
        raise NotUnderstood(f"the condition {' '.join(words)!r}")
    if fetch == "dst_port":
        ranges = [_ports(value) for value in values]
        return lambda address: any(first <= address.port <= last for first, last in ranges)
    try:
        networks = [ipaddress.ip_network(value, strict=False) for value in values]
    except ValueError as error:
        raise NotUnderstood(str(error)) from None
    return lambda address: any(ipaddress.ip_address(address.ip) in network for network in networks)


def parse(words: Sequence[str], acls: dict[str, list[Test]]) -> Test:
    """What follows "if" or "unless"; without either, always. NotUnderstood for anything but a row of tests."""
    if not words:
        return lambda _address: True
    tests: list[Test] = []
    at = 1
    while at < len(words):
        word = words[at]
        at += 1
        if word == "{":
            end = words.index("}", at) if "}" in words[at:] else len(words)
            tests.append(acl(words[at:end]))
            at = end + 1
        elif word in acls:
            tests.append(_any(acls[word]))
        else:
            raise NotUnderstood(f"the condition {word!r}")
    if words[0] == "unless":
        return lambda address: not all(test(address) for test in tests)
    return lambda address: all(test(address) for test in tests)


def _any(tests: Sequence[Test]) -> Test:
    return lambda address: any(test(address) for test in tests)


def _ports(text: str) -> tuple[int, int]:
    first, _, last = text.partition(":")
    if not first.isdigit() or not (last or first).isdigit():
        raise NotUnderstood(f"the port {text!r}")
    return int(first), int(last or first)

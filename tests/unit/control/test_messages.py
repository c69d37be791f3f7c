"""Registrations as they come off the bus: what is taken, what is refused, and with which spelling of keys."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorouter_py.control import messages
from gorouter_py.control.messages import InvalidMessage, Registration, decode

FULL = {
    "host": "10.0.0.1",
    "port": 61001,
    "tls_port": 61002,
    "uris": ["a.test", "b.test/ctx"],
    "app": "6e1ae1e4",
    "private_instance_id": "inst-1",
    "private_instance_index": "0",
    "protocol": "http2",
    "server_cert_domain_san": "inst-1",
    "stale_threshold_in_seconds": 90,
    "route_service_url": "https://rs.test",
    "tags": {"component": "x"},
    "availability_zone": "z1",
    "isolation_segment": "is1",
    "endpoint_updated_at_ns": 1700000000000000001,
    "options": {"loadbalancing": "least-connection"},
}


def read(**fields: object) -> Registration:
    return decode(json.dumps({"host": "h", "port": 1, **fields}).encode())


def test_every_field_arrives() -> None:
    message = decode(json.dumps(FULL).encode())
    for name, value in FULL.items():
        if name != "options":
            assert getattr(message, name) == value, name
    assert message.lb_algorithm == "least-connection"
    assert message.address == "10.0.0.1:61002"  # tls_port instead of port
    assert message.is_tls


def test_older_name_of_the_algorithm() -> None:
    assert read(options={"lb_algo": "round-robin"}).lb_algorithm == "round-robin"
    assert read().lb_algorithm == ""


@pytest.mark.parametrize("respell", [str.upper, str.title, str.swapcase])
def test_keys_match_in_any_case(respell: "type[str]") -> None:
    exact = decode(json.dumps(FULL).encode())
    folded = decode(json.dumps({respell(key): value for key, value in FULL.items()}).encode())
    assert folded == exact


def test_keys_of_nested_options_match_in_any_case() -> None:
    assert read(Options={"LoadBalancing": "hash", "hash_header": "X"}).lb_algorithm == "hash"


def test_mixed_spelling_loses_nothing() -> None:
    message = decode(b'{"host":"h","port":1,"App":"a","uris":["x.test"]}')
    assert (message.app, message.uris) == ("a", ["x.test"])


def test_the_later_of_two_spellings_counts() -> None:
    assert decode(b'{"host":"h","port":1,"PORT":2}').port == 2
    assert decode(b'{"PORT":2,"host":"h","port":1}').port == 1


def test_unknown_fields_are_ignored() -> None:
    assert read(dea="0-1", uptime=3.5, nested={"a": [1]}).host == "h"


def test_null_means_absent() -> None:
    message = read(app=None, tags=None, uris=None, options=None, tls_port=None)
    assert (message.app, message.tags, message.uris, message.options, message.tls_port) == ("", None, [], None, 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"private_instance_index": 0},
        {"port": "80"},
        {"port": 80.5},
        {"port": -1},
        {"port": 65536},
        {"tls_port": 70000},
        {"uris": "a.test"},
        {"uris": [1]},
        {"tags": {"a": 1}},
        {"tags": ["a"]},
        {"app": 7},
        {"stale_threshold_in_seconds": "1"},
        {"stale_threshold_in_seconds": 1.5},
        {"stale_threshold_in_seconds": 2**63},
        {"endpoint_updated_at_ns": True},
        {"options": "x"},
        {"options": {"lb_algo": 1}},
    ],
)
def test_a_wrong_type_refuses_the_message(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidMessage):
        read(**fields)


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"null", b"[]", b"3", b'"x"', b"{} {}", b'{"host":"h","port":1}x', b"\xff"]
)
def test_what_is_no_object_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidMessage):
        decode(payload)


@pytest.mark.parametrize("payload", [b"{}", b'{"port":80}', b'{"host":"h"}', b'{"host":"","port":80}'])
def test_an_address_is_required(payload: bytes) -> None:
    with pytest.raises(InvalidMessage, match="must not be"):
        decode(payload)


def test_a_route_service_must_be_https() -> None:
    with pytest.raises(InvalidMessage, match=r"^Unable to validate message\. route_service_url must be https$"):
        read(route_service_url="http://rs.test")
    assert read(route_service_url="").route_service_url == ""


def test_sharing_keeps_the_message_equal() -> None:
    message, twin = decode(json.dumps(FULL).encode()), decode(json.dumps(FULL).encode())
    messages.share(message, {})
    assert message == twin
    assert message.server_cert_domain_san is message.private_instance_id


def test_shared_messages_hold_the_same_strings() -> None:
    ports: dict[int, int] = {}
    one, other = read(app="an-app", port=61000, tags={"k": "v-1"}), read(app="an-app", port=61000, tags={"k": "v-1"})
    assert one.app is not other.app
    for message in (one, other):
        messages.share(message, ports)
    assert one.app is other.app
    assert one.port is other.port
    assert one.tags is not None and other.tags is not None
    assert one.tags["k"] is other.tags["k"]


def test_static_registrations_never_equal_those_of_the_bus() -> None:
    assert messages.StaticRegistration(host="h", port=1) != Registration(host="h", port=1)


def test_router_start() -> None:
    body = json.loads(messages.encode_start("0-abc", ["10.1.2.3"], 5, 120))
    assert body == {
        "id": "0-abc",
        "hosts": ["10.1.2.3"],
        "minimumRegisterIntervalInSeconds": 5,
        "pruneThresholdInSeconds": 120,
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*FULL, "Host", "PORT", "Uris", "extra"]), json_values, max_size=8))
def test_any_object_is_taken_or_refused(fields: dict[str, object]) -> None:
    try:
        message = decode(json.dumps(fields).encode())
    except InvalidMessage:
        return
    assert message.host and 0 < (message.tls_port or message.port) < 65536
    assert all(isinstance(uri, str) for uri in message.uris)


@given(st.binary(max_size=60))
def test_any_bytes_are_taken_or_refused(payload: bytes) -> None:
    with pytest.raises(InvalidMessage):
        decode(payload)

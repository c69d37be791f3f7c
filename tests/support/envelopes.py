"""Dropsonde envelopes read by the protobuf library, from a description of the public protocol made here."""

import uuid
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, unknown_fields

FIELDS = descriptor_pb2.FieldDescriptorProto
# name -> (field, number, type, required, None if repeated); the part of the protocol that is used
SCHEMA = {
    "CounterEvent": [
        ("name", 1, FIELDS.TYPE_STRING, True),
        ("delta", 2, FIELDS.TYPE_UINT64, True),
        ("total", 3, FIELDS.TYPE_UINT64, False),
    ],
    "ValueMetric": [
        ("name", 1, FIELDS.TYPE_STRING, True),
        ("value", 2, FIELDS.TYPE_DOUBLE, True),
        ("unit", 3, FIELDS.TYPE_STRING, True),
    ],
    "UUID": [("low", 1, FIELDS.TYPE_UINT64, True), ("high", 2, FIELDS.TYPE_UINT64, True)],
    "LogMessage": [
        ("message", 1, FIELDS.TYPE_BYTES, True),
        ("message_type", 2, FIELDS.TYPE_INT32, True),
        ("timestamp", 3, FIELDS.TYPE_INT64, True),
        ("app_id", 4, FIELDS.TYPE_STRING, False),
        ("source_type", 5, FIELDS.TYPE_STRING, False),
        ("source_instance", 6, FIELDS.TYPE_STRING, False),
    ],
    "HttpStartStop": [
        ("startTimestamp", 1, FIELDS.TYPE_INT64, True),
        ("stopTimestamp", 2, FIELDS.TYPE_INT64, True),
        ("requestId", 3, "UUID", True),
        ("peerType", 4, FIELDS.TYPE_INT32, True),
        ("method", 5, FIELDS.TYPE_INT32, True),
        ("uri", 6, FIELDS.TYPE_STRING, True),
        ("remoteAddress", 7, FIELDS.TYPE_STRING, True),
        ("userAgent", 8, FIELDS.TYPE_STRING, True),
        ("statusCode", 9, FIELDS.TYPE_INT32, True),
        ("contentLength", 10, FIELDS.TYPE_INT64, True),
        ("applicationId", 12, "UUID", False),
        ("instanceIndex", 13, FIELDS.TYPE_INT32, False),
        ("instanceId", 14, FIELDS.TYPE_STRING, False),
        ("forwarded", 15, FIELDS.TYPE_STRING, None),
    ],
    "Tag": [("key", 1, FIELDS.TYPE_STRING, True), ("value", 2, FIELDS.TYPE_STRING, True)],
    "Envelope": [
        ("origin", 1, FIELDS.TYPE_STRING, True),
        ("eventType", 2, FIELDS.TYPE_INT32, True),
        ("timestamp", 6, FIELDS.TYPE_INT64, False),
        ("httpStartStop", 7, "HttpStartStop", False),
        ("logMessage", 8, "LogMessage", False),
        ("valueMetric", 9, "ValueMetric", False),
        ("counterEvent", 10, "CounterEvent", False),
        ("tags", 17, "Tag", None),  # on the wire a map is a list of pairs
    ],
}


def _envelope_type() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="envelope.proto", package="events", syntax="proto2")
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, number, kind, required in fields:
            labels = {None: FIELDS.LABEL_REPEATED, True: FIELDS.LABEL_REQUIRED, False: FIELDS.LABEL_OPTIONAL}
            label = labels[required]
            if isinstance(kind, str):
                message.field.add(
                    name=field, number=number, label=label, type=FIELDS.TYPE_MESSAGE, type_name=f".events.{kind}"
                )
            else:
                message.field.add(name=field, number=number, label=label, type=kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("events.Envelope"))


Envelope = _envelope_type()


def read(datagram: bytes) -> Any:
    """The envelope in a datagram, which must be whole, hold nothing unknown, and be written as protobuf would."""
    envelope = Envelope.FromString(datagram)
    assert envelope.IsInitialized()
    assert len(unknown_fields.UnknownFieldSet(envelope)) == 0
    assert envelope.SerializeToString(deterministic=True) == datagram
    return envelope


def tags_of(envelope: Any) -> dict[str, str]:
    """The tags; a later one of the same name counts."""
    return {tag.key: tag.value for tag in envelope.tags}


def uuid_of(value: Any) -> uuid.UUID:
    """A UUID as the protocol writes it: two halves, the lowest byte first."""
    return uuid.UUID(bytes=value.low.to_bytes(8, "little") + value.high.to_bytes(8, "little"))

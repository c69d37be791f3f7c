"""Dropsonde envelopes read by the protobuf library, from a description of the public protocol made here."""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, unknown_fields

FIELDS = descriptor_pb2.FieldDescriptorProto
# name -> (field, number, type, required); the part of the protocol that is used
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
    "Envelope": [
        ("origin", 1, FIELDS.TYPE_STRING, True),
        ("eventType", 2, FIELDS.TYPE_INT32, True),
        ("timestamp", 6, FIELDS.TYPE_INT64, False),
        ("valueMetric", 9, "ValueMetric", False),
        ("counterEvent", 10, "CounterEvent", False),
    ],
}


def _envelope_type() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="envelope.proto", package="events", syntax="proto2")
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, number, kind, required in fields:
            label = FIELDS.LABEL_REQUIRED if required else FIELDS.LABEL_OPTIONAL
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

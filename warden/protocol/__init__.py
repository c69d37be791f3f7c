"""The wire protocol: messages (`pb`), their types, and frames. The only home of protobuf in the package."""

from google.protobuf.message import Message

from warden.protocol import warden_pb2 as pb
from warden.protocol.framing import FRAME_MAX, TYPES, BadFrame, Decoder, ProtocolError, decode, encode

__all__ = ["FRAME_MAX", "TYPES", "BadFrame", "Decoder", "Message", "ProtocolError", "decode", "encode", "pb"]

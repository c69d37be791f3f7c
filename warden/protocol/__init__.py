"""The wire protocol: messages (`pb`), their types, and frames. The only home of protobuf in the package."""

from warden.protocol import warden_pb2 as pb
from warden.protocol.framing import FRAME_MAX, TYPES, BadFrame, Decoder, ProtocolError, decode, encode

__all__ = ["FRAME_MAX", "TYPES", "BadFrame", "Decoder", "ProtocolError", "decode", "encode", "pb"]

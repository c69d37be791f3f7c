"""The route table of a measurement: hosts and their instances."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Instance:
    """One origin as a peer knows it; id is its sticky identity."""

    port: int
    id: str
    ip: str = "127.0.0.1"


Table = Mapping[str, Sequence[Instance]]

"""What all peers of a measurement share: the settings they get and the face they show."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.load.procs import Fleet, Process
from bench.load.table import Table


@dataclass(frozen=True)
class Settings:
    """What a peer is told.

    access_log None means no log; retry_idempotent repeats a GET whose connection ended before the answer.
    """

    table: Table
    access_log: Path | None
    cpu: int
    load_cpu: int
    retry_idempotent: bool = False


@dataclass
class Running:
    """A peer that accepts connections.

    processes are its own and are charged to it; helpers (a log reader, a bus) are shown apart.
    """

    peer: str
    port: int
    settings: Settings
    processes: list[Process]
    helpers: list[Process] = field(default_factory=list)
    admin_port: int = 0
    nats_port: int = 0

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]


class Peer(Protocol):
    """A kind of router."""

    name: str

    def version(self) -> str:
        """One line; BenchError if it is not installed."""

    def describe(self) -> str:
        """The settings that a reader of the results has to know."""

    def start(self, fleet: Fleet, settings: Settings) -> Running:
        """Starts it, pinned, and returns when it serves the whole table."""


def own_directory(fleet: Fleet, name: str) -> Path:
    """A fresh directory for the files of one started peer."""
    number = 0
    while (path := fleet.directory / f"{name}-{number}").exists():
        number += 1
    path.mkdir()
    return path

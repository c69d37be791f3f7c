"""The component log of the router: where it goes, its source prefix, level and clock, from the configuration."""

from gorouter_py.component import Logger, Sink, level_number
from gorouter_py.control.keys import Config

DEFAULT_SOURCE = "gorouter.stdout"


def configure(config: Config, descriptor: int = 1) -> Logger:
    """The root logger; parts take `.session("nats")`. `.set_level` acts on all sessions while running."""
    sink = Sink(
        descriptor=descriptor,
        threshold=level_number(config.logging.level),
        rfc3339=config.logging.format.timestamp == "rfc3339",
    )
    return Logger(sink, config.logging.syslog or DEFAULT_SOURCE)


def bare() -> Logger:
    """For errors before there is a configuration: no source, epoch timestamps, as gorouter."""
    return Logger(Sink())

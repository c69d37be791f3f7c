"""Configuration: the file, the defaults of both commands, and what the data plane is told."""

from gorouter_py.control.keys import Config, StaticRoute

__all__ = ["Config", "StaticRoute"]

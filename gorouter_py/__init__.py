"""gorouter-py: an HTTP front door with a compiled hot path."""

__version__ = "0.1.0"

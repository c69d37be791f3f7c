"""Fixtures: a router in this process and the origins behind it."""

from tests.support.plane import origin, router

__all__ = ["origin", "router"]

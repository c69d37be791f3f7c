"""Measurements of the router against its peers; nothing here is shipped with the package."""

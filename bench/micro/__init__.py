"""Nanoseconds of single steps of the data plane."""

"""Tests by distance from the code: unit, wire, adversity, system; regress (one defect, one file), fuzz, style."""

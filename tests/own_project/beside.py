"""A module in the same folder that the extensions import."""

SMALLEST = 2

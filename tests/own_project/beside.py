"""A neighbour that the extensions import."""

SMALLEST = 2

"""The append-only journal of a sweep, and everything that is derived from it."""

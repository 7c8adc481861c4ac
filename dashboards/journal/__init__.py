"""The append-only journal of a sweep, and what is read from it."""

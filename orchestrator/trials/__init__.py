"""One candidate, from its plan to its readings."""

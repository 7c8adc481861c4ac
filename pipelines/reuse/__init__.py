"""Prefixes of plans that trials share, and how a finished model is kept."""

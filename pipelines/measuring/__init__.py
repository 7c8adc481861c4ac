"""Readings of a finished artifact, and what is known of it before training."""

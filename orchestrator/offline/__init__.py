"""Replay searches over finished results, to compare samplers without training."""

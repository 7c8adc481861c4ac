"""Searches over finished results: samplers compared without training anything."""

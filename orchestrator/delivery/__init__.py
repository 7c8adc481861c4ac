"""Deliver results: pull, pack, verify, serve and rerun artifacts, and export sweeps."""

"""Adapters to Ray Tune."""

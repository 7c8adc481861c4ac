"""Inspect a model: weights, names, attention, quantizable layers."""

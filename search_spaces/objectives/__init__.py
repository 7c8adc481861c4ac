"""Objectives, limits, wishes and Pareto dominance."""

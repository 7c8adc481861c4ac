"""Detectors: boxes, their suppression, and the mean average precision as a metric of a task."""

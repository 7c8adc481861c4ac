"""Measure a finished artifact, and predict its readings before training."""

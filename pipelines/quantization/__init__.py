"""Quantisation and weight sharing: scales, calibration, bit widths per layer, shared values."""

"""Few bits per weight: scales, calibration, widths per layer, shared values."""

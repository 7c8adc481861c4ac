"""Compression without training: norm statistics, reconstruction of layers, rounding, equalisation."""

"""Compression methods, one file per stage."""

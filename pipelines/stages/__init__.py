"""Compression methods: one file a stage."""

"""Runtimes, which run delivered files, one file each."""

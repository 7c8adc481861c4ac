"""Meters, which read numbers of a finished artifact, one file each."""

"""Meters: one file for each number that a finished artifact is judged by."""

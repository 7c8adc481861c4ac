"""Run a sweep, from its file to its front."""

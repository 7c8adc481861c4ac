"""One sweep, from its file to its front."""

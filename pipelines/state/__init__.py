"""Model and training states on disk."""

"""Model and training states kept on disk."""

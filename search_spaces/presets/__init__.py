"""Ready sweep files; each begins with a one-line summary."""

"""Ready sweeps: each file is data and opens with its story in one line."""

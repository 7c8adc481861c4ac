"""What the methods do to real networks: bytes, accuracy and times."""

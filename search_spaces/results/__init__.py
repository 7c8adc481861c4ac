"""What came out: trials, the front, its confirmation."""

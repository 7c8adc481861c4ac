"""Whether a delivered file runs and answers as recorded."""

"""Results of a sweep: trials, the front and its confirmation."""

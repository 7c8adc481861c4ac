"""Which candidate comes next, where it runs, and when to stop."""

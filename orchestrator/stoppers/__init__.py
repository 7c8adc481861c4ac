"""Rules that stop a trial early, one file each: `make(search, strategy) -> Stopper`."""

"""Search algorithms, one file each: `make(search) -> Strategy`."""

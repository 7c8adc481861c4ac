"""Tasks that come with paretta: one file each, with a function `make`."""

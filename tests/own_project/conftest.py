"""The files here are a user's: tests copy them, and nothing is collected from them."""

collect_ignore_glob = ["*.py"]

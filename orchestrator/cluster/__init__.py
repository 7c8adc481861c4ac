"""The Ray cluster under a sweep."""

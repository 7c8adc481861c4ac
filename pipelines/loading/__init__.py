"""The user's task: loaded, checked, and identified by digests of its data."""

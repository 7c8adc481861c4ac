"""Share the results of plan prefixes between trials."""

"""Choose the next candidate and stop trials early, independently of Ray."""

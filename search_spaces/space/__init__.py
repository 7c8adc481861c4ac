"""Search spaces, their holes, and the plans that result from filling them."""

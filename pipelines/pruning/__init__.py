"""Which weights and channels to remove, and removing them."""

"""Select weights and channels, and remove them."""

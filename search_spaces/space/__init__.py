"""What may vary: spaces with holes, and the plans that fill them."""

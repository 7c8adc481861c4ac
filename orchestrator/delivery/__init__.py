"""What leaves the house: artifacts pulled, packed, verified, served, exported."""

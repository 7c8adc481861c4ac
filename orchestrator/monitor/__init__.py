"""What the driver tells while a sweep runs."""

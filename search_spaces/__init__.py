"""What may vary and what counts as better: pure descriptions that need none of the heavy libraries."""

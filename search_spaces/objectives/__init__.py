"""What counts as better: objectives, limits, wishes and dominance."""

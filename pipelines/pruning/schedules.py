"""Schedules for increasing a sparsity to its final value."""


def cubic(progress: float) -> float:
    """Return the fraction of the final sparsity at `progress` t in 0..1: ``1 - (1 - t)^3``.

    Most weights are removed early, while many are redundant (Zhu and Gupta, 2017, "To prune, or not to prune").

    >>> cubic(0.0), cubic(0.5), cubic(1.0)
    (0.0, 0.875, 1.0)
    """
    return 1 - (1 - min(max(progress, 0.0), 1.0)) ** 3

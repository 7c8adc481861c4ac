"""How a sparsity grows on the way to its final value."""


def cubic(progress: float) -> float:
    """Return the share of the final sparsity after `progress` 0..1 of the way: ``1 - (1 - t)^3``.

    Much goes early, when there is much that is not needed (Zhu and Gupta, 2017, "To prune, or not to prune").

    >>> cubic(0.0), cubic(0.5), cubic(1.0)
    (0.0, 0.875, 1.0)
    """
    return 1 - (1 - min(max(progress, 0.0), 1.0)) ** 3

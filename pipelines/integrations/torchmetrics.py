"""The members of a torchmetrics collection as metrics of a task."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from paretta.pipelines.task import Metric


class Collection(Protocol):
    """As much of ``torchmetrics.MetricCollection`` as is used: its members by name."""

    def items(self) -> Any:
        """Return pairs of name and metric."""


def collection_metrics(
    collection: Collection, *, arguments: Callable[[Any, Any], Sequence[Any]] | None = None
) -> dict[str, Metric]:
    """Return a metric for each member of a collection, by its name.

    Each has the direction that its member states as ``higher_is_better``. Its unit is ``share`` if a higher score is
    better and scores lie between 0 and 1, otherwise ``points``.

    Args:
        collection: a ``torchmetrics.MetricCollection``.
        arguments: ``arguments(outputs, targets)`` returns the arguments of ``update``, see `Metric`.
    """
    return {str(name): stated_metric(member, arguments) for name, member in collection.items()}


def stated_metric(member: Any, arguments: Callable[[Any, Any], Sequence[Any]] | None = None) -> Metric:
    """Return a metric of torchmetrics with the direction and the unit that it states, see `collection_metrics`."""
    bounds = getattr(member, "plot_lower_bound", None), getattr(member, "plot_upper_bound", None)
    is_share = bool(member.higher_is_better) and bounds == (0.0, 1.0)
    goal = "min" if member.higher_is_better is False else "max"
    return Metric(member, goal, "share" if is_share else "points", arguments)  # type: ignore[arg-type]

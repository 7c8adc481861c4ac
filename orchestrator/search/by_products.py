"""Train once, deliver many: cheap stages after a trial's training that make points of their own."""

from collections.abc import Sequence
from dataclasses import dataclass

from paretta.orchestrator.search.suggester import Suggester
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.space.plan import Plan


@dataclass(frozen=True, slots=True)
class ByProducts:
    """What is made of every trained candidate beside its own artifact.

    Args:
        variants: stages to append to the trial's plan, one list for each by-product.
        at_most: by-products of one trial.
    """

    variants: tuple[tuple[Document, ...], ...]
    at_most: int

    def reserved(self, plan: Plan, suggester: Suggester) -> list[Plan]:
        """Return the plans to make beside `plan`: at most so many, and none that is known or under way."""
        plans = [Plan(plan.baseline, (*plan.stages, *variant)) for variant in self.variants]
        chosen: list[Plan] = []
        for candidate in plans:
            if len(chosen) < self.at_most and suggester.reserve(candidate):
                chosen.append(candidate)
        return chosen


def by_products(variants: Sequence[Sequence[Document]], at_most: int) -> ByProducts | None:
    """Return what the sweep file asks for, None where it asks for nothing."""
    return ByProducts(tuple(map(tuple, variants)), at_most) if variants and at_most else None

"""By-products: apply cheap stages to a trained trial to get further points of the front."""

from collections.abc import Sequence
from dataclasses import dataclass

from paretta.orchestrator.search.suggester import Suggester
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.space.plan import Plan


@dataclass(frozen=True, slots=True)
class ByProducts:
    """The by-products to make from every trained candidate.

    Args:
        variants: stages to append to the trial's plan, one list for each by-product.
        at_most: the most by-products of one trial.
    """

    variants: tuple[tuple[Document, ...], ...]
    at_most: int

    def reserved(self, plan: Plan, suggester: Suggester) -> list[Plan]:
        """Return up to `at_most` by-product plans of `plan`, and reserve them; known and running plans are left out."""
        plans = [Plan(plan.baseline, (*plan.stages, *variant)) for variant in self.variants]
        chosen: list[Plan] = []
        for candidate in plans:
            if len(chosen) < self.at_most and suggester.reserve(candidate):
                chosen.append(candidate)
        return chosen


def by_products(variants: Sequence[Sequence[Document]], at_most: int) -> ByProducts | None:
    """Return the by-products that the sweep file asks for, None if there are none."""
    return ByProducts(tuple(map(tuple, variants)), at_most) if variants and at_most else None

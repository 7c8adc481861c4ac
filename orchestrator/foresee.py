"""What is known of a whole space before the first second of training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from orchestrator.check import Checked
from orchestrator.sweep import Sweep
from pipelines.foresee import Foreseen, foresee, structure_key
from pipelines.meter import meter_of
from search_spaces.errors import Problem, TrialFailed, WrongInput
from search_spaces.plan import Plan
from search_spaces.quantities import format_quantity

MAX_STRUCTURES = 12  # of which each takes an export, a second or more


@dataclass(frozen=True, slots=True)
class Outlook:
    """The size of the model files that the corners of a space lead to.

    Args:
        sizes: of each different structure, in the order of the corners.
        num_structures: how many different ones there are; where they are many, only some are exported.
    """

    sizes: tuple[Foreseen, ...]
    num_structures: int

    def __str__(self) -> str:
        """Say it in one line."""
        values = [cast(float, foreseen.reading.value) for foreseen in self.sizes]
        about = "" if all(foreseen.certainty == "exact" for foreseen in self.sizes) else "about "
        some = "" if len(self.sizes) == self.num_structures else f", {len(self.sizes)} of them exported"
        ends = " to ".join(format_quantity(value, "B") for value in dict.fromkeys((min(values), max(values))))
        return f"size: {about}{ends} at the corners, before training ({self.num_structures} structures{some})"


def look_ahead(sweep: Sweep, checked: Checked) -> Outlook:
    """Foresee the size at the corners of the space.

    Raises:
        WrongInput: a corner's stages cannot be carried out on the task's model, which no check of settings shows.
    """
    structures: dict[str, Plan] = {}
    for plan in sweep.space.corners():
        structures.setdefault(structure_key(plan), plan)
    size = meter_of("size", {})
    chosen = _spread(list(structures.values()))
    try:
        sizes = tuple(foresee(plan, checked.task, [size])["size"] for plan in chosen)
    except TrialFailed as error:
        raise WrongInput(Problem(sweep.source.where("space"), f"a corner of the space fails: {error}")) from error
    return Outlook(sizes, len(structures))


def _spread(plans: Sequence[Plan]) -> list[Plan]:
    """Return at most `MAX_STRUCTURES` plans, evenly spaced, the first and the last among them."""
    if len(plans) <= MAX_STRUCTURES:
        return list(plans)
    return [plans[round(step * (len(plans) - 1) / (MAX_STRUCTURES - 1))] for step in range(MAX_STRUCTURES)]

"""Predict sizes, knobs without effect and training cost of a space before anything is trained."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from paretta.dashboards.journal.record import wishes_of
from paretta.orchestrator.config.check import Checked, placed
from paretta.orchestrator.config.sweep import Sweep
from paretta.pipelines.loading.check_task import tell_nobody
from paretta.pipelines.measuring.served_meter import runtimes_of
from paretta.pipelines.measuring.untrained import Foreseen, foresee, sketch, structure_key
from paretta.pipelines.meter import Meter, meter_of
from paretta.pipelines.runtime import storage_for
from paretta.pipelines.stage import Stage, stages_of
from paretta.pipelines.training.cost_estimate import training_seconds
from paretta.pipelines.training.settings import TrainSettings
from paretta.search_spaces.errors import Problem, TrialFailed, WrongInput
from paretta.search_spaces.objectives.limits import wished
from paretta.search_spaces.quantities import format_quantity
from paretta.search_spaces.space.holes import spread
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.variation import varied

MAX_VARIED = 50  # the most knobs whose plans are compared to see whether the knob has any effect
MAX_KNOBS = 6  # the most knobs whose two ends are exported and compared
MAX_STRUCTURES = 12  # the most structures that are exported; an export takes a second or more
MAX_CHANGES = 24  # the most stages of a plan that change the structure; each is carried out, in 0.1 s or more
SIZES_SECONDS = 10.0  # after which no structure is exported any more, but for the first and the last


@dataclass(frozen=True, slots=True)
class Outlook:
    """Predictions for the corners of a space.

    Args:
        sizes: the model file size of each exported structure, those of the first and the last corner first; none if all
            plans have more than `MAX_CHANGES` stages that change the structure.
        num_structures: the number of different structures; if there are many, only some are exported.
        dead: descriptions of the knobs without any effect, with the reason.
        unmet: limits and wishes that none of the exported structures meets, with what is nearest, and trainings that
            take longer than a candidate may.
        trial_s: training time of the most expensive corner in seconds, on one core; baseline_s: that of the baseline.
        num_trials: the number of trials that the sweep will run.
    """

    sizes: tuple[Foreseen, ...]
    num_structures: int
    dead: tuple[str, ...]
    unmet: tuple[str, ...]
    trial_s: float
    baseline_s: float
    num_trials: int

    def __str__(self) -> str:
        """Format the predictions as a few lines of text."""
        total = self.baseline_s + self.num_trials * self.trial_s
        cost = (
            f"cost: about {_time(self.trial_s)} of training a trial, {_time(total)} in all, on one core of this machine"
        )
        unmet = (f"warning: {line}" for line in self.unmet)
        return "\n".join([self._size(), *unmet, *(f"dead knob: {reason}" for reason in self.dead), cost])

    def _size(self) -> str:
        if not self.sizes:
            return f"size: not foreseen for plans with more than {MAX_CHANGES} stages that change the structure"
        values = [cast(float, foreseen.reading.value) for foreseen in self.sizes]
        about = "" if all(foreseen.certainty == "exact" for foreseen in self.sizes) else "about "
        some = "" if len(self.sizes) == self.num_structures else f", {len(self.sizes)} of them exported"
        ends = " to ".join(format_quantity(value, "B") for value in dict.fromkeys((min(values), max(values))))
        return f"size: {about}{ends} at the corners, before training ({self.num_structures} structures{some})"


def look_ahead(sweep: Sweep, checked: Checked, *, tell: Callable[[str], None] = tell_nobody) -> Outlook:
    """Predict the sizes at the corners of the space, limits that are out of reach, dead knobs, and what training costs.

    Args:
        sweep: the parsed sweep file.
        checked: the result of its check.
        tell: called with the name of each step before it begins.

    Raises:
        WrongInput: a corner's stages fail on the task's model, which checking the settings alone does not reveal.
    """
    structures: dict[str, Plan] = {}
    for plan in checked.corners:
        structures.setdefault(structure_key(plan), plan)
    meters, known, begun = _structural(checked), dict[str, Mapping[str, Foreseen]](), time.monotonic()
    storage = storage_for(runtimes_of(checked.meters))

    def is_late() -> bool:
        return time.monotonic() - begun > SIZES_SECONDS

    def look(plan: Plan) -> Mapping[str, Foreseen]:
        key = structure_key(plan)
        if key not in known:
            tell(f"size: structure {len(known) + 1}")
            known[key] = foresee(plan, checked.task, meters, baseline=reference, storage=storage)
        return known[key]

    where = sweep.source.where("space")
    try:
        with TemporaryDirectory(prefix="paretta-") as scratch, placed(where, "exporting a corner of the space"):
            reference = Path(scratch) / "baseline"
            sketch(reference, checked.corners[0].baseline_plan(), checked.task, storage=storage)
            few = _spread([plan for plan in structures.values() if _num_changes(plan) <= MAX_CHANGES])
            looks = [look(plan) for place, plan in enumerate(few) if place in (0, 1) or not is_late()]
            unmet = tuple(_unmet(sweep, looks, lambda: look(checked.corners[0].baseline_plan())))
            dead = tuple(_dead_knobs(sweep, lambda plan: look(plan)["size"].reading.value, is_late))
    except TrialFailed as error:
        raise WrongInput(Problem(where, f"a corner of the space fails: {error}")) from error
    tell("cost: timing the training")
    split = len(sweep.space.baseline)
    parsed = [stages_of(plan) for plan in checked.corners]
    with placed(where, "timing the training"):
        trial_s = training_seconds(_longest(parsed, split)[split:], checked.task)
        baseline_s = training_seconds(parsed[0][:split], checked.task)
    sizes = tuple(seen["size"] for seen in looks)
    unmet = (*unmet, *too_long(sweep, baseline_s, trial_s))
    return Outlook(sizes, len(structures), dead, unmet, trial_s, baseline_s, sweep.config.search.trials)


def too_long(sweep: Sweep, baseline_s: float, trial_s: float) -> Iterator[str]:
    """Describe trainings that the time limit of a candidate would end, by what they take on this machine."""
    workers = sweep.config.workers
    limit, sharing = workers.time_limit_s, workers.per_trial * workers.threads
    if limit is None:
        return
    place = sweep.source.where("workers.time_limit_s")
    for words, seconds in (("the baseline", baseline_s), ("the longest plan", trial_s)):
        if seconds / sharing > limit:
            cores = "on one core" if sharing == 1 else f"shared evenly by {sharing} threads"
            found = f"training {words} takes about {_time(seconds / sharing)} {cores} of this machine"
            yield f"{place}: {found}, longer than the {limit:g} s that a candidate may train; allow more, or train less"


def _structural(checked: Checked) -> list[Meter]:
    """Return the meters that read the structure alone and time nothing: size, and the sweep's own."""
    own = [meter for meter in checked.meters if meter.changed_by is not None and not meter.is_timed]
    return [meter_of("size", {}), *(meter for meter in own if meter.label != "size")]


def _unmet(
    sweep: Sweep, looks: Sequence[Mapping[str, Foreseen]], baseline: Callable[[], Mapping[str, Foreseen]]
) -> Iterator[str]:
    """Describe the limits and wishes that none of the structures looked at meets."""
    wishes = wishes_of(sweep.document())
    asked = [(f"limits[{index}]", limit) for index, limit in enumerate(sweep.limits)]
    asked += [
        (f"wishes.{name}", limit) for name, wish in wishes.items() for limit in wished(wish.at_least, wish.at_most)
    ]
    for place, limit in asked:
        if not looks or limit.meter not in looks[0]:
            continue
        origin = None if limit.relation == "absolute" else baseline()[limit.meter].reading
        near = min((seen[limit.meter] for seen in looks), key=lambda seen: limit.excess(seen.reading, origin))
        if 0 < limit.excess(near.reading, origin) < math.inf:
            about = "" if near.certainty == "exact" else "about "
            found = format_quantity(cast(float, near.reading.value), near.reading.unit)
            which = "the only structure" if len(looks) == 1 else f"the nearest of {len(looks)} structures"
            yield f"{sweep.source.where(place)}: {limit} is out of reach: {which} has {about}{found} before training"


def _dead_knobs(sweep: Sweep, size_of: Callable[[Plan], float | None], is_late: Callable[[], bool]) -> Iterator[str]:
    """List knobs with one value, and structural knobs whose two ends give the same model file."""
    looked = 0
    for knob in sweep.space.knobs()[:MAX_VARIED]:
        plans = _ends_first(varied(sweep.space, knob, options=MAX_STRUCTURES))
        if len({plan.fingerprint for plan in plans}) == 1:
            yield f"{knob.name} has one value"
        elif looked < MAX_KNOBS and not is_late() and _may_differ(plans):
            looked += 1
            if not any(size_of(plan) != size_of(plans[0]) for plan in plans[1:]):
                yield f"{knob.name} changes no byte of the model file between its ends"


def _may_differ(plans: Sequence[Plan]) -> bool:
    """Return whether the plans have different structures, each of which can be exported in a short time."""
    return max(map(_num_changes, plans)) <= MAX_CHANGES and len({structure_key(plan) for plan in plans}) > 1


def _num_changes(plan: Plan) -> int:
    return sum(stage.shape != "kept" for stage in stages_of(plan))


def _longest(plans: Sequence[Sequence[Stage]], split: int) -> Sequence[Stage]:
    """Return the plan with the most epochs after the baseline."""

    def epochs(plan: Sequence[Stage]) -> int:
        return sum(stage.epochs for stage in plan[split:] if isinstance(stage, TrainSettings))

    return max(plans, key=epochs)


def _time(seconds: float) -> str:
    """Format a duration briefly."""
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.3g} min" if seconds < 5400 else f"{seconds / 3600:.3g} h"


def _spread(plans: Sequence[Plan]) -> list[Plan]:
    """Return at most `MAX_STRUCTURES` plans, evenly spaced, the first and the last before the others."""
    return _ends_first([plans[place] for place in spread(len(plans), MAX_STRUCTURES)])


def _ends_first(plans: Sequence[Plan]) -> list[Plan]:
    return [*plans[:1], *plans[:0:-1]]

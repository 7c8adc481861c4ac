"""What is worth trying first: good plans that the field knows, and what earlier sweeps of the same task found."""

import shutil
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dashboards.journal import SweepRecord
from orchestrator.candidate import ARTIFACTS
from orchestrator.check import Checked
from orchestrator.home import Home
from orchestrator.sweep import Sweep
from search_spaces.errors import Problem, WrongInput
from search_spaces.holes import Choice, Float, Hole, Int, Label
from search_spaces.space import Recorder, Space
from search_spaces.trial import Trial

_KINDS = ("quantize", "prune")


def good_plans(space: Space) -> tuple[dict[str, Label], ...]:
    """Return the answers for int8 everywhere, for half the channels, and for both, as far as the space can say them.

    All other knobs take the middle of their range, or their first option.

    >>> space = Space.parse([], [{"kind": "prune", "sparsity": {"float": [0, 0.8]}}, {"kind": "quantize", "bits": 8}])
    >>> good_plans(space)
    ({'prune.sparsity': 0.0}, {'prune.sparsity': 0.5})
    """
    wishes = ({"quantize"}, {"prune"}, {"quantize", "prune"})
    found: dict[str, dict[str, Label]] = {}
    for wish in wishes:
        recorder = Recorder(_Wisher(frozenset(wish)))
        plan = space.fill(recorder)
        if any(stage.get("kind") in wish for stage in plan.stages):
            found.setdefault(plan.fingerprint, dict(recorder.knobs))
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class _Wisher:
    """Answers so that the wished stages are there and do what is usual, and the others do as little as they can."""

    wish: frozenset[str]

    def ask(self, name: str, hole: Hole) -> Label:
        kind, _, setting = name.partition(".")
        if kind.partition("@")[0] == "quantize" and "bits" in setting:
            return _nearest(hole, 8.0)
        if kind.partition("@")[0] == "prune" and setting.startswith("sparsity"):
            return _nearest(hole, 0.5 if "prune" in self.wish else 0.0)
        if isinstance(hole, Choice) and {*hole.labels} & {*_KINDS, None}:
            return next((label for label in hole.labels if label in self.wish), _least(hole))
        return _middle(hole)


def _least(hole: Choice) -> Label:
    return None if None in hole.labels else hole.labels[0]


def _nearest(hole: Hole, target: float) -> Label:
    if isinstance(hole, Choice):
        numbers = [label for label in hole.labels if isinstance(label, int | float) and not isinstance(label, bool)]
        return min(numbers, key=lambda label: abs(label - target)) if numbers else hole.labels[0]
    if isinstance(hole, Float):
        return min(max(target, hole.low), hole.high)
    return min(range(hole.low, hole.high + 1, hole.step), key=lambda value: abs(value - target))


def _middle(hole: Hole) -> Label:
    if isinstance(hole, Choice):
        return hole.labels[0]
    middle = (hole.low * hole.high) ** 0.5 if hole.log else (hole.low + hole.high) / 2
    return _nearest(hole, middle) if isinstance(hole, Int) else float(f"{middle:.6g}")


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier sweep found.

    Args:
        name: of the sweep.
        folder: of the sweep.
        trials: its complete trials; members: uids of those on its front.
    """

    name: str
    folder: Path
    trials: tuple[Trial, ...]
    members: frozenset[str]


def earlier_sweeps(sweep: Sweep, checked: Checked, home: Home) -> tuple[Earlier, ...]:
    """Read the sweeps whose points are to be taken over.

    Raises:
        WrongInput: one is missing, or was made of other data, another baseline or other objectives, so that its numbers
            cannot be compared.
    """
    names = enumerate(sweep.config.search.warm_start)
    return tuple(_read(name, sweep, checked, home, f"search.warm_start[{index}]") for index, name in names)


def _read(name: str, sweep: Sweep, checked: Checked, home: Home, setting: str) -> Earlier:
    record, where = SweepRecord.read(home.find(name)), sweep.source.where(setting)
    missing = {objective.meter for objective in checked.objectives} - {o.meter for o in record.objectives}
    problems = {
        f"the sweep {name!r} was made of other data": record.facts.get("data_digest") != checked.data_digest,
        f"the sweep {name!r} has another baseline": record.config.get("baseline") != sweep.document()["baseline"],
        f"the sweep {name!r} did not measure {', '.join(sorted(missing))}": bool(missing),
    }
    if found := [Problem(where, rule, mend="leave it out") for rule, wrong in problems.items() if wrong]:
        raise WrongInput(*found)
    trials = tuple(t for t in record.trials.values() if t.status == "complete" and t.role in ("trial", "delivered"))
    return Earlier(name, record.folder, trials, frozenset(trial.uid for trial in record.front()))


def taken_over(sweep: Earlier, folder: Path, known: Container[str] = ()) -> Iterator[Trial]:
    """Copy the artifacts of an earlier front into the sweep at `folder`, and yield their trials as they count there.

    Those whose uid is `known` are there already.
    """
    for trial in sweep.trials:
        if trial.uid in sweep.members and trial.artifact is not None:
            uid = f"{sweep.name}-{trial.uid}"
            if uid in known:
                continue
            shutil.copytree(sweep.folder / trial.artifact, folder / ARTIFACTS / uid)
            yield replace(trial, uid=uid, role="earlier", of=None, test_readings={}, artifact=f"{ARTIFACTS}/{uid}")

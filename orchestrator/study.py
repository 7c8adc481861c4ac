"""Optuna's samplers as strategies: ask and tell over a study in memory, where nothing stays running."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from orchestrator.suggest import Search, Verdict
from search_spaces.holes import Choice, Hole, Int, Label
from search_spaces.plan import Json, Plan
from search_spaces.space import Recorder

STATES = {"complete": TrialState.COMPLETE, "failed": TrialState.FAIL, "pruned": TrialState.PRUNED}


class OptunaStrategy:
    """Lets an Optuna sampler fill the space.

    All objectives are losses, so every direction is to minimise. The study lives in memory and is pickled with the
    rest: a study in a database runs ahead of the pickled searcher, and resuming from it leaves zombies and repeats.

    Args:
        search: what is searched.
        sampler: seeded by its maker.
    """

    def __init__(self, search: Search, sampler: BaseSampler) -> None:
        self.space = search.space
        directions = [StudyDirection.MINIMIZE] * len(search.objectives)
        with _quiet():
            self.study = optuna.create_study(sampler=sampler, directions=directions)

    def ask(self, pinned: Mapping[str, Label] | None = None) -> tuple[int, Plan, Mapping[str, Json]]:
        """See `orchestrator.suggest.Strategy.ask`."""
        with _quiet():
            if pinned is not None:
                names = _Names(pinned)
                self.space.fill(names)
                self.study.enqueue_trial(names.parameters)
            trial = self.study.ask()
            recorder = Recorder(_TrialAsker(trial))
            plan = self.space.fill(recorder)
        return trial.number, plan, recorder.knobs

    def tell(self, number: int, verdict: Verdict, losses: Sequence[float] | None) -> None:
        """See `orchestrator.suggest.Strategy.tell`."""
        with _quiet():
            self.study.tell(number, values=losses, state=STATES[verdict])


@dataclass(slots=True)
class _TrialAsker:
    """Asks an Optuna trial. A scalar label is the category itself, so that samplers may tell categories apart."""

    trial: optuna.Trial

    def ask(self, name: str, hole: Hole) -> Label:
        parameter = _parameter(name, hole)
        if isinstance(hole, Choice):
            return self.trial.suggest_categorical(parameter, hole.labels)
        if isinstance(hole, Int):
            high = hole.low + (hole.high - hole.low) // hole.step * hole.step
            return self.trial.suggest_int(parameter, hole.low, high, step=hole.step, log=hole.log)
        return self.trial.suggest_float(parameter, hole.low, hole.high, log=hole.log)


@dataclass(slots=True)
class _Names:
    """Follows pinned answers to find the parameters they belong to."""

    pinned: Mapping[str, Label]
    parameters: dict[str, Label] = field(default_factory=dict)

    def ask(self, name: str, hole: Hole) -> Label:
        if name not in self.pinned:
            return hole.labels[0] if isinstance(hole, Choice) else hole.low
        self.parameters[_parameter(name, hole)] = self.pinned[name]
        return self.pinned[name]


def _parameter(name: str, hole: Hole) -> str:
    """Name a hole for Optuna, which allows one range per name; two options of a choice may give one name two ranges."""
    return f"{name} {hole!r}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's log lines and its notes on experimental features; its errors still raise."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)

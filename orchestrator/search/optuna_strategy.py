"""Optuna's samplers as strategies: ask and tell over an in-memory study."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from paretta.orchestrator.search.advisor import Advisor
from paretta.orchestrator.search.interfaces import Verdict
from paretta.orchestrator.search.spec import Search
from paretta.search_spaces.space.holes import Choice, Hole, Int, Label
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.space import Recorder

STATES = {"complete": TrialState.COMPLETE, "failed": TrialState.FAIL, "stopped early": TrialState.PRUNED}


class OptunaStrategy:
    """Chooses plans with an Optuna sampler.

    All objectives are losses, so every direction is to minimise. The study is kept in memory and rebuilt on resume: a
    study in a database could be ahead of the journal, which would leave trials running forever or repeat them.

    Args:
        search: the search.
        sampler: an Optuna sampler that is already seeded.
        advisor: the policy that the sampler asks; it is told everything that the study is told.
    """

    def __init__(self, search: Search, sampler: BaseSampler, *, advisor: Advisor | None = None) -> None:
        self.search, self.space, self.advisor = search, search.space, advisor
        self._running: dict[int, optuna.Trial] = {}
        directions = [StudyDirection.MINIMIZE] * len(search.objectives)
        with quiet():
            self.study = optuna.create_study(sampler=sampler, directions=directions)

    def ask(self, pinned: Mapping[str, Label] | None = None) -> tuple[int, Plan, Mapping[str, Label]]:
        """See `paretta.orchestrator.search.interfaces.Strategy.ask`."""
        with quiet():
            if pinned is not None:
                names = _Names(pinned)
                self.space.fill(names)
                self.study.enqueue_trial(names.parameters)
            trial = self.study.ask()
            recorder = Recorder(_TrialAsker(trial))
            plan = self.space.fill(recorder)
        self._running[trial.number] = trial
        if self.advisor is not None:
            self.advisor.begin(trial.number, recorder.knobs)
        return trial.number, plan, recorder.knobs

    def report(self, number: int, rung: int, scores: Mapping[str, float]) -> None:
        """Store the scores as attributes of the trial: Optuna supports no intermediate values of several objectives."""
        for metric, score in scores.items():
            self._running[number].set_user_attr(f"rung {rung} {metric}", score)
        if self.advisor is not None:
            self.advisor.observe(number, rung, scores)

    def tell(self, number: int, verdict: Verdict, losses: Sequence[float] | None) -> None:
        """See `paretta.orchestrator.search.interfaces.Strategy.tell`; trials that violate a limit are infeasible."""
        trial = self._running.pop(number)
        with quiet():
            if losses is not None:
                for limit, violation in self.search.violations(losses).items():
                    trial.set_constraint(limit, violation)
            self.study.tell(trial, values=losses, state=STATES[verdict])
        if self.advisor is not None:
            self.advisor.tell(number, losses, stopped=verdict == "stopped early")

    def add_point(self, losses: Sequence[float]) -> None:
        """Pass a point that no parameters produce to the advisor; the study cannot hold it."""
        if self.advisor is not None:
            self.advisor.add_point(losses)


def parameter(name: str, hole: Hole) -> str:
    """Return Optuna's name for a hole. Optuna allows one range per name, but options of a choice may differ in it."""
    return f"{name} {hole!r}"


def distribution(hole: Hole) -> BaseDistribution:
    """Return the Optuna distribution of a hole; the labels of a choice are its categories."""
    if isinstance(hole, Choice):
        return CategoricalDistribution(hole.labels)
    if isinstance(hole, Int):
        high = hole.low + (hole.high - hole.low) // hole.step * hole.step
        return IntDistribution(hole.low, high, step=hole.step, log=hole.log)
    return FloatDistribution(hole.low, hole.high, log=hole.log)


@dataclass(slots=True)
class _TrialAsker:
    """Takes answers from an Optuna trial."""

    trial: optuna.Trial

    def ask(self, name: str, hole: Hole) -> Label:
        own = parameter(name, hole)
        if isinstance(hole, Choice):
            return self.trial.suggest_categorical(own, hole.labels)
        if isinstance(hole, Int):
            high = hole.low + (hole.high - hole.low) // hole.step * hole.step
            return self.trial.suggest_int(own, hole.low, high, step=hole.step, log=hole.log)
        return self.trial.suggest_float(own, hole.low, hole.high, log=hole.log)


@dataclass(slots=True)
class _Names:
    """Finds the Optuna parameters of pinned answers."""

    pinned: Mapping[str, Label]
    parameters: dict[str, Label] = field(default_factory=dict)

    def ask(self, name: str, hole: Hole) -> Label:
        if name not in self.pinned:
            return hole.labels[0] if isinstance(hole, Choice) else hole.low
        self.parameters[parameter(name, hole)] = self.pinned[name]
        return self.pinned[name]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's log lines and warnings about experimental features; its errors still raise."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)

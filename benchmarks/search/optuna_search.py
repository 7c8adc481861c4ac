"""Optuna's samplers as a search that `replay` can drive."""

import warnings
from collections.abc import Mapping
from typing import Any

import optuna

from paretta.orchestrator.policy.problem import Candidate, SearchProblem
from paretta.search_spaces.space.holes import Choice, Int, Label

optuna.logging.set_verbosity(optuna.logging.ERROR)


class OptunaSearch:
    """Asks an Optuna study for every trial, runs all to the end and tells all objectives, as Ray's default does.

    Args:
        problem: what is searched.
        sampler: of the study.
        flat: suggest every knob at every trial, as a search space given to Ray's `OptunaSearch` does, and not only
            those that the values so far ask for.
    """

    def __init__(self, problem: SearchProblem, sampler: optuna.samplers.BaseSampler, *, flat: bool = False) -> None:
        self._problem, self._flat = problem, flat
        count = len(problem.known) + len(problem.learned)
        self._study = optuna.create_study(sampler=sampler, directions=["minimize"] * count)
        self._trials: list[tuple[optuna.Trial, list[float]]] = []

    def ask(self) -> Candidate:
        """Let the sampler suggest every knob that is asked for."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = self._study.ask()
            config: dict[str, Label] = {}
            for knob in self._problem.knobs:
                names = {name for name, _ in knob.given}
                asked_for = all((name, config.get(name)) in knob.given for name in names)
                if asked_for or self._flat:
                    value = _suggest(trial, knob.name, knob.hole)
                if asked_for:
                    config[knob.name] = value
        known = self._problem.known_losses([config])[0].tolist() if self._problem.known_losses else []
        self._trials.append((trial, known))
        return Candidate(len(self._trials) - 1, config, None)

    def report(self, number: int, fidelity: float, losses: Mapping[str, float]) -> bool:
        """Go on: Optuna takes no intermediate values of several objectives."""
        return True

    def tell(self, number: int, losses: Mapping[str, float] | None) -> None:
        """Tell all objectives, or the failure."""
        trial, known = self._trials[number]
        if losses is None:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, [*known, *(losses[o.name] for o in self._problem.learned)])


def _suggest(trial: optuna.Trial, name: str, hole: Any) -> Label:
    if isinstance(hole, Choice):
        return trial.suggest_categorical(name, hole.labels)
    if isinstance(hole, Int):
        return trial.suggest_int(name, hole.low, hole.high, step=hole.step, log=hole.log)
    return trial.suggest_float(name, hole.low, hole.high, log=hole.log)

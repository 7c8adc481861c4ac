"""Export a sweep as an Optuna study in its own database, for optuna-dashboard and Optuna's tools."""

import os
import tempfile
import warnings
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.tracking.store import sqlite_uri
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.results.trial import Trial

_STATES: Final[Mapping[str, TrialState]] = {
    "complete": TrialState.COMPLETE,
    "infeasible": TrialState.COMPLETE,
    "stopped early": TrialState.PRUNED,
    "running": TrialState.RUNNING,
}


def export_optuna(record: SweepRecord, path: Path) -> None:
    """Write the sweep to the new SQLite file `path`, atomically.

    Values are readings in base units, which the objectives' names tell; knobs are parameters, and everything else is in
    user attributes. Trials keep their numbers, of which the baseline, which no sampler asked for, has 0. A failed trial
    stays failed and has its reason.
    """
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".db")
    os.close(handle)
    try:
        _write(record, sqlite_uri(Path(part)))
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)


def _write(record: SweepRecord, url: str) -> None:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        down, up = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE
        directions = [down if objective.goal == "min" else up for objective in record.objectives]
        study = optuna.create_study(storage=url, study_name=record.name, directions=directions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # the storage format of Optuna since 3.2
            study.set_metric_names([f"{o.meter} [{o.unit}]" if o.unit else o.meter for o in record.objectives])
        _describe(study, record)
        study.add_trials(_frozen_trials(record))
    finally:
        optuna.logging.set_verbosity(verbosity)


def _describe(study: Study, record: SweepRecord) -> None:
    front = record.front()
    baseline = {} if front.baseline is None else {name: r.value for name, r in front.baseline.readings.items()}
    units = {objective.meter: objective.unit for objective in record.objectives}
    facts = {"baseline": baseline, "units": units, "front": [trial.uid for trial in front], "status": record.status}
    for name, value in facts.items():
        study.set_user_attr(name, value)


def _frozen_trials(record: SweepRecord) -> list[FrozenTrial]:
    """Return the trials in the order of their numbers, as Optuna numbers them by their order; gaps are filled."""
    numbered = {t.number: t for t in record.trials.values() if t.role in ("trial", "baseline")}
    trials = list(numbered.values())
    names = dict.fromkeys(name for trial in trials for name in trial.knobs)
    distributions = {name: _distribution([t.knobs[name] for t in trials if name in t.knobs]) for name in names}
    members = {trial.uid for trial in record.front()}
    return [
        _frozen(record, numbered[number], distributions, on_front=numbered[number].uid in members)
        if number in numbered
        else create_trial(state=TrialState.FAIL, user_attrs={"reason": "the sweep has no trial of this number"})
        for number in range(max(numbered, default=-1) + 1)
    ]


def _frozen(
    record: SweepRecord, trial: Trial, distributions: Mapping[str, BaseDistribution], *, on_front: bool
) -> FrozenTrial:
    values = [trial.value(objective.meter) for objective in record.objectives]
    measured = [value for value in values if value is not None]
    state = _STATES.get(trial.status, TrialState.FAIL)
    if state is TrialState.COMPLETE and len(measured) < len(values):
        state = TrialState.FAIL
    attributes = {"uid": trial.uid, "status": trial.status, "plan": trial.words}
    attributes |= {"reason": trial.reason} if trial.reason else {}
    frozen = create_trial(
        state=state,
        values=measured if state is TrialState.COMPLETE else None,
        params={name: _internal(value) for name, value in trial.knobs.items()},
        distributions={name: distributions[name] for name in trial.knobs},
        user_attrs={**attributes, "front": on_front, "readings": {n: r.value for n, r in trial.readings.items()}},
    )
    frozen.datetime_start = datetime.fromtimestamp(trial.started)
    if frozen.datetime_complete:
        frozen.datetime_complete = datetime.fromtimestamp(trial.finished)
    return frozen


def _distribution(answers: list[Json]) -> BaseDistribution:
    """Return a range or choice that covers the answers: the journal holds answers, not ranges."""
    if all(isinstance(answer, int) and not isinstance(answer, bool) for answer in answers):
        numbers = [int(answer) for answer in answers if isinstance(answer, int)]
        return IntDistribution(min(numbers), max(numbers))
    if all(isinstance(answer, int | float) and not isinstance(answer, bool) for answer in answers):
        reals = [float(answer) for answer in answers if isinstance(answer, int | float)]
        return FloatDistribution(min(reals), max(reals))
    return CategoricalDistribution(sorted({_internal(answer) for answer in answers}, key=repr))


def _internal(value: Json) -> bool | int | float | str | None:
    return value if isinstance(value, bool | int | float | str | None) else repr(value)

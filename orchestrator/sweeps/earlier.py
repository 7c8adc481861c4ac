"""Warm-start a sweep with good first plans and the results of earlier sweeps of the same task."""

import shutil
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.config.check import Checked
from paretta.orchestrator.config.sweep import Sweep
from paretta.orchestrator.search.suggester import Suggester
from paretta.orchestrator.storage.home import Home
from paretta.orchestrator.trials.run_trial import ARTIFACTS
from paretta.pipelines.reuse.code_digest import changed_files
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.results.trial import Trial


@dataclass(frozen=True, slots=True)
class Earlier:
    """The results of an earlier sweep.

    Args:
        name: of the sweep.
        folder: of the sweep.
        trials: the measured trials; members: uids of those on its front.
    """

    name: str
    folder: Path
    trials: tuple[Trial, ...]
    members: frozenset[str]


def earlier_sweeps(sweep: Sweep, checked: Checked, home: Home) -> tuple[Earlier, ...]:
    """Read the sweeps whose points are taken over.

    Raises:
        WrongInput: one is missing, or its data, task code, baseline or objectives differ, so that its numbers are not
            comparable.
    """
    records = require_earlier(sweep, home).items()
    return tuple(_earlier(name, *found, sweep, checked) for name, found in records)


def require_earlier(sweep: Sweep, home: Home) -> dict[str, tuple[SweepRecord, str]]:
    """Return the records of the sweeps whose points are taken over, each with its place in the sweep file, by name.

    Raises:
        WrongInput: one is missing.
    """
    found: dict[str, tuple[SweepRecord, str]] = {}
    for index, name in enumerate(sweep.config.search.warm_start):
        where = sweep.source.where(f"search.warm_start[{index}]")
        try:
            found[name] = SweepRecord.read(home.find(name)), where
        except WrongInput as error:
            told = (Problem(f"{where}: {p.where}", p.rule, p.value, p.hint) for p in error.problems)
            raise WrongInput(*told) from error.__cause__
    return found


def _earlier(name: str, record: SweepRecord, where: str, sweep: Sweep, checked: Checked) -> Earlier:
    changed = changed_files(cast("Mapping[str, str]", record.facts.get("code") or {}), checked.code)
    missing = {objective.meter for objective in checked.objectives} - {o.meter for o in record.objectives}
    problems = {
        f"the sweep {name!r} used other data": record.facts.get("data_digest") != checked.data_digest,
        f"the sweep {name!r} used other code of the task: {', '.join(changed)} changed": bool(changed),
        f"the sweep {name!r} has another baseline": record.config.get("baseline") != sweep.document()["baseline"],
        f"the sweep {name!r} did not measure {', '.join(sorted(missing))}": bool(missing),
    }
    if found := [Problem(where, rule, hint="leave it out") for rule, wrong in problems.items() if wrong]:
        raise WrongInput(*found)
    lost = [t.uid for t in record.front() if t.artifact and not (record.folder / t.artifact).is_dir()]
    if lost:
        rule = f"the files of {', '.join(lost)} on the front of {name!r} are gone"
        raise WrongInput(Problem(where, rule, str(record.folder), "leave it out"))
    trials = tuple(t for t in record.trials.values() if t.is_measured and t.role in ("trial", "delivered"))
    return Earlier(name, record.folder, trials, frozenset(trial.uid for trial in record.front()))


def taken_over(sweep: Earlier, folder: Path, known: Container[str] = ()) -> Iterator[Trial]:
    """Copy the artifacts of an earlier front into the sweep at `folder`, and yield them as trials of that sweep.

    Trials whose uid is in `known` have already been copied and are skipped.
    """
    for trial in sweep.trials:
        if trial.uid in sweep.members and trial.artifact is not None:
            uid = f"{sweep.name}-{trial.uid}"
            if uid in known:
                continue
            shutil.copytree(sweep.folder / trial.artifact, folder / ARTIFACTS / uid)
            yield replace(trial, uid=uid, role="earlier", of=None, test_readings={}, artifact=f"{ARTIFACTS}/{uid}")


def remember(suggester: Suggester, earlier: Earlier) -> int:
    """Tell the search the results of an earlier sweep, and return the number of points."""
    objectives = suggester.search.objectives
    for trial in earlier.trials:
        suggester.add_point(trial.plan, [objective.loss(_value(trial, objective.meter)) for objective in objectives])
    return len(earlier.trials)


def _value(trial: Trial, meter: str) -> float:
    value = trial.value(meter)
    assert value is not None
    return value

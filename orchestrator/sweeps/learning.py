"""What a sweep learns from earlier sweeps, of other tasks too."""

import logging
from pathlib import Path

from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.config.check import Checked
from paretta.orchestrator.config.sweep import Sweep
from paretta.orchestrator.search.experience import LEAST_RESULTS, Experience, PastResult, experience_of
from paretta.orchestrator.storage.experience_table import home_results, read_experience, results_of
from paretta.orchestrator.storage.home import Home
from paretta.search_spaces.errors import Problem, WrongInput

_log = logging.getLogger("paretta")


def experience_for(sweep: Sweep, checked: Checked, home: Home) -> Experience | None:
    """Return what the setting ``search: learn_from`` asks for; None if nothing is to be learned.

    Raises:
        WrongInput: a sweep or a file that was named does not exist, or too few of its results apply to the space.
    """
    source, where = sweep.config.search.learn_from, sweep.source.where("search.learn_from")
    meters = [meter.label for meter in checked.meters if meter.judges_answers]
    if source == "none" or (sweep.config.search.sampler != "grey_box" and sweep.config.search.stopper != "index"):
        return None
    if source == "home":
        results, said = home_results(home.path)
        for line in said:
            _log.warning(line)
        return experience_of(results, sweep.space.knobs(), meters)
    results = _named(source, sweep.folder, home, where)
    found = experience_of(results, sweep.space.knobs(), meters)
    if found is None:
        rule = f"at least {LEAST_RESULTS} results with {' and '.join(meters)} and half of this space's knobs are needed"
        raise WrongInput(Problem(where, rule, source, "leave it out, or name further sweeps"))
    return found


def require_experience(sweep: Sweep, checked: Checked, home: Home) -> None:
    """Raise `WrongInput` as `experience_for` does, and write nothing."""
    if sweep.config.search.learn_from not in ("home", "none"):
        experience_for(sweep, checked, home)


def recorded_experience(record: SweepRecord) -> Experience | None:
    """Return what a sweep had learned when it started, from its journal."""
    return Experience.from_document(record.lessons) if record.lessons else None


def _named(source: str | list[str], folder: Path, home: Home, where: str) -> list[PastResult]:
    if isinstance(source, list):
        try:
            return [result for name in source for result in results_of(home.find(name))]
        except WrongInput as error:
            raise WrongInput(*(Problem(where, p.rule, p.value, p.hint) for p in error.problems)) from None
    path = folder / source
    if not path.is_file():
        raise WrongInput(Problem(where, "there is no such file", source, "give home, none, a list of sweeps or a file"))
    return read_experience(path)

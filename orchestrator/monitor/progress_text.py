"""Progress of a sweep in words: how many trials ended how, the outcome of one, and the best so far."""

from typing import Final

from paretta.dashboards.journal.activity import num_ended, seconds_left
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.journal.summary import holders
from paretta.orchestrator.config.budget import budget_words
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial

_SHOWN_BEST: Final = 6
_ENDED: Final = ("complete", "infeasible", "stopped early", "failed")


def summary(record: SweepRecord, num_trials: int) -> str:
    """Describe the progress: ended trials by state, hypervolume of the front, budgets, time left.

    The hypervolume's axes are those of `paretta.search_spaces.objectives.objective.Objective.axis`.
    """
    states = [f"{count} {state}" for state in _ENDED if (count := record.count(state))]
    ended = f"{num_ended(record)} of {num_trials} ended{': ' if states else ''}{', '.join(states)}"
    others = [f"{count} {state}" for state in ("running", "interrupted") if (count := record.count(state))]
    steps, left = record.history(), seconds_left(record, num_trials)
    time_left = [f"about {_duration(left)} left"] if left and record.frozen is None else []
    volume = f"hypervolume {steps[-1].hypervolume if steps else 0.0:.3f}"
    return "; ".join([ended, *others, volume, *budget_words(record), *time_left])


def best_rows(front: Front) -> list[tuple[str, ...]]:
    """Return for each of the best trials so far its uid, its values and its roles."""
    held: dict[str, list[str]] = {}
    for role, trial in holders(front).items():
        held.setdefault(trial.uid, []).append(role)
    shown = [trial for trial in front if trial.uid in held][:_SHOWN_BEST]
    meters = [objective.meter for objective in front.objectives]
    return [(t.uid, *(_short(t.readings[meter]) for meter in meters), ", ".join(held[t.uid])) for t in shown]


def ending(trial: Trial) -> str:
    """Describe the outcome of a trial in one line."""
    name = "baseline" if trial.role == "baseline" else f"trial {trial.number}"
    name = f"confirmation of {trial.of}, seed {trial.seed}" if trial.role == "confirmation" else name
    name = f"by-product of trial {trial.number}" if trial.role == "delivered" else name
    name = f"taken over as {trial.uid}" if trial.role == "earlier" else name
    if not trial.is_measured:
        return f"{name} {trial.status}: {trial.reason} ({trial.words})" if trial.words else f"{name}: {trial.reason}"
    values = ", ".join(f"{meter} {_short(reading)}" for meter, reading in trial.readings.items())
    name = f"{name} infeasible, {trial.reason}" if trial.status == "infeasible" else name
    return f"{name}: {values} ({trial.words})" if trial.words else f"{name}: {values}"


def _short(reading: Reading) -> str:
    return str(reading) if reading.value is None else reading.with_time


def ended_trial(record: SweepRecord, event: Document) -> Trial | None:
    """Return the trial that `event` ended; None for other events, such as later readings of the trial."""
    if event["event"] != "trial":
        return None
    document = event["trial"]
    assert isinstance(document, dict)
    trial = record.trials[document["uid"]]
    if record.frozen is not None and trial.role != "confirmation":
        return None
    if any("read_at" in reading.details for reading in trial.readings.values()):
        return None
    return trial if trial.has_ended else None


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

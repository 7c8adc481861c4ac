"""What a running sweep is doing now: where each trial runs, why one waits, and how long the rest will take."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from paretta.dashboards.journal.course import MEASURING, WAITS
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.journal.waiting import waiting_words
from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.results.trial import STATUSES, Trial

_ENDED: Final = tuple(status for status in STATUSES if status not in ("running", "interrupted"))


@dataclass(frozen=True, slots=True)
class TrialActivity:
    """What one running trial is doing.

    Args:
        trial: the trial.
        waits: whether it waits for other trials.
        words: what it does, or what it waits for.
        where: the lane that trains it and the lane's node; empty if no lane has it.
    """

    trial: Trial
    waits: bool
    words: str
    where: str = ""

    def to_document(self) -> dict[str, Json]:
        """Return plain data for JSON."""
        state: dict[str, Json] = {"waits": self.waits, "doing": self.words, "where": self.where}
        return {"uid": self.trial.uid, "words": _plan_words(self.trial), "started": self.trial.started, **state}


def _plan_words(trial: Trial) -> str:
    """Return the plan in words if it was trained already, else the values of its knobs."""
    knobs = ((name, value) for name, value in trial.knobs.items() if value is not None)
    values = (f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in knobs)
    return trial.words or ", ".join(values)


def trial_activities(record: SweepRecord) -> list[TrialActivity]:
    """Return what each running trial is doing, those that do not wait first."""
    running = [trial for trial in record.trials.values() if trial.status == "running"]
    messages = {trial.uid: record.progress.get(trial.uid, {}) for trial in running}
    measured = [uid for uid, message in messages.items() if message.get("state") == MEASURING]
    training = sum(bool(message) for message in messages.values()) - len(measured)
    found = []
    for trial in running:
        message = messages[trial.uid]
        if trial.uid in measured[1:]:
            found.append(TrialActivity(trial, True, f"waits to be measured, one artifact at a time: {measured[0]} is"))
        elif trial.uid in measured:
            found.append(TrialActivity(trial, bool(message.get(WAITS)), activity_words(message)))
        elif message:
            found.append(TrialActivity(trial, False, activity_words(message), str(message.get("where", ""))))
        else:
            found.append(TrialActivity(trial, True, _why_it_waits(record, training)))
    return sorted(found, key=lambda d: d.waits)


def _why_it_waits(record: SweepRecord, training: int) -> str:
    if not record.endings and not training:
        return "waits for the lanes to start"
    lanes = record.facts.get("lanes")
    if isinstance(lanes, int) and training >= lanes:
        return f"waits for a lane: {'the only one is' if lanes == 1 else f'all {lanes} are'} training"
    return "waits for a lane, or for its first epoch to end"


def activity_words(message: Document) -> str:
    """Describe what a running trial is doing, from its last progress message.

    >>> activity_words({"stage": "train", "epoch": 2, "num_epochs": 6, "loss": 0.5})
    'train epoch 2 of 6, loss 0.5'
    >>> activity_words({"state": "measuring", "waits": "for the agent at http://pi:7711, which does not answer"})
    'waits for the agent at http://pi:7711, which does not answer'
    """
    if message.get("state") == MEASURING:
        return f"waits {message[WAITS]}" if message.get(WAITS) else "is measured"
    if "stage" not in message:
        return "waits for workers, or is being measured"
    parts = [str(message["stage"])]
    if "epoch" in message:
        parts.append(f"epoch {message['epoch']}" + (f" of {message['num_epochs']}" if "num_epochs" in message else ""))
    loss = f", loss {message['loss']}" if "loss" in message else ""
    scores = message.get("scores")
    scored = [f", {name} {score}" for name, score in scores.items()] if isinstance(scores, Mapping) else []
    return " ".join(parts) + loss + "".join(scored) + waiting_words(message)


def num_ended(record: SweepRecord) -> int:
    """Count the trials of the search that have ended, in whatever state."""
    return record.count(*_ENDED)


def asked(record: SweepRecord) -> int | None:
    """Return the number of trials that the sweep file asks for; None if it sets none."""
    search = record.config.get("search")
    return cast(int | None, search.get("trials")) if isinstance(search, Mapping) else None


def seconds_left(record: SweepRecord, num_trials: int, now: float | None = None) -> float | None:
    """Estimate the seconds until the search ends: when all trials have ended, or earlier if the budget runs out.

    Assumes that trials go on ending at the same rate as so far. None before the first one has ended.
    """
    ended = num_ended(record)
    if not ended or record.began is None:
        return None
    spent = (time.time() if now is None else now) - record.began
    by_trials = (spent - record.idle_s) / ended * max(num_trials - ended, 0)
    return min([by_trials, *(max(limit - spent, 0.0) for limit in _budget_seconds(record))])


def held_resources(record: SweepRecord) -> tuple[float, float] | None:
    """Return the CPUs and GPUs that all lanes hold together; None if the record does not say."""
    workers, lanes = record.config.get("workers"), record.facts.get("lanes")
    if not isinstance(workers, Mapping) or not isinstance(lanes, int):
        return None
    cpus, gpus = (cast(float, workers.get(name, 0)) for name in ("cpus", "gpus"))
    num_workers = lanes * cast(int, workers.get("per_trial", 1))
    return num_workers * cpus, num_workers * gpus


def _budget_seconds(record: SweepRecord) -> list[float]:
    """Return the wall time that each limit of the sweep's budget allows the search."""
    budget = record.config.get("budget")
    if not isinstance(budget, Mapping):
        return []
    cpus, gpus = held_resources(record) or (0.0, 0.0)
    limits = (("hours", 1.0), ("cpu_hours", cpus), ("gpu_hours", gpus))
    return [3600 * cast(float, budget[name]) / held for name, held in limits if held and budget.get(name) is not None]


def now_document(record: SweepRecord, sync_status: str) -> dict[str, Json]:
    """Return progress, estimate and activities as plain data for the live page.

    Args:
        record: the sweep.
        sync_status: how far the MLflow record is behind, in words.
    """
    trials = asked(record)
    left = seconds_left(record, trials) if trials and record.status == "running" else None
    return {
        "asked": trials,
        "ended": num_ended(record),
        "left_s": None if left is None else round(left, 1),
        "silent_s": round(max(time.time() - record.updated, 0.0), 1),
        "standing": sync_status,
        "doing": [activity.to_document() for activity in trial_activities(record)],
    }

"""What a running sweep is doing at this moment: which trial runs where, why another waits, how long it will take."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from paretta.dashboards.journal.record import SweepRecord
from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.results.trial import STATUSES, Trial

MEASURING = "measuring"
_ENDED: Final = tuple(status for status in STATUSES if status not in ("running", "interrupted"))


@dataclass(frozen=True, slots=True)
class Doing:
    """What one running trial does.

    Args:
        waits: whether it waits for others.
        words: what it does, or what it waits for.
        where: the lane that trains it and the lane's node; empty where no lane has it.
    """

    trial: Trial
    waits: bool
    words: str
    where: str = ""

    def to_document(self) -> dict[str, Json]:
        """Return plain data for JSON."""
        said: dict[str, Json] = {"waits": self.waits, "doing": self.words, "where": self.where}
        return {"uid": self.trial.uid, "words": _plan_words(self.trial), "started": self.trial.started, **said}


def _plan_words(trial: Trial) -> str:
    """Return the plan in words, which are known where it was trained; until then the answers that filled its holes."""
    knobs = ((name, value) for name, value in trial.knobs.items() if value is not None)
    told = (f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in knobs)
    return trial.words or ", ".join(told)


def doings(record: SweepRecord) -> list[Doing]:
    """Return what each running trial does, those that work first."""
    running = [trial for trial in record.trials.values() if trial.status == "running"]
    told = {trial.uid: record.progress.get(trial.uid, {}) for trial in running}
    measured = [uid for uid, message in told.items() if message.get("state") == MEASURING]
    training = sum(bool(message) for message in told.values()) - len(measured)
    found = []
    for trial in running:
        message = told[trial.uid]
        if trial.uid in measured[1:]:
            found.append(Doing(trial, True, f"waits to be measured, one artifact at a time: {measured[0]} is"))
        elif trial.uid in measured:
            found.append(Doing(trial, False, "is measured"))
        elif message:
            found.append(Doing(trial, False, doing(message), str(message.get("where", ""))))
        else:
            found.append(Doing(trial, True, _why_it_waits(record, training)))
    return sorted(found, key=lambda d: d.waits)


def _why_it_waits(record: SweepRecord, training: int) -> str:
    if not record.endings and not training:
        return "waits for the lanes to start"
    lanes = record.facts.get("lanes")
    if isinstance(lanes, int) and training >= lanes:
        return f"waits for a lane: {'the only one is' if lanes == 1 else f'all {lanes} are'} training"
    return "waits for a lane, or for its first epoch to end"


def doing(message: Document) -> str:
    """Say what a running trial does, by its last progress message.

    >>> doing({"stage": "train", "epoch": 2, "num_epochs": 6, "loss": 0.5})
    'train epoch 2 of 6, loss 0.5'
    """
    if message.get("state") == MEASURING:
        return "is measured"
    if "stage" not in message:
        return "waits for workers, or is being measured"
    parts = [str(message["stage"])]
    if "epoch" in message:
        parts.append(f"epoch {message['epoch']}" + (f" of {message['num_epochs']}" if "num_epochs" in message else ""))
    loss = f", loss {message['loss']}" if "loss" in message else ""
    scores = message.get("scores")
    told = [f", {name} {score}" for name, score in scores.items()] if isinstance(scores, Mapping) else []
    return " ".join(parts) + loss + "".join(told)


def num_ended(record: SweepRecord) -> int:
    """Count the trials of the search that have ended, whatever became of them."""
    return record.count(*_ENDED)


def asked(record: SweepRecord) -> int | None:
    """Return how many trials the sweep's file asks for."""
    search = record.config.get("search")
    return cast(int | None, search.get("trials")) if isinstance(search, Mapping) else None


def seconds_left(record: SweepRecord, num_trials: int, now: float | None = None) -> float | None:
    """Return the seconds to the end of the search: until all trials ended, or the budget is spent, if that is earlier.

    Further trials are expected to take as long as those that ended, side by side as they ran. None before one ended.
    """
    ended = num_ended(record)
    if not ended or record.began is None:
        return None
    spent = (time.time() if now is None else now) - record.began
    by_trials = spent / ended * max(num_trials - ended, 0)
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


def now_document(record: SweepRecord, standing: str) -> dict[str, Json]:
    """Return the same as plain data for a page.

    Args:
        record: the sweep.
        standing: how far MLflow's record is, in words.
    """
    trials = asked(record)
    left = seconds_left(record, trials) if trials and record.status == "running" else None
    return {
        "asked": trials,
        "ended": num_ended(record),
        "left_s": None if left is None else round(left, 1),
        "silent_s": round(max(time.time() - record.updated, 0.0), 1),
        "standing": standing,
        "doing": [said.to_document() for said in doings(record)],
    }

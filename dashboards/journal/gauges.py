"""The gauges that a running sweep exports to a monitoring system, computed from its record."""

from dataclasses import dataclass
from typing import Final

from paretta.dashboards.journal.activity import asked, num_ended, seconds_left, trial_activities
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.journal.waiting import time_shares
from paretta.search_spaces.results.trial import STATUSES

# name -> description; Ray exports each to Prometheus as ray_<name>, with the sweep as a label
GAUGES: Final = {
    "paretta_trials": "trials by status, with the label status",
    "paretta_trials_asked": "trials that the sweep's file asks for",
    "paretta_front_size": "members of the front",
    "paretta_hypervolume": "volume between front and baseline, in doublings, of shares in steps of ten points",
    "paretta_best": "best value of an objective so far, in base units, with the label meter",
    "paretta_trials_waiting": "running trials that wait for a lane or to be measured",
    "paretta_lane_time_share": "share of a lane's last epoch, with the labels lane and of (loading, computing, ...)",
    "paretta_seconds_left": "expected seconds to the last trial",
    "paretta_last_event_timestamp_seconds": "Unix time of the journal's last event",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a gauge, with its labels besides the sweep."""

    name: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


def samples(record: SweepRecord) -> list[Sample]:
    """Return the gauges that have a value now; those without one are left out."""
    front = record.front()
    found = [Sample("paretta_trials", record.count(status), (("status", status),)) for status in STATUSES]
    found.append(Sample("paretta_front_size", len(front)))
    if front.baseline is not None:
        found.append(Sample("paretta_hypervolume", front.hypervolume))
    for objective in front.objectives:
        if len(front):
            best = front.pick(prefer=objective.meter).value(objective.meter)
            found += [] if best is None else [Sample("paretta_best", best, (("meter", objective.meter),))]
    found.append(Sample("paretta_trials_waiting", sum(activity.waits for activity in trial_activities(record))))
    found += _lane_shares(record)
    found.append(Sample("paretta_last_event_timestamp_seconds", record.updated))
    if (trials := asked(record)) is not None:
        found.append(Sample("paretta_trials_asked", trials))
        ended = num_ended(record)
        left = seconds_left(record, trials, now=record.updated) if ended else None
        found += [] if left is None else [Sample("paretta_seconds_left", left)]
    return found


def _lane_shares(record: SweepRecord) -> list[Sample]:
    """Return what each lane that trains spent its last epoch on."""
    return [
        Sample("paretta_lane_time_share", share, (("lane", str(message["where"])), ("of", name)))
        for message in record.progress.values()
        if message.get("where")
        for name, share in time_shares(message).items()
    ]

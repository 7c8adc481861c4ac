"""The Tune trainable: runs a candidate and reports each of its events to Tune."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from ray import tune

from paretta.orchestrator.cluster.ray_calls import DEATHS
from paretta.orchestrator.trials.events import (
    ByProductEnded,
    RunEvent,
    TrialEnded,
    TrialProgress,
    TrialReturned,
    TrialWaits,
)
from paretta.orchestrator.trials.run_trial import TrialContext, new_trial, run_trial
from paretta.orchestrator.tune.messages import DELIVERED, PROGRESS, RETURNED, STATUS_KEY, TuneConfig, key_of
from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.space.plan import Plan

WHY = "why"  # the key of the reason why a candidate was returned, if that ends the whole search
TRIAL = "trial"  # the key in the last report of the whole trial as JSON text


class CandidateTrial(tune.Trainable):
    """Each event of the trial is one step; the last one comes when the candidate has been measured.

    The actor waits for a lane and reserves no CPU; Tune reuses it for one candidate after another.
    """

    def setup(self, config: dict[str, object], context: TrialContext | None = None) -> None:
        """Start with the candidate in `config`."""
        assert context is not None
        self.context = context
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, object]) -> bool:
        """Start another candidate in the same actor."""
        trial = trial_from_config(new_config, self.context.seed)
        more = [Plan.from_document(plan) for plan in cast(Sequence[Document], new_config.get("by_products", ()))]
        self.events: Iterator[RunEvent] = run_trial(trial, self.context, by_products=more)
        return True

    def step(self) -> dict[str, object]:
        """Wait for the next event; the death of an actor that all candidates need is not a failure of this one."""
        try:
            return report_of(next(self.events))
        except DEATHS:
            return report_of(TrialReturned())


def report_of(event: RunEvent) -> dict[str, object]:
    """Convert an event to a report to Tune with plain values or JSON text."""
    match event:
        case TrialWaits():
            return {STATUS_KEY: "running", "done": False}
        case TrialProgress(_, message):
            return {STATUS_KEY: "running", PROGRESS: json.dumps(dict(message)), "done": False}
        case ByProductEnded(trial):
            return {STATUS_KEY: "running", DELIVERED: json.dumps(trial.to_document()), "done": False}
        case TrialReturned(why):
            return {STATUS_KEY: RETURNED, **({WHY: why} if why else {}), "done": True}
        case TrialEnded(trial):
            values = {meter: reading.value for meter, reading in trial.readings.items()}
            return {**values, STATUS_KEY: trial.status, TRIAL: json.dumps(trial.to_document()), "done": True}


def trial_from_config(config: TuneConfig, seed: int) -> Trial:
    """Return the trial that the searcher's `config` asks for, starting now."""
    plan = Plan.from_document(cast(Document, config["plan"]))
    return new_trial(key_of(config).number, plan, seed=seed, knobs=cast(Mapping[str, Json], config["knobs"]))

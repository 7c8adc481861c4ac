"""The body of one Tune trial: carries a candidate out and reports each step of it to Tune."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from ray import tune

from paretta.orchestrator.cluster.ray_calls import DEATHS
from paretta.orchestrator.lanes.messages import ProgressMessage
from paretta.orchestrator.trials.run_trial import TrialContext, new_trial, run_trial
from paretta.orchestrator.tune.search_alg import DELIVERED, PROGRESS, RETURNED, STATUS_KEY
from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.space.plan import Plan

WHY = "why"  # the key of what kept a returned candidate from its end, where that ends the whole search
TRIAL = "trial"  # the key of the last report, which holds the whole trial as JSON text


class CandidateTrial(tune.Trainable):
    """A step ends with each news of the training, the last one when the candidate is measured.

    The actor waits for a lane and reserves no CPU; Tune reuses it for one candidate after the other.
    """

    def setup(self, config: dict[str, object], context: TrialContext | None = None) -> None:
        """Begin with the candidate in `config`."""
        assert context is not None
        self.context = context
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, object]) -> bool:
        """Begin with another candidate in the same actor."""
        trial = trial_from_config(new_config, self.context.seed)
        more = [Plan.from_document(plan) for plan in cast(Sequence[Document], new_config.get("by_products", ()))]
        self.news: Iterator[ProgressMessage | Trial] = run_trial(trial, self.context, by_products=more)
        return True

    def step(self) -> dict[str, object]:
        """Wait for the next news; a candidate is not to blame for the death of an actor that all of them need."""
        try:
            news = next(self.news)
        except DEATHS:
            return {STATUS_KEY: RETURNED, "done": True}
        if not isinstance(news, Trial):
            return {STATUS_KEY: "running", PROGRESS: json.dumps(dict(news)), "done": False}
        if news.role == "delivered":
            return {STATUS_KEY: "running", DELIVERED: json.dumps(news.to_document()), "done": False}
        if news.status == "running":
            return {STATUS_KEY: RETURNED, **({WHY: news.reason} if news.reason else {}), "done": True}
        values = {meter: reading.value for meter, reading in news.readings.items()}
        return {**values, STATUS_KEY: news.status, TRIAL: json.dumps(news.to_document()), "done": True}


def trial_from_config(config: Mapping[str, object], seed: int) -> Trial:
    """Return the trial that the searcher's `config` asks for; number 0 is the baseline's."""
    number = cast(int, config["number"]) + 1
    plan = Plan.from_document(cast(Document, config["plan"]))
    return new_trial(number, plan, seed=seed, knobs=cast(Mapping[str, Json], config["knobs"]))

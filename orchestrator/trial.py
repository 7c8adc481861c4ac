"""The body of one Tune trial: carries a candidate out and reports each step of it to Tune."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from ray import tune

from orchestrator.candidate import Workshop, carry_out, new_trial
from orchestrator.mailbox import Progress
from orchestrator.searcher import DELIVERED, PROGRESS, RETURNED, STATUS
from orchestrator.seat import DEATHS
from search_spaces.plan import Document, Json, Plan
from search_spaces.trial import Trial

TRIAL = "trial"  # the key of the last report, which holds the whole trial as JSON text


class CandidateTrial(tune.Trainable):
    """A step ends with each news of the training, the last one when the candidate is measured.

    The actor waits for a lane and reserves no CPU; Tune reuses it for one candidate after the other.
    """

    def setup(self, config: dict[str, object], workshop: Workshop | None = None) -> None:
        """Begin with the candidate in `config`."""
        assert workshop is not None
        self.workshop = workshop
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, object]) -> bool:
        """Begin with another candidate in the same actor."""
        trial = trial_of(new_config, self.workshop.seed)
        more = [Plan.from_document(plan) for plan in cast(Sequence[Document], new_config.get("by_products", ()))]
        self.news: Iterator[Progress | Trial] = carry_out(trial, self.workshop, by_products=more)
        return True

    def step(self) -> dict[str, object]:
        """Wait for the next news; a candidate is not to blame for the death of an actor that all of them need."""
        try:
            news = next(self.news)
        except DEATHS:
            return {STATUS: RETURNED, "done": True}
        if not isinstance(news, Trial):
            return {STATUS: "running", PROGRESS: json.dumps(dict(news)), "done": False}
        if news.role == "delivered":
            return {STATUS: "running", DELIVERED: json.dumps(news.to_document()), "done": False}
        if news.status == "running":
            return {STATUS: RETURNED, "done": True}
        values = {meter: reading.value for meter, reading in news.readings.items()}
        return {**values, STATUS: news.status, TRIAL: json.dumps(news.to_document()), "done": True}


def trial_of(config: Mapping[str, object], seed: int) -> Trial:
    """Return the trial that the searcher's `config` asks for; number 0 is the baseline's."""
    number = cast(int, config["number"]) + 1
    plan = Plan.from_document(cast(Document, config["plan"]))
    return new_trial(number, plan, seed=seed, knobs=cast(Mapping[str, Json], config["knobs"]))
